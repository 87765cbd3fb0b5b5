//! Requests on znodes as registers: each value is a number that is written once in a run, so that a read names the
//! write that it saw.

use serde::{Deserialize, Serialize};

use super::Op;

/// A request and its answer.
pub type KvOp = Op<KvCall, KvAnswer>;

/// What was asked. Keys are paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvCall {
    /// Reads a znode, linearizably.
    Read {
        /// Which.
        key: String,
    },
    /// Reads a znode from whatever state the node has.
    ReadStale {
        /// Which.
        key: String,
    },
    /// Creates a znode.
    Create {
        /// Which.
        key: String,
        /// Its first value.
        value: u64,
    },
    /// Sets a znode's data whatever it is.
    Set {
        /// Which.
        key: String,
        /// Its new value.
        value: u64,
    },
    /// Sets a znode's data if it has this version, which the client saw together with this value. Keys of such
    /// requests are not deleted, so that a version stands for a value.
    Cas {
        /// Which.
        key: String,
        /// The version demanded.
        version: i32,
        /// The value that had this version.
        from: u64,
        /// The new value.
        to: u64,
    },
    /// Deletes a znode.
    Delete {
        /// Which.
        key: String,
    },
    /// Sets several znodes in one transaction.
    SetAll {
        /// Which, and to what.
        writes: Vec<(String, u64)>,
    },
    /// Reads several znodes from one state.
    ReadAll {
        /// Which.
        keys: Vec<String>,
    },
}

/// What a znode was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its value.
    pub value: u64,
    /// How often it was set.
    pub version: i32,
    /// The zxid that created it.
    pub czxid: u64,
    /// The zxid of its last change.
    pub mzxid: u64,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvAnswer {
    /// To a read: what was there, in the state of this zxid.
    Read {
        /// The state read.
        zxid: u64,
        /// The znode; `None` when there was none.
        seen: Option<Seen>,
    },
    /// To a read of several, in the order asked.
    ReadAll {
        /// The state read.
        zxid: u64,
        /// The znodes.
        seen: Vec<Option<Seen>>,
    },
    /// To a write: done, with the version after it where there is one.
    Done {
        /// Its place in the order.
        zxid: u64,
        /// The version after it; of a transaction, that of each of its znodes, if it is the same.
        version: Option<i32>,
    },
    /// To a write: the state did not allow it. This is an observation like a read.
    Refused(Refusal),
}

/// Why a state did not allow a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such znode.
    NoNode,
    /// There is one already.
    NodeExists,
    /// It has another version.
    BadVersion,
}
