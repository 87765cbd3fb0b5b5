use super::*;

fn memory_peer(links: &MemoryLinks, shutdown: &CancellationToken) -> Peer {
    Peer::new(Arc::new(links.at("a")), identity(1), 2, "b", shutdown)
}

/// A node "b", a peer of it at "a", and a call that waits in its handler.
async fn with_a_waiting_call() -> (MemoryLinks, Node, Peer, JoinHandle<Result<Bytes, PeerError>>) {
    let links = MemoryLinks::default();
    let node = Node::start(&links.at("b"), "b", 2).await;
    let peer = memory_peer(&links, &CancellationToken::new());
    let caller = peer.clone();
    let call = tokio::spawn(async move { caller.call(Kind::Append, Bytes::from("x"), LONG).await });
    node.begun.acquire().await.unwrap().forget();
    (links, node, peer, call)
}

#[tokio::test(start_paused = true)]
async fn a_cut_fails_waiting_calls_at_once_and_the_next_call_after_it_reconnects() {
    let (links, node, peer, call) = with_a_waiting_call().await;
    let before = tokio::time::Instant::now();
    links.set_link("a", "b", false);
    assert!(matches!(call.await.unwrap(), Err(PeerError::Unreachable(_))));
    assert!(before.elapsed() < Duration::from_millis(1), "only the clock of the test moves");
    assert!(matches!(echo(&peer, b"").await, Err(PeerError::Unreachable(_))));
    links.set_link("a", "b", true);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(echo(&peer, b"again").await, Ok(Bytes::from("again")));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_swallows_everything_is_noticed_and_replaced() {
    let (links, node, peer, call) = with_a_waiting_call().await;
    links.set_delay("a", "b", Duration::from_secs(86_400));
    assert!(matches!(call.await.unwrap(), Err(PeerError::Unreachable(_))), "not a timeout");
    assert!(matches!(echo(&peer, b"").await, Err(PeerError::Unreachable(_))));
    links.set_delay("a", "b", Duration::ZERO);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(echo(&peer, b"again").await, Ok(Bytes::from("again")));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_may_take_far_longer_than_a_connection_may_be_silent() {
    let (_links, node, _peer, call) = with_a_waiting_call().await;
    tokio::time::sleep(LONG - Duration::from_secs(1)).await;
    node.gate.add_permits(1);
    assert_eq!(call.await.unwrap(), Ok(Bytes::from("x")));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_paid_once_in_each_direction() {
    let links = MemoryLinks::default();
    let node = Node::start(&links.at("b"), "b", 2).await;
    let peer = memory_peer(&links, &CancellationToken::new());
    echo(&peer, b"connected").await.unwrap();
    links.set_delay("a", "b", Duration::from_millis(40));
    let before = tokio::time::Instant::now();
    echo(&peer, b"late").await.unwrap();
    // Sleeping is rounded up to whole milliseconds.
    let spent = before.elapsed();
    assert!((80..90).contains(&spent.as_millis()), "{spent:?}");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn calls_fail_at_once_after_a_failed_attempt_and_the_pause_between_attempts_is_bounded() {
    let links = MemoryLinks::default();
    let peer = memory_peer(&links, &CancellationToken::new());
    for _ in 0..50 {
        assert!(matches!(echo(&peer, b"").await, Err(PeerError::Unreachable(_))));
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    assert!(matches!(echo(&peer, b"").await, Err(PeerError::Unreachable(_))));
    let node = Node::start(&links.at("b"), "b", 2).await;
    assert!(matches!(echo(&peer, b"").await, Err(PeerError::Unreachable(_))), "within the pause");
    tokio::time::advance(Duration::from_millis(500)).await;
    assert!(echo(&peer, b"").await.is_ok());
    node.stop().await;
}

#[tokio::test]
async fn a_restarted_node_is_reached_again_over_tcp() {
    let node = Node::tcp().await;
    let (addr, peer) = (node.addr.clone(), node.peer());
    assert!(echo(&peer, b"").await.is_ok());
    node.stop().await;
    let node = Node::start(&TcpNet, &addr, 2).await;
    while let Err(error) = echo(&peer, b"").await {
        assert!(matches!(error, PeerError::Unreachable(_)), "{error}");
        tokio::task::yield_now().await;
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_network_refuses_like_a_real_one() {
    let links = MemoryLinks::default();
    let net = links.at("a");
    let kind =
        |outcome: std::io::Result<_>| outcome.map(drop::<Box<dyn Duplex>>).unwrap_err().kind();
    assert_eq!(kind(net.connect("b").await), std::io::ErrorKind::ConnectionRefused);
    let acceptor = net.listen("b").await.unwrap();
    let second = net.listen("b").await.map(drop).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    links.set_link("a", "b", false);
    assert_eq!(kind(net.connect("b").await), std::io::ErrorKind::ConnectionRefused);
    assert!(links.at("c").connect("b").await.is_ok(), "other links are up");
    drop(acceptor);
    assert!(net.listen("b").await.is_ok(), "the address is free again");
}

#[tokio::test]
async fn shutdown_fails_what_waits_and_leaves_no_task() {
    let (_links, node, peer, call) = with_a_waiting_call().await;
    let (sender, receiver) = peer.open_stream(Kind::Submit).await.unwrap();
    sender.send(Bytes::from("x")).await.unwrap();
    peer.close().await;
    assert_eq!(call.await.unwrap(), Err(PeerError::Stopping));
    assert_eq!(echo(&peer, b"").await, Err(PeerError::Stopping));
    node.stop().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    drop((sender, receiver));
}

#[tokio::test]
async fn a_cancelled_token_stops_a_peer_and_the_last_handle_closes_the_connection() {
    let links = MemoryLinks::default();
    let node = Node::start(&links.at("b"), "b", 2).await;
    let shutdown = CancellationToken::new();
    let (stopped, dropped) = (memory_peer(&links, &shutdown), memory_peer(&links, &shutdown));
    echo(&stopped, b"").await.unwrap();
    echo(&dropped, b"").await.unwrap();
    let metrics = tokio::runtime::Handle::current().metrics();
    // The server, and both ends of two connections.
    assert_eq!(metrics.num_alive_tasks(), 5);
    drop(dropped);
    while metrics.num_alive_tasks() > 3 {
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    assert_eq!(echo(&stopped, b"").await, Err(PeerError::Stopping));
    while metrics.num_alive_tasks() > 1 {
        tokio::task::yield_now().await;
    }
    node.stop().await;
}
