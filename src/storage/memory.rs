use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::disk::{Change, Disk, Pair, SERIES};
use crate::limits::STORE_VALUE_BYTES_MAX;

/// A [`Disk`] in memory that can crash: what was not made durable is then gone. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    maps: Arc<Mutex<Maps>>,
}

#[derive(Default)]
struct Maps {
    /// What readers see.
    live: BTreeMap<Vec<u8>, Bytes>,
    /// What a crash leaves.
    synced: BTreeMap<Vec<u8>, Bytes>,
    /// The batches that lead from `synced` to `live`.
    lazy: Vec<Vec<Change>>,
}

impl MemoryDisk {
    /// Returns an empty disk.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// Cuts the power: of the lazily committed batches that nothing has made durable yet, the first `kept` survive
    /// (a real disk may have written any number of them), the others are gone.
    pub fn crash(&self, kept: usize) {
        let maps = &mut *self.maps.lock();
        for batch in maps.lazy.drain(..).take(kept) {
            apply(&mut maps.synced, batch);
        }
        maps.live = maps.synced.clone();
    }
}

fn apply(map: &mut BTreeMap<Vec<u8>, Bytes>, batch: Vec<Change>) {
    for (key, value) in batch {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

impl Disk for MemoryDisk {
    fn name(&self) -> &str {
        "memory"
    }

    fn commit(&self, batch: Vec<Change>) -> io::Result<()> {
        self.commit_lazily(batch)?;
        let maps = &mut *self.maps.lock();
        for batch in maps.lazy.drain(..) {
            apply(&mut maps.synced, batch);
        }
        Ok(())
    }

    fn commit_lazily(&self, batch: Vec<Change>) -> io::Result<()> {
        for (key, value) in &batch {
            let len = value.as_ref().map_or(0, Bytes::len);
            assert!(len <= STORE_VALUE_BYTES_MAX, "value of {key:?} has {len} bytes");
            assert!(!key.is_empty(), "the empty key is reserved");
        }
        let maps = &mut *self.maps.lock();
        apply(&mut maps.live, batch.clone());
        maps.lazy.push(batch);
        Ok(())
    }

    fn trim(&self, below: &[u8]) -> io::Result<bool> {
        let maps = &mut *self.maps.lock();
        let from = vec![SERIES];
        let mut series = maps.live.range(from.clone()..below.to_vec().max(from));
        let Some(key) = series.next().map(|(key, _)| key.clone()) else { return Ok(false) };
        maps.live.remove(&key);
        // Not before the batch that gave it up.
        match maps.lazy.last_mut() {
            Some(batch) => batch.push((key, None)),
            None => drop(maps.synced.remove(&key)),
        }
        Ok(true)
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        Ok(self.maps.lock().live.get(key).cloned())
    }

    fn floor(&self, key: &[u8]) -> io::Result<Option<Pair>> {
        let maps = self.maps.lock();
        let pair = maps.live.range(..=key.to_vec()).next_back();
        Ok(pair.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn scan(&self) -> Box<dyn Iterator<Item = io::Result<Pair>> + '_> {
        let pairs = self.maps.lock().live.clone();
        Box::new(pairs.into_iter().map(Ok))
    }
}

/// The disks of snapshot generations, in memory: what [`SnapshotStore`](super::SnapshotStore) has in place of a
/// directory. Clones are the same disks, so that they outlive the node that a simulation crashes.
#[derive(Clone, Default)]
pub struct MemoryDisks {
    disks: Arc<Mutex<BTreeMap<u64, MemoryDisk>>>,
}

impl MemoryDisks {
    /// Returns an empty set.
    pub fn new() -> MemoryDisks {
        MemoryDisks::default()
    }

    /// Cuts the power of all of them, see [`MemoryDisk::crash`].
    pub fn crash(&self, kept: usize) {
        for disk in self.disks.lock().values() {
            disk.crash(kept);
        }
    }

    /// Returns the generations that have a disk, in order.
    pub fn generations(&self) -> Vec<u64> {
        self.disks.lock().keys().copied().collect()
    }

    /// Returns the disk of a generation, a new one if there is none.
    pub(super) fn open(&self, generation: u64) -> MemoryDisk {
        self.disks.lock().entry(generation).or_default().clone()
    }

    pub(super) fn remove(&self, generation: u64) {
        self.disks.lock().remove(&generation);
    }
}
