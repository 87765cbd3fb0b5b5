//! `roost policy`: the switches as people set, try, read and remove them.

use std::fs;

use crate::harness::{Cluster, Shell};

const TERMS: &str = r#"'{"pattern":"/services/web/providers/*","grace_ms":500}'"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_set_tried_read_and_removed_from_the_command_line() {
    let cluster = Cluster::start(1).await;
    let shell = Shell { endpoints: cluster.endpoints() };
    set_and_removed(&cluster, &shell).await;
    tried(&shell).await;
    refused(&shell).await;
    let listed = shell.json("policy ls").await;
    let all = listed["policies"].as_array().unwrap();
    assert!(all.iter().all(|policy| policy["built_in"] == true), "something is left: {listed}");
}

async fn set_and_removed(cluster: &Cluster, shell: &Shell) {
    assert_eq!(
        shell.ok(&format!("policy set disconnect web {TERMS} --reason 'it restarts often'")).await,
        ""
    );
    let table = shell.ok("policy ls disconnect").await;
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows.len() == 2 && rows[0].starts_with("KIND"), "{table}");
    for said in ["disconnect", "web", "enforce", "/services/web/providers/*", "it restarts often"] {
        assert!(rows[1].contains(said), "{said:?} is not in: {table}");
    }
    let got = shell.ok("policy get disconnect web").await;
    let policy: serde_json::Value = serde_json::from_str(&got).unwrap();
    assert!(got.lines().count() > 1, "for people: {got}");
    let entry = shell.json("policy get disconnect web").await;
    assert_eq!((&entry["policy"], &entry["built_in"]), (&policy, &false.into()));
    assert_eq!((&policy["grace_ms"], &policy["set_by"]), (&500.into(), &"ip:127.0.0.1".into()));
    assert_eq!(policy["expires_at_ms"], serde_json::Value::Null);

    // One that goes by itself takes its place, and both ways to show it say so.
    let file = cluster.dir.path().join("policy.json");
    fs::write(&file, TERMS.trim_matches('\'')).unwrap();
    let from_file =
        format!("policy set disconnect web @{} --reason brief --ttl 2h", file.display());
    assert!(shell.json(&from_file).await["zxid"].is_u64());
    let policy = shell.json("policy get disconnect web").await["policy"].take();
    let at = |field: &str| policy[field].as_u64().unwrap();
    assert_eq!(at("expires_at_ms") - at("set_at_ms"), 7_200_000, "{policy}");
    let table = shell.ok("policy ls disconnect").await;
    let rows: Vec<&str> = table.lines().collect();
    let ends = rows[0].find("ENDS").unwrap();
    assert!(rows[1][ends..].contains(" GMT ") && rows[1].ends_with("brief"), "{table}");

    assert_eq!(shell.ok("policy rm disconnect web").await, "");
    for gone in ["policy get disconnect web", "policy rm disconnect web"] {
        shell.fails(4, gone, &["no_node", "disconnect/web"]).await;
    }
    shell.fails(4, "--json policy get disconnect web", &["{\"code\":\"no_node\""]).await;
    shell.fails(1, "policy rm removal default-services", &["refused", "built in"]).await;
}

async fn tried(shell: &Shell) {
    let tried = shell.json(&format!("policy test disconnect {TERMS} --reason 'to see'")).await;
    assert_eq!((&tried["matches"], &tried["denied"]), (&0.into(), &serde_json::Value::Null));
    let rule = r#"'{"pattern":"/services/**","allow":[{"who":["10.0.0.0/8"]}]}'"#;
    let write = "--write /services/web/providers/a --data '{\"host\":\"10.0.0.5\"}'";
    let test = format!("policy test admission {rule} --reason 'to see' {write}");
    let denied = shell.json(&test).await["denied"].take();
    assert_eq!((&denied["rule"], &denied["enforced"]), (&"test".into(), &true.into()), "{denied}");
    assert!(shell.ok(&test).await.contains("\"denied\": {\n"));
    let from_there = shell.json(&format!("{test} --from 10.0.0.5")).await;
    assert_eq!(from_there["denied"], serde_json::Value::Null);
    let rule =
        r#"'{"pattern":"/services/pay/**","allow":[{"what":"subscribe","who":["10.0.0.0/8"]}]}'"#;
    let test =
        format!("policy test admission {rule} --reason 'to see' --follow /services/pay/providers");
    assert_eq!(shell.json(&test).await["denied"]["rule"], "test");
    let from_there = shell.json(&format!("{test} --from 10.0.0.5")).await;
    assert_eq!(from_there["denied"], serde_json::Value::Null);
}

/// What is wrong is refused alike where it is tried and where it is set, which then sets nothing.
async fn refused(shell: &Shell) {
    for (code, kind, terms, texts) in [
        (
            1,
            "disconnect",
            r#"'{"pattern":"services","grace_ms":500}' --reason r"#,
            &["bad_arguments", "pattern"][..],
        ),
        (1, "disconnect", r#"'{"pattern":"/**","grace_ms":5}' --reason r"#, &["grace_ms", "100"]),
        (
            1,
            "disconnect",
            r#"'{"pattern":"/**","grace_ms":500,"colour":1}' --reason r"#,
            &["colour"],
        ),
        (1, "disconnect", r#"'{"pattern":"/**","grace_ms":500}'"#, &["reason", "missing"]),
        (1, "notify", r#"'{"pattern":"/**"}' --reason r"#, &["ttl_s", "by itself"]),
        (1, "colour", r#"'{"pattern":"/**"}' --reason r"#, &["kind", "colour", "disconnect"]),
        (1, "disconnect", "@/nothing/here --reason r", &["/nothing/here"]),
        (2, "disconnect", r#"'{"pattern":' --reason r"#, &["no JSON object"]),
    ] {
        for verb in [format!("policy test {kind}"), format!("policy set {kind} bad")] {
            shell.fails(code, &format!("{verb} {terms}"), texts).await;
        }
    }
    for (line, text) in [
        ("policy set disconnect bad", "<JSON>"),
        ("policy test disconnect {} --ttl 1w", "ms, s, m, h or d"),
        ("policy test disconnect {} --ttl 99999999999999999d", "between 1s and"),
    ] {
        let ran = shell.run(line).await;
        assert!(ran.code == 2 && ran.out.is_empty() && ran.err.contains(text), "{line}: {ran:?}");
    }
}
