use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets of [`StorageStats::commit_micros`], µs; the last bucket has none.
pub const COMMIT_MICROS_BOUNDS: [u64; 12] =
    [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 204_800, 1_000_000];

/// What the log's writer did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageStats {
    /// Batches made durable.
    pub commits: u64,
    /// Batches written without waiting for the disk.
    pub lazy_commits: u64,
    /// Entries appended.
    pub entries: u64,
    /// Their bytes.
    pub entry_bytes: u64,
    /// Bytes of keys and values handed to the disk.
    pub written_bytes: u64,
    /// How many durable commits took up to each of [`COMMIT_MICROS_BOUNDS`] and not up to the one before; the last
    /// counts those beyond.
    pub commit_micros: [u64; COMMIT_MICROS_BOUNDS.len() + 1],
    /// Their total, µs.
    pub commit_micros_sum: u64,
}

/// The same, counted by the writer and read by anyone.
#[derive(Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    lazy_commits: AtomicU64,
    entries: AtomicU64,
    entry_bytes: AtomicU64,
    written_bytes: AtomicU64,
    commit_micros: [AtomicU64; COMMIT_MICROS_BOUNDS.len() + 1],
    commit_micros_sum: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, durable: bool, entries: u64, entry_bytes: u64, written_bytes: u64) {
        let commits = if durable { &self.commits } else { &self.lazy_commits };
        commits.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.entry_bytes.fetch_add(entry_bytes, Ordering::Relaxed);
        self.written_bytes.fetch_add(written_bytes, Ordering::Relaxed);
    }

    pub(super) fn time_commit(&self, micros: u64) {
        let bucket = COMMIT_MICROS_BOUNDS.partition_point(|&bound| bound < micros);
        self.commit_micros[bucket].fetch_add(1, Ordering::Relaxed);
        self.commit_micros_sum.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> StorageStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StorageStats {
            commits: read(&self.commits),
            lazy_commits: read(&self.lazy_commits),
            entries: read(&self.entries),
            entry_bytes: read(&self.entry_bytes),
            written_bytes: read(&self.written_bytes),
            commit_micros: std::array::from_fn(|bucket| read(&self.commit_micros[bucket])),
            commit_micros_sum: read(&self.commit_micros_sum),
        }
    }
}
