//! Snapshots and purges under load, and nodes that start from nothing.

use std::sync::Arc;

use roost::types::{Code, Error, Failure, NodeId, Reply, Zxid};

use crate::harness::{Cluster, Setup, eventually, until};
use crate::load;
use crate::ops::{Pipeline, create, done, request, set};

/// Waits until a node has taken a snapshot and removed log that it contains. Returns the last index removed.
async fn purged(cluster: &Cluster, id: NodeId) -> u64 {
    let node = cluster.node(id);
    eventually("the log is purged", async || {
        let status = node.cluster().await.ok()?;
        status.purged.filter(|purged| *purged > 0 && status.snapshot >= Some(*purged))
    })
    .await
}

async fn cluster(seed: u64) -> Arc<Cluster> {
    let mut setup = Setup { seed, snapshot_log_bytes: 128 << 10, ..Setup::default() };
    setup.raft.log_entries_kept = 100;
    Cluster::start(3, setup).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_stays_outside_and_a_new_one_takes_its_place_by_snapshot_while_writes_go_on() {
    let cluster = cluster(71).await;
    load::prepare(&cluster.node(1)).await;
    let (load, writers) = load::start(&cluster, 1..=2, 71);
    for id in 1..=3 {
        purged(&cluster, id).await;
    }

    cluster.crash(3, 0).await;
    cluster.wipe(3);
    let wiped = cluster.boot(3).await;
    let before = load.events.load(std::sync::atomic::Ordering::Relaxed);
    load.reach(before + 5_000).await;
    assert_eq!((wiped.cluster_id(), wiped.local().zxid()), (None, Zxid(0)), "it is let in again");
    assert_eq!(wiped.readiness(), Err(Error::NotInitialized.to_string()));
    let again = cluster.node(1).add_learner(cluster.member(3)).await;
    assert!(matches!(again, Err(Error::Refused(_) | Error::NoLeader)), "{again:?}");
    let Err(Error::Refused(why)) = cluster.init([3, 1, 2]).await else {
        panic!("a second cluster")
    };
    assert!(why.contains("belongs to cluster"), "{why}");
    // By now it has an id of its own for a cluster that never came to be. The members have connections to it from before
    // that, and go on sending; nothing of it may reach its consensus, which has forgotten what it promised.
    let before = load.events.load(std::sync::atomic::Ordering::Relaxed);
    load.reach(before + 5_000).await;
    assert_eq!(wiped.local_status().term, 0, "it has taken part");
    for id in 1..=2 {
        assert_eq!(cluster.node(id).fatal(), None);
    }
    cluster.stop(3).await;

    let fresh = cluster.boot(4).await;
    let member = cluster.member(4);
    asked(&cluster, async |node| node.add_learner(member.clone()).await).await;
    asked(&cluster, async |node| node.promote(4).await).await;
    asked(&cluster, async |node| node.remove(3).await).await;
    let before = load.events.load(std::sync::atomic::Ordering::Relaxed);
    load.reach(before + 2_000).await;
    load::finish(&load, writers).await;
    let tree = cluster.settled().await;
    assert_eq!(fresh.local().digest(), tree.digest());
    assert!(fresh.cluster().await.unwrap().snapshot.is_some(), "it has not come by a snapshot");

    cluster.stop(4).await;
    cluster.boot(4).await;
    assert_eq!(cluster.settled().await.digest(), tree.digest(), "after a restart from a snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_by_a_snapshot_has_its_members_in_its_own_snapshots_too() {
    let cluster = cluster(73).await;
    load::prepare(&cluster.node(1)).await;
    let (load, writers) = load::start(&cluster, 1..=2, 73);
    // While it is away somebody joins, and nobody keeps the log that says so.
    cluster.crash(3, 0).await;
    cluster.boot(4).await;
    let member = cluster.member(4);
    asked(&cluster, async |node| node.add_learner(member.clone()).await).await;
    let joined = cluster.node(1).local_status().last_log;
    for id in [1, 2] {
        let node = cluster.node(id);
        let is_gone = async || (node.local_status().purged > joined).then_some(());
        eventually("the log of the change is purged", is_gone).await;
    }
    let late = cluster.boot(3).await;
    let came = async || late.local_status().snapshot.filter(|at| Some(*at) > joined);
    let came = eventually("it comes by a snapshot", came).await;
    let took = async || late.local_status().purged.filter(|purged| *purged > came);
    eventually("it takes one itself and purges what is in it", took).await;
    load::finish(&load, writers).await;
    cluster.settled().await;

    // Nobody is there to tell it.
    for id in 1..=4 {
        cluster.crash(id, 0).await;
    }
    let alone = cluster.boot(3).await;
    let members = alone.local_status().members.into_iter();
    let members: Vec<(NodeId, bool)> = members.map(|one| (one.member.node, one.voter)).collect();
    assert_eq!(members, [(1, true), (2, true), (3, true), (4, false)]);
}

/// Asks for a change of the membership, again while there is no leader to do it.
async fn asked(cluster: &Cluster, change: impl AsyncFn(roost::node::Node) -> Result<(), Error>) {
    eventually("the membership is changed", async || {
        let leader = cluster.leader().await;
        match change(cluster.node(leader)).await {
            Ok(()) => Some(()),
            Err(Error::NoLeader) => None,
            // A repetition of what was done although the answer was lost.
            Err(Error::Refused(why)) if why.contains("member already") => Some(()),
            Err(err) => panic!("{err}"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_killed_under_load_come_back_from_snapshots_and_agree() {
    let cluster = cluster(72).await;
    load::prepare(&cluster.node(1)).await;
    let (load, writers) = load::start(&cluster, 1..=3, 72);
    for round in 0..4 {
        for id in 1..=3 {
            purged(&cluster, id).await;
        }
        let leader = cluster.leader().await;
        let victim = if round % 2 == 0 { leader } else { cluster.others(leader)[0] };
        cluster.crash(victim, round).await;
        let before = load.events.load(std::sync::atomic::Ordering::Relaxed);
        load.reach(before + 3_000).await;
        cluster.boot(victim).await;
    }
    load::finish(&load, writers).await;
    let tree = cluster.settled().await;
    println!("{} znodes at zxid {}", tree.znode_count(), tree.zxid());
    // Everybody goes down at once, and everything acknowledged is there again.
    for id in 1..=3 {
        cluster.crash(id, 0).await;
    }
    for id in 1..=3 {
        cluster.boot(id).await;
    }
    let again = eventually("everything acknowledged is there again", async || {
        let again = cluster.settled().await;
        (again.zxid() >= tree.zxid()).then_some(again)
    })
    .await;
    assert_eq!(again.digest(), tree.digest());
}

/// What a client that wrote through a node expects of it once that node has come by a snapshot that it did not have.
#[derive(Debug)]
enum Expected {
    Created,
    Refused,
    Unknown,
    CreatedOrUnknown,
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_a_node_that_is_caught_up_by_a_snapshot_are_answered_by_their_key_or_unknown_or_sent_again()
 {
    let mut setup = Setup { seed: 73, snapshot_log_bytes: 64 << 10, ..Setup::default() };
    setup.raft.log_entries_kept = 10;
    let cluster = Cluster::start(3, setup).await;
    let leader = cluster.leader().await;
    let behind = cluster.others(leader)[0];
    done(&cluster.node(leader), request(create("/filler", b""))).await;
    cluster.settled().await;
    let reached = cluster.node(behind).local_status().applied;
    let mut writes = Pipeline::new(cluster.node(behind));
    let mut write = |expected: Expected, path: &str, key: Option<&str>| {
        let mut request = request(create(path, b""));
        request.idempotency_key = key.map(str::to_owned);
        writes.submit((expected, path.to_owned()), request).unwrap();
    };

    // These get into the log, and the node does not hear of it.
    cluster.deafen(behind);
    for at in 0..20 {
        write(Expected::Created, &format!("/keyed-{at}"), Some(&format!("key {at}")));
        write(Expected::Unknown, &format!("/bare-{at}"), None);
    }
    write(Expected::Refused, "/filler", Some("a refusal"));
    write(Expected::Unknown, "/last", None);
    let through = cluster.node(leader);
    until("the writes are applied elsewhere", || through.local().get("/last").cloned()).await;
    // And these do not leave it. When it is back they may reach the leader so soon that they are part of the snapshot: then
    // what has no key is not known either.
    cluster.isolate(behind);
    for at in 0..20 {
        let key = format!("later {at}");
        match at % 2 {
            0 => write(Expected::Created, &format!("/later-{at}"), Some(&key)),
            _ => write(Expected::CreatedOrUnknown, &format!("/later-{at}"), None),
        }
    }

    eventually("the log that the node needs is gone", async || {
        for _ in 0..20 {
            done(&through, request(set("/filler", &[7; 20_000], None))).await;
        }
        let purged = cluster
            .reachable()
            .into_iter()
            .map(|node| async move { node.cluster().await.ok()?.purged });
        let purged = futures::future::join_all(purged).await;
        purged.into_iter().all(|purged| purged > reached).then_some(())
    })
    .await;
    cluster.rejoin(behind);
    while let Some(((expected, path), outcome)) = writes.next().await {
        let is_right = match (&expected, &outcome) {
            (Expected::Created | Expected::CreatedOrUnknown, Ok(answer)) => {
                matches!(answer.result, Ok(Reply::Created { .. }))
            }
            (Expected::Refused, Ok(answer)) => {
                matches!(answer.result, Err(Failure { code: Code::NodeExists, .. }))
            }
            (Expected::Unknown | Expected::CreatedOrUnknown, Err(Error::OutcomeUnknown)) => true,
            _ => false,
        };
        assert!(is_right, "{path}: {expected:?}, but: {outcome:?}");
    }
    let tree = cluster.settled().await;
    let root = tree.get("/").unwrap();
    assert_eq!(root.children().filter(|path| path.name().contains('-')).count(), 60);
}
