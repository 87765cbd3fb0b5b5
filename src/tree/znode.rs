use serde::{Deserialize, Serialize};

use super::path_set::PathSet;
use crate::types::{AclList, Data, SessionId, Stat, ZnodePath, Zxid};

/// How long a znode lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Until it is deleted.
    #[default]
    Persistent,
    /// Until this session ends.
    Ephemeral(SessionId),
    /// Until its last child is deleted.
    Container,
    /// Until it has been childless and its data unchanged for longer than `ttl_ms`.
    Ttl {
        /// How long.
        ttl_ms: u64,
        /// The cluster's clock at the last change of the data.
        renewed_ms: u64,
    },
}

/// One znode. Immutable once published: a change makes a new one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Znode {
    pub(super) data: Option<Data>,
    pub(super) acl: AclList,
    pub(super) czxid: Zxid,
    pub(super) mzxid: Zxid,
    pub(super) pzxid: Zxid,
    pub(super) ctime_ms: u64,
    pub(super) mtime_ms: u64,
    pub(super) version: i32,
    pub(super) aversion: i32,
    /// How many children were ever created here, wrapping. Numbers sequential children, and is half of
    /// `cversion`.
    pub(super) created: i32,
    pub(super) lifetime: Lifetime,
    /// Not part of a znode's record: the children's own records tell.
    #[serde(skip)]
    pub(super) children: PathSet,
}

impl Znode {
    /// Returns the data; `None` is different from empty data.
    pub fn data(&self) -> Option<&Data> {
        self.data.as_ref()
    }

    /// Returns the access control list; empty means open to everyone.
    pub fn acl(&self) -> &AclList {
        &self.acl
    }

    /// Returns how long the znode lives.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Returns the session that owns the znode, `None` unless it is ephemeral.
    pub fn ephemeral_owner(&self) -> Option<SessionId> {
        match self.lifetime {
            Lifetime::Ephemeral(session) => Some(session),
            _ => None,
        }
    }

    /// Returns the stat. `cversion` is twice the children ever created less those that live, which is
    /// creations plus deletions. Source: ZooKeeper `DataNode.copyStat`.
    pub fn stat(&self) -> Stat {
        let num_children = self.children.len() as u32;
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            cversion: self.created.wrapping_mul(2).wrapping_sub(num_children as i32),
            aversion: self.aversion,
            ephemeral_owner: self.ephemeral_owner().unwrap_or(SessionId::NONE),
            data_length: self.data.as_ref().map_or(0, |data| data.len() as u32),
            num_children,
            pzxid: self.pzxid,
        }
    }

    /// Yields the paths of the children, ordered by name; [`ZnodePath::name`] gives the names.
    pub fn children(&self) -> impl Iterator<Item = &ZnodePath> {
        self.children.iter()
    }

    /// Yields, in the same order, the paths of those children that come after the given path, which need
    /// not exist. Cost: O(log n) to begin.
    pub fn children_after(&self, path: &str) -> impl Iterator<Item = &ZnodePath> {
        self.children.iter_after(path)
    }

    /// Returns the number of children.
    pub fn num_children(&self) -> usize {
        self.children.len()
    }

    /// Returns the time of the cluster's clock from which the znode may be deleted; 0 for a container that
    /// has lost its last child.
    pub(super) fn due_ms(&self) -> Option<u64> {
        match self.lifetime {
            _ if self.children.len() > 0 => None,
            Lifetime::Container if self.created != 0 => Some(0),
            Lifetime::Ttl { ttl_ms, renewed_ms } => {
                Some(renewed_ms.saturating_add(ttl_ms).saturating_add(1))
            }
            _ => None,
        }
    }
}

/// Returns the version after this one. It skips -1 when it wraps, because clients say -1 for "any version".
pub(super) fn next_version(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}
