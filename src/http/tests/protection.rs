use serde_json::{Value, json};

use super::{Bed, Got, pass_until};

const WEB: &str = "/services/web/providers";

/// A bed with this many providers of one service, which are silent from now on.
pub(super) async fn silent(many: u16) -> Bed {
    let bed = Bed::new().await;
    for port in 1..=many {
        let (_, token) = bed.session().await;
        let provider = json!({"id": format!("p{port}"), "host": "10.0.0.5", "port": port});
        let got = bed.register(&token, "web", provider).await;
        assert_eq!(got.status, 201, "{}", got.json());
    }
    bed
}

pub(super) async fn suspects(bed: &Bed, many: usize) {
    let is_so = || bed.node.local().suspect_count() == many;
    pass_until(&bed.node, "they are held", is_so).await;
}

async fn confirm(bed: &Bed, body: Value) -> Got {
    bed.post("/v1/protection/confirm", body.to_string()).await
}

#[tokio::test]
async fn who_is_held_and_why_is_shown_and_ends_when_somebody_confirms_it() {
    let bed = silent(5).await;
    suspects(&bed, 4).await;
    let shown = bed.get("/v1/protection").await.json();
    let expected = json!([{
        "service": WEB, "policy": "default-services", "mode": "enforce",
        "present": 4, "lost": 1, "budget": 1,
    }]);
    assert_eq!(shown["services"], expected);
    let all = shown["suspects"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["services"]), (4, &json!([WEB])));
    assert_eq!(
        (&all[0]["policy"], &all[0]["answers"]),
        (&json!("default-services"), &json!(false))
    );
    assert!(all[0]["left_ms"].as_u64().unwrap() > 500_000, "{}", all[0]);
    let page = bed.get("/v1/protection?limit=3").await.json();
    let rest = format!("/v1/protection?after={}", page["next"].as_str().unwrap());
    assert_eq!(bed.get(&rest).await.json()["suspects"], json!([all[3]]));
    let metrics = bed.get("/metrics").await;
    let page = String::from_utf8(metrics.body).unwrap();
    for line in ["roost_suspect_sessions 4.0", "roost_sessions_expired_silent 1.0"] {
        assert!(page.lines().any(|shown| shown == line), "{line} is not in\n{page}");
    }

    for (body, error) in [
        (json!({"reason": "r"}), (400, "bad_arguments")),
        (json!({"all": true, "service": WEB, "reason": "r"}), (400, "bad_arguments")),
        (json!({"all": true, "reason": " "}), (400, "bad_arguments")),
        (json!({"session": "x", "reason": "r"}), (400, "bad_arguments")),
        (json!({"session": "0x0100000000000099", "reason": "r"}), (404, "no_node")),
    ] {
        let (status, code) = error;
        assert_eq!(confirm(&bed, body).await.error(), (status, code.to_owned()));
    }
    let first = all[0]["session"].as_str().unwrap();
    let done = confirm(&bed, json!({"session": first, "reason": "it burns"})).await.json();
    assert_eq!((&done["ended"], &done["more"]), (&json!([first]), &json!(false)));
    let audit = bed.get("/v1/audit").await.json();
    let line = audit["lines"].as_array().unwrap().last().unwrap();
    assert_eq!(line["path"], format!("/roost/suspects/{first}"), "{line}");
    assert_eq!((&line["reason"], &line["set_by"]), (&json!("it burns"), &json!("ip:127.0.0.1")));
    let other = confirm(&bed, json!({"service": "/services/other", "reason": "r"})).await.json();
    assert_eq!(other["ended"], json!([]));
    let acl = json!({"acl": [{"perms": "cr", "scheme": "world", "id": "anyone"}]}).to_string();
    assert_eq!(bed.send(&format!("PUT /v1/acl{WEB}"), &[], acl).await.status, 200);
    let refused = confirm(&bed, json!({"service": WEB, "reason": "r"})).await;
    assert_eq!(refused.error(), (403, "no_auth".to_owned()));
    assert_eq!(bed.node.local().suspect_count(), 3);
    let proof = [("authorization", "Basic c3VwZXI6dGVzdA==")];
    let all = json!({"all": true, "reason": "the hall is closed"}).to_string();
    let done = bed.send("POST /v1/protection/confirm", &proof, all).await.json();
    assert_eq!(done["ended"].as_array().unwrap().len(), 3);
    assert_eq!(bed.node.local().session_count(), 0);
}

#[tokio::test]
async fn who_is_heard_of_again_does_not_end_though_its_end_is_confirmed() {
    let bed = silent(5).await;
    suspects(&bed, 4).await;
    let shown = bed.get("/v1/protection").await.json();
    let back = shown["suspects"][0]["session"].as_str().unwrap().to_owned();
    let session = back.parse().unwrap();
    assert_eq!(bed.node.renew(session).await, Ok(true));
    // Unless the leader has looked just now it is still noted as suspect.
    let done = confirm(&bed, json!({"all": true, "reason": "the hall is closed"})).await.json();
    assert_eq!(done["ended"].as_array().unwrap().len(), 3, "{done}");
    assert!(bed.node.local().session(session).is_some());
}

#[tokio::test]
async fn protection_is_switched_off_for_a_while_only_through_whichever_door() {
    let bed = silent(3).await;
    let off = json!({"reason": "we move", "pattern": "/services/**", "mode": "off"});
    let put = "PUT /v1/policies/removal/move";
    let refused = bed.send(put, &[], off.to_string()).await;
    assert_eq!(refused.error(), (400, "bad_arguments".to_owned()));
    assert!(refused.json()["message"].as_str().unwrap().starts_with("ttl_s"));
    bed.post("/v1/znodes/roost/policies/removal?parents=true", "").await;
    let mut raw = off.clone();
    (raw["set_by"], raw["expires_at_ms"]) = (json!("a"), json!(1));
    let znode = "/v1/znodes/roost/policies/removal/move";
    assert_eq!(bed.post(znode, raw.to_string()).await.error().0, 400);
    let ttl = format!("{znode}?mode=ttl&ttl_ms=60000");
    assert_eq!(bed.post(&ttl, raw.to_string()).await.status, 201);
    let gone = bed.send(&format!("DELETE {znode}"), &[], "").await;
    assert_eq!(gone.status, 200);
    let mut brief = off;
    brief["ttl_s"] = json!(600);
    assert_eq!(bed.send(put, &[], brief.to_string()).await.status, 200);
    let is_so = || {
        assert_eq!(bed.node.local().suspect_count(), 0);
        bed.node.local().session_count() == 0
    };
    pass_until(&bed.node, "all are gone", is_so).await;
}

#[tokio::test]
async fn nobody_but_the_registry_writes_its_notes() {
    let bed = silent(3).await;
    suspects(&bed, 2).await;
    assert_eq!(bed.post("/v1/znodes/roost/losses?parents=true", "").await.status, 409);
    for forged in ["/roost/suspects/0x0100000000000007", "/roost/losses/x", "/roost/losses/x/1"] {
        let got = bed.post(&format!("/v1/znodes{forged}?parents=true"), "{}").await;
        assert_eq!(got.error(), (400, "bad_arguments".to_owned()), "{forged}");
    }
    let shown = bed.get("/v1/protection").await.json();
    let session = shown["suspects"][0]["session"].as_str().unwrap();
    let note = format!("/v1/znodes/roost/suspects/{session}");
    assert_eq!(bed.send(&format!("PUT {note}"), &[], "{}").await.error().0, 400);
}

#[tokio::test]
async fn a_test_of_a_policy_says_how_services_would_stand() {
    let bed = silent(10).await;
    let policy = json!({"reason": "r", "pattern": "/services/*/providers", "max_ratio": 0.5});
    let test = json!({"kind": "removal", "name": "half", "policy": policy});
    let tested = bed.post("/v1/policies/test", test.to_string()).await.json();
    let expected = json!([{
        "service": WEB, "policy": "half", "mode": "enforce", "present": 10, "lost": 0, "budget": 5,
    }]);
    assert_eq!(tested["services"], expected);
    let built_in = bed.get("/v1/policies/removal/default-services").await.json();
    assert_eq!(
        (&built_in["built_in"], &built_in["policy"]["pattern"]),
        (&json!(true), &json!("/services/*/providers"))
    );
    let kept = bed.send("DELETE /v1/policies/removal/default-services", &[], "").await;
    assert_eq!(kept.error(), (409, "refused".to_owned()));
}
