//! The same list with replication that converges: the newest stamp of each instance wins, and removal is a record too.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::record::{Change, Instance, Key};

/// How long a removal is remembered, ms. A node that was away for longer might bring back what was removed meanwhile;
/// it would not be seen, for its lease has run out.
const TOMBSTONE_MS: u64 = 10 * 60 * 1_000;
/// A stamp further in the future than this is refused: one wrong clock must not win for ever.
const AHEAD_MS_MAX: u64 = 60 * 1_000;

/// A moment of a hybrid logical clock: wall time that never goes back, a count within it, and who it was. Unique, and
/// ordered as cause and effect are.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(super) struct Stamp {
    wall_ms: u64,
    count: u32,
    node: u8,
}

/// A change with its stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) stamp: Stamp,
    pub(super) change: Change,
}

/// The stamps of all records of a node.
pub(super) type Summary = Vec<(Key, Stamp)>;

/// What two nodes have to exchange to be the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Difference {
    /// What the other lacks.
    pub(super) give: Vec<Record>,
    /// What is newer there.
    pub(super) want: Vec<Key>,
}

/// One node's copy of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Careful {
    node: u8,
    clock: Stamp,
    records: BTreeMap<Key, (Stamp, Option<Instance>)>,
}

impl Careful {
    pub(super) fn new(node: u8) -> Careful {
        Careful { node, clock: Stamp::default(), records: BTreeMap::new() }
    }

    /// Yields what is there, without what was removed.
    pub(super) fn list(&self) -> impl Iterator<Item = (&Key, &Instance)> {
        self.records.iter().filter_map(|(key, (_, instance))| Some((key, instance.as_ref()?)))
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Instance> {
        self.records.get(key).and_then(|(_, instance)| instance.as_ref())
    }

    /// Makes a change at this node, and returns the record that tells the others.
    pub(super) fn publish(&mut self, change: Change, wall_ms: u64) -> Record {
        let Stamp { wall_ms: last_ms, count, .. } = self.clock;
        self.clock = match wall_ms > last_ms {
            true => Stamp { wall_ms, count: 0, node: self.node },
            false => Stamp { wall_ms: last_ms, count: count + 1, node: self.node },
        };
        let record = Record { stamp: self.clock, change };
        self.merge(record.clone(), wall_ms);
        record
    }

    /// Takes a record of any node, in any order and any number of times. Returns whether it was news.
    pub(super) fn merge(&mut self, record: Record, wall_ms: u64) -> bool {
        let Record { stamp, change: Change { key, instance } } = record;
        if stamp.wall_ms > wall_ms.saturating_add(AHEAD_MS_MAX) {
            return false;
        }
        if mutant!(M39, self.clock > stamp, false) {
            return false;
        }
        self.clock = self.clock.max(Stamp { node: self.node, ..stamp });
        if self.records.get(&key).is_some_and(|(has, _)| *has >= stamp) {
            return false;
        }
        let forgets = mutant!(M40, instance.is_none(), false);
        match forgets {
            true => drop(self.records.remove(&key)),
            false => drop(self.records.insert(key, (stamp, instance))),
        }
        true
    }

    /// Returns a hash of all keys and stamps: equal on nodes that hold the same.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.records.iter().for_each(|(key, (stamp, _))| (key, stamp).hash(&mut hasher));
        hasher.finish()
    }

    /// Returns the stamps of all records.
    pub(super) fn summary(&self) -> Summary {
        self.records.iter().map(|(key, (stamp, _))| (key.clone(), *stamp)).collect()
    }

    /// Compares the summary of another node with what is here.
    pub(super) fn difference(&self, theirs: &Summary) -> Difference {
        let theirs: BTreeMap<&Key, Stamp> =
            theirs.iter().map(|(key, stamp)| (key, *stamp)).collect();
        let newer_here = self
            .records
            .iter()
            .filter(|(key, (stamp, _))| theirs.get(key).is_none_or(|theirs| theirs < stamp));
        let is_newer_there =
            |key: &Key, stamp: &Stamp| self.records.get(key).is_none_or(|(has, _)| has < stamp);
        let want = theirs.iter().filter(|(key, stamp)| is_newer_there(key, stamp));
        Difference {
            give: newer_here.map(|(key, _)| self.record(key)).collect(),
            want: want.map(|(key, _)| (*key).clone()).collect(),
        }
    }

    /// Returns the records of these keys, as far as they are there.
    pub(super) fn records(&self, keys: &[Key]) -> Vec<Record> {
        keys.iter()
            .filter(|key| self.records.contains_key(key))
            .map(|key| self.record(key))
            .collect()
    }

    fn record(&self, key: &Key) -> Record {
        let (stamp, instance) = self.records[key].clone();
        Record { stamp, change: Change { key: key.clone(), instance } }
    }

    /// Forgets removals, and instances that nobody shows any more, when they are old.
    pub(super) fn collect(&mut self, wall_ms: u64, is_shown: impl Fn(&Instance) -> bool) {
        self.records.retain(|_, (stamp, instance)| {
            let is_old = stamp.wall_ms.saturating_add(TOMBSTONE_MS) < wall_ms;
            !is_old || instance.as_ref().is_some_and(&is_shown)
        });
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::{IndexedRandom, SliceRandom};
    use rand::{Rng, SeedableRng};

    use super::super::replica::tests::change;
    use super::{AHEAD_MS_MAX, Careful, Record, TOMBSTONE_MS};

    fn ids(node: &Careful) -> Vec<String> {
        node.list().map(|((_, id), _)| id.clone()).collect()
    }

    /// One round of anti-entropy, as the bus does it.
    fn exchange(a: &mut Careful, b: &mut Careful, wall_ms: u64) {
        if a.digest() == b.digest() {
            return;
        }
        let difference = a.difference(&b.summary());
        let wanted = b.records(&difference.want);
        for record in difference.give {
            b.merge(record, wall_ms);
        }
        for record in wanted {
            a.merge(record, wall_ms);
        }
    }

    #[test]
    fn a_removal_wins_over_what_was_before_it_in_any_order() {
        let (mut a, mut b) = (Careful::new(1), Careful::new(2));
        let there = a.publish(change("1", true), 100);
        let gone = a.publish(change("1", false), 90);
        assert!(gone.stamp > there.stamp, "the clock does not go back with the wall");
        assert!(b.merge(gone, 100) && !b.merge(there, 100));
        assert!(ids(&b).is_empty() && a.digest() == b.digest());
    }

    #[test]
    fn what_both_sides_of_a_partition_took_is_on_both_sides_afterwards() {
        let (mut a, mut b) = (Careful::new(1), Careful::new(2));
        a.publish(change("1", true), 100);
        b.publish(change("2", true), 100);
        a.publish(change("3", true), 100);
        exchange(&mut a, &mut b, 101);
        assert_eq!(ids(&a), ["1", "2", "3"]);
        assert_eq!(ids(&b), ids(&a));
    }

    #[test]
    fn a_stamp_from_the_far_future_is_refused() {
        let (mut a, mut b) = (Careful::new(1), Careful::new(2));
        let record = a.publish(change("1", true), 100 + AHEAD_MS_MAX + 1);
        assert!(!b.merge(record.clone(), 100));
        assert!(b.merge(record, 101));
    }

    #[test]
    fn removals_are_forgotten_when_they_are_old_and_instances_only_when_nobody_shows_them() {
        let mut a = Careful::new(1);
        a.publish(change("1", true), 100);
        a.publish(change("2", true), 100);
        a.publish(change("2", false), 100);
        a.collect(100 + TOMBSTONE_MS, |_| false);
        assert_eq!(a.summary().len(), 2);
        a.collect(101 + TOMBSTONE_MS, |_| true);
        assert_eq!(a.summary().len(), 1);
        a.collect(101 + TOMBSTONE_MS, |_| false);
        assert!(a.summary().is_empty());
    }

    #[test]
    fn nodes_converge_whatever_is_lost_repeated_and_reordered() {
        let mut random = StdRng::seed_from_u64(5);
        for round in 0..300 {
            let mut nodes: Vec<Careful> = (1..=3).map(Careful::new).collect();
            let mut under_way: Vec<Record> = Vec::new();
            let mut wall_ms = 1_000;
            for _ in 0..random.random_range(5..60) {
                // Each node's wall clock is a little wrong.
                wall_ms += random.random_range(0..3);
                let at = random.random_range(0..3);
                match random.random_range(0..5) {
                    0 | 1 => {
                        let id = random.random_range(0..6).to_string();
                        let change = change(&id, random.random_bool(0.6));
                        let skewed = wall_ms + at as u64 * 7;
                        under_way.push(nodes[at].publish(change, skewed));
                    }
                    2 | 3 => {
                        under_way.shuffle(&mut random);
                        if let Some(record) = under_way.choose(&mut random).cloned() {
                            nodes[at].merge(record, wall_ms);
                        }
                    }
                    _ => under_way.truncate(random.random_range(0..4)),
                }
            }
            for (a, b) in [(0, 1), (1, 2), (0, 1)] {
                let mut other = nodes[b].clone();
                exchange(&mut nodes[a], &mut other, wall_ms);
                nodes[b] = other;
            }
            let lists: Vec<_> = nodes.iter().map(|node| node.list().collect::<Vec<_>>()).collect();
            assert!(lists[0] == lists[1] && lists[1] == lists[2], "round {round}: {nodes:?}");
            let digests: Vec<u64> = nodes.iter().map(Careful::digest).collect();
            assert!(digests.iter().all(|digest| *digest == digests[0]));
        }
    }
}
