//! Consensus: the only module that knows openraft.
//!
//! Downwards it adapts the store (`log_store`) and the peer transport (`network`); upwards it offers [`Consensus`], whose
//! methods speak of bytes, log indexes, terms and members. The replicated state (`state_machine`) lives here too, since
//! openraft drives it: it applies batches to the [`Tree`](crate::tree::Tree) and tells an [`ApplySink`] what happened,
//! synchronously and in log order.
//!
//! What is configured, and why:
//! - *No leader restore*: a restarted leader must win an election (and so commit an entry of its new term) before it serves.
//!   With restore on, it would answer linearizable reads from a state whose commit index lags (openraft #1511).
//! - *Pre-vote*: a node that comes back from a partition does not unseat a leader that works.
//! - *Snapshots by our own trigger* on log bytes, never on a count of entries: an entry may hold one write or a thousand.
//! - *Heartbeats and snapshots have their own connections*, so that neither waits behind a large append.
//! - *A member whose disk was wiped is never let in again under its old id*: it would have forgotten its vote and
//!   acknowledged entries. See `node::identity`.

mod apply;
mod consensus;
mod inspect;
mod log_store;
mod network;
mod runtime;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod tests;
mod typ;

pub use apply::{apply_txn, is_in_force, read_batch};
pub use consensus::{Consensus, Leadership, Options, Refused};
pub use inspect::{Content, inspect_committed, inspect_entry, load_snapshot};
pub use log_store::LogStore;
pub use network::{Dial, Network};
pub use runtime::{Latest, Runtime, seeded};
pub use snapshot::{SnapshotData, Snapshots};
pub use state_machine::{ApplySink, StateMachine};
pub use typ::{EncodedBatch, TypeConfig};

pub(crate) use snapshot::receive as receive_snapshot;
