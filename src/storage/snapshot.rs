use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use parking_lot::Mutex;

use super::disk::{Change, Disk, SERIES};
use super::error::StoreError;
use super::memory::MemoryDisks;
use super::sled_disk::{SledDisk, sync_directory};
use crate::limits::{SNAPSHOT_BATCH_BYTES_MAX, STORE_VALUE_BYTES_MAX};

/// What sled may keep in memory of a snapshot, bytes: it is written once and read in order.
const CACHE_BYTES: u64 = 8 << 20;

/// A value is: crc32 of the rest, whether the piece ends here, compressed bytes.
const HEADER_BYTES: usize = 4 + 1;
const FRAGMENT_BYTES_MAX: usize = STORE_VALUE_BYTES_MAX - HEADER_BYTES;

/// Names a finished snapshot. The caller stores it with [`Write::Snapshot`](super::Write::Snapshot): only then does the
/// snapshot exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPointer {
    /// Which one.
    pub generation: u64,
    /// Number of stored values.
    pub chunks: u64,
    /// Checksum over all of them.
    pub crc: u32,
    /// Whatever the caller wants to know about it. At most about 48 KiB.
    pub meta: Bytes,
}

/// Returns the key of a value, by its number.
fn key(number: u64) -> Vec<u8> {
    let mut key = vec![SERIES];
    key.put_u64(number);
    key
}

impl SnapshotPointer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + self.meta.len());
        bytes.put_u64_le(self.generation);
        bytes.put_u64_le(self.chunks);
        bytes.put_u32_le(self.crc);
        bytes.extend_from_slice(&self.meta);
        bytes
    }

    pub(super) fn decode(mut bytes: Bytes) -> Result<SnapshotPointer, String> {
        if bytes.len() < 20 {
            return Err("cut short".into());
        }
        Ok(SnapshotPointer {
            generation: bytes.get_u64_le(),
            chunks: bytes.get_u64_le(),
            crc: bytes.get_u32_le(),
            meta: bytes,
        })
    }
}

/// The snapshots of a node, each in a store of its own, told apart by generation: a later one has a greater number.
/// Clones are the same store.
#[derive(Clone)]
pub struct SnapshotStore {
    shelf: Arc<Shelf>,
}

struct Shelf {
    place: Place,
    /// The generations that are open: sled opens a directory only once.
    open: Mutex<BTreeMap<u64, Arc<dyn Disk>>>,
}

enum Place {
    Directory(PathBuf),
    Memory(MemoryDisks),
}

impl SnapshotStore {
    /// Opens the store in `dir`, creating it durably if need be, and removes every generation but `keep`: what the
    /// log's pointer does not name was never finished, or is out of date. Error: [`StoreError::Io`].
    pub fn open(dir: &Path, keep: Option<u64>) -> Result<SnapshotStore, StoreError> {
        let create = || -> io::Result<()> {
            fs::create_dir_all(dir)?;
            match dir.canonicalize()?.parent() {
                Some(parent) => sync_directory(parent),
                None => Ok(()),
            }
        };
        create().map_err(|err| StoreError::io(&dir.display().to_string(), err))?;
        SnapshotStore::new(Place::Directory(dir.to_path_buf()), keep)
    }

    /// The same in memory.
    pub fn in_memory(disks: MemoryDisks, keep: Option<u64>) -> Result<SnapshotStore, StoreError> {
        SnapshotStore::new(Place::Memory(disks), keep)
    }

    fn new(place: Place, keep: Option<u64>) -> Result<SnapshotStore, StoreError> {
        let shelf = Arc::new(Shelf { place, open: Mutex::default() });
        shelf
            .remove_all(|found| Some(found) != keep)
            .map_err(|err| StoreError::io(&shelf.name(), err))?;
        Ok(SnapshotStore { shelf })
    }

    /// Starts a new snapshot, in place of a leftover of the same generation. Error: `AlreadyExists` while that
    /// generation is being written or read, and the disk's.
    pub fn begin(&self, generation: u64) -> Result<SnapshotWriter, StoreError> {
        let fail = |err| StoreError::io(&self.shelf.name(), err);
        self.shelf.remove(generation).map_err(fail)?;
        let disk = self.shelf.disk(generation)?;
        Ok(SnapshotWriter {
            shelf: self.shelf.clone(),
            generation,
            disk: Some(disk),
            batch: Vec::new(),
            batch_bytes: 0,
            chunks: 0,
            crc: crc32fast::Hasher::new(),
        })
    }

    /// Opens a finished snapshot for reading, beside any other readers of it. Errors: [`StoreError::Damaged`] when it
    /// is not there, and those of [`SledDisk::open`].
    pub fn read(&self, pointer: &SnapshotPointer) -> Result<SnapshotReader, StoreError> {
        let name = self.shelf.name();
        let generations = self.shelf.generations().map_err(|err| StoreError::io(&name, err))?;
        if !generations.contains(&pointer.generation) {
            let key = format!("snapshot {}", pointer.generation);
            return Err(StoreError::damaged(&name, key, "missing"));
        }
        Ok(SnapshotReader {
            disk: self.shelf.disk(pointer.generation)?,
            pointer: pointer.clone(),
            next: 0,
            crc: crc32fast::Hasher::new(),
        })
    }

    /// Removes the generations before this one, which is to be called when the pointer to it is stored. Later ones
    /// stay, their pointers may be under way; so do those that are being written or read, until a later call.
    pub fn remove_older(&self, generation: u64) -> io::Result<()> {
        self.shelf.remove_all(|found| found < generation)
    }

    /// Removes a generation that was finished and is not wanted. Error: `AlreadyExists` while it is being read, and the
    /// disk's.
    pub fn remove(&self, generation: u64) -> io::Result<()> {
        self.shelf.remove(generation)
    }
}

impl Shelf {
    fn name(&self) -> String {
        match &self.place {
            Place::Directory(dir) => dir.display().to_string(),
            Place::Memory(_) => "snapshots in memory".to_string(),
        }
    }

    fn disk(&self, generation: u64) -> Result<Arc<dyn Disk>, StoreError> {
        let mut open = self.open.lock();
        if let Some(disk) = open.get(&generation) {
            return Ok(disk.clone());
        }
        let disk: Arc<dyn Disk> = match &self.place {
            Place::Directory(dir) => {
                Arc::new(SledDisk::open(&directory(dir, generation), CACHE_BYTES)?)
            }
            Place::Memory(disks) => Arc::new(disks.open(generation)),
        };
        open.insert(generation, disk.clone());
        Ok(disk)
    }

    fn generations(&self) -> io::Result<Vec<u64>> {
        match &self.place {
            Place::Memory(disks) => Ok(disks.generations()),
            Place::Directory(dir) => {
                let mut found = Vec::new();
                for entry in fs::read_dir(dir)? {
                    found.extend(
                        entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()),
                    );
                }
                found.sort_unstable();
                Ok(found)
            }
        }
    }

    /// Removes the generations that are `unwanted` and not in use.
    fn remove_all(&self, unwanted: impl Fn(u64) -> bool) -> io::Result<()> {
        for generation in self.generations()?.into_iter().filter(|&found| unwanted(found)) {
            match self.remove(generation) {
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Removes a generation, if it is there and not in use.
    fn remove(&self, generation: u64) -> io::Result<()> {
        let mut open = self.open.lock();
        if open.get(&generation).is_some_and(|disk| Arc::strong_count(disk) > 1) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{generation} is in use"),
            ));
        }
        open.remove(&generation);
        match &self.place {
            Place::Memory(disks) => disks.remove(generation),
            Place::Directory(dir) => match fs::remove_dir_all(directory(dir, generation)) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            },
        }
        Ok(())
    }
}

fn directory(dir: &Path, generation: u64) -> PathBuf {
    dir.join(generation.to_string())
}

/// Writes one snapshot. Dropped before [`SnapshotWriter::finish`], it leaves nothing behind.
pub struct SnapshotWriter {
    shelf: Arc<Shelf>,
    generation: u64,
    /// `None` once finished.
    disk: Option<Arc<dyn Disk>>,
    batch: Vec<Change>,
    batch_bytes: usize,
    chunks: u64,
    crc: crc32fast::Hasher,
}

impl SnapshotWriter {
    /// Adds a piece, which the reader gets back as it is. Any size; pieces of 64 KiB to 1 MiB compress well and take
    /// little memory. Blocks for the disk now and then.
    pub fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        let compressed = lz4_flex::block::compress_prepend_size(piece);
        let mut rest = compressed.as_slice();
        while !rest.is_empty() {
            let (fragment, after) = rest.split_at(rest.len().min(FRAGMENT_BYTES_MAX));
            rest = after;
            self.put(fragment, rest.is_empty());
            if self.batch_bytes >= SNAPSHOT_BATCH_BYTES_MAX {
                self.batch_bytes = 0;
                let batch = mem::take(&mut self.batch);
                self.disk().commit_lazily(batch)?;
            }
        }
        Ok(())
    }

    /// Makes the snapshot durable and returns its pointer, with this `meta`, for the caller to store.
    pub fn finish(mut self, meta: Bytes) -> io::Result<SnapshotPointer> {
        let batch = mem::take(&mut self.batch);
        self.disk().commit(batch)?;
        self.disk = None;
        let crc = mem::take(&mut self.crc).finalize();
        Ok(SnapshotPointer { generation: self.generation, chunks: self.chunks, crc, meta })
    }

    fn disk(&self) -> &dyn Disk {
        self.disk.as_deref().expect("only finish takes the disk, and the writer with it")
    }

    fn put(&mut self, fragment: &[u8], ends: bool) {
        let mut value = Vec::with_capacity(HEADER_BYTES + fragment.len());
        value.put_u32_le(0);
        value.put_u8(ends.into());
        value.extend_from_slice(fragment);
        let crc = crc32fast::hash(&value[4..]).to_le_bytes();
        value[..4].copy_from_slice(&crc);
        self.crc.update(&value);
        self.batch_bytes += value.len();
        self.batch.push((key(self.chunks), Some(value.into())));
        self.chunks += 1;
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if let Some(disk) = self.disk.take() {
            drop(disk);
            if let Err(err) = self.shelf.remove(self.generation) {
                tracing::warn!(generation = self.generation, %err, "unfinished snapshot stays until the next start");
            }
        }
    }
}

/// Reads one snapshot from its beginning.
pub struct SnapshotReader {
    disk: Arc<dyn Disk>,
    pointer: SnapshotPointer,
    next: u64,
    crc: crc32fast::Hasher,
}

impl SnapshotReader {
    /// Returns the next piece, or `None` after the last. Blocks for the disk. Errors: the disk's, and
    /// [`StoreError::Damaged`] when this is not what was written; that the whole is, is known only at `None`.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.next == self.pointer.chunks {
            return match self.crc.clone().finalize() == self.pointer.crc {
                true => Ok(None),
                false => Err(self.damaged("wrong checksum of the whole")),
            };
        }
        let mut compressed = Vec::new();
        while self.next < self.pointer.chunks {
            let value = self.disk.get(&key(self.next));
            let value = value.map_err(|err| StoreError::io(self.disk.name(), err))?;
            let value = value.ok_or_else(|| self.damaged("missing"))?;
            if value.len() < HEADER_BYTES
                || crc32fast::hash(&value[4..]).to_le_bytes() != value[..4]
            {
                return Err(self.damaged("wrong checksum"));
            }
            self.crc.update(&value);
            compressed.extend_from_slice(&value[HEADER_BYTES..]);
            if value[4] == 1 {
                let piece = lz4_flex::block::decompress_size_prepended(&compressed);
                let piece = piece.map_err(|err| self.damaged(&err.to_string()))?;
                self.next += 1;
                return Ok(Some(piece));
            }
            self.next += 1;
        }
        Err(self.damaged("the last piece has no end"))
    }

    fn damaged(&self, why: &str) -> StoreError {
        StoreError::damaged(
            self.disk.name(),
            format!("snapshot {} chunk {}", self.pointer.generation, self.next),
            why,
        )
    }
}
