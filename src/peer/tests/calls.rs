use futures::future::join_all;

use crate::limits::{PEER_IN_FLIGHT_MAX, PEER_PAYLOAD_BYTES_MAX};

use super::*;

#[tokio::test]
async fn a_call_gets_its_answer_and_the_handler_knows_who_asked() {
    let node = Node::tcp().await;
    let answer = node.peer().call(Kind::Status, Bytes::new(), LONG).await;
    assert_eq!(answer, Ok(Bytes::from("hello 1")));
    node.stop().await;
}

#[tokio::test]
async fn an_error_of_the_handler_travels_as_text() {
    let node = Node::tcp().await;
    let answer = node.peer().call(Kind::Join, Bytes::new(), LONG).await;
    assert_eq!(answer, Err(PeerError::Failed("the cluster is full".to_owned())));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_concurrent_calls_each_get_their_own_answer() {
    let node = Node::tcp().await;
    let peer = node.peer();
    let calls = (0..5_000u32).map(|n| {
        let peer = peer.clone();
        tokio::spawn(async move { (n, echo(&peer, &n.to_le_bytes()).await) })
    });
    for outcome in join_all(calls).await {
        let (n, answer) = outcome.unwrap();
        assert_eq!(answer.unwrap()[..], n.to_le_bytes());
    }
    node.stop().await;
}

#[tokio::test]
async fn a_slow_call_does_not_hold_up_a_fast_one() {
    let node = Node::tcp().await;
    let peer = node.peer();
    let slow = peer.call(Kind::Append, Bytes::from("slow"), LONG);
    let fast = async {
        node.begun.acquire().await.unwrap().forget();
        let answer = echo(&peer, b"fast").await;
        node.gate.add_permits(1);
        answer
    };
    let (slow, fast) = tokio::join!(slow, fast);
    assert_eq!((slow.unwrap(), fast.unwrap()), (Bytes::from("slow"), Bytes::from("fast")));
    node.stop().await;
}

#[tokio::test]
async fn a_call_beyond_the_bound_waits_until_another_has_its_answer() {
    let node = Node::tcp().await;
    let peer = node.peer();
    let calls = (0..=PEER_IN_FLIGHT_MAX).map(|_| {
        let peer = peer.clone();
        tokio::spawn(async move { peer.call(Kind::Append, Bytes::new(), LONG).await })
    });
    let calls: Vec<_> = calls.collect();
    node.begun.acquire_many(PEER_IN_FLIGHT_MAX as u32).await.unwrap().forget();
    // The other side has no room either, so this cannot overtake.
    let beyond = peer.call(Kind::Vote, Bytes::new(), Duration::from_millis(20)).await;
    assert_eq!(beyond, Err(PeerError::Timeout));
    assert_eq!(node.begun.available_permits(), 0, "one call more than allowed has begun");
    node.gate.add_permits(1);
    node.begun.acquire().await.unwrap().forget();
    node.gate.add_permits(PEER_IN_FLIGHT_MAX);
    for answer in join_all(calls).await {
        answer.unwrap().unwrap();
    }
    node.stop().await;
}

#[tokio::test]
async fn a_payload_at_the_bound_passes_and_one_beyond_is_refused_before_it_is_sent() {
    let node = Node::tcp().await;
    let peer = node.peer();
    let pattern: Vec<u8> = (0..PEER_PAYLOAD_BYTES_MAX).map(|n| (n % 251) as u8).collect();
    assert!(echo(&peer, &pattern).await.unwrap() == pattern);
    let beyond = Bytes::from(vec![0; PEER_PAYLOAD_BYTES_MAX + 1]);
    let refused = peer.call(Kind::Vote, beyond, LONG).await;
    assert_eq!(refused, Err(PeerError::TooLarge(PEER_PAYLOAD_BYTES_MAX + 1)));
    assert!(echo(&peer, b"still there").await.is_ok());
    node.stop().await;
}

#[tokio::test]
async fn an_answer_beyond_the_bound_is_an_error_of_that_call_alone() {
    let node = Node::tcp().await;
    let peer = node.peer();
    let answer = peer.call(Kind::Snapshot, Bytes::new(), LONG).await;
    assert!(matches!(answer, Err(PeerError::Failed(why)) if why.contains("too large")));
    assert!(echo(&peer, b"still there").await.is_ok());
    node.stop().await;
}

#[tokio::test]
async fn a_call_that_times_out_or_is_dropped_leaves_the_others_alone() {
    let node = Node::tcp().await;
    let peer = node.peer();
    let short = Duration::from_millis(5);
    let late = peer.call(Kind::Append, Bytes::new(), short).await;
    assert_eq!(late, Err(PeerError::Timeout));
    drop(peer.call(Kind::Append, Bytes::new(), LONG).now_or_never());
    // The first one's answer now arrives for nobody.
    node.gate.add_permits(2);
    assert_eq!(echo(&peer, b"on time").await, Ok(Bytes::from("on time")));
    node.stop().await;
}
