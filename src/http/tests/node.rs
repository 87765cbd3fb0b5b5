use std::time::Duration;

use serde_json::{Value, json};

use super::Bed;
use crate::limits::{HTTP_BODIES_BYTES_MAX, HTTP_REQUESTS_MAX};
use crate::node::Node;

#[tokio::test]
async fn a_full_node_refuses_requests_but_not_those_who_look_at_it() {
    let bed = Bed::new().await;
    let places: Vec<_> =
        (0..HTTP_REQUESTS_MAX).map(|_| bed.door.meters().enter(HTTP_REQUESTS_MAX)).collect();
    let busy = bed.get("/v1/znodes/").await;
    assert_eq!((busy.error(), busy.header("retry-after")), ((429, "busy".to_owned()), Some("1")));
    for uri in ["/healthz", "/readyz", "/metrics", "/v1/cluster", "/v1/digest", "/openapi.json"] {
        assert_eq!(bed.get(uri).await.status, 200, "{uri}");
    }
    let posts = ["init", "learners", "promote", "remove", "transfer"];
    for post in posts.map(|name| format!("/v1/cluster/{name}")) {
        assert_eq!(bed.post(&post, "{}").await.error().0, 429, "{post} changes it");
    }
    drop(places);
    assert_eq!(bed.get("/v1/znodes/").await.status, 200);
}

#[tokio::test]
async fn bodies_for_which_there_is_no_room_are_refused_and_give_their_room_back() {
    let bed = Bed::new().await;
    let all = bed.door.bodies();
    all.forget_permits(HTTP_BODIES_BYTES_MAX - 10);
    for body in ["x".repeat(11), "x".repeat(5)].iter().cycle().take(4) {
        let got = bed.send("PUT /v1/znodes/", &[], body.clone()).await;
        if body.len() > 10 {
            assert_eq!(got.error(), (429, "busy".to_owned()));
            assert_eq!(got.header("retry-after"), Some("1"));
        } else {
            assert_eq!(got.status, 200);
        }
        assert_eq!(all.available_permits(), 10);
    }
}

#[tokio::test]
async fn the_cluster_is_shown_and_changed_with_checked_arguments() {
    let bed = Bed::new().await;
    let shown = bed.get("/v1/cluster").await.json();
    let id = shown["cluster_id"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!((&shown["leader"], &shown["members"][0]["role"]), (&json!(1), &json!("voter")));
    let digest = bed.get("/v1/digest").await.json();
    assert_eq!((&digest["digest"], &digest["applied"]), (&shown["digest"], &shown["applied"]));
    let member = |node: u64| json!({"node": node, "peer_addr": "a:1", "http_addr": "a:2"});
    let init =
        |members: Value| bed.post("/v1/cluster/init", json!({ "members": members }).to_string());
    assert_eq!(init(json!([member(1), member(2)])).await.error(), (409, "refused".to_owned()));
    assert_eq!(init(json!([member(2)])).await.error(), (400, "bad_arguments".to_owned()));
    assert_eq!(
        init(json!([member(1), member(1)])).await.error(),
        (400, "bad_arguments".to_owned())
    );
    let nobody = bed.post("/v1/cluster/learners", member(4).to_string()).await;
    assert_eq!(nobody.error(), (409, "refused".to_owned()));
    assert!(nobody.json()["message"].as_str().unwrap().contains("a:1"), "{}", nobody.json());
    let refused = (409, "refused".to_owned());
    assert_eq!(bed.post("/v1/cluster/promote", r#"{"node":4}"#).await.error(), refused);
    assert_eq!(bed.post("/v1/cluster/transfer", r#"{"node":4}"#).await.error(), refused);
    // A mistyped id must not look like success.
    assert_eq!(bed.post("/v1/cluster/remove", r#"{"node":4}"#).await.error(), refused);
    for action in ["promote", "remove", "transfer"] {
        let none = bed.post(&format!("/v1/cluster/{action}"), r#"{"node":0}"#).await;
        assert_eq!(none.error(), (400, "bad_arguments".to_owned()), "{action}");
    }
}

#[tokio::test]
async fn a_node_without_a_cluster_says_so_until_it_is_given_one() {
    let bed = Bed::over(Node::lone().await);
    for what in ["GET /v1/znodes/", "POST /v1/znodes/a"] {
        let got = bed.send(what, &[], "").await;
        assert_eq!(got.error(), (503, "not_initialized".to_owned()), "{what}");
    }
    assert_eq!(bed.get("/readyz").await.error(), (503, "not_ready".to_owned()));
    assert_eq!(bed.get("/v1/cluster").await.json()["cluster_id"], Value::Null);
    let member = json!({"node": 1, "peer_addr": "1:1", "http_addr": "1:2"});
    let init = bed.post("/v1/cluster/init", json!({ "members": [member] }).to_string()).await;
    assert_eq!(init.status, 200);
    assert_eq!(bed.post("/v1/znodes/a", "").await.status, 201, "it waits for the election");
    assert_eq!(bed.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let bed = Bed::new().await;
    bed.get("/v1/znodes/a/b").await;
    bed.get("/v1/znodes/").await;
    let page = String::from_utf8(bed.get("/metrics").await.body).unwrap();
    for line in [
        r#"roost_http_requests_total{route="/v1/znodes/{path}",method="GET",status="4xx"} 1"#,
        r#"roost_http_requests_total{route="/v1/znodes/{path}",method="GET",status="2xx"} 1"#,
        "roost_zxid 0.0",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn the_members_and_their_zookeeper_doors_are_shown_in_the_tree() {
    let bed = Bed::over(Node::lone().await);
    let member = json!({"node": 1, "peer_addr": "1:1", "http_addr": "1:2", "zk_addr": "1:3"});
    let init = bed.post("/v1/cluster/init", json!({ "members": [member] }).to_string()).await;
    assert_eq!(init.status, 200);
    let data = || bed.node.local().get("/zookeeper/config").unwrap().data().cloned();
    while data().is_none_or(|data| data.is_empty()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let shown = bed.get("/v1/znodes/zookeeper/config").await.json();
    let version = shown["stat"]["mzxid"].as_u64().unwrap();
    let expected = format!("server.1=1:1:2:participant;1:3\nversion={version:x}");
    assert_eq!(shown["data"], expected);
    assert_eq!(bed.get("/v1/cluster").await.json()["members"][0]["zk_addr"], "1:3");
    let set = bed.send("PUT /v1/znodes/zookeeper/config", &[], "x").await;
    assert_eq!(set.error(), (403, "no_auth".to_owned()));
    // Who may write it does not keep what he wrote.
    let root = [("authorization", "Basic c3VwZXI6dGVzdA==")];
    assert_eq!(bed.send("PUT /v1/znodes/zookeeper/config", &root, "x").await.status, 200);
    while data().is_some_and(|data| &data[..] == b"x") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let again = bed.get("/v1/znodes/zookeeper/config").await.json();
    assert!(again["data"].as_str().unwrap().starts_with("server.1=1:1:2:participant;1:3\n"));
}

#[tokio::test]
async fn a_quota_that_is_exceeded_is_refused_or_measured() {
    let bed = Bed::new().await;
    let limits = "count=1,bytes=-1=;byteHardLimit=-1;countHardLimit=2";
    bed.post("/v1/znodes/zookeeper/quota/a/zookeeper_limits?parents=true", limits).await;
    for (path, status) in [("/v1/znodes/a", 201), ("/v1/znodes/a/b", 201), ("/v1/znodes/a/c", 429)]
    {
        let got = bed.post(path, "").await;
        assert_eq!(got.status, status, "{path}");
        if status == 429 {
            assert_eq!(got.json()["zk_code"], -125);
        }
    }
    let page = String::from_utf8(bed.get("/metrics").await.body).unwrap();
    for line in ["roost_quotas 1.0", "roost_quotas_exceeded 1.0"] {
        assert!(page.lines().any(|shown| shown == line), "{line} is not in\n{page}");
    }
}
