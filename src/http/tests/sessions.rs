use std::time::Duration;

use serde_json::{Value, json};

use super::{Bed, pass};
use crate::node::Node;

#[tokio::test]
async fn a_session_lives_by_its_token_and_takes_its_ephemerals_with_it() {
    let bed = Bed::new().await;
    let (id, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    let bare = bed.post("/v1/znodes/e?mode=ephemeral", "").await;
    assert_eq!(bare.error(), (400, "bad_arguments".to_owned()));
    assert_eq!(bed.send("POST /v1/znodes/e?mode=ephemeral", &auth, "").await.status, 201);
    assert_eq!(bed.get("/v1/znodes/e").await.json()["stat"]["ephemeral_owner"], id.as_str());
    let shown = bed.get(&format!("/v1/sessions/{id}")).await.json();
    assert_eq!((&shown["timeout_ms"], &shown["ephemerals"]), (&json!(5000), &json!(["/e"])));
    let list = bed.get("/v1/sessions").await.json();
    assert_eq!(list["sessions"], json!([{"session": id, "timeout_ms": 5000, "ephemerals": 1}]));
    assert_eq!(bed.get(&format!("/v1/sessions?after={id}")).await.json()["sessions"], json!([]));

    let renewed = bed.send(&format!("PUT /v1/sessions/{id}"), &auth, "").await;
    assert_eq!((renewed.status, &renewed.json()["timeout_ms"]), (200, &json!(5000)));
    let other = bed.send("PUT /v1/sessions/0x01", &auth, "").await;
    assert_eq!(other.error(), (401, "auth_failed".to_owned()));

    let closed = bed.send(&format!("DELETE /v1/sessions/{id}"), &auth, "").await;
    assert_eq!((closed.status, &closed.json()["removed"]), (200, &json!(1)));
    assert_eq!(bed.get("/v1/znodes/e").await.status, 404);
    let gone = bed.send("GET /v1/znodes/", &auth, "").await;
    assert_eq!(gone.error(), (410, "session_expired".to_owned()));
    assert_eq!(
        bed.get(&format!("/v1/sessions/{id}")).await.error(),
        (410, "session_expired".to_owned())
    );
}

#[tokio::test]
async fn a_wrong_token_is_refused_even_for_a_read() {
    let bed = Bed::new().await;
    let (id, token) = bed.session().await;
    let last = if token.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{last}", &token[..token.len() - 1]);
    for token in [forged.as_str(), id.as_str(), "x", ""] {
        let got = bed.send("GET /v1/znodes/", &[("roost-session", token)], "").await;
        assert_eq!(got.error(), (401, "auth_failed".to_owned()), "{token:?}");
    }
}

#[tokio::test]
async fn a_request_with_a_token_keeps_its_session_alive_and_one_with_a_forged_token_does_not() {
    let bed = Bed::new().await;
    let ((mine, token), (other, _)) = (bed.session().await, bed.session().await);
    let is_there = |id: &str| bed.node.local().session(id.parse().unwrap()).is_some();
    let forged = format!("{other}.{}", "0".repeat(32));
    for _ in 0..2 {
        pass(Duration::from_secs(3)).await;
        let auth = [("roost-session", token.as_str())];
        assert_eq!(bed.send("GET /v1/znodes/", &auth, "").await.status, 200);
        let auth = [("roost-session", forged.as_str())];
        let refused = bed.send("GET /v1/znodes/", &auth, "").await.status;
        assert!(refused == 401 || refused == 410, "{refused}");
    }
    while is_there(&other) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is_there(&mine));
    pass(Duration::from_secs(6)).await;
    while is_there(&mine) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn beyond_as_many_sessions_as_there_may_be_none_is_opened_until_one_ends() {
    let bed = Bed::over(Node::with_room_for(1).await);
    let (id, token) = bed.session().await;
    let open = async || bed.post("/v1/sessions", r#"{"timeout_ms":5000}"#).await;
    assert_eq!(open().await.error(), (429, "quota_exceeded".to_owned()));
    let auth = [("roost-session", token.as_str())];
    assert_eq!(bed.send(&format!("DELETE /v1/sessions/{id}"), &auth, "").await.status, 200);
    assert_eq!(open().await.status, 201);
}

#[tokio::test]
async fn sessions_come_in_pages() {
    let bed = Bed::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bed.session().await.0);
    }
    let first = bed.get("/v1/sessions?limit=2").await.json();
    assert_eq!(
        (&first["next"], &first["sessions"][1]["session"]),
        (&json!(ids[1]), &json!(ids[1]))
    );
    let second = bed.get(&format!("/v1/sessions?limit=2&after={}", ids[1])).await.json();
    assert_eq!(second["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&second["next"], &second["sessions"][0]["session"]),
        (&Value::Null, &json!(ids[2]))
    );
}
