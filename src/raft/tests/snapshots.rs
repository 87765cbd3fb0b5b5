//! Snapshots from one node's disk to another's, also when something comes between.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Store, creation, log_id, vote};
use crate::clock::Clock;
use crate::codec;
use crate::peer::{
    Admission, Handler, Hello, Identity, Kind, MemoryLinks, Net, Peer, Secret, StreamReceiver,
    StreamSender, serve,
};
use crate::raft::snapshot::{self, Header, Meta, load};
use crate::raft::typ::{Snapshot, SnapshotMeta, StoredMembership};
use crate::raft::{Consensus, Network, Options, Snapshots, receive_snapshot};
use crate::storage::{MemoryDisk, MemoryDisks, SledDisk, SnapshotStore};
use crate::tree::{SnapshotWriter, Tree};

const ENTRIES: u64 = 40;

/// Applies what makes a snapshot of several pieces.
async fn fill(store: &mut Store) {
    store.apply((0..ENTRIES).map(|index| creation(index, 10_000)).collect()).await;
}

async fn build(store: &mut Store) -> Snapshot {
    store.machine.get_snapshot_builder().await.build_snapshot().await.unwrap()
}

#[tokio::test]
async fn a_snapshot_that_another_node_installs_is_the_same_state_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let disk = SledDisk::open(&dir.path().join("raft"), 8 << 20).unwrap();
        let shelf = |keep| SnapshotStore::open(&dir.path().join("snap"), keep).unwrap();
        Store::open(Arc::new(disk), shelf)
    };
    let mut source = Store::in_memory(&MemoryDisk::new(), &MemoryDisks::new());
    fill(&mut source).await;
    let digest = source.seen.tree.lock().digest();
    let built = build(&mut source).await;
    assert_eq!(built.meta.last_log_id, Some(log_id(1, ENTRIES - 1)));

    let mut target = open();
    target.apply(vec![creation(0, 1)]).await;
    target.machine.install_snapshot(&built.meta, built.snapshot).await.unwrap();
    assert_eq!(target.seen.tree.lock().digest(), digest);
    assert_eq!(target.machine.applied_state().await.unwrap().0, built.meta.last_log_id);
    // What came before is gone, what comes after goes on from there.
    source.apply(vec![creation(ENTRIES, 1)]).await;
    target.apply(vec![creation(ENTRIES, 1)]).await;
    assert_eq!(target.seen.tree.lock().digest(), source.seen.tree.lock().digest());

    target.wal.close();
    drop(target);
    let mut again = open();
    let current = again.machine.get_current_snapshot().await.unwrap().expect("it was stored");
    assert_eq!(current.meta, built.meta);
    again.machine.install_snapshot(&current.meta, current.snapshot).await.unwrap();
    assert_eq!(again.seen.tree.lock().digest(), digest);
}

#[tokio::test]
async fn a_snapshot_is_of_the_moment_it_was_begun_whatever_is_applied_meanwhile() {
    let mut store = Store::in_memory(&MemoryDisk::new(), &MemoryDisks::new());
    fill(&mut store).await;
    let digest = store.seen.tree.lock().digest();
    let mut builder = store.machine.get_snapshot_builder().await;
    store.apply(vec![creation(ENTRIES, 1)]).await;
    let built = builder.build_snapshot().await.unwrap();
    assert_eq!(built.meta.last_log_id, Some(log_id(1, ENTRIES - 1)));
    store.machine.install_snapshot(&built.meta, built.snapshot).await.unwrap();
    assert_eq!(store.seen.tree.lock().digest(), digest);
}

struct Everyone;

impl Admission for Everyone {
    fn admit(&self, _: &Hello) -> Result<(), String> {
        Ok(())
    }
}

/// Takes snapshots, and says what became of each.
struct Taker {
    snapshots: Arc<Snapshots>,
    consensus: Consensus,
    outcomes: mpsc::UnboundedSender<Result<(), String>>,
}

impl Handler for Taker {
    fn call(&self, _: &Hello, _: Kind, _: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        std::future::ready(Err("only snapshots".to_owned())).boxed()
    }

    fn stream(
        &self,
        _: &Hello,
        _: Kind,
        sender: StreamSender,
        receiver: StreamReceiver,
    ) -> BoxFuture<'static, ()> {
        let (snapshots, consensus) = (self.snapshots.clone(), self.consensus.clone());
        let outcomes = self.outcomes.clone();
        async move {
            // The test may be over.
            drop(outcomes.send(receive_snapshot(snapshots, consensus, sender, receiver).await));
        }
        .boxed()
    }
}

/// A node 2 that takes snapshots, and node 1's way to it.
struct Bed {
    links: MemoryLinks,
    disks: MemoryDisks,
    snapshots: Arc<Snapshots>,
    seen: Arc<super::Seen>,
    outcomes: mpsc::UnboundedReceiver<Result<(), String>>,
    peer: Peer,
    stop: CancellationToken,
}

impl Bed {
    async fn new() -> Bed {
        let (links, disks) = (MemoryLinks::default(), MemoryDisks::new());
        let stop = CancellationToken::new();
        let identity = |node| Identity::new(node, 7, Secret::new(b"a secret of tests"));
        let store = Store::in_memory(&MemoryDisk::new(), &disks);
        let Store { log, snapshots, machine, seen, .. } = store;
        let (net, token) = (links.at("2:1"), stop.clone());
        let network = Network::new(Arc::new(move |node, addr: &str| {
            Peer::new(Arc::new(net.clone()), identity(2), node, addr, &token)
        }));
        let (options, clock) = (Options::default(), Clock::system());
        let name = "tests".to_owned();
        let consensus =
            Consensus::start(2, name, &options, clock, log, machine, network).await.unwrap();
        let (sender, outcomes) = mpsc::unbounded_channel();
        let taker = Taker { snapshots: snapshots.clone(), consensus, outcomes: sender };
        let acceptor = links.at("2:1").listen("2:1").await.unwrap();
        let serving =
            serve(acceptor, identity(2), Arc::new(Everyone), Arc::new(taker), stop.clone());
        tokio::spawn(serving);
        let peer = Peer::new(Arc::new(links.at("1:1")), identity(1), 2, "2:1", &stop);
        Bed { links, disks, snapshots, seen, outcomes, peer, stop }
    }

    /// Sends what a leader would send, `spoil`ed, and ends the stream.
    async fn send(&self, vote_term: u64, meta: &SnapshotMeta, spoil: impl FnOnce(&mut Vec<Bytes>)) {
        let mut items = vec![header(vote_term, meta)];
        let mut writer = SnapshotWriter::new(sample().await.0);
        while let Some(chunk) = writer.next_chunk() {
            items.push(chunk.into());
        }
        assert!(items.len() > 4, "{} pieces", items.len());
        items.push(Bytes::new());
        spoil(&mut items);
        let (sender, mut receiver) = self.peer.open_stream(Kind::Snapshot).await.unwrap();
        for item in items {
            // The receiver may have refused already.
            if sender.send(item).await.is_err() {
                break;
            }
        }
        drop(sender);
        while let Some(Ok(_)) = receiver.next().await {}
    }

    async fn outcome(&mut self) -> Result<(), String> {
        self.outcomes.recv().await.unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn header(vote_term: u64, meta: &SnapshotMeta) -> Bytes {
    let mut vote = vote(vote_term);
    vote.committed = true;
    codec::encode(&Header { vote, meta: Meta::of(meta) }).into()
}

/// A state and what it stands for.
async fn sample() -> (Tree, SnapshotMeta) {
    let mut source = Store::in_memory(&MemoryDisk::new(), &MemoryDisks::new());
    fill(&mut source).await;
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(1, ENTRIES - 1)),
        last_membership: StoredMembership::default(),
    };
    let tree = source.seen.tree.lock().clone();
    (tree, meta)
}

#[tokio::test]
async fn a_received_snapshot_is_installed_and_stored() {
    let mut bed = Bed::new().await;
    let (tree, meta) = sample().await;
    bed.send(1, &meta, |_| ()).await;
    assert_eq!(bed.outcome().await, Ok(()));
    assert_eq!(bed.seen.tree.lock().digest(), tree.digest());
    let current = bed.snapshots.current().unwrap().unwrap();
    assert_eq!(current.meta, meta);
    let reopened = SnapshotStore::in_memory(bed.disks.clone(), Some(1)).unwrap();
    assert_eq!(load(&reopened, &current.snapshot.pointer).unwrap().digest(), tree.digest());
}

#[tokio::test]
async fn a_snapshot_that_comes_damaged_or_in_part_is_refused_and_leaves_nothing_behind() {
    type Spoil = fn(&mut Vec<Bytes>);
    let flip = |bytes: &Bytes| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Bytes::from(bytes)
    };
    let cases: [(&str, Spoil); 7] = [
        ("no header", |items| items.clear()),
        ("a header that is none", |items| items[0] = Bytes::from_static(b"what?")),
        ("a header alone", |items| items.truncate(1)),
        ("an end that is missing", |items| drop(items.pop())),
        ("the last piece missing", |items| drop(items.remove(items.len() - 2))),
        ("a piece missing", |items| drop(items.remove(2))),
        ("a piece twice", |items| items.insert(2, items[2].clone())),
    ];
    let mut bed = Bed::new().await;
    let (_, meta) = sample().await;
    for (what, spoil) in cases {
        bed.send(1, &meta, spoil).await;
        assert!(bed.outcome().await.is_err(), "{what}");
        assert!(bed.disks.generations().is_empty(), "{what}");
    }
    bed.send(1, &meta, |items| items[2] = flip(&items[2])).await;
    assert!(bed.outcome().await.is_err(), "a flipped bit");
    assert!(bed.disks.generations().is_empty());
    assert!(bed.snapshots.current().unwrap().is_none());
    assert_eq!(bed.seen.tree.lock().digest(), Tree::new().digest());
    bed.send(1, &meta, |_| ()).await;
    assert_eq!(bed.outcome().await, Ok(()), "and a good one is taken after all of these");
}

#[tokio::test]
async fn a_snapshot_whose_sender_is_cut_off_leaves_nothing_behind() {
    let mut bed = Bed::new().await;
    let (tree, meta) = sample().await;
    let (sender, _receiver) = bed.peer.open_stream(Kind::Snapshot).await.unwrap();
    sender.send(header(1, &meta)).await.unwrap();
    let mut writer = SnapshotWriter::new(tree);
    sender.send(writer.next_chunk().unwrap().into()).await.unwrap();
    while bed.disks.generations().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bed.links.set_link("1:1", "2:1", false);
    assert!(bed.outcome().await.is_err());
    assert!(bed.disks.generations().is_empty());
}

#[tokio::test]
async fn a_whole_snapshot_that_consensus_does_not_want_leaves_nothing_behind() {
    let mut bed = Bed::new().await;
    let (_, meta) = sample().await;
    bed.send(5, &meta, |_| ()).await;
    assert_eq!(bed.outcome().await, Ok(()));
    let kept = bed.disks.generations();
    // From a leader of an earlier term, and once more what is there already.
    for term in [4, 5] {
        bed.send(term, &meta, |_| ()).await;
        assert_eq!(bed.outcome().await, Ok(()), "it is answered");
        assert_eq!(bed.disks.generations(), kept, "term {term}");
    }
    assert_eq!(bed.snapshots.current().unwrap().unwrap().meta, meta);
    snapshot::load(
        &SnapshotStore::in_memory(bed.disks.clone(), Some(kept[0])).unwrap(),
        &bed.snapshots.current().unwrap().unwrap().snapshot.pointer,
    )
    .unwrap();
}
