use crate::types::{ZnodePath, Zxid};

/// How a connection watches a path. It may do so in several ways at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchMode {
    /// Once: the znode is created, deleted, or its data changes. Source: ZooKeeper `exists`, `getData`.
    Data = 0,
    /// Once: its list of children changes, or it is deleted. Source: ZooKeeper `getChildren`.
    Child = 1,
    /// Both of the above, until removed.
    Persistent = 2,
    /// As `Data`, of the znode and of all below it, until removed.
    Recursive = 3,
}

/// The ways in which a connection can watch a path.
pub const WATCH_MODES: [WatchMode; 4] =
    [WatchMode::Data, WatchMode::Child, WatchMode::Persistent, WatchMode::Recursive];

/// What a watch says about its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// It came into being.
    Created,
    /// It is gone.
    Deleted,
    /// Its data was set.
    DataChanged,
    /// A child came or went.
    ChildrenChanged,
}

/// A watch that fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The transaction that fired it.
    pub zxid: Zxid,
    /// What happened.
    pub kind: NoticeKind,
    /// Where.
    pub path: ZnodePath,
}

/// A watch could not be set because the node or the connection has as many as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchesFull;

/// By whose access control list a notice is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The list that the event carries.
    Own,
    /// That of the parent of the event's znode.
    Parents,
}
