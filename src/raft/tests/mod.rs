//! The adapters of log and state machine: openraft's own suite of tests for them, and what it does not ask.

mod order;
mod snapshots;
mod start;
mod suite;

use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use openraft::entry::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::OneshotReceiverOf;
use parking_lot::Mutex;

use super::typ::{EncodedBatch, Entry, LogId, TypeConfig, Vote};
use super::{ApplySink, LogStore, Snapshots, StateMachine};
use crate::batch;
use crate::clock::Clock;
use crate::storage::{
    Disk, Log, MemoryDisk, MemoryDisks, Recovered, SnapshotStore, WalHandle, spawn_writer,
};
use crate::tree::Tree;
use crate::types::{CreateMode, Data, Op, Outcome, SessionId, Txn, TxnTime, ZnodePath};

/// Keeps the state that it was told of last.
#[derive(Default)]
struct Seen {
    tree: Mutex<Tree>,
}

impl ApplySink for Seen {
    fn applied(&self, _: u64, _: u64, tree: &Tree, _: Vec<(Txn, Outcome)>) {
        *self.tree.lock() = tree.clone();
    }

    fn restored(&self, _: Option<u64>, tree: &Tree) {
        *self.tree.lock() = tree.clone();
    }
}

/// All that a node stores, opened.
struct Store {
    wal: WalHandle,
    log: LogStore,
    snapshots: Arc<Snapshots>,
    machine: StateMachine,
    seen: Arc<Seen>,
}

impl Store {
    fn open(disk: Arc<dyn Disk>, shelf: impl FnOnce(Option<u64>) -> SnapshotStore) -> Store {
        let (log, recovered) = Log::open(disk).unwrap();
        let wal = spawn_writer(log, Box::new(|| 0)).unwrap();
        Store::over(wal, recovered, shelf)
    }

    fn over(
        wal: WalHandle,
        recovered: Recovered,
        shelf: impl FnOnce(Option<u64>) -> SnapshotStore,
    ) -> Store {
        let log = LogStore::new(wal.clone(), &recovered).unwrap();
        let shelf = shelf(recovered.snapshot.as_ref().map(|pointer| pointer.generation));
        let snapshots = Snapshots::new(shelf, wal.clone(), recovered.snapshot, Clock::system());
        let seen = Arc::new(Seen::default());
        let machine = StateMachine::new(snapshots.clone(), seen.clone(), Tree::new());
        Store { wal, log, snapshots, machine, seen }
    }

    fn in_memory(disk: &MemoryDisk, disks: &MemoryDisks) -> Store {
        let disks = disks.clone();
        let shelf = |keep| SnapshotStore::in_memory(disks, keep).unwrap();
        Store::open(Arc::new(disk.clone()), shelf)
    }

    async fn apply(&mut self, entries: Vec<Entry>) {
        let entries = entries.into_iter().map(|entry| Ok((entry, None)));
        self.machine.apply(stream::iter(entries)).await.unwrap();
    }
}

fn log_id(term: u64, index: u64) -> LogId {
    openraft::testing::log_id::<TypeConfig>(term, 1, index)
}

/// An entry of that many bytes, about.
fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let payload = EntryPayload::Normal(EncodedBatch(vec![index as u8; bytes].into()));
    openraft::Entry { log_id: log_id(term, index), payload }
}

/// An entry that creates a znode with that much data.
fn creation(index: u64, data_bytes: usize) -> Entry {
    let op = Op::Create {
        parent: ZnodePath::root(),
        name: format!("z{index:05}"),
        data: Some(Data::new(&incompressible(index, data_bytes))),
        acl: Vec::new(),
        mode: CreateMode::Persistent,
    };
    let txn = Txn {
        origin: Default::default(),
        session: SessionId::NONE,
        owner: None,
        authority: Vec::new(),
        idempotency_key: None,
        op,
    };
    let encoded = batch::encode(TxnTime::default(), &[Bytes::from(batch::encode_txn(&txn))]);
    let payload = EntryPayload::Normal(EncodedBatch(encoded));
    openraft::Entry { log_id: log_id(1, index), payload }
}

fn incompressible(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn vote(term: u64) -> Vote {
    Vote::new(term, 1)
}

/// Appends without waiting; what is returned tells when it is durable.
async fn append(
    log: &mut LogStore,
    entries: Vec<Entry>,
) -> OneshotReceiverOf<TypeConfig, std::io::Result<()>> {
    let (done, durable) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    durable
}
