//! What an operator does by hand to instances and sessions, and that it can be read afterwards who did what and why.

use roost::client::model::Registration;
use serde_json::{Value, json};

use crate::harness::{Cluster, Shell, eventually};

/// Providers of the service whose sessions fall silent.
const FRAIL: u16 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_overridden_drained_and_taken_out_by_hand_and_the_audit_says_why() {
    let cluster = Cluster::start(1).await;
    let shell = Shell { endpoints: cluster.endpoints() };
    // Their sessions' timeouts pass while the other verbs are at work.
    for port in 1..=FRAIL {
        let client = cluster.client_from(0);
        let session = client.open_session(1_000).await.unwrap();
        let registration =
            Registration { host: "10.0.1.1".into(), port, ..Registration::default() };
        client.with_session(&session.token).register("frail", &registration).await.unwrap();
    }
    let token = shell.ok("session open --timeout-ms 600000").await;
    for host in ["10.0.0.5", "10.0.0.6"] {
        let line = format!("service register web --addr {host}:80 --meta zone=b --session {token}");
        shell.ok(line.trim()).await;
    }
    overridden(&shell).await;
    drained(&shell).await;
    taken_out(&shell, token.trim()).await;
    held(&shell).await;
    audited(&shell).await;
}

async fn provider(shell: &Shell, host: &str) -> Option<Value> {
    let service = shell.json("service get web").await;
    let providers = service["providers"].as_array().unwrap();
    providers.iter().find(|provider| provider["host"] == host).cloned()
}

async fn overridden(shell: &Shell) {
    let before = provider(shell, "10.0.0.5").await.unwrap();
    let set = "override set slow --service web --ip 10.0.0.5 --weight 7 --label disk=slow";
    assert_eq!(shell.ok(&format!("{set} --reason 'its disk is slow' --ttl 1d")).await, "");
    eventually("the override", async || {
        let after = provider(shell, "10.0.0.5").await?;
        (after["weight"] == 7 && after["metadata"]["disk"] == "slow").then_some(())
    })
    .await;
    assert_eq!(provider(shell, "10.0.0.6").await.unwrap()["weight"], before["weight"]);
    let table = shell.ok("override ls").await;
    assert!(table.lines().count() == 2 && table.contains("its disk is slow"), "{table}");
    let listed = shell.json("override ls").await;
    let policy = &listed["policies"][0]["policy"];
    assert_eq!((&policy["ip"], &policy["weight"]), (&json!("10.0.0.5"), &json!(7)), "{listed}");
    assert_eq!(shell.ok("override rm slow").await, "");
    eventually("its end", async || {
        let after = provider(shell, "10.0.0.5").await?;
        let is_as_before = |field: &str| after[field] == before[field];
        (is_as_before("weight") && is_as_before("metadata")).then_some(())
    })
    .await;
    shell.fails(4, "override rm slow", &["no_node", "overrides/slow"]).await;
    let nothing = "override set x --service web --reason r";
    shell.fails(1, nothing, &["bad_arguments", "status"]).await;
    is_no_usage(shell, "override set x --weight 0 --reason r").await;
}

async fn drained(shell: &Shell) {
    let drain = "drain --service web 10.0.0.6:80 --deadline 1h --reason 'a restart'";
    assert_eq!(shell.ok(drain).await, "0 told, 0 not yet\n");
    eventually("that it is draining", async || {
        (provider(shell, "10.0.0.6").await?["status"] == "draining").then_some(())
    })
    .await;
    let path = "/services/web/providers/10.0.0.6:80";
    let again = shell.json(&format!("drain {path} --no-wait --deadline 1d")).await;
    assert_eq!((&again["path"], &again["notified"]), (&json!(path), &json!(0)));
    shell.fails(4, "drain --service web 10.0.0.7:80", &["no_node", "/10.0.0.7:80"]).await;
    is_no_usage(shell, &format!("drain {path} --deadline 2d")).await;
}

async fn taken_out(shell: &Shell, token: &str) {
    let path = "/services/web/providers/10.0.0.5:80";
    let line = "deregister --ip 10.0.0.5 --block 2h --reason 'the host burns'";
    let said = |verbs: [&str; 2]| {
        format!("{} {path}\n{} /roost/tombstones/ip=10.0.0.5@%2F**\n", verbs[0], verbs[1])
    };
    let dry = shell.ok(&format!("{line} --dry-run")).await;
    assert_eq!(dry, said(["would remove", "would block by"]));
    assert!(provider(shell, "10.0.0.5").await.is_some());
    assert_eq!(shell.ok(line).await, said(["removed", "blocked by"]));
    assert!(provider(shell, "10.0.0.5").await.is_none());
    let register = format!("service register web --addr 10.0.0.5:80 --session {token}");
    shell.fails(1, &register, &["no_auth"]).await;
    let by_label = "deregister --selector zone=b --service web --reason 'the zone is closed'";
    let done = shell.json(by_label).await;
    assert_eq!(done["removed"], json!(["/services/web/providers/10.0.0.6:80"]), "{done}");
    assert_eq!(shell.ok(&format!("{by_label} --dry-run")).await, "");
    let opened = shell.json("session open --timeout-ms 600000").await;
    let (session, token) = (opened["session"].as_str().unwrap(), opened["token"].as_str().unwrap());
    let register = |port| format!("service register web --addr 10.0.0.8:{port} --session {token}");
    shell.ok(&register(1)).await;
    shell.ok(&register(2)).await;
    let removed = |port| format!("removed /services/web/providers/10.0.0.8:{port}\n");
    assert_eq!(shell.ok("deregister --instance 10.0.0.8:1").await, removed(1));
    assert_eq!(shell.ok(&format!("deregister --session {session}")).await, removed(2));
    shell.fails(1, &format!("session show {session}"), &["session_expired"]).await;
    is_no_usage(shell, "deregister --reason r").await;
    is_no_usage(shell, "deregister --ip 10.0.0.5 --selector a=b").await;
}

/// One of the silent sessions went; the others are held until somebody says that they are gone.
async fn held(shell: &Shell) {
    let ls = eventually("the held sessions", async || {
        let ls = shell.json("protection ls").await;
        (ls["suspects"].as_array().unwrap().len() == usize::from(FRAIL) - 1).then_some(ls)
    })
    .await;
    let session = |index: usize| ls["suspects"][index]["session"].as_str().unwrap();
    let table = shell.ok("protection ls").await;
    let service = "/services/frail/providers";
    for said in ["SUSPECT", session(0), session(1), service] {
        assert!(table.contains(said), "{said:?} is not in: {table}");
    }
    is_no_usage(shell, "protection confirm --reason r").await;
    is_no_usage(shell, &format!("protection confirm {} --all --reason r", session(0))).await;
    is_no_usage(shell, "protection confirm --all").await;
    let unknown = "protection confirm 0x0100000000000099 --reason r";
    shell.fails(4, unknown, &["no_node"]).await;
    let one = format!("protection confirm {} --reason 'unplugged'", session(0));
    assert_eq!(shell.ok(&one).await, format!("{}\n", session(0)));
    let of_service = format!("protection confirm --service {service} --reason 'the rack is off'");
    let confirmed = shell.json(&of_service).await;
    assert_eq!((&confirmed["ended"], &confirmed["more"]), (&json!([session(1)]), &json!(false)));
    assert_eq!(shell.ok("protection confirm --all --reason 'nobody is left'").await, "");
    let sessions = shell.ok("session ls").await;
    assert!(!sessions.contains(session(0)) && !sessions.contains(session(1)), "{sessions}");
}

async fn audited(shell: &Shell) {
    let table = shell.ok("audit").await;
    assert!(table.starts_with("SEQ"), "{table}");
    for (op, path, why) in [
        ("create", "/roost/policies/overrides/slow", "its disk is slow"),
        ("create", "/roost/drains/", "a restart"),
        ("create", "/roost/tombstones/ip=10.0.0.5@%2F**", "the host burns"),
        ("deregister", "/services/web/providers/10.0.0.5:80", ""),
        ("deregister", "/services/web/providers/10.0.0.6:80", ""),
        ("delete", "/roost/suspects/", ""),
    ] {
        let is_it =
            |line: &&str| [op, path, why, "ip:127.0.0.1"].iter().all(|it| line.contains(it));
        assert!(table.lines().find(is_it).is_some(), "{op} {path} {why} is not in:\n{table}");
    }
    let audit = shell.json("audit").await;
    let lines = audit["lines"].as_array().unwrap();
    assert_eq!(table.lines().count(), 1 + lines.len());
    let second = shell.json(&format!("audit --after {} --limit 1", lines[0]["seq"])).await;
    assert_eq!(second["lines"], json!([lines[1]]));
}

/// Wrong words: nothing is done, and how it is used is told.
async fn is_no_usage(shell: &Shell, line: &str) {
    let ran = shell.run(line).await;
    assert!(ran.code == 2 && ran.out.is_empty() && ran.err.contains("error: "), "{line}: {ran:?}");
}
