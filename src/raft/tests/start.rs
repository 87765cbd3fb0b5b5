//! A node that starts again.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Store;
use crate::clock::Clock;
use crate::peer::{Identity, MemoryLinks, Peer, Secret};
use crate::raft::{Consensus, Network, Options};
use crate::storage::{MemoryDisk, MemoryDisks};
use crate::types::Member;

async fn start(store: Store) -> Consensus {
    let (net, stop) = (MemoryLinks::default().at("1:1"), CancellationToken::new());
    let network = Network::new(Arc::new(move |node, addr: &str| {
        let identity = Identity::new(1, 7, Secret::new(b"a secret of tests"));
        Peer::new(Arc::new(net.clone()), identity, node, addr, &stop)
    }));
    let (options, clock, name) = (Options::default(), Clock::system(), "tests".to_owned());
    let Store { log, machine, .. } = store;
    Consensus::start(1, name, &options, clock, log, machine, network).await.unwrap()
}

#[tokio::test]
async fn a_node_that_has_started_tells_the_members_that_it_knew_before() {
    let (disk, disks) = (MemoryDisk::new(), MemoryDisks::new());
    let store = Store::in_memory(&disk, &disks);
    let wal = store.wal.clone();
    let first = start(store).await;
    assert!(first.status().members.is_empty());
    let member =
        Member { node: 1, peer_addr: "1:1".to_owned(), http_addr: "1:2".to_owned(), zk_addr: None };
    first.initialize(BTreeMap::from([(1, member)])).await.unwrap();
    first.shutdown().await;
    drop(wal);
    // On this one thread its own task has not run since unless `start` has waited for it.
    let second = start(Store::in_memory(&disk, &disks)).await;
    assert_eq!(second.status().members.len(), 1);
    second.shutdown().await;
}
