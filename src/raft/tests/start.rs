//! A node that starts again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::entry::EntryPayload;
use tokio_util::sync::CancellationToken;

use super::{Store, creation};
use crate::batch;
use crate::clock::Clock;
use crate::peer::{Identity, MemoryLinks, Peer, Secret};
use crate::raft::{Consensus, EncodedBatch, Network, Options, Refused};
use crate::storage::{MemoryDisk, MemoryDisks};
use crate::types::{Error, Member};

async fn start(store: Store) -> Consensus {
    try_start(store).await.unwrap()
}

async fn try_start(store: Store) -> Result<Consensus, Error> {
    let (net, stop) = (MemoryLinks::default().at("1:1"), CancellationToken::new());
    let network = Network::new(Arc::new(move |node, addr: &str| {
        let identity = Identity::new(1, 7, Secret::new(b"a secret of tests"));
        Peer::new(Arc::new(net.clone()), identity, node, addr, &stop)
    }));
    let (options, clock, name) = (Options::default(), Clock::system(), "tests".to_owned());
    let Store { log, machine, .. } = store;
    Consensus::start(1, name, &options, clock, log, machine, network).await
}

fn member() -> Member {
    Member { node: 1, peer_addr: "1:1".to_owned(), http_addr: "1:2".to_owned(), zk_addr: None }
}

#[tokio::test]
async fn a_node_that_has_started_tells_the_members_that_it_knew_before() {
    let (disk, disks) = (MemoryDisk::new(), MemoryDisks::new());
    let store = Store::in_memory(&disk, &disks);
    let wal = store.wal.clone();
    let first = start(store).await;
    assert!(first.status().members.is_empty());
    first.initialize(BTreeMap::from([(1, member())])).await.unwrap();
    first.shutdown().await;
    drop(wal);
    // On this one thread its own task has not run since unless `start` has waited for it.
    let second = start(Store::in_memory(&disk, &disks)).await;
    assert_eq!(second.status().members.len(), 1);
    second.shutdown().await;
}

/// Waits until consensus has stopped by itself, and returns why.
async fn ended(consensus: &Consensus) -> String {
    let looking = async {
        loop {
            if let Some(why) = consensus.fatal() {
                return why;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking).await.expect("it stops")
}

/// What a version of the program wrote that has more ops, or another format of batches.
fn from_the_future() -> [Bytes; 2] {
    let creation = creation(0, 1);
    let EntryPayload::Normal(EncodedBatch(known)) = creation.payload else { unreachable!() };
    let mut format = known.to_vec();
    format[0] += 1;
    let (time, txns) = batch::decode(&known).unwrap();
    let mut txn = txns[0].to_vec();
    // The number of the op follows the origin, the session, and three empty fields.
    let at = 24 + 8 + 1 + 8 + 1;
    assert_eq!(txn[at..at + 4], [0; 4], "the place of the op in a transaction");
    txn[at..at + 4].copy_from_slice(&[250; 4]);
    [format.into(), batch::encode(time, &[txns[0].clone(), txn.into()])]
}

#[tokio::test]
async fn what_a_newer_version_wrote_stops_the_node_with_a_line_and_changes_nothing() {
    for unknown in from_the_future() {
        let (disk, disks) = (MemoryDisk::new(), MemoryDisks::new());
        let store = Store::in_memory(&disk, &disks);
        let seen = store.seen.clone();
        let consensus = start(store).await;
        consensus.initialize(BTreeMap::from([(1, member())])).await.unwrap();
        let mut leadership = consensus.leadership();
        leadership.wait_for(|now| now.leader == Some(1)).await.unwrap();
        let before = seen.tree.lock().digest();
        let outcome = consensus.propose(unknown).await.unwrap().await;
        assert_eq!(outcome, Err(Refused::Stopped));
        let line = "written by a newer version of roost: upgrade this node";
        let why = consensus.fatal().expect("it has stopped");
        assert!(why.contains(line), "{why}");
        assert_eq!(seen.tree.lock().digest(), before);
        consensus.shutdown().await;
        // Nor does it go on when it is started again, before it is upgraded.
        let why = match try_start(Store::in_memory(&disk, &disks)).await {
            Err(error) => error.to_string(),
            Ok(again) => ended(&again).await,
        };
        assert!(why.contains(line), "{why}");
    }
}
