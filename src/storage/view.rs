use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::log::{LogEntry, Write};

/// What an entry costs in memory beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// What readers of the log see: everything submitted, whether or not it is on the disk yet, and the recent entries
/// themselves.
///
/// It runs ahead of the disk by the writes between `admitted` and `completed`. The cached entries are a suffix of the
/// log and include every entry that is not on the disk; whatever is in the log and not cached is on the disk.
pub(super) struct View {
    /// Index of the oldest readable entry, or of the next one when there is none.
    first: u64,
    /// One above the newest entry.
    end: u64,
    /// The greatest index ever purged. Without one, an empty log may begin anywhere.
    purged: Option<u64>,
    cache: VecDeque<Cached>,
    cache_bytes: usize,
    cache_bytes_max: usize,
    /// Number of the newest write that was admitted, and of the newest that is on the disk.
    admitted: u64,
    completed: u64,
    /// Counts the changes after which an index may mean another entry, or none.
    cuts: u64,
    /// The last vote on the disk.
    vote: Option<Bytes>,
}

struct Cached {
    entry: LogEntry,
    /// The write that brought it.
    ticket: u64,
}

/// Where the entries from some index on are.
pub(super) enum Place {
    /// Not in the log.
    Absent,
    /// In memory; these are they, up to the bounds asked for.
    Cached(Vec<LogEntry>),
    /// On the disk.
    Stored,
}

impl View {
    /// Returns the view of a log that holds the entries of `span`, all on the disk, none cached.
    pub(super) fn new(
        span: Range<u64>,
        purged: Option<u64>,
        vote: Option<Bytes>,
        cache_bytes_max: usize,
    ) -> View {
        View {
            first: span.start,
            end: span.end,
            purged,
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_bytes_max,
            admitted: 0,
            completed: 0,
            cuts: 0,
            vote,
        }
    }

    /// Makes the writes readable, in order, and returns their ticket for [`View::complete`]. Panics when they do not
    /// fit the log: then the caller lost count of its own entries.
    pub(super) fn admit(&mut self, writes: &[Write]) -> u64 {
        self.admitted += 1;
        for write in writes {
            match write {
                Write::Append(entries) => entries.iter().for_each(|entry| self.append(entry)),
                Write::TruncateAfter(keep) => self.truncate(*keep),
                Write::Purge { upto, .. } => self.purge(*upto),
                Write::Vote(_) | Write::Committed(_) | Write::Snapshot(_) | Write::Identity(_) => {}
            }
        }
        self.admitted
    }

    /// Notes that every write up to the ticket is on the disk: its entries may now leave the memory.
    pub(super) fn complete(&mut self, ticket: u64, vote: Option<Bytes>) {
        assert!(self.completed < ticket && ticket <= self.admitted, "writes complete in order");
        self.completed = ticket;
        self.vote = vote.or(self.vote.take());
        self.evict();
    }

    /// Adds an entry that is on the disk and in the log, in order, at recovery.
    pub(super) fn warm(&mut self, entry: LogEntry) {
        self.cache_bytes += cost(&entry);
        self.cache.push_back(Cached { entry, ticket: 0 });
        self.evict();
    }

    /// Returns where the entries of `range` are, looking from its start; of cached ones as many as `bytes_max` allows,
    /// but at least one.
    pub(super) fn locate(&self, range: Range<u64>, bytes_max: usize) -> Place {
        if !self.span().contains(&range.start) || range.is_empty() {
            return Place::Absent;
        }
        let cached_first = self.end - self.cache.len() as u64;
        if range.start < cached_first {
            return Place::Stored;
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        for cached in self.cache.range((range.start - cached_first) as usize..) {
            bytes += cached.entry.bytes.len();
            if cached.entry.index >= range.end || (bytes > bytes_max && !found.is_empty()) {
                break;
            }
            found.push(cached.entry.clone());
        }
        Place::Cached(found)
    }

    /// Returns the indexes of the log.
    pub(super) fn span(&self) -> Range<u64> {
        self.first..self.end
    }

    /// Returns how often an index changed its meaning so far.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Returns the last vote on the disk.
    pub(super) fn vote(&self) -> Option<Bytes> {
        self.vote.clone()
    }

    fn append(&mut self, entry: &LogEntry) {
        if self.first == self.end && self.purged.is_none() {
            self.first = entry.index;
            self.end = entry.index;
        }
        assert_eq!(entry.index, self.end, "appended entries follow the last one");
        self.end += 1;
        self.cache_bytes += cost(entry);
        self.cache.push_back(Cached { entry: entry.clone(), ticket: self.admitted });
    }

    fn truncate(&mut self, keep: Option<u64>) {
        self.end = keep.map_or(self.first, |keep| (keep + 1).clamp(self.first, self.end));
        while self.cache.back().is_some_and(|cached| cached.entry.index >= self.end) {
            self.cache_bytes -= self.cache.pop_back().map_or(0, |cut| cost(&cut.entry));
        }
        self.cuts += 1;
    }

    fn purge(&mut self, upto: u64) {
        if self.purged.is_some_and(|purged| upto <= purged) {
            return;
        }
        assert!(
            self.first == self.end || self.first <= upto + 1,
            "a purge leaves no hole behind it"
        );
        self.purged = Some(upto);
        self.first = upto + 1;
        self.end = self.end.max(self.first);
        while self.cache.front().is_some_and(|cached| cached.entry.index < self.first) {
            self.forget_oldest();
        }
        self.cuts += 1;
    }

    fn evict(&mut self) {
        let completed = self.completed;
        while self.cache_bytes > self.cache_bytes_max
            && self.cache.front().is_some_and(|cached| cached.ticket <= completed)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        self.cache_bytes -= self.cache.pop_front().map_or(0, |gone| cost(&gone.entry));
    }

    #[cfg(test)]
    pub(super) fn cached_len(&self) -> usize {
        self.cache.len()
    }
}

fn cost(entry: &LogEntry) -> usize {
    entry.bytes.len() + ENTRY_OVERHEAD_BYTES
}
