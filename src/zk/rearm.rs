//! The watches of a client that comes back: those whose news it has missed fire at once, the others are set again.

use crate::identity::permits;
use crate::jute::{EventType, SetWatches, SetWatches2};
use crate::node::OwnWatches;
use crate::tree::Tree;
use crate::types::{AclId, Perms, ZnodePath, Zxid};
use crate::watch::{WatchMode, WatchesFull};

/// A path of which the client was told before, and how it watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    /// The data of a znode that existed.
    Data,
    /// A znode that did not exist.
    Absent,
    /// The children of a znode that existed.
    Child,
    Persistent,
    Recursive,
}

/// What is left of a request to set watches again. Each path is looked at and watched under one look; between two parts
/// of the list apply may go on.
#[derive(Debug)]
pub(super) struct Rearm {
    /// The client knows everything up to here.
    since: Zxid,
    rest: std::vec::IntoIter<(Watched, String)>,
}

/// A part of the list is done.
pub(super) struct Rearmed {
    /// What the client has missed.
    pub(super) missed: Vec<(EventType, String)>,
    /// Whether that was the last part.
    pub(super) is_all: bool,
}

impl Rearm {
    pub(super) fn one_shot(request: SetWatches) -> Rearm {
        Rearm::new(SetWatches2 {
            one_shot: request,
            persistent: Vec::new(),
            persistent_recursive: Vec::new(),
        })
    }

    pub(super) fn new(request: SetWatches2) -> Rearm {
        let SetWatches { relative_zxid, data, exist, child } = request.one_shot;
        let lists = [
            (Watched::Data, data),
            (Watched::Absent, exist),
            (Watched::Child, child),
            (Watched::Persistent, request.persistent),
            (Watched::Recursive, request.persistent_recursive),
        ];
        let all: Vec<_> = lists
            .into_iter()
            .flat_map(|(watched, paths)| paths.into_iter().map(move |path| (watched, path)))
            .collect();
        Rearm { since: Zxid(u64::try_from(relative_zxid).unwrap_or(0)), rest: all.into_iter() }
    }

    /// Takes up at most `max` paths. Error: the node has as many watches as it may. Source: ZooKeeper
    /// `DataTree.setWatches`.
    pub(super) fn next(
        &mut self,
        tree: &Tree,
        authority: &[AclId],
        watches: &mut OwnWatches<'_>,
        max: usize,
    ) -> Result<Rearmed, WatchesFull> {
        let mut missed = Vec::new();
        for (watched, path) in self.rest.by_ref().take(max) {
            // A text that is no path names a znode that can never exist.
            let Ok(valid) = ZnodePath::parse(&path) else { continue };
            let since = mutant!(M30, tree.zxid(), self.since);
            match news(tree, authority, since, watched, &path) {
                Some(event) => missed.push((event, path)),
                None => watches.add(&valid, watched.mode())?,
            }
        }
        Ok(Rearmed { missed, is_all: self.rest.as_slice().is_empty() })
    }
}

impl Watched {
    fn mode(self) -> WatchMode {
        match self {
            Watched::Data | Watched::Absent => WatchMode::Data,
            Watched::Child => WatchMode::Child,
            Watched::Persistent => WatchMode::Persistent,
            Watched::Recursive => WatchMode::Recursive,
        }
    }
}

/// Returns what a client that knows everything up to `since` has missed of a path, if it may know.
fn news(
    tree: &Tree,
    authority: &[AclId],
    since: Zxid,
    watched: Watched,
    path: &str,
) -> Option<EventType> {
    let Some(znode) = tree.get(path) else {
        return matches!(watched, Watched::Data | Watched::Child).then_some(EventType::NodeDeleted);
    };
    let stat = znode.stat();
    let event = match watched {
        Watched::Data if stat.mzxid > since => EventType::NodeDataChanged,
        Watched::Absent => EventType::NodeCreated,
        Watched::Child if stat.pzxid > since => EventType::NodeChildrenChanged,
        _ => return None,
    };
    permits(znode.acl(), authority, Perms::READ).then_some(event)
}
