use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::entry::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use super::apply::{apply_txn, read_batch};
use super::snapshot::{SnapshotData, Snapshots};
use super::typ::{LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::blocking;
use crate::tree::Tree;
use crate::types::{Outcome, Txn};

/// Hears what happens to the replicated state, synchronously and in log order. It must not wait.
pub trait ApplySink: Send + Sync + 'static {
    /// One log entry of so many bytes has been applied: these transactions with these outcomes led to this state.
    fn applied(&self, index: u64, bytes: u64, tree: &Tree, txns: Vec<(Txn, Outcome)>);

    /// The state was replaced by a snapshot that stands for the log up to this index.
    fn restored(&self, index: Option<u64>, tree: &Tree);
}

/// The tree as openraft drives it. It lives in memory: a restart loads the newest snapshot and applies the log behind it.
pub struct StateMachine {
    tree: Tree,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Arc<Snapshots>,
    sink: Arc<dyn ApplySink>,
}

impl StateMachine {
    /// Returns a machine that begins with this state, which is an empty one; openraft brings it up to date when it starts.
    pub fn new(snapshots: Arc<Snapshots>, sink: Arc<dyn ApplySink>, tree: Tree) -> StateMachine {
        StateMachine {
            tree,
            last_applied: None,
            membership: StoredMembership::default(),
            snapshots,
            sink,
        }
    }

    /// Applies a batch. The error stops this node, before the batch has changed anything.
    fn apply_batch(&mut self, id: LogId, encoded: &bytes::Bytes) -> io::Result<()> {
        let (index, term) = (id.index, id.committed_leader_id().term);
        let (time, txns) = read_batch(encoded)
            .map_err(|why| io::Error::other(format!("log entry {index} is {why}")))?;
        let apply = |mut txn| {
            let outcome = apply_txn(&mut self.tree, term, time, &mut txn);
            (txn, outcome)
        };
        let txns = txns.into_iter().map(apply).collect();
        self.sink.applied(index, encoded.len() as u64, &self.tree, txns);
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let index = entry.log_id.index;
            match entry.payload {
                EntryPayload::Normal(encoded) => self.apply_batch(entry.log_id, &encoded.0)?,
                EntryPayload::Blank => self.sink.applied(index, 0, &self.tree, Vec::new()),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    self.sink.applied(index, 0, &self.tree, Vec::new());
                }
            }
            self.last_applied = Some(entry.log_id);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            tree: self.tree.clone(),
            meta: SnapshotMeta {
                last_log_id: self.last_applied,
                last_membership: self.membership.clone(),
            },
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> io::Result<()> {
        let old = std::mem::replace(&mut self.tree, self.snapshots.adopt(meta, data).await?);
        self.last_applied = meta.last_log_id;
        self.membership = mutant!(M09, self.membership.clone(), meta.last_membership.clone());
        self.sink.restored(meta.last_log_id.map(|id| id.index), &self.tree);
        // Dropping a large tree takes a while; nobody has to wait for it.
        drop(blocking::run(move || drop(old)));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.snapshots.current()
    }
}

/// Writes one snapshot, of the state at the moment it was made, while apply goes on.
pub struct Builder {
    tree: Tree,
    meta: SnapshotMeta,
    snapshots: Arc<Snapshots>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let tree = std::mem::take(&mut self.tree);
        self.snapshots.build(tree, self.meta.clone()).await
    }
}
