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

/// A request to set watches again, and how far it is done. Each path is looked at and watched under one look; between two
/// parts of the list apply may go on.
#[derive(Debug)]
pub(super) struct Rearm {
    /// The client knows everything up to here.
    since: Zxid,
    /// How it watches, and then the paths, each behind a [`SEPARATOR`]: many thousands may have come in one frame, and as
    /// values of their own they would take many times its bytes while they wait.
    lists: [(Watched, String); 5],
    /// The list that is being worked on, and how far in it.
    list: usize,
    at: usize,
}

/// Stands in no path.
const SEPARATOR: char = '\0';

/// A part of the list is done.
pub(super) struct Rearmed {
    /// What the client has missed.
    pub(super) missed: Vec<(EventType, String)>,
    /// Whether that was the last part.
    pub(super) is_all: bool,
}

impl Rearm {
    pub(super) fn one_shot(
        request: SetWatches,
        is_admitted: impl Fn(&str, WatchMode) -> bool,
    ) -> Rearm {
        let (persistent, persistent_recursive) = (Vec::new(), Vec::new());
        let request = SetWatches2 { one_shot: request, persistent, persistent_recursive };
        Rearm::new(request, is_admitted)
    }

    /// Takes up a request, but for what is not admitted: as the reply speaks of all paths together, that is passed over.
    pub(super) fn new(
        request: SetWatches2,
        is_admitted: impl Fn(&str, WatchMode) -> bool,
    ) -> Rearm {
        let SetWatches { relative_zxid, data, exist, child } = request.one_shot;
        let lists = [
            (Watched::Data, data),
            (Watched::Absent, exist),
            (Watched::Child, child),
            (Watched::Persistent, request.persistent),
            (Watched::Recursive, request.persistent_recursive),
        ];
        let lists = lists.map(|(watched, paths)| {
            let paths = paths.iter().map(String::as_str);
            (watched, joined(paths.filter(|path| is_admitted(path, watched.mode()))))
        });
        let since = Zxid(u64::try_from(relative_zxid).unwrap_or(0));
        Rearm { since, lists, list: 0, at: 0 }
    }

    /// Returns the next path, and how it is watched.
    fn path(&mut self) -> Option<(Watched, ZnodePath)> {
        while let Some((watched, paths)) = self.lists.get(self.list) {
            let mut rest = paths[self.at..].split(SEPARATOR).skip(1);
            if let Some(text) = rest.next() {
                self.at += SEPARATOR.len_utf8() + text.len();
                match ZnodePath::parse(text) {
                    Ok(path) => return Some((*watched, path)),
                    Err(_) => continue,
                }
            }
            self.list += 1;
            self.at = 0;
        }
        None
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
        for _ in 0..max {
            let Some((watched, path)) = self.path() else {
                return Ok(Rearmed { missed, is_all: true });
            };
            let since = mutant!(M30, tree.zxid(), self.since);
            match news(tree, authority, since, watched, path.as_str()) {
                Some(event) => missed.push((event, path.to_string())),
                None => watches.add(&path, watched.mode())?,
            }
        }
        Ok(Rearmed { missed, is_all: false })
    }
}

/// Returns paths as one text. What is no path is left out: it names a znode that can never exist.
fn joined<'a>(paths: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for path in paths.filter(|path| ZnodePath::parse(path).is_ok()) {
        text.push(SEPARATOR);
        text += path;
    }
    text.shrink_to_fit();
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_kept_as_they_came_and_taken_one_path_after_the_other() {
        let paths = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let request = SetWatches2 {
            one_shot: SetWatches {
                relative_zxid: 7,
                data: paths(&["/a", "none", "/b/c"]),
                exist: paths(&[]),
                child: paths(&["/\0", "/"]),
            },
            persistent: paths(&["", "/é"]),
            persistent_recursive: paths(&["/a"]),
        };
        let mut rearm = Rearm::new(request.clone(), |_, _| true);
        let taken: Vec<_> = std::iter::from_fn(|| rearm.path()).collect();
        let expected = [
            (Watched::Data, "/a"),
            (Watched::Data, "/b/c"),
            (Watched::Child, "/"),
            (Watched::Persistent, "/é"),
            (Watched::Recursive, "/a"),
        ];
        assert_eq!(
            taken,
            expected.map(|(watched, path)| (watched, ZnodePath::parse(path).unwrap()))
        );
        let mut some = Rearm::new(request, |path, mode| path != "/a" || mode != WatchMode::Data);
        let left: Vec<_> = std::iter::from_fn(|| some.path()).collect();
        assert_eq!(left.len(), expected.len() - 1, "{left:?}");
        assert_eq!(left[0].1.as_str(), "/b/c");
        let many = SetWatches {
            relative_zxid: 0,
            data: vec!["/a".to_owned(); 100_000],
            exist: vec![],
            child: vec![],
        };
        let kept: usize =
            Rearm::one_shot(many, |_, _| true).lists.iter().map(|(_, text)| text.capacity()).sum();
        assert!(kept <= 3 * 100_000, "{kept} bytes");
    }
}
