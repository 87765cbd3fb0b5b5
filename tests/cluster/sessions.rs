//! When a session ends, and when it must not. The rules are those of `roost::session`.
//!
//! *Early* is checked by the clock, since a slow machine only makes everything later; *late* is checked by order, against
//! another session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use roost::node::Node;
use roost::types::{Code, NodeId, Op, Owner, Reply, SessionId, Zxid};

use crate::harness::{Cluster, Setup, TICK, in_time, until};
use crate::ops::{by, create_ephemeral, done, open_session, refused, request};

async fn cluster(seed: u64) -> Arc<Cluster> {
    Cluster::start(3, Setup { seed, ..Setup::default() }).await
}

/// Opens a session with one ephemeral znode, named after a text.
async fn open_with_ephemeral(node: &Node, name: &str, timeout_ms: u32) -> SessionId {
    let session = open_session(node, timeout_ms).await;
    done(node, by(session, create_ephemeral(&format!("/{name}")))).await;
    session
}

async fn gone(node: &Node, session: SessionId) {
    let ended = || node.local().session(session).is_none().then_some(());
    until("the session has ended", ended).await;
}

/// Keeps a session alive through whichever node answers, as a client would. Returns how often it was renewed.
async fn keep_alive(
    cluster: Arc<Cluster>,
    session: SessionId,
    timeout_ms: u64,
    stop: Arc<AtomicBool>,
) -> u64 {
    let mut renewed = 0;
    let mut full_since_ms = cluster.clock.now_ms();
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        let nodes = cluster.reachable();
        at += 1;
        let node = nodes[at % nodes.len()].clone();
        let asked_ms = cluster.clock.now_ms();
        match tokio::time::timeout(Duration::from_millis(400), node.renew(session)).await {
            Ok(Ok(true)) => {
                renewed += 1;
                full_since_ms = asked_ms;
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
            Ok(Ok(false)) => {
                let silent_ms = cluster.clock.now_ms() - full_since_ms;
                assert!(silent_ms >= timeout_ms, "{session} ended {silent_ms} ms after a renewal");
                panic!("this machine is too slow to keep a session of {timeout_ms} ms alive");
            }
            // The node is stopping, or without a leader for now: the next one.
            Ok(Err(_)) | Err(_) => {}
        }
    }
    renewed
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_1_never_early_renewed_sessions_outlive_leader_changes_and_a_partition() {
    const TIMEOUT_MS: u32 = 4_000;
    let cluster = cluster(31).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut keepers = Vec::new();
    for at in 0..12 {
        let node = cluster.node(at % 3 + 1);
        let session = open_with_ephemeral(&node, &format!("kept-{at}"), TIMEOUT_MS).await;
        let keeping = keep_alive(cluster.clone(), session, TIMEOUT_MS.into(), stop.clone());
        keepers.push((session, tokio::spawn(keeping)));
    }
    for round in 0..4 {
        let leader = cluster.leader().await;
        let follower = cluster.others(leader)[0];
        match round {
            0 | 2 => {
                cluster.crash(leader, 0).await;
                cluster.leader().await;
                cluster.boot(leader).await;
            }
            1 => {
                cluster.isolate(follower);
                // The timeout is what is tested: it has to pass.
                tokio::time::sleep(Duration::from_millis(u64::from(TIMEOUT_MS) + 500)).await;
                cluster.rejoin(follower);
            }
            _ => {
                cluster.isolate(leader);
                cluster.leader().await;
                cluster.rejoin(leader);
            }
        }
        cluster.settled().await;
    }
    stop.store(true, Ordering::Relaxed);
    for (session, keeper) in keepers {
        let renewed = in_time("a keeper ends", keeper).await.unwrap();
        assert!(renewed > 0, "{session} was never renewed");
    }
    let tree = cluster.settled().await;
    assert_eq!((tree.session_count(), tree.ephemeral_count()), (12, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_1_never_early_a_leader_without_a_majority_promises_nothing_to_who_renews_through_it()
{
    let cluster = cluster(39).await;
    let old = cluster.leader().await;
    let session = open_with_ephemeral(&cluster.node(old), "promised", 1_000).await;
    cluster.settled().await;
    cluster.isolate(old);
    let node = cluster.node(old);
    let mut renewing = tokio::spawn(async move { node.renew(session).await });
    let new = cluster.leader().await;
    gone(&cluster.node(new), session).await;
    // Whoever was told "renewed" would now believe in a session that has ended.
    let early = tokio::time::timeout(Duration::from_millis(100), &mut renewing).await;
    assert!(early.is_err(), "answered without a majority: {early:?}");
    cluster.rejoin(old);
    assert_eq!(in_time("the renewal", renewing).await.unwrap(), Ok(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_2_a_silent_session_ends_before_one_that_is_due_some_ticks_later_and_not_early() {
    let cluster = cluster(32).await;
    let node = cluster.node(1);
    let sentinel_ms = 900 + 4 * TICK.as_millis() as u32;
    for attempt in 0..3 {
        let opened_ms = cluster.clock.now_ms();
        let names = (format!("silent-{attempt}"), format!("sentinel-{attempt}"));
        let (silent, sentinel) = futures::join!(
            open_with_ephemeral(&node, &names.0, 900),
            open_with_ephemeral(&node, &names.1, sentinel_ms),
        );
        gone(&node, sentinel).await;
        assert!(cluster.clock.now_ms() - opened_ms >= u64::from(sentinel_ms), "early");
        let tree = node.local();
        assert!(tree.session(silent).is_none(), "late: {silent} is due 4 ticks before {sentinel}");
        assert_eq!(tree.ephemeral_count(), 0, "an ephemeral outlives its session");
    }
}

/// Waits until a session ends and checks that it was given its full timeout from a moment on.
async fn has_full_timeout_from(
    cluster: &Cluster,
    node: &Node,
    session: SessionId,
    timeout_ms: u32,
    from_ms: u64,
) {
    gone(node, session).await;
    let lived_ms = cluster.clock.now_ms() - from_ms;
    assert!(lived_ms >= timeout_ms.into(), "{session} ended {lived_ms} ms after it began anew");
}

/// Opens a session and lets half of its timeout pass; again, should this machine have been too slow for that.
async fn half_spent(cluster: &Cluster, node: &Node, timeout_ms: u32) -> SessionId {
    loop {
        let opened_ms = cluster.clock.now_ms();
        let session = open_session(node, timeout_ms).await;
        // Half of the timeout is what has to be spent.
        tokio::time::sleep(Duration::from_millis(u64::from(timeout_ms) / 2)).await;
        if cluster.clock.now_ms() - opened_ms < u64::from(timeout_ms) * 3 / 4 {
            return session;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_3_after_a_leader_change_every_session_has_its_full_timeout_again() {
    const TIMEOUT_MS: u32 = 3_000;
    let cluster = cluster(33).await;
    let leader = cluster.leader().await;
    let node = cluster.node(cluster.others(leader)[0]);
    let session = half_spent(&cluster, &node, TIMEOUT_MS).await;
    let changed_ms = cluster.clock.now_ms();
    cluster.crash(leader, 0).await;
    has_full_timeout_from(&cluster, &node, session, TIMEOUT_MS, changed_ms).await;
    let next = cluster.node(cluster.leader().await);
    let restarts = next.gauges().into_iter().find(|(name, ..)| *name == "roost_session_restarts");
    assert!(restarts.is_some_and(|(.., times)| times >= 1.0), "{restarts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_5_without_a_quorum_nothing_expires_and_then_every_session_has_its_full_timeout() {
    const TIMEOUT_MS: u32 = 2_000;
    let cluster = cluster(35).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    let session = half_spent(&cluster, &node, TIMEOUT_MS).await;
    for id in 1..=3 {
        cluster.isolate(id);
    }
    // The timeout is what is tested: it has to pass.
    tokio::time::sleep(Duration::from_millis(u64::from(TIMEOUT_MS) + 500)).await;
    let returned_ms = cluster.clock.now_ms();
    for id in 1..=3 {
        assert!(cluster.node(id).local().session(session).is_some(), "expired without a quorum");
        cluster.rejoin(id);
    }
    has_full_timeout_from(&cluster, &node, session, TIMEOUT_MS, returned_ms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_leader_expires_one_that_is_cut_off_removes_nothing() {
    const TIMEOUT_MS: u32 = 1_000;
    let cluster = cluster(36).await;
    let old = cluster.leader().await;
    let session = open_with_ephemeral(&cluster.node(old), "silent", TIMEOUT_MS).await;
    cluster.settled().await;
    cluster.isolate(old);
    let new = cluster.leader().await;
    gone(&cluster.node(new), session).await;
    let kept = cluster.node(old).local();
    assert!(kept.session(session).is_some() && kept.get("/silent").is_some());
    cluster.rejoin(old);
    gone(&cluster.node(old), session).await;
    assert!(cluster.settled().await.get("/silent").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_is_told_only_after_the_znodes_are_gone_on_the_node_that_tells_it() {
    let cluster = cluster(37).await;
    let leader = cluster.leader().await;
    let (far, near) = (cluster.others(leader)[0], cluster.others(leader)[1]);
    cluster.delay(leader, far, Duration::from_millis(12));
    for round in 0..12 {
        let name = format!("mine-{round}");
        let session = open_with_ephemeral(&cluster.node(far), &name, 30_000).await;
        let asking = tokio::spawn({
            let node = cluster.node(far);
            async move {
                while node.renew(session).await.unwrap() {}
                let tree = node.local();
                assert!(tree.session(session).is_none(), "the session is still here");
                assert!(tree.get(&format!("/{name}")).is_none(), "its znode is still here");
            }
        });
        let close = Op::CloseSession { session, unless_moved_from: None };
        done(&cluster.node(near), request(close)).await;
        in_time("the answer that it has ended", asking).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_moved_is_not_closed_by_who_saw_its_former_owner() {
    let cluster = cluster(38).await;
    let owner = |node: NodeId| Some(Owner { node, generation: 1 });
    let node = cluster.node(1);
    let password = node.new_password();
    let open = Op::OpenSession { timeout_ms: 30_000, password, owner: owner(1) };
    let (_, Reply::Session { session, .. }) = done(&node, request(open)).await else { panic!() };
    let attach = Op::AttachSession { session, password, owner: owner(2), timeout_ms: 30_000 };
    done(&cluster.node(2), request(attach)).await;
    let close = |seen| Op::CloseSession { session, unless_moved_from: Some(seen) };
    assert_eq!(refused(&node, request(close(owner(1)))).await, Code::SessionMoved);
    assert!(cluster.settled().await.session(session).is_some());
    let mut late = by(session, create_ephemeral("/late"));
    late.owner = owner(1);
    assert_eq!(refused(&node, late).await, Code::SessionMoved);
    let (zxid, _) = done(&node, request(close(owner(2)))).await;
    assert!(zxid > Zxid(0) && cluster.settled().await.session(session).is_none());
}
