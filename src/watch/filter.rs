use crate::types::ZnodePath;

/// What a subscriber wants to hear about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchKind {
    /// The znode itself: created, deleted, data changed.
    Data,
    /// The list of its children: a direct child created or deleted; also the znode itself created or deleted,
    /// without which an empty list and no list could not be told apart.
    Children,
    /// The list of its children with their data, which is what a service's list of instances is: as
    /// [`WatchKind::Children`], and the data of a direct child changed.
    ChildrenData,
    /// The znode and everything below it: created, deleted, data changed.
    Subtree,
}

/// One path of a subscription. The znode need not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter {
    /// Where.
    pub path: ZnodePath,
    /// What of it.
    pub kind: WatchKind,
}
