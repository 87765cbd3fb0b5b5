//! A store on sled, whose series lies in many trees, against one map.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Change, Disk};
use super::open_sled;

#[derive(Clone, Debug)]
enum Step {
    /// Keys above all others, with values of so many KiB.
    Append(Vec<usize>),
    /// Removes keys from the end, and perhaps writes a lower one again.
    Truncate {
        keys: usize,
        again: bool,
    },
    /// Changes a key that is there, and a record with it.
    Change(prop::sample::Index),
    /// Gives up keys from the front.
    Trim(usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(prop_oneof![Just(0usize), Just(20), Just(48)], 1..12)
            .prop_map(Step::Append),
        2 => (1..30usize, any::<bool>()).prop_map(|(keys, again)| Step::Truncate { keys, again }),
        1 => any::<prop::sample::Index>().prop_map(Step::Change),
        2 => (1..30usize).prop_map(Step::Trim),
        1 => Just(Step::Reopen),
    ]
}

fn key(number: u64) -> Vec<u8> {
    [&[1][..], &number.to_be_bytes()].concat()
}

fn value(number: u64, kib: usize) -> Bytes {
    number.to_le_bytes().repeat(1 + kib * 127).into()
}

/// What is in the store, and from which key on it must be.
#[derive(Default)]
struct Model {
    map: BTreeMap<Vec<u8>, Bytes>,
    floor: Vec<u8>,
    next: u64,
}

impl Model {
    /// Does a step here and returns its changes.
    fn step(&mut self, step: &Step) -> Vec<Change> {
        let mut changes = Vec::new();
        match step {
            Step::Append(sizes) => {
                for kib in sizes {
                    changes.push((key(self.next), Some(value(self.next, *kib))));
                    self.next += 1;
                }
            }
            Step::Truncate { keys, again } => {
                let from = self.next.saturating_sub(*keys as u64);
                changes.extend(self.map.range(key(from)..).map(|(key, _)| (key.clone(), None)));
                if key(from) >= self.floor {
                    self.next = from;
                }
                if *again {
                    changes.push((key(self.next), Some(value(!self.next, 20))));
                    self.next += 1;
                }
            }
            Step::Change(index) if !self.map.is_empty() => {
                let at = index.index(self.map.len());
                let changed = self.map.keys().nth(at).unwrap().clone();
                changes.push((changed, Some(value(at as u64, 1))));
                changes.push((vec![0, b'r'], Some(value(at as u64, 0))));
            }
            Step::Trim(keys) => {
                let nth = self.map.range(self.floor.clone()..).nth(*keys);
                self.floor = nth.map_or(self.floor.clone(), |(key, _)| key.clone());
            }
            Step::Change(_) | Step::Reopen => {}
        }
        for (key, value) in &changes {
            match value {
                Some(value) => self.map.insert(key.clone(), value.clone()),
                None => self.map.remove(key),
            };
        }
        changes
    }

    /// Fails when the store differs from this above the floor, or has what was never there below it.
    fn check(&self, disk: &dyn Disk) {
        let found: Vec<_> = disk.scan().map(Result::unwrap).collect();
        assert!(found.is_sorted_by(|a, b| a.0 < b.0), "the keys are in order, each once");
        let above = |pairs: Vec<(Vec<u8>, Bytes)>| -> Vec<_> {
            pairs.into_iter().filter(|(key, _)| key[0] == 0 || *key >= self.floor).collect()
        };
        let expected: Vec<_> = self.map.clone().into_iter().collect();
        assert!(found.iter().all(|pair| expected.contains(pair)));
        assert_eq!(above(found), above(expected));
        for number in 0..=self.next {
            let key = key(number);
            if key >= self.floor {
                assert_eq!(disk.get(&key).unwrap(), self.map.get(&key).cloned());
                let floor = self.map.range(self.floor.clone()..=key.clone()).next_back();
                if let Some((floor, value)) = floor {
                    assert_eq!(disk.floor(&key).unwrap(), Some((floor.clone(), value.clone())));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_series_reads_as_one_map_in_however_many_trees_it_lies(
        steps in prop::collection::vec(step(), 1..30)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, mut model) = (open_sled(dir.path()), Model::default());
        for step in &steps {
            let changes = model.step(step);
            if matches!(step, Step::Reopen) {
                drop(disk);
                disk = open_sled(dir.path());
            } else if !changes.is_empty() {
                disk.commit(changes).unwrap();
            }
            while matches!(step, Step::Trim(_)) && disk.trim(&model.floor).unwrap() {}
        }
        model.check(&disk);
    }
}

#[test]
fn what_is_given_up_goes_but_for_what_shares_a_tree_with_what_stays() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open_sled(dir.path());
    for number in 0..200 {
        disk.commit(vec![(key(number), Some(value(number, 48)))]).unwrap();
    }
    while disk.trim(&key(150)).unwrap() {}
    let left = disk.scan().filter(|pair| pair.as_ref().unwrap().0 < key(150)).count();
    assert!(left < 20, "{left}");
    assert!(!disk.trim(&key(150)).unwrap());
    assert_eq!(disk.get(&key(150)).unwrap(), Some(value(150, 48)));
}

#[test]
fn a_tree_whose_first_key_a_crash_has_taken_hides_nothing_that_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open_sled(dir.path());
    disk.commit(vec![(key(1), Some(value(1, 48)))]).unwrap();
    drop(disk);
    let db = sled::Config::new().path(dir.path()).segment_size(4 << 20).open().unwrap();
    db.open_tree(key(5)).unwrap();
    drop(db);
    let disk = open_sled(dir.path());
    for number in 2..20 {
        disk.commit(vec![(key(number), Some(value(number, 48)))]).unwrap();
    }
    let found: Vec<_> = disk.scan().map(|pair| pair.unwrap().0).collect();
    assert_eq!(found, (1..20).map(key).collect::<Vec<_>>());
    (1..20).for_each(|n| assert_eq!(disk.get(&key(n)).unwrap(), Some(value(n, 48)), "{n}"));
}
