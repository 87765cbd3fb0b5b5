use std::collections::BTreeMap;

use super::disk::SERIES;
use crate::limits::STORE_VALUE_BYTES_MAX;

/// Changes of a leaf that sled keeps beside it; with the next it writes the whole leaf again.
/// Source: sled `PAGE_CONSOLIDATION_THRESHOLD`.
const CHANGES_KEPT: usize = 9;
/// A tree with less in it takes more changes all the same: writing it again costs less than a new tree.
const TREE_BYTES_MIN: usize = 2 * STORE_VALUE_BYTES_MAX;

type Found = Option<(sled::IVec, sled::IVec)>;

/// The series of a store, in trees by ranges of keys: each tree has the keys from its name up to the name of the next.
/// A tree takes as many changes as fit beside its one leaf, so that sled writes what is appended once. What is no longer
/// needed goes by whole trees, without a change of any leaf.
pub(super) struct Series {
    trees: BTreeMap<Vec<u8>, sled::Tree>,
    /// The greatest key that there may be.
    last: Option<Vec<u8>>,
    /// What the newest tree has taken: changes and bytes. One from an earlier run counts as full.
    taken: (usize, usize),
    /// Trees that were opened since the last trim.
    opened: usize,
}

impl Series {
    /// Opens the trees of this store. The last ones are dropped if they have no key, because it was lost in a crash or
    /// removed: so whatever is above all keys is above the names of all trees too. Reads the last tree.
    pub(super) fn open(db: &sled::Db) -> sled::Result<Series> {
        let mut trees = BTreeMap::new();
        for name in db.tree_names().into_iter().filter(|name| name.first() == Some(&SERIES)) {
            trees.insert(name.to_vec(), db.open_tree(&name)?);
        }
        let mut last = None;
        while let Some(newest) = trees.last_entry()
            && last.is_none()
        {
            last = newest.get().last()?.map(|(key, _)| key.to_vec());
            if last.is_none() {
                db.drop_tree(newest.remove_entry().0)?;
            }
        }
        Ok(Series { trees, last, taken: (usize::MAX, usize::MAX), opened: 0 })
    }

    /// Returns the tree, and its name, into which a change of this key goes that has so many bytes.
    pub(super) fn place(
        &mut self,
        db: &sled::Db,
        key: &[u8],
        bytes: usize,
    ) -> sled::Result<(Vec<u8>, sled::Tree)> {
        let is_beyond = self.last.as_ref().is_none_or(|last| key > &last[..]);
        let (changes, taken) = self.taken;
        let is_full = changes >= CHANGES_KEPT && taken >= TREE_BYTES_MIN;
        if self.covering(key).is_none() || (is_beyond && is_full) {
            self.trees.insert(key.to_vec(), db.open_tree(key)?);
            self.taken = (0, 0);
            self.opened += 1;
        }
        if is_beyond {
            self.last = Some(key.to_vec());
            self.taken.0 = self.taken.0.saturating_add(1);
            self.taken.1 = self.taken.1.saturating_add(bytes);
        }
        let (name, tree) = self.covering(key).expect("opened where there was none");
        Ok((name.clone(), tree.clone()))
    }

    /// Returns the tree, and its name, in whose range this key is.
    pub(super) fn covering(&self, key: &[u8]) -> Option<(&Vec<u8>, &sled::Tree)> {
        self.trees.range(..=key.to_vec()).next_back()
    }

    /// Returns the pair with the greatest key that is not above `key`.
    pub(super) fn floor(&self, key: &[u8]) -> sled::Result<Found> {
        for (_, tree) in self.trees.range(..=key.to_vec()).rev() {
            if let Some(found) = tree.range(..=key).next_back().transpose()? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns the trees in the order of their keys.
    pub(super) fn trees(&self) -> Vec<sled::Tree> {
        self.trees.values().cloned().collect()
    }

    /// Drops trees whose whole range is below this key: one more than were opened since the last time, so that they
    /// become fewer. Returns whether there were any.
    pub(super) fn trim(&mut self, db: &sled::Db, below: &[u8]) -> sled::Result<bool> {
        let budget = std::mem::take(&mut self.opened) + 1;
        let ends = self.trees.keys().skip(1).take(budget);
        let count = ends.take_while(|end| &end[..] <= below).count();
        for _ in 0..count {
            let (name, _) = self.trees.pop_first().expect("counted");
            db.drop_tree(name)?;
        }
        Ok(count > 0)
    }
}
