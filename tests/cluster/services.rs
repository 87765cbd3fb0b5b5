//! The lists of services, which no log and no snapshot has: every node finds the same.

use crate::harness::{Cluster, Setup, eventually};
use crate::ops::{by, create, create_ephemeral, delete, done, open_session, request, set};

const LISTS: [&str; 4] = [
    "/services/web/providers",
    "/services/web/consumers",
    "/dubbo/web/providers",
    "/ns/red/services/web/providers",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_node_has_the_same_lists_after_a_crash_and_from_a_snapshot() {
    let mut setup = Setup { seed: 91, snapshot_log_bytes: 16 << 10, ..Setup::default() };
    setup.raft.log_entries_kept = 20;
    let cluster = Cluster::start(3, setup).await;
    let node = cluster.node(1);
    for list in LISTS {
        for (at, _) in list.match_indices('/').skip(1).chain([(list.len(), "")]) {
            let above = &list[..at];
            if node.local().get(above).is_none() {
                done(&node, request(create(above, b""))).await;
            }
        }
    }
    let (mine, other) = (open_session(&node, 60_000).await, open_session(&node, 60_000).await);
    let entry = |n: usize| format!("{}/{n:03}", LISTS[n % LISTS.len()]);
    for n in 0..120 {
        let session = if n % 3 == 0 { other } else { mine };
        done(&node, by(session, create_ephemeral(&entry(n)))).await;
    }
    cluster.crash(3, 0).await;
    for n in 0..120 {
        match n % 5 {
            0 => drop(done(&node, request(set(&entry(n), b"{}", None))).await),
            1 => drop(done(&node, request(delete(&entry(n)))).await),
            _ => {}
        }
    }
    let close = roost::types::Op::CloseSession { session: other, unless_moved_from: None };
    done(&node, request(close)).await;
    cluster.boot(3).await;
    cluster.stop(2).await;
    cluster.boot(2).await;
    for id in 1..=3 {
        let node = cluster.node(id);
        eventually("a snapshot", async || node.cluster().await.ok()?.snapshot).await;
    }
    let tree = cluster.settled().await;
    assert_eq!(tree.services(), &tree.found_services());
    let lists = tree.services().lists("", "web");
    assert_eq!(lists.len(), 4, "{lists:?}");
    let entries = |path: &str| tree.services().list(path).unwrap().entries;
    let left = |list: usize| (0..120).filter(|n| n % 4 == list && n % 5 != 1 && n % 3 != 0).count();
    for (at, list) in LISTS.into_iter().enumerate() {
        assert_eq!(entries(list), left(at), "{list}");
    }
    for id in 1..=3 {
        assert_eq!(cluster.node(id).local().services(), tree.services(), "node {id}");
    }
}
