use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A set of permissions as bits, with ZooKeeper's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Perms(pub u32);

impl Perms {
    /// Read data and children.
    pub const READ: Perms = Perms(1);
    /// Change data.
    pub const WRITE: Perms = Perms(2);
    /// Create children.
    pub const CREATE: Perms = Perms(4);
    /// Delete children.
    pub const DELETE: Perms = Perms(8);
    /// Change the access control list.
    pub const ADMIN: Perms = Perms(16);
    /// Everything.
    pub const ALL: Perms = Perms(31);

    /// Returns whether one of the wanted bits is set.
    pub fn allows(self, wanted: Perms) -> bool {
        self.0 & wanted.0 != 0
    }
}

/// Somebody: a scheme (`world`, `digest`, `ip`, `auth`, `x509`, `super`) and a name within it. Used both for who a client
/// has proved to be and for whom a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AclId {
    /// The scheme.
    pub scheme: String,
    /// The name, in the form that the scheme defines.
    pub id: String,
}

/// One rule: what somebody may do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Acl {
    /// What.
    pub perms: Perms,
    /// Who.
    pub id: AclId,
}

/// The rules of a znode, shared by all znodes with equal rules. Empty means open to everyone, which is what
/// `world:anyone:cdrwa` is stored as.
pub type AclList = Arc<[Acl]>;
