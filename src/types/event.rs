use serde::{Deserialize, Serialize};

use super::{AclList, Data, Stat, ZnodePath};

/// What happened to a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// It came into being.
    Created,
    /// It is gone.
    Deleted,
    /// Its data was set.
    DataChanged,
}

/// One change of one znode, as applied. A change of a parent's child list is implied by `Created` and `Deleted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To which znode.
    pub path: ZnodePath,
    /// The data after the change; before it for `Deleted`.
    pub data: Option<Data>,
    /// The stat after the change; before it for `Deleted`.
    pub stat: Stat,
    /// The access control list of the znode, before the change for `Deleted`: who may not read it may not hear of it.
    pub acl: AclList,
    /// That of its parent, its own for the root: decides who may hear that the list of children has changed.
    pub parent_acl: AclList,
}
