use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};

use super::{Bed, event, pass};
use crate::limits::{MAILBOX_MESSAGES_MAX, SNAPSHOT_SENT_MS_MAX};

#[tokio::test]
async fn a_stream_is_a_snapshot_then_changes_then_progress_and_resumes_exactly() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/w", "").await;
    bed.post("/v1/znodes/w/a", "1").await;
    let response = bed.raw("GET /v1/watch?watch=children_data:/w&watch=data:/none", &[], "").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut stream, mut buffer) = (response.into_body().into_data_stream(), String::new());
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id), ("snapshot", Some(2)));
    let znodes = &data["watches"][0]["znodes"];
    assert_eq!((&znodes[0]["path"], &znodes[0]["data"]), (&json!("/w/a"), &json!("1")));
    assert_eq!(
        (&data["watches"][0]["exists"], &data["watches"][1]["exists"]),
        (&json!(true), &json!(false))
    );

    bed.send("PUT /v1/znodes/w/a", &[], "2").await;
    bed.post("/v1/znodes/elsewhere", "").await;
    bed.post(
        "/v1/multi",
        r#"{"ops":[{"op":"delete","path":"/w/a"},{"op":"create","path":"/w/b","data":"3"}]}"#,
    )
    .await;
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!(
        (kind.as_str(), id, &data["changes"][0]["kind"]),
        ("change", Some(3), &json!("changed"))
    );
    assert_eq!(
        (&data["changes"][0]["data"], &data["changes"][0]["stat"]["version"]),
        (&json!("2"), &json!(1))
    );
    let (_, id, both) = event(&mut stream, &mut buffer).await;
    assert_eq!(
        (id, both["changes"].as_array().unwrap().len()),
        (Some(5), 2),
        "one transaction, one event"
    );
    assert_eq!(both["changes"][0], json!({"kind": "deleted", "path": "/w/a"}));
    tokio::time::pause();
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id, data), ("progress", Some(5), json!({"zxid": 5})));

    let last = [("last-event-id", "3")];
    let resumed = bed.raw("GET /v1/watch?watch=children_data:/w&since=0", &last, "").await;
    let (mut stream, mut buffer) = (resumed.into_body().into_data_stream(), String::new());
    assert_eq!(event(&mut stream, &mut buffer).await, ("change".to_owned(), Some(5), both));
}

#[tokio::test]
async fn a_watch_of_children_alone_carries_no_data() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/w", "").await;
    bed.post("/v1/znodes/w/a", "1").await;
    let got = bed.get("/v1/poll?watch=children:/w").await.json();
    let seen = &got["snapshot"]["watches"][0]["znodes"][0];
    assert!(seen.get("data").is_none() && seen["stat"]["data_length"] == 1, "{seen}");
    let with = bed.raw("GET /v1/watch?watch=children_data:/w&since=1", &[], "").await;
    let without = bed.get("/v1/poll?watch=children:/w&since=1").await.json();
    let change = &without["changes"][0]["changes"][0];
    assert!(change.get("data").is_none() && change["stat"]["version"] == 0, "{change}");
    let (mut stream, mut buffer) = (with.into_body().into_data_stream(), String::new());
    let (_, _, data) = event(&mut stream, &mut buffer).await;
    assert_eq!(data["changes"][0]["data"], "1", "both from the one encoding of the change");
}

#[tokio::test]
async fn a_stream_that_lost_changes_says_so_and_begins_again() {
    let bed = Bed::new().await;
    let response = bed.raw("GET /v1/watch?watch=data:/", &[], "").await;
    let (mut stream, mut buffer) = (response.into_body().into_data_stream(), String::new());
    assert_eq!(event(&mut stream, &mut buffer).await.0, "snapshot");
    let puts = (0..=MAILBOX_MESSAGES_MAX).map(|_| bed.send("PUT /v1/znodes/", &[], "x"));
    for put in futures::future::join_all(puts).await {
        assert_eq!(put.status, 200);
    }
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id, &data["reason"]), ("reset", None, &json!("skipped")));
    let (kind, id, _) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id), ("snapshot", Some(1 + MAILBOX_MESSAGES_MAX as u64)));
}

#[tokio::test]
async fn a_stream_from_a_zxid_that_the_cluster_never_reached_begins_again() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/w", "1").await;
    let response = bed.raw("GET /v1/watch?watch=data:/w&since=2", &[], "").await;
    let (mut stream, mut buffer) = (response.into_body().into_data_stream(), String::new());
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id, &data["reason"]), ("reset", None, &json!("not_reached")));
    assert_eq!(event(&mut stream, &mut buffer).await.1, Some(1));
    bed.send("PUT /v1/znodes/w", &[], "2").await;
    let (kind, id, _) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id), ("change", Some(2)), "and goes on from there");
    let poll = bed.get("/v1/poll?watch=data:/w&since=18446744073709551615").await.json();
    assert_eq!((&poll["reset"], &poll["snapshot"]["zxid"]), (&json!(true), &json!(2)));
    let known = bed.get("/v1/poll?watch=data:/w&since=2").await.json();
    assert_eq!(known["reset"], false, "the latest zxid is not beyond the cluster");
}

#[tokio::test]
async fn streams_and_polls_end_when_the_node_stops() {
    let bed = Bed::new().await;
    let response = bed.raw("GET /v1/watch?watch=subtree:/", &[], "").await;
    let (mut stream, mut buffer) = (response.into_body().into_data_stream(), String::new());
    assert_eq!(event(&mut stream, &mut buffer).await.0, "snapshot");
    assert!(
        stream.next().now_or_never().is_none(),
        "a snapshot is not followed by news of nothing"
    );
    bed.stop.cancel();
    assert!(stream.next().await.is_none());
    let poll = bed.get("/v1/poll?watch=data:/&since=0&wait_ms=60000").await;
    assert_eq!(poll.error(), (503, "stopping".to_owned()));
    assert_eq!(bed.get("/readyz").await.error(), (503, "stopping".to_owned()));
}

#[tokio::test]
async fn a_poll_answers_with_a_change_or_at_the_end_of_its_wait() {
    let bed = Bed::new().await;
    tokio::time::pause();
    let quiet = bed.get("/v1/poll?watch=data:/p&since=0&wait_ms=60000").await.json();
    tokio::time::resume();
    assert_eq!(quiet, json!({"zxid": 0, "reset": false, "changes": []}));
    let waiting = bed.get("/v1/poll?watch=data:/p&since=0&wait_ms=60000");
    let (changed, _) = tokio::join!(waiting, bed.post("/v1/znodes/p", "x"));
    let changed = changed.json();
    assert_eq!(
        (&changed["zxid"], &changed["changes"][0]["changes"][0]["data"]),
        (&json!(1), &json!("x"))
    );
}

#[tokio::test]
async fn a_malformed_watch_is_refused() {
    let bed = Bed::new().await;
    for (query, code) in [
        ("", "bad_arguments"),
        ("watch=/a", "bad_arguments"),
        ("watch=all:/a", "bad_arguments"),
        ("watch=data:a", "bad_arguments"),
        ("watch=data:/a&since=x", "bad_request"),
        ("watch=data:/a&filter=1", "bad_request"),
    ] {
        assert_eq!(
            bed.get(&format!("/v1/watch?{query}")).await.error(),
            (400, code.to_owned()),
            "{query}"
        );
    }
    let long = bed.get("/v1/poll?watch=data:/a&wait_ms=60001").await;
    assert_eq!(long.error(), (400, "bad_arguments".to_owned()));
}

/// Creates `/big` with 500 children of 1000 bytes.
async fn create_big(bed: &Bed) {
    bed.post("/v1/znodes/big", "").await;
    let data = "x".repeat(1000);
    let create = |n: usize| json!({"op": "create", "path": format!("/big/{n:04}"), "data": data});
    let body = json!({"ops": (0..500).map(create).collect::<Vec<_>>()}).to_string();
    assert_eq!(bed.post("/v1/multi", body).await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_snapshot_does_not_keep_the_state_for_ever() {
    let bed = Bed::new().await;
    create_big(&bed).await;
    for asked in ["GET /v1/watch?watch=subtree:/big", "GET /v1/poll?watch=subtree:/big"] {
        let mut stream = bed.raw(asked, &[], "").await.into_body().into_data_stream();
        while !stream.next().await.unwrap().unwrap().windows(7).any(|at| at == b"watches") {}
        let kept = Arc::downgrade(&bed.node.local());
        bed.send("PUT /v1/znodes/big", &[], "later").await;
        pass(Duration::from_millis(SNAPSHOT_SENT_MS_MAX - 1_000)).await;
        assert!(stream.next().await.unwrap().is_ok(), "it may take its time");
        assert!(kept.upgrade().is_some());
        pass(Duration::from_millis(1_001)).await;
        assert!(kept.upgrade().is_none(), "{asked}: the state is kept");
        let end = stream.next().await;
        assert!(end.is_none_or(|piece| piece.is_err()), "{asked}: half of it looks like all");
    }
}

#[tokio::test]
async fn a_large_snapshot_comes_in_pieces_and_whole() {
    let bed = Bed::new().await;
    create_big(&bed).await;
    let response = bed.raw("GET /v1/poll?watch=subtree:/big&watch=children:/big", &[], "").await;
    let pieces: Vec<_> =
        response.into_body().into_data_stream().map(Result::unwrap).collect().await;
    assert!(pieces.len() > 5, "{} pieces", pieces.len());
    let whole: Value = serde_json::from_slice(&pieces.concat()).unwrap();
    let count =
        |watch: usize| whole["snapshot"]["watches"][watch]["znodes"].as_array().unwrap().len();
    assert_eq!((count(0), count(1)), (501, 500));
}
