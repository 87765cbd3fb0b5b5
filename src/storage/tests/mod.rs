//! What the tests of storage share.

mod log;
mod model;
mod series;
mod snapshot;
mod wal;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::{Change, Disk, Log, LogEntry, MemoryDisk, Pair, SledDisk, StoreError, Write};

const MIB: u64 = 1 << 20;

/// An entry whose bytes tell its index and the `flavour` of the history it belongs to.
fn entry(index: u64, flavour: u8, len: usize) -> LogEntry {
    let bytes: Vec<u8> =
        (0..len).map(|at| (index as u8) ^ flavour ^ (at as u8) ^ (at >> 8) as u8).collect();
    LogEntry { index, bytes: bytes.into() }
}

fn append(range: Range<u64>, flavour: u8, len: usize) -> Write {
    Write::Append(range.map(|index| entry(index, flavour, len)).collect())
}

fn purge(upto: u64) -> Write {
    Write::Purge { upto, marker: Bytes::from(format!("purged {upto}")) }
}

/// Opens a log whose memory keeps nothing that is on the disk.
fn open_uncached(disk: &MemoryDisk) -> Log {
    Log::open_with_cache(Arc::new(disk.clone()), 0).unwrap().0
}

fn open_error(disk: &MemoryDisk) -> StoreError {
    Log::open(Arc::new(disk.clone())).err().expect("the store should be refused")
}

fn read_all(log: &Log) -> Vec<LogEntry> {
    log.reader().read(0..u64::MAX, usize::MAX).unwrap()
}

fn open_sled(dir: &std::path::Path) -> SledDisk {
    SledDisk::open(dir, 8 * MIB).unwrap()
}

type Hook = Box<dyn FnOnce() + Send>;

/// A disk that can be told to fail, to hold every commit, or to let something happen just before a read.
#[derive(Default)]
struct Stubborn {
    disk: MemoryDisk,
    fails: AtomicBool,
    held: Mutex<bool>,
    released: Condvar,
    /// Runs before the read that comes after so many others.
    before_read: Mutex<Option<(usize, Hook)>>,
}

impl Stubborn {
    fn hold(&self, held: bool) {
        *self.held.lock() = held;
        self.released.notify_all();
    }

    fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        self.released.wait_while(&mut self.held.lock(), |held| *held);
        match self.fails.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the disk is full")),
            false => Ok(()),
        }
    }
}

impl Disk for Stubborn {
    fn name(&self) -> &str {
        "stubborn"
    }

    fn commit(&self, batch: Vec<Change>) -> io::Result<()> {
        self.check()?;
        self.disk.commit(batch)
    }

    fn commit_lazily(&self, batch: Vec<Change>) -> io::Result<()> {
        self.check()?;
        self.disk.commit_lazily(batch)
    }

    fn trim(&self, below: &[u8]) -> io::Result<bool> {
        self.disk.trim(below)
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        self.disk.get(key)
    }

    fn floor(&self, key: &[u8]) -> io::Result<Option<Pair>> {
        let mut before_read = self.before_read.lock();
        match before_read.take() {
            Some((0, hook)) => {
                drop(before_read);
                hook();
            }
            later => *before_read = later.map(|(reads, hook)| (reads - 1, hook)),
        }
        self.disk.floor(key)
    }

    fn scan(&self) -> Box<dyn Iterator<Item = io::Result<Pair>> + '_> {
        self.disk.scan()
    }
}
