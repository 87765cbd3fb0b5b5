use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Bounds;
use super::notice::{NoticeKind, WATCH_MODES, WatchMode, WatchesFull, Whose};
use crate::types::{Event, EventKind, ZnodePath};

/// Names a connection that watches, while it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(u32);

/// Bits of a packed word that hold the mode.
const MODE_BITS: u32 = 2;
/// The greatest watcher and the greatest slot, so that either fits into a word with a mode.
const INDEX_MAX: u32 = u32::MAX >> MODE_BITS;

/// The watches of all connections of a node that follow ZooKeeper's rules: most of them fire once. A watch costs
/// 4 bytes at its path and about 8 at its connection, whatever the length of the path.
///
/// Two parts have to agree, and only `link` and `unlink` change them: a path's audience, which is a sorted list
/// of (watcher, mode), and a watcher's keys, which are a set of (path, mode). A path without audience has no slot.
pub struct Watches {
    watches_max: usize,
    watches_per_line_max: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_path: HashMap<ZnodePath, u32>,
    watchers: BTreeMap<WatcherId, HashSet<u32>>,
    latest: u32,
    watches: usize,
    recursive: usize,
    /// Reused while an event looks for those who have to hear of it.
    told: Vec<WatcherId>,
    told_before: Vec<WatcherId>,
}

struct Slot {
    path: ZnodePath,
    /// Watcher and mode packed into one word each, ascending.
    audience: Vec<u32>,
}

fn pack(index: u32, mode: WatchMode) -> u32 {
    index << MODE_BITS | mode as u32
}

fn unpack(word: u32) -> (u32, WatchMode) {
    (word >> MODE_BITS, WATCH_MODES[(word & (WATCH_MODES.len() as u32 - 1)) as usize])
}

impl Watches {
    /// Returns a table without connections.
    pub fn new(bounds: Bounds) -> Watches {
        let Bounds { watches_max, watches_per_line_max, .. } = bounds;
        Watches {
            watches_max,
            watches_per_line_max,
            slots: Vec::new(),
            free: Vec::new(),
            by_path: HashMap::new(),
            watchers: BTreeMap::new(),
            latest: 0,
            watches: 0,
            recursive: 0,
            told: Vec::new(),
            told_before: Vec::new(),
        }
    }

    /// Enters a connection, without watches. `None` when there are 2^30 already.
    pub fn enter(&mut self) -> Option<WatcherId> {
        if self.watchers.len() >= INDEX_MAX as usize {
            return None;
        }
        // Ids come round after 2^30 connections; those still in use are passed over.
        loop {
            self.latest = if self.latest >= INDEX_MAX { 1 } else { self.latest + 1 };
            let id = WatcherId(self.latest);
            if let std::collections::btree_map::Entry::Vacant(place) = self.watchers.entry(id) {
                place.insert(HashSet::new());
                return Some(id);
            }
        }
    }

    /// Removes at most `max` watches of a connection that is gone. Returns whether that was all, and then forgets
    /// the connection. Cost: O(max · log audience), and the length of the audiences moved in memory.
    pub fn leave(&mut self, id: WatcherId, max: usize) -> bool {
        let Some(keys) = self.watchers.get(&id) else { return true };
        let some: Vec<u32> = keys.iter().take(max).copied().collect();
        for key in &some {
            let (slot, mode) = unpack(*key);
            self.unlink(id, slot, mode);
        }
        let is_all = self.watchers.get(&id).is_none_or(HashSet::is_empty);
        if is_all {
            self.watchers.remove(&id);
        }
        is_all
    }

    /// Sets a watch; nothing happens when it is set already, or there is no such connection. Error: the node or
    /// the connection has as many as it may.
    pub fn add(
        &mut self,
        id: WatcherId,
        path: &ZnodePath,
        mode: WatchMode,
    ) -> Result<(), WatchesFull> {
        let Some(own) = self.watchers.get(&id).map(HashSet::len) else { return Ok(()) };
        if self.has(id, path.as_str(), mode) {
            return Ok(());
        }
        if self.watches >= self.watches_max || own >= self.watches_per_line_max {
            return Err(WatchesFull);
        }
        let slot = self.slot(path);
        self.link(id, slot, mode);
        Ok(())
    }

    /// Takes a watch back. Returns whether it was set.
    pub fn remove(&mut self, id: WatcherId, path: &str, mode: WatchMode) -> bool {
        match self.by_path.get(path) {
            Some(slot) => self.unlink(id, *slot, mode),
            None => false,
        }
    }

    /// Returns whether a watch is set.
    pub fn has(&self, id: WatcherId, path: &str, mode: WatchMode) -> bool {
        let Some(slot) = self.by_path.get(path) else { return false };
        self.watchers.get(&id).is_some_and(|keys| keys.contains(&pack(*slot, mode)))
    }

    /// Fires the watches that an event concerns: tells of each connection what it has to hear, in order, one thing
    /// per table at most. Those that fire once are gone then. Cost: O(depth + audience). Source: ZooKeeper
    /// `DataTree.createNode`, `deleteNode`, `setData` and `WatchManager.triggerWatch` of 3.9.
    pub fn fire(
        &mut self,
        event: &Event,
        mut tell: impl FnMut(WatcherId, NoticeKind, &ZnodePath, Whose),
    ) {
        let path = &event.path;
        self.told_before.clear();
        match event.kind {
            EventKind::DataChanged => {
                self.fire_data(path);
                self.pass_on(NoticeKind::DataChanged, path, Whose::Own, &mut tell);
                return;
            }
            EventKind::Created => {
                self.fire_data(path);
                self.pass_on(NoticeKind::Created, path, Whose::Own, &mut tell);
            }
            EventKind::Deleted => {
                self.fire_data(path);
                self.pass_on(NoticeKind::Deleted, path, Whose::Own, &mut tell);
                std::mem::swap(&mut self.told, &mut self.told_before);
                self.fire_child(path.as_str());
                self.pass_on(NoticeKind::Deleted, path, Whose::Own, &mut tell);
                self.told_before.clear();
            }
        }
        let Some(parent) = path.parent_str() else { return };
        let Some(slot) = self.by_path.get(parent) else { return };
        let parent = self.slots[*slot as usize].path.clone();
        self.fire_child(parent.as_str());
        self.pass_on(NoticeKind::ChildrenChanged, &parent, Whose::Parents, &mut tell);
    }

    /// Tells those who were found, but not those who were told of the same event before.
    fn pass_on(
        &mut self,
        kind: NoticeKind,
        path: &ZnodePath,
        whose: Whose,
        tell: &mut impl FnMut(WatcherId, NoticeKind, &ZnodePath, Whose),
    ) {
        for id in &self.told {
            if self.told_before.binary_search(id).is_err() {
                tell(*id, kind, path, whose);
            }
        }
    }

    /// Finds those who watch a znode's data, and takes the watches that fire once.
    fn fire_data(&mut self, path: &ZnodePath) {
        self.collect(path.as_str(), |mode| mode != WatchMode::Child, WatchMode::Data);
        if self.recursive == 0 {
            return;
        }
        for ancestor in path.self_and_ancestors().skip(1) {
            let Some(slot) = self.by_path.get(ancestor) else { continue };
            let words = self.slots[*slot as usize].audience.iter().map(|word| unpack(*word));
            let recursive = words.filter(|(_, mode)| *mode == WatchMode::Recursive);
            self.told.extend(recursive.map(|(id, _)| WatcherId(id)));
        }
        self.told.sort_unstable();
        self.told.dedup();
    }

    /// Finds those who watch a znode's children, and takes the watches that fire once.
    fn fire_child(&mut self, path: &str) {
        let wanted = |mode| matches!(mode, WatchMode::Child | WatchMode::Persistent);
        self.collect(path, wanted, WatchMode::Child);
    }

    /// Leaves in `told` who watches this path in a wanted mode, ascending, and unlinks the mode that fires once.
    fn collect(&mut self, path: &str, wanted: impl Fn(WatchMode) -> bool, once: WatchMode) {
        self.told.clear();
        let Some(slot) = self.by_path.get(path).copied() else { return };
        let Slot { audience, .. } = &mut self.slots[slot as usize];
        let (told, watchers, watches) = (&mut self.told, &mut self.watchers, &mut self.watches);
        audience.retain(|word| {
            let (index, mode) = unpack(*word);
            let id = WatcherId(index);
            if wanted(mode) && told.last() != Some(&id) {
                told.push(id);
            }
            let stays = mode != once;
            if !stays {
                *watches -= 1;
                if let Some(keys) = watchers.get_mut(&id) {
                    keys.remove(&pack(slot, mode));
                    shrink(keys);
                }
            }
            stays
        });
        self.release_if_empty(slot);
    }

    fn slot(&mut self, path: &ZnodePath) -> u32 {
        if let Some(slot) = self.by_path.get(path) {
            return *slot;
        }
        let fresh = Slot { path: path.clone(), audience: Vec::new() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = fresh;
                slot
            }
            None => {
                self.slots.push(fresh);
                self.slots.len() as u32 - 1
            }
        };
        self.by_path.insert(path.clone(), slot);
        slot
    }

    fn link(&mut self, id: WatcherId, slot: u32, mode: WatchMode) {
        let Some(keys) = self.watchers.get_mut(&id) else { return };
        keys.insert(pack(slot, mode));
        let audience = &mut self.slots[slot as usize].audience;
        let word = pack(id.0, mode);
        if let Err(at) = audience.binary_search(&word) {
            audience.insert(at, word);
        }
        self.watches += 1;
        self.recursive += usize::from(mode == WatchMode::Recursive);
    }

    fn unlink(&mut self, id: WatcherId, slot: u32, mode: WatchMode) -> bool {
        let keys = self.watchers.get_mut(&id);
        if !keys.is_some_and(|keys| keys.remove(&pack(slot, mode))) {
            return false;
        }
        let audience = &mut self.slots[slot as usize].audience;
        if let Ok(at) = audience.binary_search(&pack(id.0, mode)) {
            audience.remove(at);
        }
        self.watches -= 1;
        self.recursive -= usize::from(mode == WatchMode::Recursive);
        self.release_if_empty(slot);
        true
    }

    fn release_if_empty(&mut self, slot: u32) {
        let Slot { path, audience } = &mut self.slots[slot as usize];
        if audience.is_empty() {
            *audience = Vec::new();
            let path = std::mem::replace(path, ZnodePath::root());
            self.by_path.remove(&path);
            self.free.push(slot);
        }
    }

    /// Returns the number of watches.
    pub fn len(&self) -> usize {
        self.watches
    }

    /// Returns whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.watches == 0
    }

    /// Returns the number of watched paths.
    pub fn paths(&self) -> usize {
        self.by_path.len()
    }

    /// Returns the number of connections that watch something. Cost: O(connections).
    pub fn watching(&self) -> usize {
        self.watchers.values().filter(|keys| !keys.is_empty()).count()
    }

    /// Returns the number of connections that watch a path that is wanted. Cost: O(paths + the audiences of those).
    pub fn watching_any(&self, is_wanted: impl Fn(&str) -> bool) -> usize {
        let slots = self.by_path.iter().filter(|(path, _)| is_wanted(path.as_str()));
        let words = slots.flat_map(|(_, slot)| &self.slots[*slot as usize].audience);
        words.map(|word| unpack(*word).0).collect::<HashSet<u32>>().len()
    }

    /// Returns the number of watches of one connection.
    pub fn of(&self, id: WatcherId) -> usize {
        self.watchers.get(&id).map_or(0, HashSet::len)
    }

    /// Returns the connections that would hear of another child of a znode, each once and in order. Cost: O(depth + watches of
    /// the path and its ancestors).
    pub fn following(&self, path: &str) -> BTreeSet<WatcherId> {
        let mut found = BTreeSet::new();
        let mut at = path;
        loop {
            let slot = self.by_path.get(at).map(|slot| &self.slots[*slot as usize]);
            let words = slot.into_iter().flat_map(|slot| slot.audience.iter());
            found.extend(words.filter_map(|word| {
                let (index, mode) = unpack(*word);
                let hears = match mode {
                    WatchMode::Recursive => true,
                    WatchMode::Child | WatchMode::Persistent => at == path,
                    WatchMode::Data => false,
                };
                hears.then_some(WatcherId(index))
            }));
            match at.rsplit_once('/') {
                Some(("", "")) | None => return found,
                Some(("", _)) => at = "/",
                Some((parent, _)) => at = parent,
            }
        }
    }

    /// Returns the watched paths of one connection in order, each once. Cost: O(watches of it · log).
    pub fn paths_of(&self, id: WatcherId) -> Vec<&ZnodePath> {
        let keys = self.watchers.get(&id).into_iter().flatten();
        let mut paths: Vec<_> = keys.map(|key| &self.slots[unpack(*key).0 as usize].path).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

/// Gives back most of what a connection's set of keys has grown to, once nearly all of them have fired.
fn shrink(keys: &mut HashSet<u32>) {
    if keys.capacity() > 64 && keys.len() * 8 < keys.capacity() {
        keys.shrink_to(keys.len() * 2);
    }
}
