//! What a read may see, by its consistency.

use std::time::Duration;

use roost::node::{Consistency, Node, View};
use roost::types::{Error, NodeId, Zxid};

use crate::harness::{Cluster, Setup, eventually, in_time};
use crate::ops::{create, done, request, set};

/// Returns the number that the register holds in a state.
fn register(view: &View) -> u64 {
    let data = view.tree.get("/register").expect("the register exists").data().unwrap().clone();
    std::str::from_utf8(&data).unwrap().parse().unwrap()
}

async fn linearizable(node: &Node) -> Result<View, Error> {
    node.read(Consistency::Linearizable, Zxid(0)).await
}

async fn write(node: &Node, number: u64) -> Zxid {
    done(node, request(set("/register", number.to_string().as_bytes(), None))).await.0
}

/// Returns a cluster with a register that holds 0.
async fn with_register(seed: u64) -> std::sync::Arc<Cluster> {
    with_register_on(3, seed).await
}

async fn with_register_on(nodes: NodeId, seed: u64) -> std::sync::Arc<Cluster> {
    let cluster = Cluster::start(nodes, Setup { seed, ..Setup::default() }).await;
    done(&cluster.node(1), request(create("/register", b"0"))).await;
    cluster
}

/// Writes through one node and reads through the next, `count` times from the number after `from`.
async fn write_here_and_read_there(cluster: &Cluster, nodes: &[NodeId], from: u64, count: u64) {
    for number in from + 1..=from + count {
        let writer = nodes[number as usize % nodes.len()];
        let reader = nodes[(number as usize + 1) % nodes.len()];
        let zxid = write(&cluster.node(writer), number).await;
        let view = linearizable(&cluster.node(reader)).await.unwrap();
        assert_eq!(register(&view), number, "written through {writer}, read through {reader}");
        assert!(view.tree.zxid() >= zxid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_sees_what_was_acknowledged_anywhere_while_leaders_change() {
    let cluster = with_register(21).await;
    let mut number = 0;
    for round in 0..8 {
        let leader = cluster.leader().await;
        let all = [1, 2, 3];
        let survivors = cluster.others(leader);
        write_here_and_read_there(&cluster, &all, number, 12).await;
        number += 12;
        match round % 4 {
            0 => cluster.crash(leader, 0).await,
            1 => cluster.isolate(leader),
            2 => cluster.stop(leader).await,
            _ => {
                let to = survivors[round % 2];
                let asked = cluster.node(survivors[0]).transfer(to).await;
                assert_eq!(asked, Ok(()), "leadership goes from {leader} to {to}");
            }
        }
        write_here_and_read_there(&cluster, &survivors, number, 12).await;
        number += 12;
        match round % 4 {
            0 | 2 => drop(cluster.boot(leader).await),
            1 => cluster.rejoin(leader),
            _ => {}
        }
    }
    cluster.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_cut_off_answers_stale_reads_with_their_age_and_no_linearizable_ones() {
    let cluster = with_register(22).await;
    let old = cluster.leader().await;
    write(&cluster.node(old), 1).await;
    cluster.isolate(old);
    let cut_at_ms = cluster.clock.now_ms();
    let new = cluster.leader().await;
    write(&cluster.node(new), 2).await;

    let node = cluster.node(old);
    let mut waiting = tokio::spawn(async move { linearizable(&node).await });
    let node = cluster.node(old);
    let mut last_age_ms = 0;
    let grown = async || {
        let view = node.read(Consistency::Stale, Zxid(0)).await.expect("stale reads always work");
        assert_eq!(register(&view), 1);
        let age_ms = view.age_ms.expect("it has led");
        assert!(age_ms >= last_age_ms, "the age falls from {last_age_ms} to {age_ms}");
        last_age_ms = age_ms;
        (age_ms > 700).then_some(())
    };
    eventually("the stale state is old", grown).await;
    let cut_for_ms = cluster.clock.now_ms() - cut_at_ms;
    assert!(cut_for_ms > 0 && !waiting.is_finished(), "a read without a majority was answered");
    cluster.rejoin(old);
    let view = in_time("the read", &mut waiting).await.unwrap().unwrap();
    assert_eq!(register(&view), 2, "the read that waited sees what was written meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_still_hears_a_leader_without_a_majority_does_not_think_itself_up_to_date()
{
    let cluster = with_register_on(5, 26).await;
    let old = cluster.leader().await;
    let follower = cluster.others(old)[0];
    write(&cluster.node(old), 1).await;
    cluster.settled().await;
    cluster.isolate_together(&[old, follower]);
    let new = cluster.leader().await;
    write(&cluster.node(new), 2).await;
    let written_ms = cluster.clock.now_ms();

    let node = cluster.node(follower);
    let grown = async || {
        let since_ms = cluster.clock.now_ms() - written_ms;
        let view = node.read(Consistency::Stale, Zxid(0)).await.expect("stale reads always work");
        assert_eq!(register(&view), 1);
        let age_ms = view.age_ms.expect("it has followed");
        assert!(age_ms >= since_ms, "lacks a write of {since_ms} ms ago, claims {age_ms} ms");
        (since_ms > 1000).then_some(())
    };
    eventually("the stale state is old", grown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequential_read_waits_until_its_node_has_applied_the_zxid_it_names() {
    let cluster = with_register(23).await;
    let leader = cluster.leader().await;
    let behind = cluster.others(leader)[0];
    let other = cluster.others(leader)[1];
    cluster.settled().await;
    cluster.isolate(behind);
    let zxid = write(&cluster.node(other), 7).await;

    let node = cluster.node(behind);
    let view = node.read(Consistency::Sequential, Zxid(0)).await.unwrap();
    assert_eq!((register(&view), view.age_ms), (0, None), "without a zxid it does not wait");
    let mut waiting = tokio::spawn(async move { node.read(Consistency::Sequential, zxid).await });
    // It has every chance to answer wrongly: only the link that it waits for is missing.
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "answered without the zxid");
    cluster.rejoin(behind);
    let view = in_time("the read", waiting).await.unwrap().unwrap();
    assert!(view.tree.zxid() >= zxid);
    assert_eq!(register(&view), 7);
}
