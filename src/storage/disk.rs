use std::io;

use bytes::Bytes;

/// One change of a batch: a key and its new value, or `None` to remove it.
pub type Change = (Vec<u8>, Option<Bytes>);

/// A key and its value.
pub type Pair = (Vec<u8>, Bytes);

/// First byte of the keys of records.
pub(super) const RECORDS: u8 = 0;
/// First byte of the keys of the series.
pub(super) const SERIES: u8 = 1;

/// The seam between storage and the world: one ordered key space with atomic, durable batches.
///
/// There is one writer at a time; readers may read beside it and see each batch whole or not at all, key by key.
/// Values are at most [`STORE_VALUE_BYTES_MAX`](crate::limits::STORE_VALUE_BYTES_MAX) bytes and keys are not
/// empty; anything else panics.
///
/// Keys whose first byte is 0 are *records*: few, small, changed again and again. Those whose first byte is 1 are the
/// *series*: written mostly once and in rising order, and given up from the lowest on. A disk may lay them out
/// accordingly. There are no others.
pub trait Disk: Send + Sync {
    /// Returns what to call this store in messages: its directory, or a name.
    fn name(&self) -> &str;

    /// Applies the batch; it is durable, with every batch before it, when this returns `Ok`. After an `Err` nothing is
    /// known about it. Blocks for as long as the disk takes. Later changes of the same key win.
    fn commit(&self, batch: Vec<Change>) -> io::Result<()>;

    /// Applies the batch without waiting for the disk. It becomes durable at some later time, never after a batch that
    /// is committed later, and whole or not at all.
    fn commit_lazily(&self, batch: Vec<Change>) -> io::Result<()>;

    /// Removes some of the series' keys below this one, lowest first, as many as are cheap to remove at once; returns
    /// whether there were any. Nobody may read them any more: some may stay for long, and a crash may bring back others.
    /// An error is like that of a commit.
    fn trim(&self, below: &[u8]) -> io::Result<bool>;

    /// Returns the value of a key.
    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>>;

    /// Returns the pair with the greatest key that is not above `key`. O(log n).
    fn floor(&self, key: &[u8]) -> io::Result<Option<Pair>>;

    /// Returns every pair in the order of keys. Reads the whole store.
    fn scan(&self) -> Box<dyn Iterator<Item = io::Result<Pair>> + '_>;
}
