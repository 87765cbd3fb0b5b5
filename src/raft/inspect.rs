use bytes::Bytes;
use openraft::entry::EntryPayload;

use super::log_store::decode_entry;
use super::snapshot;
use super::typ::LogId;
use crate::codec;
use crate::limits::PEER_FRAME_BYTES_MAX;
use crate::storage::{LogEntry, Recovered, SnapshotPointer, SnapshotStore};
use crate::tree::Tree;

/// What one entry of a stopped node's log holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A membership, as text.
    Membership(String),
    /// A [batch](crate::batch) of transactions.
    Batch(Bytes),
}

/// Decodes a stored entry: its term and content.
pub fn inspect_entry(entry: &LogEntry) -> Result<(u64, Content), String> {
    let decoded =
        decode_entry(&entry.bytes).map_err(|err| format!("log entry {}: {err}", entry.index))?;
    let content = match decoded.payload {
        EntryPayload::Blank => Content::Blank,
        EntryPayload::Membership(membership) => Content::Membership(membership.to_string()),
        EntryPayload::Normal(batch) => Content::Batch(batch.0),
    };
    Ok((decoded.log_id.committed_leader_id().term, content))
}

/// Returns the last index that a stopped node knew to be committed.
pub fn inspect_committed(recovered: &Recovered) -> Result<Option<u64>, String> {
    let committed = recovered
        .committed
        .as_ref()
        .map(|bytes| codec::decode::<LogId>(bytes, PEER_FRAME_BYTES_MAX));
    let committed =
        committed.transpose().map_err(|why| format!("the commit index does not parse: {why}"))?;
    let in_snapshot = recovered.snapshot.as_ref().map(snapshot::stands_for).transpose()?.flatten();
    Ok(committed.map(|id| id.index).max(in_snapshot))
}

/// Returns the state in a stopped node's snapshot and the log index that it stands for.
pub fn load_snapshot(
    store: &SnapshotStore,
    pointer: &SnapshotPointer,
) -> Result<(Tree, Option<u64>), String> {
    let tree = snapshot::load(store, pointer).map_err(|err| err.to_string())?;
    Ok((tree, snapshot::stands_for(pointer)?))
}
