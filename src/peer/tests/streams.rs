use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_arrive_in_order_in_both_directions() {
    let node = Node::tcp().await;
    let peer = node.peer();
    let (sender, mut receiver) = peer.open_stream(Kind::Submit).await.unwrap();
    let sending = async move {
        for n in 0..20_000u32 {
            sender.send(Bytes::copy_from_slice(&n.to_le_bytes())).await.unwrap();
        }
    };
    let receiving = async {
        for n in 0..20_000u32 {
            assert_eq!(receiver.next().await.unwrap().unwrap()[..], n.to_le_bytes());
        }
        // Once it has everything, the far side sends the total and ends.
        assert_eq!(receiver.next().await, Some(Ok(Bytes::from("80000"))));
        assert_eq!(receiver.next().await, None);
        assert_eq!(receiver.next().await, None);
    };
    tokio::join!(sending, receiving);
    node.stop().await;
}

#[tokio::test]
async fn large_items_and_a_final_answer_get_through() {
    let node = Node::tcp().await;
    let peer = node.peer();
    let (sender, mut receiver) = peer.open_stream(Kind::Snapshot).await.unwrap();
    for _ in 0..20 {
        sender.send(Bytes::from(vec![1; 3 << 20])).await.unwrap();
    }
    drop(sender);
    assert_eq!(receiver.next().await, Some(Ok(Bytes::from((60 << 20).to_string()))));
    assert_eq!(receiver.next().await, None);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sender_notices_that_nobody_is_left_on_the_other_side() {
    let links = MemoryLinks::default();
    let node = Node::start(&links.at("b"), "b", 2).await;
    let peer = memory_peer(&links);
    let (sender, mut receiver) = peer.open_stream(Kind::Touch).await.unwrap();
    sender.send(Bytes::from("go")).await.unwrap();
    assert_eq!(receiver.next().await, None, "the handler has returned");
    let error = loop {
        match sender.send(Bytes::from("anybody?")).await {
            Ok(()) => tokio::time::advance(Duration::from_millis(100)).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PeerError::Unreachable(_)), "{error}");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_stays_open() {
    let links = MemoryLinks::default();
    let node = Node::start(&links.at("b"), "b", 2).await;
    let peer = memory_peer(&links);
    let (sender, mut receiver) = peer.open_stream(Kind::Submit).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    sender.send(Bytes::from("good morning")).await.unwrap();
    assert_eq!(receiver.next().await, Some(Ok(Bytes::from("good morning"))));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_makes_the_sender_wait() {
    let links = MemoryLinks::default();
    let node = Node::start(&links.at("b"), "b", 2).await;
    let peer = memory_peer(&links);
    let (sender, mut receiver) = peer.open_stream(Kind::Submit).await.unwrap();
    let item = Bytes::from(vec![1; 1 << 20]);
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(1), sender.send(item.clone())).await.is_ok() {
        sent += 1;
        assert!(sent < 100, "100 MiB are under way and nobody has read any");
    }
    for _ in 0..sent {
        assert_eq!(receiver.next().await.unwrap().unwrap().len(), 1 << 20);
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn both_sides_of_a_stream_notice_a_cut() {
    let links = MemoryLinks::default();
    let node = Node::start(&links.at("b"), "b", 2).await;
    let peer = memory_peer(&links);
    let (sender, mut receiver) = peer.open_stream(Kind::Submit).await.unwrap();
    sender.send(Bytes::from("one")).await.unwrap();
    assert_eq!(receiver.next().await, Some(Ok(Bytes::from("one"))));
    links.set_link("a", "b", false);
    assert!(matches!(receiver.next().await, Some(Err(PeerError::Unreachable(_)))));
    assert_eq!(receiver.next().await, None);
    assert!(matches!(sender.send(Bytes::new()).await, Err(PeerError::Unreachable(_))));
    // Returns only when the handler of the stream has.
    node.stop().await;
}

#[tokio::test]
async fn closing_a_peer_ends_its_streams() {
    let node = Node::tcp().await;
    let peer = node.peer();
    let (sender, mut receiver) = peer.open_stream(Kind::Submit).await.unwrap();
    peer.close().await;
    assert_eq!(receiver.next().await, Some(Err(PeerError::Stopping)));
    assert_eq!(sender.send(Bytes::new()).await, Err(PeerError::Stopping));
    assert!(matches!(peer.open_stream(Kind::Submit).await, Err(PeerError::Stopping)));
    node.stop().await;
}

fn memory_peer(links: &MemoryLinks) -> Peer {
    Peer::new(Arc::new(links.at("a")), identity(1), 2, "b", &CancellationToken::new())
}
