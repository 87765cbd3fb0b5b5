use serde_json::{Value, json};

use super::Bed;
use crate::limits::HTTP_REQUESTS_MAX;
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
    drop(places);
    assert_eq!(bed.get("/v1/znodes/").await.status, 200);
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
