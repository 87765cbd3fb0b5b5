use serde::{Deserialize, Serialize};

use super::{Digest, NodeId, Zxid};

/// Identifies a cluster for ever; chosen at random when it is bootstrapped. Text form: 32 hex digits.
pub type ClusterId = u128;

/// How to reach a member of the cluster. Replicated in the membership.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// `host:port` at which the other nodes reach it.
    pub peer_addr: String,
    /// `host:port` at which clients reach its HTTP door.
    pub http_addr: String,
    /// `host:port` at which clients reach its ZooKeeper door, if it has one.
    pub zk_addr: Option<String>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Who.
    pub member: Member,
    /// Whether it votes; a learner only receives the log.
    pub voter: bool,
    /// Last log index known to be on its disk; `None` while unknown.
    pub matched: Option<u64>,
    /// Log entries that it is behind the leader.
    pub lag: Option<u64>,
}

/// A node's view of the cluster, with `matched` and `lag` from the leader where it could be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster, once this node belongs to one.
    pub cluster_id: Option<ClusterId>,
    /// This node.
    pub node: NodeId,
    /// The leader as this node knows it.
    pub leader: Option<NodeId>,
    /// This node's Raft term.
    pub term: u64,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub state: &'static str,
    /// The members, by id.
    pub members: Vec<MemberStatus>,
    /// Last index in this node's log.
    pub last_log: Option<u64>,
    /// Last index that this node knows to be committed.
    pub committed: Option<u64>,
    /// Last index in this node's state.
    pub applied: Option<u64>,
    /// Last index in this node's newest snapshot.
    pub snapshot: Option<u64>,
    /// Last index removed from this node's log.
    pub purged: Option<u64>,
    /// Last transaction in this node's state.
    pub zxid: Zxid,
    /// Digest of this node's state at that zxid.
    pub digest: Digest,
}
