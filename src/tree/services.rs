use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use super::path_set::PathSet;
use super::{Tree, Znode};
use crate::registry::{self, Health, LayoutKind, Layouts};
use crate::types::{ZnodePath, Zxid};

/// What is known of a list without looking at its entries. All of it follows from the znodes that exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListState {
    /// Zxid of the newest change: of the children of its znode, or of the data, the health or the reading of an entry.
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
    names: OrdMap<Key, Arc<PathSet>>,
}

/// The lists of one service, ordered by path.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a>(Option<&'a PathSet>);

impl<'a> Lists<'a> {
    /// Yields them.
    pub fn iter(self) -> impl Iterator<Item = &'a ZnodePath> {
        self.0.into_iter().flat_map(PathSet::iter)
    }

    /// Returns how many there are.
    pub fn len(self) -> usize {
        self.0.map_or(0, PathSet::len)
    }

    /// Returns whether there are none: then there is no such service.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl Services {
    /// Returns the lists of a service. Cost: O(log services).
    pub fn lists(&self, namespace: &str, service: &str) -> Lists<'_> {
        let key = (Arc::from(namespace), Arc::from(service));
        Lists(self.names.get(&key).map(|lists| &**lists))
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
    ) -> impl Iterator<Item = (&str, Lists<'_>)> {
        let (namespace, prefix): (Arc<str>, Arc<str>) = (Arc::from(namespace), Arc::from(prefix));
        let from = match after < &*prefix {
            true => Bound::Included((namespace.clone(), prefix.clone())),
            false => Bound::Excluded((namespace.clone(), Arc::from(after))),
        };
        let later = self.names.range((from, Bound::Unbounded));
        let same =
            later.take_while(move |((of, name), _)| *of == namespace && name.starts_with(&*prefix));
        same.map(|((_, name), lists)| (&**name, Lists(Some(lists))))
    }

    /// Cost: O(log lists), however many of them are of one service.
    fn enter(&mut self, path: &ZnodePath, list: &registry::List<'_>, state: ListState) {
        self.lists.insert(path.clone(), state);
        let lists = self.names.entry(key(list)).or_default();
        Arc::make_mut(lists).insert(path.clone());
    }

    /// Cost: as [`Services::enter`].
    fn leave(&mut self, path: &ZnodePath, list: &registry::List<'_>) {
        self.lists.remove(path.as_str());
        let key = key(list);
        let Some(lists) = self.names.get_mut(&key) else { return };
        Arc::make_mut(lists).remove(path.as_str());
        if lists.len() == 0 {
            self.names.remove(&key);
        }
    }
}

fn key(list: &registry::List<'_>) -> Key {
    (Arc::from(list.namespace), Arc::from(&*list.service))
}

/// What of a znode counts for the sign of its list: the zxids of its creation and of its last change, or of its note's or its
/// layout's.
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
        let layouts = self.policies.layouts().clone();
        if let Some(list) = layouts.list_at(parent)
            && self.services.lists.contains_key(parent)
        {
            match list.layout.is_entry(path.name()) {
                true => {
                    let full = |stamp: Stamp| self.full_stamp(path, list.layout, stamp);
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
        let Some(list) = layouts.list_at(path.as_str()) else { return };
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

    /// Returns how an entry stands, and the zxid of the newest change of what it is beside what it says itself: of how it
    /// stands, or of how its layout is read.
    pub fn seen(&self, path: &ZnodePath, layout: LayoutKind<'_>, czxid: Zxid) -> (Health, Zxid) {
        let (health, since) = self.health(path, czxid);
        (health, since.max(self.layouts().read_since(layout)))
    }

    /// Returns the stamp of an entry with what else is known of it: the latest of the changes counts.
    fn full_stamp(
        &self,
        path: &ZnodePath,
        layout: LayoutKind<'_>,
        (created, modified): Stamp,
    ) -> Stamp {
        (created, modified.max(self.seen(path, layout, created).1))
    }

    /// Finds all lists, from the znodes alone: for a tree that was loaded, and to check the one that was kept in step. Cost:
    /// O(znodes below the roots of layouts).
    pub fn found_services(&self) -> Services {
        let mut found = Services::default();
        let roots = registry::ROOTS.map(str::to_owned).into_iter();
        for root in roots.chain(self.layouts().custom_roots()) {
            for (path, znode) in self.descendants(&root) {
                if let Some(list) = self.layouts().list_at(path.as_str()) {
                    found.enter(path, &list, self.found_state(list.layout, znode));
                }
            }
        }
        found
    }

    /// Brings the lists in step with layouts that were others before. Cost: O(znodes below the roots of both).
    pub(super) fn follow_layouts(&mut self, before: &Layouts) {
        let roots: BTreeSet<String> =
            before.custom_roots().chain(self.layouts().custom_roots()).collect();
        let namespaces = self.get("/ns").into_iter().flat_map(|all| all.children());
        let namespaces = namespaces.map(ZnodePath::as_str);
        let mut services = self.services.clone();
        for below in [""].into_iter().chain(namespaces) {
            for root in &roots {
                for (path, znode) in self.descendants(&format!("{below}{root}")) {
                    if let Some(list) = before.list_at(path.as_str()) {
                        services.leave(path, &list);
                    }
                    if let Some(list) = self.layouts().list_at(path.as_str()) {
                        services.enter(path, &list, self.found_state(list.layout, znode));
                    }
                }
            }
        }
        self.services = services;
    }

    fn found_state(&self, layout: LayoutKind<'_>, znode: &Znode) -> ListState {
        let mut state = ListState { revision: znode.pzxid, ..ListState::default() };
        for path in znode.children().filter(|path| layout.is_entry(path.name())) {
            if let Some(entry) = self.get(path.as_str()) {
                let stamp = self.full_stamp(path, layout, entry.stamp());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many of these paths are held by more than before, and by how many each is now.
    fn copied(paths: &[ZnodePath], before: &mut Vec<usize>) -> usize {
        let now: Vec<usize> = paths.iter().map(ZnodePath::shares).collect();
        let changed = now.iter().zip(before.iter()).filter(|(now, before)| now != before).count();
        *before = now;
        changed
    }

    #[test]
    fn a_list_more_or_less_of_a_service_that_has_many_copies_a_few_of_them() {
        const MANY: usize = 4_000;
        // A published state keeps what was, so nothing is changed in its place.
        let place = |n: usize| ZnodePath::parse(&format!("/motan/group-{n}/web/server")).unwrap();
        let paths: Vec<ZnodePath> = (0..MANY).map(place).collect();
        let (layouts, mut services) = (Layouts::default(), Services::default());
        for path in &paths {
            services.enter(path, &layouts.list_at(path.as_str()).unwrap(), ListState::default());
        }
        assert_eq!(services.lists("", "web").len(), MANY);
        let published = services.clone();
        let mut shares = Vec::new();
        copied(&paths, &mut shares);
        let more = place(MANY);
        services.enter(&more, &layouts.list_at(more.as_str()).unwrap(), ListState::default());
        let by_more = copied(&paths, &mut shares);
        services.leave(&paths[7], &layouts.list_at(paths[7].as_str()).unwrap());
        let by_less = copied(&paths, &mut shares);
        assert!(by_more < MANY / 10 && by_less < MANY / 10, "{by_more} and {by_less}");
        let left = services.lists("", "web").iter().filter(|path| **path != more);
        assert!(left.eq(published.lists("", "web").iter().filter(|path| **path != paths[7])));
    }
}
