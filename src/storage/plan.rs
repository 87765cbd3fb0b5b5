use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::disk::{Change, Disk};
use super::error::StoreError;
use super::log::{LogEntry, Write};
use super::record::{self, chunk_key, meta_key, seal};
use super::snapshot::SnapshotPointer;
use crate::limits::STORE_VALUE_BYTES_MAX;

/// Names of the records beside the log.
pub(super) const FORMAT: &str = "format";
pub(super) const NODE: &str = "node";
pub(super) const VOTE: &str = "vote";
pub(super) const COMMITTED: &str = "committed";
pub(super) const PURGED: &str = "purged";
pub(super) const SNAPSHOT: &str = "snap";

/// A chunk of the log on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) first: u64,
    pub(super) last: u64,
    /// 0 for a packed chunk, else the number of parts of its one entry.
    pub(super) parts: u16,
}

impl Chunk {
    fn keys(self) -> impl Iterator<Item = Vec<u8>> {
        let parts = if self.parts == 0 { 0..=0 } else { 1..=self.parts };
        parts.map(move |part| chunk_key(self.first, part))
    }
}

/// The shape of the log on the disk, as the writer knows it.
#[derive(Default)]
pub(super) struct Shape {
    /// In order, without gaps.
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) purged: Option<u64>,
}

impl Shape {
    /// Returns the key below which nothing is needed any more.
    pub(super) fn floor_key(&self) -> Vec<u8> {
        let first = self.chunks.front().map(|chunk| chunk.first);
        chunk_key(first.or(self.purged.map(|upto| upto + 1)).unwrap_or(0), 0)
    }
}

/// Turns writes into one batch. The shape is changed along the way: a plan that is not committed ends the log's use.
pub(super) struct Plan<'a> {
    disk: &'a dyn Disk,
    shape: &'a mut Shape,
    changes: BTreeMap<Vec<u8>, Option<Bytes>>,
    /// The packed chunk that entries are being added to, with the index of its first.
    open: Option<(u64, Vec<u8>)>,
    durable: bool,
    vote: Option<Bytes>,
    entries: u64,
    entry_bytes: u64,
}

/// What a [`Plan`] comes to.
pub(super) struct Planned {
    pub(super) batch: Vec<Change>,
    /// Whether someone relies on the batch surviving a power cut.
    pub(super) durable: bool,
    pub(super) vote: Option<Bytes>,
    pub(super) entries: u64,
    pub(super) entry_bytes: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(disk: &'a dyn Disk, shape: &'a mut Shape) -> Plan<'a> {
        Plan {
            disk,
            shape,
            changes: BTreeMap::new(),
            open: None,
            durable: false,
            vote: None,
            entries: 0,
            entry_bytes: 0,
        }
    }

    /// Adds a write. Reads the disk only when a truncation cuts through a chunk.
    pub(super) fn add(&mut self, write: Write) -> Result<(), StoreError> {
        self.durable |= !matches!(write, Write::Committed(_) | Write::Purge { .. });
        match write {
            Write::Append(entries) => entries.iter().for_each(|entry| self.append(entry)),
            Write::TruncateAfter(keep) => self.truncate(keep)?,
            Write::Purge { upto, marker } => self.purge(upto, &marker),
            Write::Committed(bytes) => self.put(COMMITTED, &bytes),
            Write::Snapshot(pointer) => self.put(SNAPSHOT, &SnapshotPointer::encode(&pointer)),
            Write::Identity(bytes) => self.put(NODE, &bytes),
            Write::Vote(bytes) => {
                self.put(VOTE, &bytes);
                self.vote = Some(bytes);
            }
        }
        Ok(())
    }

    /// Returns the batch.
    pub(super) fn finish(mut self) -> Planned {
        self.close_chunk();
        Planned {
            batch: self.changes.into_iter().collect(),
            durable: self.durable,
            vote: self.vote,
            entries: self.entries,
            entry_bytes: self.entry_bytes,
        }
    }

    fn put(&mut self, name: &str, value: &[u8]) {
        self.changes.insert(meta_key(name), Some(seal(name, value)));
    }

    fn append(&mut self, entry: &LogEntry) {
        self.entries += 1;
        self.entry_bytes += entry.bytes.len() as u64;
        let len = record::packed_len(entry);
        let open_len = self.open.as_ref().map_or(0, |(_, chunk)| chunk.len());
        if open_len + len > STORE_VALUE_BYTES_MAX {
            self.close_chunk();
        }
        if len > STORE_VALUE_BYTES_MAX {
            self.append_split(entry);
            return;
        }
        match &mut self.open {
            Some((_, chunk)) => {
                record::pack(chunk, entry);
                let back = self.shape.chunks.back_mut().expect("the open chunk is the last");
                back.last = entry.index;
            }
            None => {
                let mut chunk = Vec::new();
                record::pack(&mut chunk, entry);
                self.open = Some((entry.index, chunk));
                self.push_chunk(Chunk { first: entry.index, last: entry.index, parts: 0 });
            }
        }
    }

    fn append_split(&mut self, entry: &LogEntry) {
        let values = record::split(entry);
        let parts = u16::try_from(values.len()).expect("split into at most 65535 parts");
        for (value, part) in values.into_iter().zip(1..) {
            self.changes.insert(chunk_key(entry.index, part), Some(value));
        }
        self.push_chunk(Chunk { first: entry.index, last: entry.index, parts });
    }

    fn push_chunk(&mut self, chunk: Chunk) {
        if let Some(back) = self.shape.chunks.back() {
            assert_eq!(chunk.first, back.last + 1, "the log on the disk has no gap");
        }
        self.shape.chunks.push_back(chunk);
    }

    fn close_chunk(&mut self) {
        if let Some((first, chunk)) = self.open.take() {
            self.changes.insert(chunk_key(first, 0), Some(chunk.into()));
        }
    }

    fn truncate(&mut self, keep: Option<u64>) -> Result<(), StoreError> {
        self.close_chunk();
        // What is left below a purge is nobody's any more.
        let keep = keep.filter(|keep| self.shape.purged.is_none_or(|purged| *keep > purged));
        while let Some(&chunk) = self.shape.chunks.back()
            && keep.is_none_or(|keep| chunk.first > keep)
        {
            self.shape.chunks.pop_back();
            self.remove(chunk);
        }
        let (Some(back), Some(keep)) = (self.shape.chunks.back_mut(), keep) else { return Ok(()) };
        if back.last <= keep {
            return Ok(());
        }
        back.last = keep;
        let first = back.first;
        let mut kept = Vec::new();
        for entry in self.read_packed(first)?.iter().take_while(|entry| entry.index <= keep) {
            record::pack(&mut kept, entry);
        }
        self.changes.insert(chunk_key(first, 0), Some(kept.into()));
        Ok(())
    }

    fn read_packed(&self, first: u64) -> Result<Vec<LogEntry>, StoreError> {
        let key = chunk_key(first, 0);
        let damaged =
            |why: String| StoreError::damaged(self.disk.name(), record::describe(&key), why);
        let value = match self.changes.get(&key) {
            Some(value) => value.clone(),
            None => self.disk.get(&key).map_err(|err| StoreError::io(self.disk.name(), err))?,
        };
        record::unpack(first, value.ok_or_else(|| damaged("missing".into()))?).map_err(damaged)
    }

    /// Only notes it: nothing reads what is purged, and [`Disk::trim`] removes it when that is cheap.
    fn purge(&mut self, upto: u64, marker: &[u8]) {
        if self.shape.purged.is_some_and(|purged| upto <= purged) {
            return;
        }
        self.close_chunk();
        self.shape.purged = Some(upto);
        while let Some(chunk) = self.shape.chunks.front()
            && chunk.last <= upto
        {
            self.shape.chunks.pop_front();
        }
        self.put(PURGED, &encode_purged(upto, marker));
    }

    fn remove(&mut self, chunk: Chunk) {
        for key in chunk.keys() {
            self.changes.insert(key, None);
        }
    }
}

fn encode_purged(upto: u64, marker: &[u8]) -> Vec<u8> {
    let mut value = upto.to_le_bytes().to_vec();
    value.extend_from_slice(marker);
    value
}

/// Undoes the encoding of the purge record: the index and the caller's marker.
pub(super) fn decode_purged(mut value: Bytes) -> Result<(u64, Bytes), String> {
    if value.len() < 8 {
        return Err("cut short".into());
    }
    let upto = value.split_to(8);
    Ok((u64::from_le_bytes(upto.as_ref().try_into().expect("8 bytes")), value))
}
