use serde_json::{Value, json};

use super::{Bed, Got};
use crate::types::{CreateMode, Data, Op, SessionId, ZnodePath};

/// Registers an instance; returns the status and the code of a refusal.
async fn register(bed: &Bed, token: &str, service: &str, id: &str, host: &str, meta: Value) -> Got {
    let provider = json!({"id": id, "host": host, "port": 80, "metadata": meta});
    bed.register(token, service, provider).await
}

async fn deregister(bed: &Bed, body: Value) -> Got {
    bed.post("/v1/deregister", body.to_string()).await
}

fn removed(got: &Got) -> Vec<String> {
    let paths =
        got.json()["removed"].as_array().unwrap_or_else(|| panic!("{}", got.json())).clone();
    paths.iter().map(|path| path.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn all_registrations_of_a_host_go_with_one_zxid_and_do_not_come_back_while_blocked() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    for at in 0..200 {
        assert_eq!(
            register(&bed, &token, &format!("s{at}"), "a", "10.0.0.5", json!({})).await.status,
            201
        );
    }
    assert_eq!(register(&bed, &token, "s0", "b", "10.0.0.6", json!({})).await.status, 201);
    // An unmodified Dubbo provider is a registration of that host too; a lock is not.
    let path = "/dubbo/Demo/providers/dubbo%3A%2F%2F10.0.0.5%3A20880%2FDemo%3Fside%3Dprovider";
    let dubbo = |mode| Op::Create {
        parent: ZnodePath::parse("/dubbo/Demo/providers").unwrap(),
        name: path.rsplit('/').next().unwrap().to_owned(),
        data: Some(Data::new(b"10.0.0.5")),
        acl: Vec::new(),
        mode,
    };
    for parent in ["/dubbo", "/dubbo/Demo", "/dubbo/Demo/providers"] {
        bed.post(&format!("/v1/znodes{parent}"), "").await;
    }
    let session: SessionId = token.split('.').next().unwrap().parse().unwrap();
    bed.node.before_next(session, dubbo(CreateMode::Ephemeral));
    bed.post("/v1/znodes/lock", "10.0.0.5").await;

    let dry = deregister(&bed, json!({"ip": "10.0.0.5", "dry_run": true})).await;
    assert_eq!((removed(&dry).len(), &dry.json()["dry_run"]), (201, &json!(true)));
    assert_eq!(bed.node.local().ephemeral_count(), 202, "nothing was done");

    let ask = json!({"ip": "10.0.0.5", "block_ms": 60_000, "reason": "the host burns"});
    let key = [("idempotency-key", "k")];
    let done = bed.send("POST /v1/deregister", &key, ask.to_string()).await;
    assert_eq!(removed(&done).len(), 201, "{}", done.json());
    assert!(removed(&done).contains(&path.to_owned()));
    assert_eq!(done.json()["tombstones"], json!(["/roost/tombstones/ip=10.0.0.5@%2F**"]));
    let tree = bed.node.local();
    assert_eq!(tree.ephemeral_count(), 1);
    for at in 0..200 {
        let parent = tree.get(&format!("/services/s{at}/providers")).unwrap();
        assert_eq!(
            parent.stat().pzxid.0,
            done.json()["zxid"].as_u64().unwrap(),
            "all with one zxid"
        );
    }
    let again = bed.send("POST /v1/deregister", &key, ask.to_string()).await;
    assert_eq!(removed(&again), removed(&done), "a retry gets the first answer");

    // The provider lives and tries to come back, under whatever id and through whatever door.
    let back = register(&bed, &token, "s1", "other", "10.0.0.5", json!({})).await;
    assert_eq!(back.error(), (403, "no_auth".to_owned()));
    assert!(
        back.json()["message"].as_str().unwrap().contains("/roost/tombstones/ip="),
        "{}",
        back.json()
    );
    bed.node.before_next(session, dubbo(CreateMode::Ephemeral));
    assert_eq!(
        register(&bed, &token, "s1", "c", "10.0.0.6", json!({})).await.status,
        201,
        "another host"
    );
    assert!(bed.node.local().get(path).is_none());
    // Until the tombstone goes.
    let note = bed.get("/v1/znodes/roost/tombstones/ip=10.0.0.5@%252F**").await;
    assert!(note.json()["data"].as_str().unwrap().contains("the host burns"), "{}", note.json());
    bed.send("DELETE /v1/znodes/roost/tombstones/ip=10.0.0.5@%252F**", &[], "").await;
    assert_eq!(register(&bed, &token, "s1", "other", "10.0.0.5", json!({})).await.status, 201);
}

#[tokio::test]
async fn a_dry_run_names_nothing_that_the_caller_may_not_take_out() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    for (service, id) in [("open", "a"), ("shut", "b")] {
        let meta = json!({"rack": "r1"});
        assert_eq!(register(&bed, &token, service, id, "10.0.0.5", meta).await.status, 201);
    }
    let rules = json!({"acl": [{"perms": "a", "scheme": "world", "id": "anyone"}]}).to_string();
    let shut = bed.send("PUT /v1/acl/services/shut/providers", &[], rules).await;
    assert_eq!(shut.status, 200, "{}", shut.json());
    let dry_run = |ask: Value, dry_run: bool| {
        let mut ask = ask;
        ask["dry_run"] = json!(dry_run);
        ask
    };
    for ask in [json!({"ip": "10.0.0.5"}), json!({"selector": {"rack": "r1"}})] {
        for dry in [true, false] {
            let refused = deregister(&bed, dry_run(ask.clone(), dry)).await;
            assert_eq!(refused.error(), (403, "no_auth".to_owned()), "{ask}");
        }
    }
    let ask = json!({"ip": "10.0.0.5", "services": ["open"]});
    for dry in [true, false] {
        let done = deregister(&bed, dry_run(ask.clone(), dry)).await;
        assert_eq!(removed(&done), ["/services/open/providers/a"]);
    }
}

#[tokio::test]
async fn what_registers_while_a_tombstone_is_being_set_goes_too() {
    let bed = Bed::new().await;
    let (session, token) = bed.session().await;
    assert_eq!(register(&bed, &token, "web", "a", "10.0.0.5", json!({})).await.status, 201);
    let late = Op::Create {
        parent: ZnodePath::parse("/services/web/providers").unwrap(),
        name: "late".to_owned(),
        data: Some(Data::new(br#"{"host":"10.0.0.5","port":81}"#)),
        acl: Vec::new(),
        mode: CreateMode::Ephemeral,
    };
    bed.node.before_next(session.parse().unwrap(), late);
    let done = deregister(&bed, json!({"ip": "10.0.0.5", "block_ms": 60_000})).await;
    assert_eq!(removed(&done), ["/services/web/providers/a", "/services/web/providers/late"]);
}

#[tokio::test]
async fn an_instance_a_session_and_a_selector_are_taken_out_within_their_scope() {
    let bed = Bed::new().await;
    let ((mine, token), (_, other)) = (bed.session().await, bed.session().await);
    for service in ["a", "b"] {
        register(&bed, &token, service, "i", "10.0.0.5", json!({"zone": "x", "env": "t"})).await;
        register(&bed, &other, service, "j", "10.0.0.6", json!({"zone": "x"})).await;
    }
    let selected =
        deregister(&bed, json!({"selector": {"zone": "x", "env": "t"}, "services": ["a"]})).await;
    assert_eq!(removed(&selected), ["/services/a/providers/i"]);
    let below = deregister(&bed, json!({"instance": "j", "pattern": "/services/b/**"})).await;
    assert_eq!(removed(&below), ["/services/b/providers/j"]);
    let path = "/services/a/providers/j";
    let one = deregister(&bed, json!({"instance": path, "block_ms": 60_000})).await;
    assert_eq!(removed(&one), [path]);
    assert_eq!(
        register(&bed, &other, "a", "j", "10.0.0.7", json!({})).await.status,
        403,
        "its path is blocked"
    );
    assert_eq!(register(&bed, &other, "a", "k", "10.0.0.6", json!({})).await.status, 201);

    let closed = deregister(&bed, json!({"session": mine})).await;
    assert_eq!(removed(&closed), ["/services/b/providers/i"]);
    assert_eq!(closed.json()["session_closed"], true);
    let renewal = format!("PUT /v1/sessions/{mine}");
    let renewed = bed.send(&renewal, &[("roost-session", token.as_str())], "").await;
    assert_eq!(renewed.error(), (410, "session_expired".to_owned()));
}

#[tokio::test]
async fn a_batch_deregistration_that_says_too_little_or_too_much_is_refused() {
    let bed = Bed::new().await;
    for (body, word) in [
        (json!({}), "exactly one"),
        (json!({"ip": "10.0.0.1", "session": "0x1"}), "exactly one"),
        (json!({"ip": "a/b"}), "ip"),
        (json!({"ip": ":80"}), "ip"),
        (json!({"ip": "nonsense", "block_ms": 1_000}), "ip"),
        (json!({"selector": {}}), "selector"),
        (json!({"instance": ""}), "instance"),
        (json!({"instance": "/a//b"}), "empty element"),
        (json!({"session": "x"}), ""),
        (json!({"session": "0x0100000000000001", "pattern": "/**"}), "session"),
        (json!({"ip": "10.0.0.1", "pattern": "/**/a"}), "**"),
        (json!({"ip": "10.0.0.1", "block_ms": 0}), "block_ms"),
        (json!({"ip": "10.0.0.1", "block_ms": 86_400_001}), "block_ms"),
        (json!({"ip": "10.0.0.1", "reason": "x".repeat(1025)}), "reason"),
    ] {
        let got = deregister(&bed, body.clone()).await;
        assert_eq!(got.status, 400, "{body}");
        assert!(got.json()["message"].as_str().unwrap().contains(word), "{body}: {}", got.json());
    }
    // Those whose list does not permit it stay, all of them.
    let (_, token) = bed.session().await;
    register(&bed, &token, "web", "a", "10.0.0.5", json!({})).await;
    register(&bed, &token, "free", "a", "10.0.0.5", json!({})).await;
    let rules = r#"{"acl":[{"perms":"r","scheme":"world","id":"anyone"}]}"#;
    bed.send("PUT /v1/acl/services/web/providers", &[], rules).await;
    let got = deregister(&bed, json!({"ip": "10.0.0.5", "block_ms": 1_000})).await;
    assert_eq!(got.error(), (403, "no_auth".to_owned()));
    assert_eq!(bed.node.local().ephemeral_count(), 2);
    assert!(bed.node.local().get("/roost").is_none());
}

#[tokio::test]
async fn a_session_is_opened_by_its_interval_and_misses_and_is_told_when_to_renew() {
    let bed = Bed::new().await;
    let opened = bed.post("/v1/sessions", r#"{"interval_ms":5000,"misses":4}"#).await;
    assert_eq!((opened.status, &opened.json()["timeout_ms"]), (201, &json!(20_000)));
    assert_eq!(opened.json()["next_renew_ms"], 5_000);
    let text = |name: &str| opened.json()[name].as_str().unwrap().to_owned();
    let (session, token) = (text("session"), text("token"));
    let auth = [("roost-session", token.as_str())];
    for (query, next) in [("", 6_666), ("?misses=4", 5_000), ("?misses=10", 2_000)] {
        let renewed = bed.send(&format!("PUT /v1/sessions/{session}{query}"), &auth, "").await;
        assert_eq!(
            (renewed.status, &renewed.json()["next_renew_ms"]),
            (200, &json!(next)),
            "{query}"
        );
    }
    for query in ["?misses=1", "?misses=11", "?misses=x", "?mises=3"] {
        let got = bed.send(&format!("PUT /v1/sessions/{session}{query}"), &auth, "").await;
        assert_eq!(got.status, 400, "{query}");
    }
    for body in
        [r#"{}"#, r#"{"timeout_ms":1000,"interval_ms":1000}"#, r#"{"timeout_ms":1000,"misses":1}"#]
    {
        assert_eq!(bed.post("/v1/sessions", body).await.status, 400, "{body}");
    }
    // Of a node that has as much to do as it can, the answer is to come later: up to half of the timeout.
    let places: Vec<_> = (0..crate::limits::HTTP_REQUESTS_MAX - 1)
        .map(|_| {
            bed.door.meters().enter(crate::limits::HTTP_REQUESTS_MAX).expect("there is a place")
        })
        .collect();
    let renewed = bed.send(&format!("PUT /v1/sessions/{session}"), &auth, "").await;
    assert_eq!(renewed.json()["next_renew_ms"], 10_000);
    drop(places);
}
