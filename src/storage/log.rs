use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::disk::Disk;
use super::error::StoreError;
use super::plan::{self, Chunk, Plan, Planned, Shape};
use super::reader::{LogReader, Shared};
use super::record::{self, Key, meta_key};
use super::snapshot::SnapshotPointer;
use super::stats::{Counters, StorageStats};
use super::view::View;
use crate::limits::LOG_CACHE_BYTES_MAX;

/// One entry of the Raft log: its index and what the caller made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Position in the log.
    pub index: u64,
    /// The encoded entry. One above 48 KiB is stored in parts.
    pub bytes: Bytes,
}

/// One change of the log's store. Several in one call become durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Adds entries, whose indexes follow the last one in the log.
    Append(Vec<LogEntry>),
    /// Removes the entries above this index; all of them for `None`.
    TruncateAfter(Option<u64>),
    /// Removes the entries up to and with this index, whether or not the log reaches so far. A purge below an earlier
    /// one does nothing. May be lost in a crash, like [`Write::Committed`].
    Purge {
        /// The last index that goes.
        upto: u64,
        /// What to remember of it.
        marker: Bytes,
    },
    /// Replaces the vote.
    Vote(Bytes),
    /// Replaces what is known to be committed. May be lost in a crash, but is never found without the writes before it.
    Committed(Bytes),
    /// Replaces the pointer to the current snapshot.
    Snapshot(SnapshotPointer),
    /// Replaces the node's identity.
    Identity(Bytes),
}

impl Write {
    /// Returns about how many bytes this takes in the queue and on the disk.
    pub(super) fn cost(&self) -> usize {
        const RECORD_BYTES: usize = 32;
        let bytes = match self {
            Write::Append(entries) => {
                entries.iter().map(|entry| RECORD_BYTES + entry.bytes.len()).sum()
            }
            Write::TruncateAfter(_) => 0,
            Write::Purge { marker, .. } => marker.len(),
            Write::Vote(bytes) | Write::Committed(bytes) | Write::Identity(bytes) => bytes.len(),
            Write::Snapshot(pointer) => pointer.meta.len(),
        };
        RECORD_BYTES + bytes
    }
}

/// What a store held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last [`Write::Identity`].
    pub identity: Option<Bytes>,
    /// The last [`Write::Vote`].
    pub vote: Option<Bytes>,
    /// A late [`Write::Committed`].
    pub committed: Option<Bytes>,
    /// A late [`Write::Purge`]: index and marker.
    pub purged: Option<(u64, Bytes)>,
    /// Indexes of the first and the last entry, if there are any.
    pub bounds: Option<(u64, u64)>,
    /// The last [`Write::Snapshot`].
    pub snapshot: Option<SnapshotPointer>,
}

/// The Raft log and the few records beside it, over a [`Disk`]. The one writer; [`LogReader`]s read beside it.
///
/// It has no thread and no clock: each write is done when the call returns. [`wal`](super::wal()) puts a queue in
/// front of it.
pub struct Log {
    shared: Arc<Shared>,
    shape: Shape,
    /// Why nothing can be written any more.
    failed: Option<(io::ErrorKind, String)>,
    counters: Arc<Counters>,
}

impl Log {
    /// Opens the log on this disk and checks every record in it; an empty disk becomes an empty log. Reads the whole
    /// store. A stopped node's store may be opened just to look at it.
    ///
    /// Errors: [`StoreError::Damaged`], [`StoreError::Newer`], [`StoreError::Io`].
    pub fn open(disk: Arc<dyn Disk>) -> Result<(Log, Recovered), StoreError> {
        Log::open_with_cache(disk, LOG_CACHE_BYTES_MAX)
    }

    /// The same with another bound on the entries kept in memory, bytes.
    pub fn open_with_cache(
        disk: Arc<dyn Disk>,
        cache_bytes_max: usize,
    ) -> Result<(Log, Recovered), StoreError> {
        check_format(disk.as_ref())?;
        let mut recovery = Recovery::new(disk.name(), cache_bytes_max);
        for pair in disk.scan() {
            let (key, value) = pair.map_err(|err| StoreError::io(disk.name(), err))?;
            recovery.visit(&key, value)?;
        }
        let (recovered, shape, tail) = recovery.finish()?;

        let first = recovered.purged.as_ref().map(|(upto, _)| upto + 1);
        let first = first.or(shape.chunks.front().map(|chunk| chunk.first)).unwrap_or(0);
        let end = shape.chunks.back().map_or(first, |chunk| chunk.last + 1);
        let mut view = View::new(first..end, shape.purged, recovered.vote.clone(), cache_bytes_max);
        for entry in tail {
            if entry.index >= first {
                view.warm(entry);
            }
        }
        let bounds = if first == end { None } else { Some((first, end - 1)) };
        let shared = Shared { disk, view: Mutex::new(view), committing: Mutex::new(()) };
        let log = Log { shared: Arc::new(shared), shape, failed: None, counters: Arc::default() };
        Ok((log, Recovered { bounds, ..recovered }))
    }

    /// Returns a reader of this log.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    /// Does all the writes as one batch, in order; on return they are durable, unless they are only
    /// [`Write::Committed`] and [`Write::Purge`]. After an error every later call fails too. Panics when entries do
    /// not follow the log.
    pub fn write_now(&mut self, writes: Vec<Write>) -> io::Result<()> {
        let ticket = self.shared.view.lock().admit(&writes);
        self.persist(writes, ticket).map(drop)
    }

    /// Returns what was written since the log was opened. Without a [`wal`](super::wal()) no durations are known.
    pub fn stats(&self) -> StorageStats {
        self.counters.snapshot()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Brings admitted writes to the disk, up to the one with this ticket; returns whether it waited for the disk.
    pub(super) fn persist(&mut self, writes: Vec<Write>, ticket: u64) -> io::Result<bool> {
        if let Some((kind, why)) = &self.failed {
            return Err(io::Error::new(*kind, why.clone()));
        }
        let result = self.try_persist(writes, ticket);
        if let Err(err) = &result {
            let failed = Some((err.kind(), format!("the log failed earlier: {err}")));
            self.failed = mutant!(M14, None, failed);
        }
        result
    }

    /// Gives back some of the space of what was purged; returns whether there was any. Errors show with the next write.
    pub(super) fn trim(&mut self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let floor = self.shape.floor_key();
        let _not_at_rest = self.shared.committing.lock();
        self.shared.disk.trim(&floor).unwrap_or_else(|err| {
            self.failed = Some((err.kind(), format!("the log failed earlier: {err}")));
            false
        })
    }

    fn try_persist(&mut self, writes: Vec<Write>, ticket: u64) -> io::Result<bool> {
        let disk = self.shared.disk.as_ref();
        let mut plan = Plan::new(disk, &mut self.shape);
        for write in writes {
            plan.add(write)?;
        }
        let Planned { batch, durable, vote, entries, entry_bytes } = plan.finish();
        let value_len = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let written = batch.iter().map(|(key, value)| key.len() + value_len(value)).sum::<usize>();

        let _not_at_rest = self.shared.committing.lock();
        let empty = batch.is_empty();
        if durable {
            disk.commit(batch)?;
        } else if !empty {
            disk.commit_lazily(batch)?;
        }
        // A commit adds to the series less than a trim takes from it: what is purged becomes less also under load.
        disk.trim(&self.shape.floor_key())?;
        self.shared.view.lock().complete(ticket, vote);
        if durable || !empty {
            self.counters.count(durable, entries, entry_bytes, written as u64);
        }
        Ok(durable)
    }
}

/// Refuses a newer format; gives an empty disk the current one.
fn check_format(disk: &dyn Disk) -> Result<(), StoreError> {
    let io = |err| StoreError::io(disk.name(), err);
    let key = meta_key(plan::FORMAT);
    let damaged = |why: &str| StoreError::damaged(disk.name(), record::describe(&key), why);
    let Some(sealed) = disk.get(&key).map_err(io)? else {
        if disk.scan().next().is_some() {
            return Err(damaged("missing"));
        }
        let format = record::seal(plan::FORMAT, &record::FORMAT.to_le_bytes());
        return disk.commit(vec![(key, Some(format))]).map_err(io);
    };
    let value = record::unseal(plan::FORMAT, sealed).map_err(|why| damaged(&why))?;
    let found = value.as_ref().try_into().map(u32::from_le_bytes);
    match found.map_err(|_| damaged("not a number"))? {
        record::FORMAT => Ok(()),
        found if found > record::FORMAT => {
            Err(StoreError::Newer { store: disk.name().to_string(), found, known: record::FORMAT })
        }
        0 => Err(damaged("format 0 never existed")),
        found => {
            Err(damaged(&format!("format {found} is not read any more: begin with an empty one")))
        }
    }
}

/// Reads a store from its first key to its last, which visits the records before the log.
struct Recovery<'a> {
    store: &'a str,
    recovered: Recovered,
    shape: Shape,
    /// The parts seen of an entry that is stored in parts.
    split: Option<(u64, Vec<Bytes>)>,
    /// The newest entries, up to `tail_bytes_max`.
    tail: VecDeque<LogEntry>,
    tail_bytes: usize,
    tail_bytes_max: usize,
}

impl Recovery<'_> {
    fn new(store: &str, tail_bytes_max: usize) -> Recovery<'_> {
        Recovery {
            store,
            recovered: Recovered::default(),
            shape: Shape::default(),
            split: None,
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_bytes_max,
        }
    }

    fn visit(&mut self, key: &[u8], value: Bytes) -> Result<(), StoreError> {
        match record::parse_key(key) {
            Some(Key::Meta(name)) => {
                let put = record::unseal(name, value).and_then(|value| self.record(name, value));
                put.map_err(|why| self.damaged(key, why))
            }
            Some(Key::Chunk { first, part: 0 }) => {
                self.end_split()?;
                let entries = record::unpack(first, value).map_err(|why| self.damaged(key, why))?;
                self.chunk(entries, 0)
            }
            // Some parts of an entry may have been removed before others.
            Some(Key::Chunk { first, .. })
                if self.shape.purged.is_some_and(|upto| first <= upto) =>
            {
                Ok(())
            }
            Some(Key::Chunk { first, .. }) => {
                if self.split.as_ref().is_none_or(|(index, _)| *index != first) {
                    self.end_split()?;
                }
                self.split.get_or_insert_with(|| (first, Vec::new())).1.push(value);
                Ok(())
            }
            None => Err(self.damaged(key, "nothing was ever stored there".into())),
        }
    }

    fn record(&mut self, name: &str, value: Bytes) -> Result<(), String> {
        match name {
            plan::FORMAT => {}
            plan::NODE => self.recovered.identity = Some(value),
            plan::VOTE => self.recovered.vote = Some(value),
            plan::COMMITTED => self.recovered.committed = Some(value),
            plan::SNAPSHOT => self.recovered.snapshot = Some(SnapshotPointer::decode(value)?),
            plan::PURGED => {
                let (upto, marker) = plan::decode_purged(value)?;
                self.shape.purged = Some(upto);
                self.recovered.purged = Some((upto, marker));
            }
            _ => return Err("nothing was ever stored there".into()),
        }
        Ok(())
    }

    fn end_split(&mut self) -> Result<(), StoreError> {
        let Some((index, values)) = self.split.take() else { return Ok(()) };
        let parts = u16::try_from(values.len()).expect("part numbers are 16 bits");
        let entry = record::join(index, values);
        let entry = entry.map_err(|why| self.damaged(&record::chunk_key(index, 1), why))?;
        self.chunk(vec![entry], parts)
    }

    fn chunk(&mut self, entries: Vec<LogEntry>, parts: u16) -> Result<(), StoreError> {
        let (Some(front), Some(back)) = (entries.first(), entries.last()) else { return Ok(()) };
        let chunk = Chunk { first: front.index, last: back.index, parts };
        let key = record::chunk_key(chunk.first, parts.min(1));
        let purged = self.shape.purged;
        if purged.is_some_and(|upto| chunk.last <= upto) {
            return Ok(());
        }
        let fits = match self.shape.chunks.back() {
            Some(before) => chunk.first == before.last + 1,
            None => purged.is_none_or(|upto| chunk.first <= upto + 1),
        };
        if !fits {
            let before = self.shape.chunks.back().map_or(purged, |before| Some(before.last));
            return Err(self.damaged(&key, format!("the entry before it should be {before:?}")));
        }
        self.shape.chunks.push_back(chunk);
        for entry in entries {
            self.tail_bytes += entry.bytes.len();
            self.tail.push_back(entry);
        }
        while self.tail_bytes > self.tail_bytes_max {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |entry| entry.bytes.len());
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Recovered, Shape, VecDeque<LogEntry>), StoreError> {
        self.end_split()?;
        Ok((self.recovered, self.shape, self.tail))
    }

    fn damaged(&self, key: &[u8], why: String) -> StoreError {
        StoreError::damaged(self.store, record::describe(key), why)
    }
}
