use std::time::Duration;

use serde_json::{Value, json};

use super::{Bed, pass};
use crate::limits::DATA_BYTES_MAX;
use crate::types::{CreateMode, Op, SessionId, ZnodePath};

#[tokio::test]
async fn a_znode_is_created_read_changed_and_deleted() {
    let bed = Bed::new().await;
    let created = bed.post("/v1/znodes/a", "one").await;
    assert_eq!((created.status, &created.json()["path"]), (201, &json!("/a")));
    assert_eq!(created.header("roost-node"), Some("1"));
    assert_eq!(created.header("roost-zxid"), Some(created.json()["zxid"].to_string().as_str()));

    let read = bed.get("/v1/znodes/a").await;
    assert_eq!((read.status, read.header("etag")), (200, Some("\"0\"")));
    let body = read.json();
    assert_eq!((&body["data"], &body["encoding"]), (&json!("one"), &json!("utf8")));
    assert_eq!(body["stat"]["data_length"], 3);
    assert_eq!(body["stat"]["ephemeral_owner"], Value::Null);

    let raw = bed.send("GET /v1/znodes/a", &[("accept", "application/octet-stream")], "").await;
    assert_eq!((raw.body.as_slice(), raw.header("etag")), (&b"one"[..], Some("\"0\"")));
    assert_eq!(bed.get("/v1/znodes/a?raw=true").await.body, b"one");

    let set = bed.send("PUT /v1/znodes/a", &[("if-match", "\"0\"")], vec![0xff]).await;
    assert_eq!((set.status, &set.json()["stat"]["version"]), (200, &json!(1)));
    assert_eq!(bed.get("/v1/znodes/a").await.json()["data"], "/w==");
    let stale = bed.send("PUT /v1/znodes/a", &[("if-match", "\"0\"")], "x").await;
    assert_eq!(stale.error(), (412, "bad_version".to_owned()));
    assert_eq!(stale.json()["zk_code"], -103);

    let head = bed.send("HEAD /v1/znodes/a", &[], "").await;
    assert_eq!((head.status, head.header("etag"), head.body.len()), (200, Some("\"1\""), 0));
    assert_eq!(bed.send("DELETE /v1/znodes/a", &[], "").await.status, 200);
    assert_eq!(bed.get("/v1/znodes/a").await.error(), (404, "no_node".to_owned()));
    assert_eq!(bed.send("HEAD /v1/znodes/a", &[], "").await.status, 404);
}

#[tokio::test]
async fn the_root_is_a_znode_like_others() {
    let bed = Bed::new().await;
    assert_eq!(bed.get("/v1/znodes/").await.json()["path"], "/");
    assert_eq!(bed.get("/v1/children/").await.json()["children"][0]["name"], "zookeeper");
    assert_eq!(bed.get("/v1/acl/").await.json()["acl"][0]["scheme"], "world");
    assert_eq!(bed.post("/v1/znodes/", "").await.error(), (409, "node_exists".to_owned()));
    assert_eq!(
        bed.send("DELETE /v1/znodes/", &[], "").await.error(),
        (400, "bad_arguments".to_owned())
    );
}

#[tokio::test]
async fn what_a_url_cannot_mean_is_refused_as_json() {
    let bed = Bed::new().await;
    for (what, expected) in [
        ("GET /nowhere", (404, "not_found")),
        ("GET /v1/znodes", (404, "not_found")),
        ("PATCH /v1/znodes/a", (405, "method_not_allowed")),
        ("DELETE /v1/multi", (405, "method_not_allowed")),
        ("GET /v1/znodes/a?rw=true", (400, "bad_request")),
        ("GET /v1/znodes/a?consistency=eventual", (400, "bad_request")),
        ("PUT /v1/znodes/a?version=1", (400, "bad_request")),
        ("GET /v1/znodes/a/../b", (400, "bad_arguments")),
        ("GET /v1/children/?limit=0", (400, "bad_arguments")),
        ("GET /v1/sessions/7", (400, "bad_arguments")),
        ("GET /v1/services/a%2Fb", (404, "no_node")),
        ("GET /v1/services/%FF", (400, "bad_arguments")),
        ("POST /v1/sessions", (400, "bad_arguments")),
    ] {
        let got = bed.send(what, &[], "").await;
        assert_eq!(got.error(), (expected.0, expected.1.to_owned()), "{what}");
        assert!(got.header("roost-node").is_some() && got.header("roost-zxid").is_some(), "{what}");
    }
    let allow = bed.send("PATCH /v1/multi", &[], "").await;
    assert_eq!(allow.header("allow"), Some("POST"));
    let large = bed.post("/v1/znodes/a", vec![b'x'; DATA_BYTES_MAX + 1]).await;
    assert_eq!(large.error(), (413, "too_large".to_owned()));
}

#[tokio::test]
async fn children_come_in_pages_sorted_by_name() {
    let bed = Bed::new().await;
    for path in ["/v1/znodes/p", "/v1/znodes/p/c", "/v1/znodes/p/a", "/v1/znodes/p/b"] {
        assert_eq!(bed.post(path, "v").await.status, 201);
    }
    let first = bed.get("/v1/children/p?limit=2").await.json();
    assert_eq!(first["children"], json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!((&first["next"], &first["stat"]["num_children"]), (&json!("b"), &json!(3)));
    let second = bed.get("/v1/children/p?limit=2&after=b&values=true&stats=true").await.json();
    assert_eq!(second["children"][0]["data"], "v");
    assert_eq!(second["children"][0]["stat"]["version"], 0);
    assert_eq!(second["next"], Value::Null);
}

#[tokio::test]
async fn missing_parents_are_created_also_when_a_rival_creates_them_first() {
    let bed = Bed::new().await;
    assert_eq!(bed.post("/v1/znodes/a/b/c", "").await.error(), (404, "no_node".to_owned()));
    assert_eq!(bed.post("/v1/znodes/a/b/c?parents=true", "").await.status, 201);
    let rival = |parent: &str, name: &str| Op::Create {
        parent: ZnodePath::parse(parent).unwrap(),
        name: name.to_owned(),
        data: None,
        acl: Vec::new(),
        mode: CreateMode::Persistent,
    };
    bed.node.before_next(SessionId::NONE, rival("/", "x"));
    let key = [("idempotency-key", "k")];
    let got = bed.send("POST /v1/znodes/x/y/z?parents=true", &key, "mine").await;
    assert_eq!(got.status, 201);
    let again = bed.send("POST /v1/znodes/x/y/z?parents=true", &key, "mine").await;
    assert_eq!((again.status, again.json()), (201, got.json()), "a retry gets the first answer");
    let exists = bed.post("/v1/znodes/x/y/z?parents=true", "").await;
    assert_eq!(exists.error(), (409, "node_exists".to_owned()));
    assert_eq!(exists.json()["multi_index"], Value::Null);
}

#[tokio::test]
async fn a_retry_with_the_same_key_does_nothing_twice() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/q", "").await;
    let key = [("idempotency-key", "once")];
    let first = bed.send("POST /v1/znodes/q/n-?sequential=true", &key, "").await;
    let again = bed.send("POST /v1/znodes/q/n-?sequential=true", &key, "").await;
    assert_eq!(first.json(), again.json());
    assert_eq!(first.json()["path"], "/q/n-0000000000");
    assert_eq!(bed.get("/v1/children/q").await.json()["stat"]["num_children"], 1);
    let other = bed.send("DELETE /v1/znodes/q", &key, "").await;
    assert_eq!(
        other.error(),
        (400, "bad_arguments".to_owned()),
        "the key of another kind of request"
    );
    let key = [("idempotency-key", "session")];
    let open = r#"{"timeout_ms":5000}"#;
    let first = bed.send("POST /v1/sessions", &key, open).await;
    let again = bed.send("POST /v1/sessions", &key, open).await;
    assert_eq!(
        first.json()["token"],
        again.json()["token"],
        "the token works, so it is the first one's"
    );
}

#[tokio::test]
async fn a_multi_does_all_or_nothing_and_names_the_op_that_failed() {
    let bed = Bed::new().await;
    let body = |last: Value| {
        json!({"ops": [{"op": "create", "path": "/m", "data": "x"}, last]}).to_string()
    };
    let failed = bed.post("/v1/multi", body(json!({"op": "check", "path": "/none"}))).await;
    assert_eq!(
        (failed.error(), &failed.json()["multi_index"]),
        ((404, "no_node".to_owned()), &json!(1))
    );
    assert_eq!(bed.get("/v1/znodes/m").await.status, 404);
    let malformed = bed.post("/v1/multi", body(json!({"op": "delete", "path": "none"}))).await;
    assert_eq!(malformed.json()["multi_index"], 1);
    let done =
        bed.post("/v1/multi", body(json!({"op": "delete", "path": "/m", "version": 0}))).await;
    assert_eq!(done.status, 200);
    assert_eq!(
        (&done.json()["results"][0]["path"], &done.json()["results"][1]),
        (&json!("/m"), &json!({}))
    );
}

#[tokio::test]
async fn a_read_says_how_fresh_it_is() {
    let bed = Bed::new().await;
    let stale = bed.get("/v1/znodes/?consistency=stale").await;
    assert!(stale.header("roost-age-ms").unwrap().parse::<u64>().is_ok());
    assert_eq!(bed.get("/v1/znodes/").await.header("roost-age-ms"), None);
    tokio::time::pause();
    let ahead = bed.get("/v1/znodes/?consistency=sequential&min_zxid=9").await;
    assert_eq!(
        (ahead.error(), ahead.header("retry-after")),
        ((503, "timeout".to_owned()), Some("1"))
    );
}

#[tokio::test]
async fn a_ttl_znode_goes_when_its_time_is_over_and_before_one_that_is_due_some_checks_later() {
    let bed = Bed::new().await;
    assert_eq!(bed.post("/v1/znodes/lease?mode=ttl&ttl_ms=1000", "").await.status, 201);
    let created_ms = bed.node.local().cluster_ms();
    // Both intervals of this node, that of checks and the tick, are 100 ms.
    assert_eq!(bed.post("/v1/znodes/later?mode=ttl&ttl_ms=1400", "").await.status, 201);
    loop {
        let tree = bed.node.local();
        if tree.get("/lease").is_none() {
            let lived_ms = tree.cluster_ms() - created_ms;
            assert!(lived_ms >= 1000, "gone after {lived_ms} ms");
            break;
        }
        assert!(tree.get("/later").is_some(), "it outlives one that is due four intervals later");
        pass(Duration::from_millis(50)).await;
    }
}
