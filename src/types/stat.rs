use serde::{Deserialize, Serialize};

use super::{SessionId, Zxid};

/// The eleven fields that clients see of a znode. Source: zookeeper.jute `Stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Transaction that created the znode.
    pub czxid: Zxid,
    /// Transaction that last changed its data.
    pub mzxid: Zxid,
    /// When it was created, ms of wall clock since 1970 as the leader read it.
    pub ctime_ms: u64,
    /// When its data last changed, same unit.
    pub mtime_ms: u64,
    /// Changes of the data since creation.
    pub version: i32,
    /// Children created plus children deleted.
    pub cversion: i32,
    /// Changes of the access control list.
    pub aversion: i32,
    /// Session that owns the znode when it is ephemeral, else [`SessionId::NONE`].
    pub ephemeral_owner: SessionId,
    /// Bytes of data; 0 for null data.
    pub data_length: u32,
    /// Direct children.
    pub num_children: u32,
    /// Transaction that last created or deleted a child.
    pub pzxid: Zxid,
}
