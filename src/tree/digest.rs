//! Hashes of the records of the tree. The digest of the whole is their wrapping sum: the sum does not
//! depend on the order of the records, and a change costs one subtraction and one addition.
//!
//! A znode is two records, its content and its metadata, so that adding a child to a parent with a megabyte
//! of data does not hash that megabyte.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Lifetime, Session, Tree, Znode};
use crate::types::{Acl, Data, Digest, NodeId, SessionId, TxnTime, ZnodePath, Zxid};

/// Returns the hash of fixed-size fields, the first of which keeps records of different kinds apart. No allocation.
fn of_fields<const N: usize>(fields: [u64; N]) -> u64 {
    xxh3_64(fields.map(u64::to_le_bytes).as_flattened())
}

/// Returns the hash of a znode's path and data.
pub(super) fn of_content(path: &ZnodePath, data: Option<&Data>) -> u64 {
    let seed = xxh3_64(path.as_str().as_bytes());
    xxh3_64_with_seed(data.map_or(&[], |data| &data[..]), seed)
}

/// Returns the hash of a znode's path and all else but its data.
pub(super) fn of_meta(path: &ZnodePath, znode: &Znode) -> u64 {
    let (lifetime, detail, renewed_ms) = match znode.lifetime {
        Lifetime::Persistent => (0, 0, 0),
        Lifetime::Ephemeral(session) => (1, session.0, 0),
        Lifetime::Container => (2, 0, 0),
        Lifetime::Ttl { ttl_ms, renewed_ms } => (3, ttl_ms, renewed_ms),
    };
    let acl = if znode.acl.is_empty() { 0 } else { of_acl(&znode.acl) };
    of_fields([
        1,
        xxh3_64(path.as_str().as_bytes()),
        znode.czxid.0,
        znode.mzxid.0,
        znode.pzxid.0,
        znode.ctime_ms,
        znode.mtime_ms,
        znode.version as u64,
        znode.aversion as u64,
        znode.created as u64,
        lifetime,
        detail,
        renewed_ms,
        znode.children.len() as u64,
        u64::from(znode.data.is_some()),
        acl,
    ])
}

fn of_acl(rules: &[Acl]) -> u64 {
    rules.iter().fold(rules.len() as u64, |hash, rule| {
        let hash = xxh3_64_with_seed(rule.id.scheme.as_bytes(), hash);
        let hash = xxh3_64_with_seed(rule.id.id.as_bytes(), hash);
        xxh3_64_with_seed(&rule.perms.0.to_le_bytes(), hash)
    })
}

/// Returns the hash of a session; its ephemerals are in their own records.
pub(super) fn of_session(id: SessionId, session: &Session) -> u64 {
    let password = u128::from_le_bytes(session.password);
    let (has_owner, node, generation) =
        session.owner.map_or((0, 0, 0), |owner| (1, owner.node, owner.generation));
    of_fields([
        2,
        id.0,
        u64::from(session.timeout_ms),
        password as u64,
        (password >> 64) as u64,
        has_owner,
        node,
        generation,
    ])
}

/// Returns the hash of what is remembered of an origin.
pub(super) fn of_origin(node: NodeId, (incarnation, seq): (u64, u64)) -> u64 {
    of_fields([3, node, incarnation, seq])
}

impl Tree {
    /// Returns the digest of the whole state: equal for trees that applied the same transactions. Cost: O(1).
    pub fn digest(&self) -> Digest {
        self.digest_with(self.rolling)
    }

    /// Returns the same, computed from all records. Cost: O(state). For tests of the former.
    pub fn recomputed_digest(&self) -> Digest {
        let znodes = self.subtree("/");
        let sum = znodes
            .map(|(path, znode)| of_content(path, znode.data()).wrapping_add(of_meta(path, znode)))
            .chain(self.sessions.iter().map(|(id, session)| of_session(*id, session)))
            .chain(self.origins.iter().map(|(node, last)| of_origin(*node, *last)))
            .chain(self.results.iter_after(Zxid(0)).map(|(zxid, kept)| kept.recomputed_hash(*zxid)))
            .fold(0u64, u64::wrapping_add);
        self.digest_with(sum)
    }

    fn digest_with(&self, sum: u64) -> Digest {
        let TxnTime { wall_ms, cluster_ms } = self.time;
        let hash = of_fields([4, sum, self.zxid.0, wall_ms, cluster_ms, self.sessions_opened]);
        Digest(hash)
    }
}
