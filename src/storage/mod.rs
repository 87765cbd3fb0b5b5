//! The node's disk: the Raft log, the few records beside it, and snapshots. The only module that knows sled.
//!
//! ```text
//! WalHandle::submit ─▶ queue ─▶ WalWriter::step ─▶ Log (plan: one batch) ─▶ Disk::commit ─▶ callbacks, in order
//!        └─ admits to the View at once ◀── LogReader::read (memory, then disk)
//! SnapshotStore::begin ─▶ SnapshotWriter ─▶ Disk of that generation      pointer ─▶ Log, by the caller
//! ```
//!
//! Everything here is bytes: what an entry, a vote or a snapshot's metadata means is the caller's business.
//!
//! Invariants:
//!
//! - A callback with `Ok` means that the writes survive a power cut, unless they were only [`Write::Committed`] and
//!   [`Write::Purge`], which may be lost but never overtake an earlier write.
//! - Writes form one ordered stream. What is on the disk after any crash is a prefix of it, cut between two submitted
//!   jobs: a vote never becomes durable ahead of the entries before it, nor `committed` ahead of its entries.
//! - After one failed commit nothing is acknowledged any more: after a failed fsync the page cache lies.
//! - The indexes in the log are contiguous. Our own callers break this only by a bug, so it is asserted; on the disk it
//!   can be broken by damage, so there it is a [`StoreError`] that names the store and the key.
//! - An entry is readable as soon as `submit` returns, from memory, whether or not it is durable yet. It leaves the
//!   memory only when it is on the disk.
//!
//! sled 0.34.7 is used under five rules, without which it loses acknowledged writes in a power cut or does not open
//! afterwards: (1) its `flush` does not sync, so each commit ends with our own fdatasync on its file; (2) a value above
//! a fraction of the segment would become a file of its own that is never synced, so no value exceeds
//! [`STORE_VALUE_BYTES_MAX`](crate::limits::STORE_VALUE_BYTES_MAX); (3) `flush_async` can deadlock and is never
//! called; (4) a batch is atomic on one tree, a transaction on several: a commit is one of them, by one writer; (5) an index
//! that it was still writing when the process ended, or the disk was full, it would take for a finished one: such a file
//! is removed before it opens. Where sled forgets
//! acknowledged writes all the same, because its file was damaged, [`SledDisk`] notices and refuses.
//!
//! What this module deliberately lacks: repair. Damage that is found is named, and the node stops; it then rejoins
//! empty under a new id, because a node that guesses what it once acknowledged can undo committed writes. It also has
//! no clock, no consensus, and no applied state: the tree lives in memory and is rebuilt from snapshot and log.

mod disk;
mod error;
mod log;
mod memory;
mod plan;
mod reader;
mod record;
mod series;
mod sled_disk;
mod snapshot;
mod stats;
mod view;
mod wal;

#[cfg(test)]
mod tests;

pub use disk::{Change, Disk, Pair};
pub use error::StoreError;
pub use log::{Log, LogEntry, Recovered, Write};
pub use memory::{MemoryDisk, MemoryDisks};
pub use reader::LogReader;
pub use sled_disk::SledDisk;
pub use snapshot::{SnapshotPointer, SnapshotReader, SnapshotStore, SnapshotWriter};
pub use stats::{COMMIT_MICROS_BOUNDS, StorageStats};
pub use wal::{Clock, Done, WalHandle, WalWriter, spawn_writer, wal};
