use serde_json::{Value, json};

use super::Bed;

async fn lines(bed: &Bed, after: u64) -> (Vec<Value>, u64) {
    let got = bed.get(&format!("/v1/audit?after={after}")).await.json();
    (got["lines"].as_array().unwrap().clone(), got["next"].as_u64().unwrap())
}

/// Returns the only line about a path.
fn about<'a>(lines: &'a [Value], path: &str) -> &'a Value {
    let found: Vec<_> = lines.iter().filter(|line| line["path"] == path).collect();
    assert_eq!(found.len(), 1, "{path}: {lines:?}");
    found[0]
}

#[tokio::test]
async fn a_switch_leaves_a_line_with_who_set_it_and_why_and_so_does_its_end() {
    let bed = Bed::new().await;
    let policy =
        json!({"reason": "restarts often", "pattern": "/a/**", "grace_ms": 500, "set_by": "ops"});
    let set = bed.send("PUT /v1/policies/disconnect/web", &[], policy.to_string()).await;
    let (first, next) = lines(&bed, 0).await;
    let path = "/roost/policies/disconnect/web";
    let line = about(&first, path);
    assert_eq!((&line["op"], &line["result"]), (&json!("create"), &json!("ok")));
    assert_eq!((&line["set_by"], &line["reason"]), (&json!("ops"), &json!("restarts often")));
    assert_eq!((&line["zxid"], &line["who"]), (&set.json()["zxid"], &json!(["ip:127.0.0.1"])));
    assert!(line["at_ms"].as_u64().unwrap() > 0 && line["node"] == 1, "{line}");

    bed.send("DELETE /v1/policies/disconnect/web", &[], "").await;
    let acl = r#"{"acl":[{"perms":"r","scheme":"world","id":"anyone"}]}"#;
    bed.send("PUT /v1/acl/roost/policies", &[], acl).await;
    // What is refused leaves a line too, and what is none of the registry's own leaves none.
    assert_eq!(bed.send("DELETE /v1/policies/disconnect/web", &[], "").await.status, 404);
    bed.post("/v1/znodes/other", "").await;
    let (then, _) = lines(&bed, next).await;
    let short: Vec<_> = then
        .iter()
        .map(|line| (line["op"].as_str().unwrap(), line["result"].as_str().unwrap()))
        .collect();
    assert_eq!(short, [("delete", "ok"), ("set_acl", "ok"), ("delete", "no_node")]);
    assert_eq!(then[0]["reason"], "restarts often", "the end says what has ended");
}

#[tokio::test]
async fn a_denial_is_noted_with_its_rule_and_what_was_taken_out_by_hand_with_its_path() {
    let bed = Bed::new().await;
    let (session, token) = bed.session().await;
    let provider = |id: &str| json!({"id": id, "host": "10.0.0.9", "port": 1});
    bed.register(&token, "web", provider("a")).await;
    let rule = json!([{"id": "lab", "who": ["127.0.0.0/8"]}]);
    let policy = json!({"reason": "r", "pattern": "/services/**", "deny": rule});
    bed.send("PUT /v1/policies/admission/prod", &[], policy.to_string()).await;
    let (_, next) = lines(&bed, 0).await;
    assert_eq!(bed.register(&token, "web", provider("b")).await.status, 403);
    bed.post("/v1/deregister", r#"{"ip":"10.0.0.9"}"#).await;
    let (lines, _) = lines(&bed, next).await;
    let denied = about(&lines, "/services/web/providers/b");
    assert_eq!((&denied["rule"], &denied["result"]), (&json!("prod/lab"), &json!("denied")));
    assert_eq!((&denied["session"], &denied["op"]), (&json!(session), &json!("write")));
    assert_eq!(about(&lines, "/services/web/providers/a")["op"], "deregister");
}

#[tokio::test]
async fn nobody_learns_from_the_audit_of_what_he_may_not_read() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/roost/secret?parents=true", "").await;
    let acl = r#"{"acl":[{"perms":"r","scheme":"ip","id":"10.0.0.1"}]}"#;
    bed.send("PUT /v1/acl/roost/secret", &[], acl).await;
    assert_eq!(lines(&bed, 0).await.0, [json!(null); 0]);
    let got = bed.send("GET /v1/audit", &[("authorization", "Basic c3VwZXI6dGVzdA==")], "").await;
    assert_eq!(got.json()["lines"].as_array().unwrap().len(), 2);
}
