use std::ops::Bound;
use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use super::{Tree, Znode};
use crate::registry::{self, LayoutKind, list_at};
use crate::types::{ZnodePath, Zxid};

/// What is known of a list without looking at its entries. All of it follows from the znodes that exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListState {
    /// Zxid of the newest change: of the children of its znode, or of the data or the health of an entry.
    pub revision: Zxid,
    /// Sum of the entries' [`sign`](registry::sign)s.
    pub sign: u64,
    /// How many entries it has.
    pub entries: usize,
}

/// A service: its namespace, empty for the default one, and its name.
type Key = (Arc<str>, Arc<str>);

/// The lists of all services, in whatever layout: an index of the znodes at places that [`registry`] recognises. Derived, so
/// not part of a snapshot or of a digest. A clone is O(1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Only looked up in, never iterated.
    lists: HashMap<ZnodePath, ListState>,
    names: OrdMap<Key, Arc<[ZnodePath]>>,
}

impl Services {
    /// Returns the lists of a service, ordered by path; none when there is no such service. Cost: O(log services).
    pub fn lists(&self, namespace: &str, service: &str) -> &[ZnodePath] {
        let key = (Arc::from(namespace), Arc::from(service));
        self.names.get(&key).map_or(&[], |lists| lists)
    }

    /// Returns what is known of the list at a path. Cost: O(1).
    pub fn list(&self, path: &str) -> Option<ListState> {
        self.lists.get(path).copied()
    }

    /// Yields the services of a namespace whose names begin with a prefix and come after another name, by name, with their
    /// lists. Cost: O(log services) to begin.
    pub fn named(
        &self,
        namespace: &str,
        prefix: &str,
        after: &str,
    ) -> impl Iterator<Item = (&str, &[ZnodePath])> {
        let (namespace, prefix): (Arc<str>, Arc<str>) = (Arc::from(namespace), Arc::from(prefix));
        let from = match after < &*prefix {
            true => Bound::Included((namespace.clone(), prefix.clone())),
            false => Bound::Excluded((namespace.clone(), Arc::from(after))),
        };
        let later = self.names.range((from, Bound::Unbounded));
        let same =
            later.take_while(move |((of, name), _)| *of == namespace && name.starts_with(&*prefix));
        same.map(|((_, name), lists)| (&**name, &**lists))
    }

    fn enter(&mut self, path: &ZnodePath, list: &registry::List<'_>, state: ListState) {
        self.lists.insert(path.clone(), state);
        let lists = self.names.entry(key(list)).or_default();
        if let Err(at) = lists.binary_search(path) {
            let mut all = lists.to_vec();
            all.insert(at, path.clone());
            *lists = all.into();
        }
    }

    fn leave(&mut self, path: &ZnodePath, list: &registry::List<'_>) {
        self.lists.remove(path.as_str());
        let key = key(list);
        let left = self.names.get(&key).into_iter().flat_map(|lists| lists.iter());
        let left: Vec<ZnodePath> = left.filter(|other| *other != path).cloned().collect();
        match left.is_empty() {
            true => drop(self.names.remove(&key)),
            false => drop(self.names.insert(key, left.into())),
        }
    }
}

fn key(list: &registry::List<'_>) -> Key {
    (Arc::from(list.namespace), Arc::from(&*list.service))
}

/// What of a znode counts for the sign of its list: the zxids of its creation and of its last change, or of its health's.
pub(super) type Stamp = (Zxid, Zxid);

impl Znode {
    pub(super) fn stamp(&self) -> Stamp {
        (self.czxid, self.mzxid)
    }
}

impl Tree {
    /// Returns the lists of the services at this point of history.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Brings the lists in step with a znode that had the stamp `before` and has `after` now; `None` where it does not exist.
    /// Cost: O(log services), and for a znode at no place of a service next to nothing.
    pub(super) fn follow_services(
        &mut self,
        path: &ZnodePath,
        before: Option<Stamp>,
        after: Option<Stamp>,
    ) {
        let Some(parent) = path.parent_str() else { return };
        if let Some(list) = list_at(parent)
            && self.services.lists.contains_key(parent)
        {
            match list.layout.is_entry(path.name()) {
                true => {
                    let full = |stamp: Stamp| self.full_stamp(path, stamp);
                    let (before, after) = (before.map(full), after.map(full));
                    self.restamp(path, before, after);
                }
                false if before.is_some() != after.is_some() => self.revise(parent),
                false => {}
            }
        }
        if before.is_some() == after.is_some() {
            return;
        }
        let Some(list) = list_at(path.as_str()) else { return };
        match after {
            Some((created, _)) => {
                let state = ListState { revision: created, ..ListState::default() };
                self.services.enter(path, &list, state);
            }
            None => self.services.leave(path, &list),
        }
    }

    /// Takes up that an entry of a list has another stamp than before, or comes or goes.
    pub(super) fn restamp(
        &mut self,
        path: &ZnodePath,
        before: Option<Stamp>,
        after: Option<Stamp>,
    ) {
        let Some(parent) = path.parent_str() else { return };
        if let Some(state) = self.services.lists.get_mut(parent) {
            state.revision = self.zxid;
            count(state, path, before, after);
        }
    }

    fn revise(&mut self, list: &str) {
        if let Some(state) = self.services.lists.get_mut(list) {
            state.revision = self.zxid;
        }
    }

    /// Returns the stamp of an entry with what is noted of its health: the later of the two changes counts.
    fn full_stamp(&self, path: &ZnodePath, (created, modified): Stamp) -> Stamp {
        (created, modified.max(self.health(path, created).1))
    }

    /// Finds all lists, from the znodes alone: for a tree that was loaded, and to check the one that was kept in step. Cost:
    /// O(znodes below the roots of layouts).
    pub fn found_services(&self) -> Services {
        let mut found = Services::default();
        let below = registry::ROOTS.into_iter().flat_map(|root| self.descendants(root));
        for (path, znode) in below {
            if let Some(list) = list_at(path.as_str()) {
                found.enter(path, &list, self.found_state(list.layout, znode));
            }
        }
        found
    }

    fn found_state(&self, layout: LayoutKind, znode: &Znode) -> ListState {
        let mut state = ListState { revision: znode.pzxid, ..ListState::default() };
        for path in znode.children().filter(|path| layout.is_entry(path.name())) {
            if let Some(entry) = self.get(path.as_str()) {
                let stamp = self.full_stamp(path, entry.stamp());
                state.revision = state.revision.max(stamp.1);
                count(&mut state, path, None, Some(stamp));
            }
        }
        state
    }
}

fn count(state: &mut ListState, path: &ZnodePath, before: Option<Stamp>, after: Option<Stamp>) {
    let sign = |(created, modified): Stamp| registry::sign(path.name(), created.0, modified.0);
    state.sign =
        state.sign.wrapping_sub(before.map_or(0, sign)).wrapping_add(after.map_or(0, sign));
    state.entries += usize::from(after.is_some());
    state.entries -= usize::from(before.is_some());
}
