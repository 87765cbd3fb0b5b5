//! When entries can be read, what a crash may leave of vote, log and commit index, and how much one read gives.

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use proptest::prelude::*;

use super::{Store, append, entry, log_id, vote};
use crate::limits::{APPEND_BYTES_MAX, WAL_COMMIT_BYTES_MAX};
use crate::storage::{Log, MemoryDisk, MemoryDisks, SnapshotStore, WalWriter, wal};

/// A store whose writer does nothing until it is told to.
fn by_hand(disk: &MemoryDisk) -> (Store, WalWriter) {
    let (log, recovered) = Log::open(Arc::new(disk.clone())).unwrap();
    let (handle, writer) = wal(log, Box::new(|| 0), Box::new(|| ()));
    let shelf = |keep| SnapshotStore::in_memory(MemoryDisks::new(), keep).unwrap();
    (Store::over(handle, recovered, shelf), writer)
}

/// What a node that starts from this disk now finds: its vote's term, its log's last index, its commit index.
async fn found(disk: &MemoryDisk) -> (u64, Option<u64>, Option<u64>) {
    let (mut store, _writer) = by_hand(disk);
    let vote = store.log.read_vote().await.unwrap();
    let last = store.log.get_log_state().await.unwrap().last_log_id;
    let committed = store.log.read_committed().await.unwrap();
    (
        vote.map_or(0, |vote| vote.leader_id.term),
        last.map(|id| id.index),
        committed.map(|id| id.index),
    )
}

#[tokio::test]
async fn an_entry_is_readable_before_it_is_durable_and_acknowledged_only_then() {
    let disk = MemoryDisk::new();
    let (mut store, mut writer) = by_hand(&disk);
    let mut reader = store.log.get_log_reader().await;
    let mut durable = append(&mut store.log, vec![entry(1, 0, 10), entry(1, 1, 10)]).await;
    let read = reader.try_get_log_entries(0..9).await.unwrap();
    assert_eq!(read, [entry(1, 0, 10), entry(1, 1, 10)]);
    assert!((&mut durable).now_or_never().is_none(), "nothing has been written yet");
    assert_eq!(found(&disk).await.1, None);

    assert!(writer.step());
    durable.now_or_never().expect("it is acknowledged").unwrap().unwrap();
    assert_eq!(found(&disk).await.1, Some(1));
}

#[tokio::test]
async fn a_vote_waits_for_the_entries_before_it_and_is_not_read_before_it_is_durable() {
    let disk = MemoryDisk::new();
    let (mut store, mut writer) = by_hand(&disk);
    // Each is too large to share a commit with what follows.
    let _durable = append(&mut store.log, vec![entry(1, 0, WAL_COMMIT_BYTES_MAX)]).await;
    let mut reader = store.log.get_log_reader().await;
    let new_vote = vote(2);
    let mut saving = Box::pin(store.log.save_vote(&new_vote));
    assert!((&mut saving).now_or_never().is_none());
    assert_eq!(reader.read_vote().await.unwrap(), None);

    assert!(writer.step());
    assert_eq!(found(&disk).await, (0, Some(0), None), "the entry alone");
    assert!(
        (&mut saving).now_or_never().is_none(),
        "a vote that a crash could take back is not given"
    );
    assert!(writer.step());
    saving.now_or_never().expect("it is saved").unwrap();
    assert_eq!(reader.read_vote().await.unwrap(), Some(vote(2)));
    assert_eq!(found(&disk).await, (2, Some(0), None));
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Vote,
    Commit,
    Truncate,
    Write,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..4usize).prop_map(Step::Append),
        1 => Just(Step::Vote),
        2 => Just(Step::Commit),
        1 => Just(Step::Truncate),
        3 => Just(Step::Write),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Term of the vote, entries in the log, and up to where they are committed.
type State = (u64, u64, u64);

/// Does the steps, cuts the power, and checks that what is left is a state that was, not older than what was acknowledged.
async fn cut_after(steps: Vec<Step>, kept: usize) {
    let disk = MemoryDisk::new();
    let (mut store, mut writer) = by_hand(&disk);
    let mut states: Vec<State> = vec![(0, 0, 0)];
    let mut acknowledged = 0;
    for step in steps {
        let (mut term, mut len, mut committed) = states[states.len() - 1];
        match step {
            Step::Append(count) => {
                let new = (len..len + count as u64).map(|index| entry(1, index, 100)).collect();
                drop(append(&mut store.log, new).await);
                len += count as u64;
            }
            Step::Vote => {
                term += 1;
                assert!(store.log.save_vote(&vote(term)).now_or_never().is_none());
            }
            Step::Commit if len > 0 => {
                committed = len;
                store.log.save_committed(Some(log_id(1, len - 1))).await.unwrap();
            }
            Step::Truncate if len > committed => {
                len = committed;
                let last = len.checked_sub(1).map(|index| log_id(1, index));
                assert!(store.log.truncate_after(last).now_or_never().is_none());
            }
            Step::Commit | Step::Truncate => continue,
            Step::Write => {
                writer.step();
                acknowledged = states.len() - 1;
                continue;
            }
        }
        states.push((term, len, committed));
    }
    drop((store, writer));
    disk.crash(kept);
    let (term, last, committed) = found(&disk).await;
    let len = last.map_or(0, |index| index + 1);
    assert!(
        committed.is_none_or(|index| index < len),
        "committed {committed:?}, log ends at {last:?}"
    );
    let possible = |&(was_term, was_len, was_committed): &State| {
        // A commit index may be lost, and is then one that was there before.
        (was_term, was_len) == (term, len) && committed.is_none_or(|index| index < was_committed)
    };
    assert!(
        states[acknowledged..].iter().any(possible),
        "found {:?} after {:?}",
        (term, len, committed),
        &states[acknowledged..]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_leaves_a_prefix_in_which_nothing_is_committed_that_is_not_there(
        steps in steps(),
        kept in 0..4usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(cut_after(steps, kept));
    }
}

#[tokio::test]
async fn one_read_for_a_follower_is_bounded_in_bytes_but_gives_one_entry_at_least() {
    let mut store = Store::in_memory(&MemoryDisk::new(), &MemoryDisks::new());
    let mut entries: Vec<_> =
        (0..5).map(|index| entry(1, index, APPEND_BYTES_MAX / 2 - 100)).collect();
    entries.push(entry(1, 5, APPEND_BYTES_MAX + 1));
    append(&mut store.log, entries.clone()).await.await.unwrap().unwrap();
    assert_eq!(store.log.limited_get_log_entries(0, 6).await.unwrap(), entries[..2]);
    assert_eq!(store.log.limited_get_log_entries(4, 6).await.unwrap(), entries[4..5]);
    assert_eq!(store.log.limited_get_log_entries(5, 6).await.unwrap(), entries[5..]);
    assert_eq!(store.log.limited_get_log_entries(1, 2).await.unwrap(), entries[1..2]);
}

#[tokio::test]
async fn a_stream_of_entries_goes_on_over_many_reads_and_ends_with_the_log() {
    let mut store = Store::in_memory(&MemoryDisk::new(), &MemoryDisks::new());
    let entries: Vec<_> = (0..7).map(|index| entry(1, index, APPEND_BYTES_MAX / 3)).collect();
    append(&mut store.log, entries.clone()).await.await.unwrap().unwrap();
    let all: Vec<_> = store.log.entries_stream(0..7).await.map(Result::unwrap).collect().await;
    assert_eq!(all, entries);
    let some: Vec<_> = store.log.entries_stream(2..=4).await.map(Result::unwrap).collect().await;
    assert_eq!(some, entries[2..5]);
    let beyond: Vec<_> = store.log.entries_stream(5..).await.map(Result::unwrap).collect().await;
    assert_eq!(beyond, entries[5..]);
}
