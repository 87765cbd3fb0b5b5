use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::typ::{Entry, LogId, TypeConfig, Vote};
use crate::blocking;
use crate::codec;
use crate::limits::{APPEND_BYTES_MAX, PEER_FRAME_BYTES_MAX};
use crate::storage::{self, LogEntry, Recovered, WalHandle, Write};

/// openraft's log over the node's store. Entries are readable as soon as they are appended, and acknowledged when the store
/// says that they are durable; vote, log and commit index are one ordered stream of writes.
#[derive(Clone)]
pub struct LogStore {
    wal: WalHandle,
    reader: storage::LogReader,
    purged: Option<LogId>,
    committed: Option<LogId>,
}

impl LogStore {
    /// Returns the log over a store that was just opened. Errors: a record of it does not parse.
    pub fn new(wal: WalHandle, recovered: &Recovered) -> Result<LogStore, String> {
        let purged =
            recovered.purged.as_ref().map(|(_, marker)| decode("purged", marker)).transpose()?;
        let committed =
            recovered.committed.as_ref().map(|bytes| decode("committed", bytes)).transpose()?;
        Ok(LogStore { reader: wal.reader(), wal, purged, committed })
    }

    async fn write(&self, writes: Vec<Write>) -> io::Result<()> {
        let (done, result) = oneshot::channel();
        // The receiver lives until the answer, unless consensus is being dropped.
        self.wal.submit(writes, Box::new(move |outcome| drop(done.send(outcome))));
        result.await.unwrap_or_else(|_| Err(io::Error::other("the log's writer has ended")))
    }

    async fn read(&self, range: std::ops::Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let reader = self.reader.clone();
        let entries = match reader.is_cached(range.start) {
            true => reader.read(range, bytes_max)?,
            // Reading the disk blocks, and only a follower that is far behind makes it necessary.
            false => blocking::run(move || reader.read(range, bytes_max))
                .await
                .map_err(io::Error::other)??,
        };
        entries.iter().map(|entry| decode_entry(&entry.bytes)).collect()
    }
}

/// Decodes a stored entry.
pub(crate) fn decode_entry(bytes: &Bytes) -> io::Result<Entry> {
    decode("log entry", bytes).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

fn decode<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, String> {
    codec::decode(bytes, PEER_FRAME_BYTES_MAX)
        .map_err(|why| format!("the stored {what} does not parse: {why}"))
}

fn encode<T: serde::Serialize>(value: &T) -> Bytes {
    codec::encode(value).into()
}

fn to_range(range: impl RangeBounds<u64>) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(at) => at + 1,
        Bound::Excluded(at) => *at,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read(to_range(range), usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, APPEND_BYTES_MAX).await
    }

    /// What apply reads: in pieces, so that a long range is never in memory as a whole.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let store = self.clone();
        let pieces = stream::try_unfold((store, to_range(range)), |(store, rest)| async move {
            if rest.is_empty() {
                return Ok(None);
            }
            let entries = store.read(rest.clone(), APPEND_BYTES_MAX).await?;
            // The range may go beyond the log, and then the stream ends with it.
            let Some(last) = entries.last() else { return Ok(None) };
            let next = last.log_id.index + 1;
            Ok(Some((stream::iter(entries.into_iter().map(Ok)), (store, next..rest.end))))
        });
        Box::pin(pieces.flat_map(|piece: io::Result<_>| match piece {
            Ok(entries) => entries.boxed(),
            Err(err) => stream::iter([Err(err)]).boxed(),
        }))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let vote = self.reader.vote().map(|bytes| decode("vote", &bytes));
        vote.transpose().map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let reader = self.reader.clone();
        let last = blocking::run(move || reader.last()).await.map_err(io::Error::other)??;
        let last_log_id =
            last.map(|entry| decode_entry(&entry.bytes).map(|entry| entry.log_id())).transpose()?;
        Ok(LogState { last_purged_log_id: self.purged, last_log_id: last_log_id.or(self.purged) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        mutant!(M03, Ok(()), self.write(vec![Write::Vote(encode(vote))]).await)
    }

    /// Queued behind the entries it speaks of and not waited for: it saves a restart from re-learning it, no more.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.committed = committed;
        if let Some(committed) = &committed {
            self.wal.submit(vec![Write::Committed(encode(committed))], Box::new(|_| ()));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter();
        let entries = entries
            .map(|entry| LogEntry { index: entry.log_id.index, bytes: encode(&entry) })
            .collect();
        self.wal.submit(
            vec![Write::Append(entries)],
            mutant!(
                M01,
                {
                    callback.io_completed(Ok(()));
                    Box::new(|_| ())
                },
                Box::new(move |outcome| callback.io_completed(outcome))
            ),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.write(vec![Write::TruncateAfter(last_log_id.map(|id| id.index))]).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.purged = Some(log_id);
        let purge = Write::Purge { upto: log_id.index, marker: encode(&log_id) };
        self.wal.submit(vec![purge], Box::new(|_| ()));
        Ok(())
    }
}
