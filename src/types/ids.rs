use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Identifies a member of the cluster for ever: a node whose disk was lost rejoins under a new id. Range: 1..=255.
pub type NodeId = u64;

/// Position of a transaction in the one total order of state changes. Assigned by the tree, one per transaction, never
/// reused and never going back; it is not the Raft log index.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Zxid(pub u64);

impl Zxid {
    /// Returns the zxid that follows this one.
    pub fn next(self) -> Zxid {
        Zxid(self.0 + 1)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Identifies a session. 0 means "no session". The high byte is the node that opened it, the rest a replicated counter;
/// the high bytes 0x80 and 0xff never occur, ZooKeeper reserves them in `ephemeralOwner`.
/// Text form: `0x` and 16 hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The absence of a session.
    pub const NONE: SessionId = SessionId(0);

    /// Returns whether this is [`SessionId::NONE`].
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = String;

    /// Parses `0x` and up to 16 hex digits.
    fn from_str(text: &str) -> Result<SessionId, String> {
        text.strip_prefix("0x")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .map(SessionId)
            .ok_or_else(|| format!("{text:?} is not a session id: expected 0x and hex digits"))
    }
}

/// Where a transaction entered the cluster and its place in that node's stream. The tree applies the sequence of one
/// incarnation without gap and without repetition, which makes resending after a failover safe.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Origin {
    /// The node that a client spoke to.
    pub node: NodeId,
    /// Counts the starts of that node, durably; a later start has a greater incarnation.
    pub incarnation: u64,
    /// Counts the transactions of that incarnation, from 1.
    pub seq: u64,
}

/// The connection that may write for a session: a session re-attached elsewhere gets a new owner, and writes that still
/// arrive through the earlier one are refused with [`SessionMoved`](crate::types::Code::SessionMoved).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The node that holds the connection.
    pub node: NodeId,
    /// Tells apart the connections of that node, over all its incarnations.
    pub generation: u64,
}

/// Order-free hash of the whole replicated state at one zxid: equal on all nodes that applied the same log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub u64);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
