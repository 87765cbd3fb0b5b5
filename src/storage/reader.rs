use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::disk::Disk;
use super::error::StoreError;
use super::log::LogEntry;
use super::record::{self, Key};
use super::view::{Place, View};

/// What the log's writer and its readers have in common.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) view: Mutex<View>,
    /// Held while a batch goes to the disk and the view learns of it. Whoever holds it sees a disk at rest.
    pub(super) committing: Mutex<()>,
}

/// Reads the log beside its writer. Clones read the same log.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>) -> LogReader {
        LogReader { shared }
    }

    /// Returns the entries of the range that are in the log, in order, from its start or from the oldest entry: as many
    /// as fit into `bytes_max`, but at least one if there is one. What it returns was the log's content at one moment.
    ///
    /// Recent entries come from memory without waiting. Older ones are read from the disk, which blocks: see
    /// [`LogReader::is_cached`]. Errors: the disk's, and `InvalidData` for damage, with the store and the key.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        'again: loop {
            let (span, cuts) = {
                let view = self.shared.view.lock();
                (view.span(), view.cuts())
            };
            let mut next = range.start.max(span.start);
            let mut found: Vec<LogEntry> = Vec::new();
            let mut bytes = 0;
            loop {
                let found_here = match self.locate(next..range.end, bytes_max - bytes, cuts) {
                    None => continue 'again,
                    Some(Place::Absent) => return Ok(found),
                    Some(Place::Cached(entries)) => {
                        take(entries, range.end, bytes_max, &mut bytes, &mut found);
                        return Ok(found);
                    }
                    Some(Place::Stored) => self.stored(next)?,
                };
                if self.shared.view.lock().cuts() != cuts {
                    continue 'again;
                }
                let wanted =
                    found_here.into_iter().skip_while(|entry| entry.index < next).collect();
                if !take(wanted, range.end, bytes_max, &mut bytes, &mut found) {
                    return Ok(found);
                }
                next =
                    found.last().expect("a stored chunk holds the entry it was read for").index + 1;
            }
        }
    }

    /// Returns whether reading from this index on needs no disk.
    pub fn is_cached(&self, index: u64) -> bool {
        !matches!(self.shared.view.lock().locate(index..u64::MAX, 0), Place::Stored)
    }

    /// Returns the indexes of the first and the last entry, or `None` for an empty log.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        let span = self.shared.view.lock().span();
        if span.is_empty() { None } else { Some((span.start, span.end - 1)) }
    }

    /// Returns the last entry. Reads the disk when it is not in memory, as [`LogReader::read`] does.
    pub fn last(&self) -> io::Result<Option<LogEntry>> {
        loop {
            let Some((_, last)) = self.bounds() else { return Ok(None) };
            // Empty when the log was cut meanwhile.
            if let Some(entry) = self.read(last..last + 1, 0)?.pop() {
                return Ok(Some(entry));
            }
        }
    }

    /// Returns the last vote that is on the disk.
    pub fn vote(&self) -> Option<Bytes> {
        self.shared.view.lock().vote()
    }

    /// `None` when the log was cut since `cuts` was read.
    fn locate(&self, range: Range<u64>, bytes_max: usize, cuts: u64) -> Option<Place> {
        let view = self.shared.view.lock();
        if view.cuts() == cuts { Some(view.locate(range, bytes_max)) } else { None }
    }

    /// Returns the entries of the chunk that holds `index`, which was on the disk a moment ago; or anything, when the
    /// log was cut since. Beside a commit an entry can seem missing, so only a disk at rest shows damage.
    fn stored(&self, index: u64) -> io::Result<Vec<LogEntry>> {
        match read_chunk(self.shared.disk.as_ref(), index) {
            Err(StoreError::Damaged { .. }) => {}
            found => return found.map_err(io::Error::from),
        }
        let _at_rest = self.shared.committing.lock();
        match self.shared.view.lock().locate(index..index + 1, 0) {
            Place::Stored => {}
            Place::Absent | Place::Cached(_) => return Ok(Vec::new()),
        }
        Ok(read_chunk(self.shared.disk.as_ref(), index)?)
    }
}

/// Moves entries below `end` to `found` until `bytes_max` is reached; returns whether there was room for all of them.
/// The first of all is taken whatever its size.
fn take(
    entries: Vec<LogEntry>,
    end: u64,
    bytes_max: usize,
    bytes: &mut usize,
    found: &mut Vec<LogEntry>,
) -> bool {
    for entry in entries {
        if entry.index >= end || (!found.is_empty() && *bytes + entry.bytes.len() > bytes_max) {
            return false;
        }
        *bytes = (*bytes + entry.bytes.len()).min(bytes_max);
        found.push(entry);
    }
    true
}

/// Reads the chunk that holds this entry, or the parts of the entry.
fn read_chunk(disk: &dyn Disk, index: u64) -> Result<Vec<LogEntry>, StoreError> {
    let damaged =
        |key: &[u8], why: String| StoreError::damaged(disk.name(), record::describe(key), why);
    let io = |err| StoreError::io(disk.name(), err);
    let wanted = record::chunk_key(index, 0);
    let found = disk.floor(&record::chunk_key(index, u16::MAX)).map_err(io)?;
    let Some((key, value)) = found else { return Err(damaged(&wanted, "missing".into())) };
    match record::parse_key(&key) {
        Some(Key::Chunk { first, part: 0 }) => {
            let entries = record::unpack(first, value).map_err(|why| damaged(&key, why))?;
            if entries.last().is_some_and(|last| last.index >= index) {
                Ok(entries)
            } else {
                Err(damaged(&wanted, "missing".into()))
            }
        }
        Some(Key::Chunk { first, part: parts }) if first == index => {
            let mut values = Vec::new();
            for part in 1..=parts {
                let key = record::chunk_key(index, part);
                let value = disk.get(&key).map_err(io)?;
                values.push(value.ok_or_else(|| damaged(&key, "missing".into()))?);
            }
            Ok(vec![record::join(first, values).map_err(|why| damaged(&key, why))?])
        }
        _ => Err(damaged(&wanted, "missing".into())),
    }
}
