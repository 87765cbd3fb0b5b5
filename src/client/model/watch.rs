use serde::{Deserialize, Serialize};

use super::{Payload, Stat};

/// What a watch stream says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum WatchEvent {
    /// The state at the start, and again after a reset.
    Snapshot(Snapshot),
    /// One transaction's changes.
    Change(Change),
    /// Changes were skipped; a snapshot follows.
    Reset(Reset),
    /// Everything up to this zxid has been told.
    Progress {
        /// That zxid.
        zxid: u64,
    },
}

/// See [`WatchEvent::Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The state's zxid.
    pub zxid: u64,
    /// One for each thing watched.
    pub watches: Vec<WatchState>,
}

/// The state of one thing watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchState {
    /// `data`, `children`, `children_data` or `subtree`.
    pub kind: String,
    /// The path watched.
    pub path: String,
    /// Whether a znode is there.
    pub exists: bool,
    /// The znodes that the kind speaks of.
    #[serde(default)]
    pub znodes: Vec<WatchedZnode>,
}

/// A znode in a snapshot of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedZnode {
    /// Its path.
    pub path: String,
    /// Its data, where the kind includes it.
    #[serde(flatten)]
    pub payload: Payload,
    /// Its stat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<Stat>,
}

/// See [`WatchEvent::Change`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The transaction.
    pub zxid: u64,
    /// What it did, in order.
    pub changes: Vec<ZnodeChange>,
}

/// One change of one znode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZnodeChange {
    /// What happened.
    pub kind: ChangeKind,
    /// To which znode.
    pub path: String,
    /// The data after it, where the watch includes it.
    #[serde(flatten)]
    pub payload: Payload,
    /// The stat after it; `None` when deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<Stat>,
}

/// What happened to a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum ChangeKind {
    Created,
    Changed,
    Deleted,
}

/// See [`WatchEvent::Reset`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// The state that the following snapshot is at or after.
    pub zxid: u64,
    /// `too_old`, `not_reached` or `skipped`.
    pub reason: String,
}
