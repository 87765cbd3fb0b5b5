use serde::{Deserialize, Serialize};

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: u64,
    /// Where other nodes reach it.
    pub peer_addr: String,
    /// Where clients reach it.
    pub http_addr: String,
    /// Where ZooKeeper clients reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zk_addr: Option<String>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Who.
    #[serde(flatten)]
    pub member: Member,
    /// `voter` or `learner`.
    pub role: String,
    /// Last log index that it is known to hold.
    #[serde(default)]
    pub matched: Option<u64>,
    /// Entries that it lacks.
    #[serde(default)]
    pub lag: Option<u64>,
}

/// Answer of [`cluster`](crate::client::Client::cluster). Positions are log indexes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are Raft's")]
pub struct Cluster {
    /// `None` before the cluster is initialised.
    #[serde(default)]
    pub cluster_id: Option<String>,
    /// The node that answered.
    pub node: u64,
    #[serde(default)]
    pub leader: Option<u64>,
    pub term: u64,
    pub state: String,
    #[serde(default)]
    pub members: Vec<MemberStatus>,
    #[serde(default)]
    pub last_log: Option<u64>,
    #[serde(default)]
    pub committed: Option<u64>,
    #[serde(default)]
    pub applied: Option<u64>,
    #[serde(default)]
    pub snapshot: Option<u64>,
    #[serde(default)]
    pub purged: Option<u64>,
    pub zxid: u64,
    /// Hash of the state at `zxid`, hex.
    pub digest: String,
}

/// Answer of [`digest`](crate::client::Client::digest): one node's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestAnswer {
    /// The state's zxid.
    pub zxid: u64,
    /// Its hash, hex.
    pub digest: String,
    /// Last log index applied.
    #[serde(default)]
    pub applied: Option<u64>,
    /// The node.
    pub node: u64,
}
