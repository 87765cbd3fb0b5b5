use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};

use super::disk::{Change, Disk, Pair, RECORDS, SERIES};
use super::error::StoreError;
use super::series::Series;
use crate::limits::STORE_VALUE_BYTES_MAX;

/// Fixed at creation. A leaf holds up to 17 values and must stay below a quarter of a segment, or it becomes a blob.
const SEGMENT_BYTES: usize = 4 << 20;
const LEAF_VALUES_MAX: usize = 17;
const _: () = assert!((LEAF_VALUES_MAX + 1) * STORE_VALUE_BYTES_MAX < SEGMENT_BYTES / 4);

/// How often sled's own thread cleans up segments, ms.
const CLEAN_EVERY_MS: u64 = 1000;

/// A process that just ended, or a store of this process that was just dropped, may hold the lock a little longer.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The one key that is ours, among the records: how many durable commits there were.
const COMMITS_KEY: &[u8] = &[];
/// The file beside sled's own that holds the same number.
const MARK_FILE: &str = "mark";

/// How sled names the indexes of its file, and those that it has not finished.
const INDEX_PREFIX: &str = "snap.";
const UNFINISHED_SUFFIX: &str = ".generating";

/// A [`Disk`] that is a sled database in a directory of its own, used under the rules of the
/// [module](crate::storage).
///
/// sled takes a damaged record for the torn end of its file and silently forgets it with all that follows. So every
/// durable commit counts itself in its batch and, once it is durable, in a file beside it. That file is not synced and
/// may therefore be behind, but never ahead: a store with fewer commits than its mark has lost acknowledged writes.
///
/// The records are in sled's own tree. The series is laid out over many small trees, by ranges of keys, because sled
/// writes a whole leaf again after every tenth change of it: in one tree that is four times what is appended.
pub struct SledDisk {
    name: String,
    db: sled::Db,
    series: RwLock<Series>,
    /// Locked for the length of a commit, which makes the writer single.
    writer: Mutex<Writer>,
}

struct Writer {
    /// Our own handle of sled's one data file: syncing goes by inode, and sled itself does not do it.
    file: File,
    mark: File,
    commits: u64,
}

impl SledDisk {
    /// Opens the store in `dir`, or creates it, durably, with its directory; the parent should exist. `cache_bytes` is
    /// roughly what sled keeps in memory. Blocks; takes about a second per GB.
    ///
    /// Errors: [`StoreError::Locked`], [`StoreError::Lost`], [`StoreError::Damaged`] when acknowledged writes are
    /// missing or when there are blob files (which are never durable), [`StoreError::Io`].
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<SledDisk, StoreError> {
        let name = dir.display().to_string();
        let io = |source| StoreError::io(&name, source);
        discard_unfinished(dir).map_err(io)?;
        let db = open_unlocked(dir, &name, cache_bytes)?;
        check_no_blobs(dir, &name)?;
        let file = File::options().read(true).write(true).open(dir.join("db")).map_err(io)?;
        let mut create = File::options();
        let create = create.read(true).write(true).create(true).truncate(false);
        let mark = create.open(dir.join(MARK_FILE)).map_err(io)?;
        // Also when the store is not new: its creation may have been cut short.
        File::open(dir.join("conf")).and_then(|conf| conf.sync_all()).map_err(io)?;
        file.sync_all().map_err(io)?;
        sync_directory(dir).map_err(io)?;
        if let Some(parent) = dir.canonicalize().map_err(io)?.parent() {
            sync_directory(parent).map_err(io)?;
        }
        let series = guard(&name, || Series::open(&db)).map_err(io)?;
        let writer = Mutex::new(Writer { file, mark, commits: 0 });
        let disk = SledDisk { name, db, series: RwLock::new(series), writer };
        disk.check_mark()?;
        Ok(disk)
    }

    /// Finds out how many commits there were, and that none of those marked is missing.
    fn check_mark(&self) -> Result<(), StoreError> {
        let writer = &mut *self.writer.lock();
        let found = self.get(COMMITS_KEY).map_err(|source| StoreError::io(&self.name, source))?;
        let number = |bytes: &Bytes| bytes.as_ref().try_into().ok().map(u64::from_le_bytes);
        writer.commits = found.as_ref().and_then(number).unwrap_or(0);
        let marked =
            read_mark(&writer.mark).map_err(|source| StoreError::io(&self.name, source))?;
        if marked > writer.commits {
            let why = format!("the store ends there, but {marked} were acknowledged");
            return Err(StoreError::damaged(&self.name, format!("commit {}", writer.commits), why));
        }
        Ok(())
    }

    /// Applies the changes, to as many trees as it takes, all or none, and `count` with them.
    fn apply(&self, changes: Vec<Change>, count: Option<u64>) -> io::Result<()> {
        let mut batches: BTreeMap<Vec<u8>, (sled::Tree, sled::Batch)> = BTreeMap::new();
        let mut records = sled::Batch::default();
        if let Some(count) = count {
            records.insert(COMMITS_KEY, &count.to_le_bytes());
        }
        let mut is_recorded = count.is_some();
        for (key, value) in changes {
            let len = value.as_ref().map_or(0, Bytes::len);
            assert!(len <= STORE_VALUE_BYTES_MAX, "{key:?}: {len} bytes");
            let batch = match key.first() {
                Some(&RECORDS) => {
                    is_recorded = true;
                    &mut records
                }
                Some(&SERIES) => {
                    let place = || self.series.write().place(&self.db, &key, len);
                    let (name, tree) = self.guard(place)?;
                    &mut batches.entry(name).or_insert_with(|| (tree, sled::Batch::default())).1
                }
                _ => panic!("{key:?} is the key of no record and not of the series"),
            };
            match value {
                Some(value) => batch.insert(key, value.as_ref()),
                None => batch.remove(key),
            }
        }
        if is_recorded {
            batches.insert(Vec::new(), (sled::Tree::clone(&self.db), records));
        }
        self.guard(|| apply_all(batches.into_values().collect()))
    }

    fn guard<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> io::Result<T> {
        guard(&self.name, call)
    }
}

/// Applies batches, each to its tree, all or none.
fn apply_all(mut batches: Vec<(sled::Tree, sled::Batch)>) -> sled::Result<()> {
    if batches.len() <= 1 {
        return batches.pop().map_or(Ok(()), |(tree, batch)| tree.apply_batch(batch));
    }
    let (trees, batches): (Vec<sled::Tree>, Vec<sled::Batch>) = batches.into_iter().unzip();
    let applied = trees.as_slice().transaction(|views| {
        for (view, batch) in views.iter().zip(&batches) {
            view.apply_batch(batch)?;
        }
        Ok::<(), ConflictableTransactionError<Infallible>>(())
    });
    applied.map_err(|err| match err {
        TransactionError::Storage(err) => err,
        TransactionError::Abort(never) => match never {},
    })
}

/// Runs a call into sled; its panics (it has some where a file is not as it expects) become errors.
fn guard<T>(store: &str, call: impl FnOnce() -> sled::Result<T>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(err))) => Err(err),
        Ok(Err(err)) => Err(io::Error::other(format!("{store}: {err}"))),
        Err(_) => Err(io::Error::other(format!("{store}: the store panicked"))),
    }
}

/// The mark: the number and its checksum. It is smaller than any sector, so it is never torn.
fn write_mark(file: &File, commits: u64) -> io::Result<()> {
    let mut mark = [0; 12];
    mark[..8].copy_from_slice(&commits.to_le_bytes());
    mark[8..].copy_from_slice(&crc32fast::hash(&commits.to_le_bytes()).to_le_bytes());
    file.write_all_at(&mark, 0)
}

/// Returns the last mark; 0 where none was made or it did not reach the disk.
fn read_mark(file: &File) -> io::Result<u64> {
    let mut mark = [0; 12];
    match file.read_exact_at(&mut mark, 0) {
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
        result => result?,
    }
    let (commits, crc) = mark.split_at(8);
    let valid = crc32fast::hash(commits).to_le_bytes() == *crc;
    Ok(if valid { u64::from_le_bytes(commits.try_into().expect("8 bytes")) } else { 0 })
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes what sled began to write of an index of its file and did not finish. The one before it is still there, or the
/// file is read from its beginning. If another process is about to open the same store, one of the two fails to start.
fn discard_unfinished(dir: &Path) -> io::Result<()> {
    let files = match fs::read_dir(dir) {
        Ok(files) => files,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    for file in files {
        let file = file?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(INDEX_PREFIX) && name.ends_with(UNFINISHED_SUFFIX) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

fn open_unlocked(dir: &Path, name: &str, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(dir)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(cache_bytes)
        .flush_every_ms(Some(CLEAN_EVERY_MS));
    for _ in 0..LOCK_ATTEMPTS {
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(err))) if err.to_string().contains("could not acquire lock") => {
                thread::sleep(LOCK_PAUSE);
            }
            Ok(Err(sled::Error::Io(source))) => return Err(StoreError::io(name, source)),
            Ok(Err(err)) => {
                return Err(StoreError::Lost { store: name.to_string(), why: err.to_string() });
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let why = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("sled panicked");
                return Err(StoreError::Lost { store: name.to_string(), why: why.to_string() });
            }
        }
    }
    Err(StoreError::Locked { store: name.to_string() })
}

fn check_no_blobs(dir: &Path, name: &str) -> Result<(), StoreError> {
    match fs::read_dir(dir.join("blobs")) {
        Ok(mut files) => match files.next() {
            None => Ok(()),
            Some(_) => Err(StoreError::damaged(
                name,
                "blobs/",
                "it must be empty, its files are never synced",
            )),
        },
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(StoreError::io(name, err)),
    }
}

fn pair((key, value): (sled::IVec, sled::IVec)) -> Pair {
    (key.to_vec(), Bytes::from_owner(value))
}

impl Disk for SledDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn commit(&self, changes: Vec<Change>) -> io::Result<()> {
        let writer = &mut *self.writer.lock();
        writer.commits += 1;
        self.apply(changes, Some(writer.commits))?;
        self.guard(|| self.db.flush())?;
        mutant!(M02, (), writer.file.sync_data()?);
        write_mark(&writer.mark, writer.commits)
    }

    fn commit_lazily(&self, changes: Vec<Change>) -> io::Result<()> {
        let _writer = self.writer.lock();
        self.apply(changes, None)
    }

    fn trim(&self, below: &[u8]) -> io::Result<bool> {
        let _writer = self.writer.lock();
        self.guard(|| self.series.write().trim(&self.db, below))
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        // Locked for as long as it reads: a tree must not go meanwhile.
        let series = self.series.read();
        let found = match key.first() {
            Some(&SERIES) => match series.covering(key) {
                Some((_, tree)) => self.guard(|| tree.get(key))?,
                None => None,
            },
            _ => self.guard(|| self.db.get(key))?,
        };
        Ok(found.map(Bytes::from_owner))
    }

    fn floor(&self, key: &[u8]) -> io::Result<Option<Pair>> {
        let series = self.series.read();
        let mut found = match key.first() {
            Some(&SERIES) => self.guard(|| series.floor(key))?,
            _ => None,
        };
        if found.is_none() {
            let range = (Bound::Excluded(COMMITS_KEY), Bound::Included(key));
            found = self.guard(|| self.db.range::<&[u8], _>(range).next_back().transpose())?;
        }
        Ok(found.filter(|(key, _)| !key.is_empty()).map(pair))
    }

    fn scan(&self) -> Box<dyn Iterator<Item = io::Result<Pair>> + '_> {
        let records = self.db.range::<&[u8], _>((Bound::Excluded(COMMITS_KEY), Bound::Unbounded));
        let trees = self.series.read().trees();
        let mut pairs = records.chain(trees.into_iter().flat_map(|tree| tree.iter()));
        let mut failed = false;
        Box::new(std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let next = self.guard(|| pairs.next().transpose()).transpose()?;
            failed = next.is_err();
            Some(next.map(pair))
        }))
    }
}
