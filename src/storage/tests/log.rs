use std::sync::Arc;

use bytes::Bytes;

use super::super::plan;
use super::super::record::{chunk_key, meta_key, seal};
use super::super::{Disk, Log, MemoryDisk, SledDisk, SnapshotPointer, StoreError, Write};
use super::{MIB, append, entry, open_error, open_sled, open_uncached, purge, read_all};
use crate::limits::STORE_VALUE_BYTES_MAX;

fn indexes(log: &Log) -> Vec<u64> {
    read_all(log).iter().map(|entry| entry.index).collect()
}

#[test]
fn an_empty_disk_becomes_an_empty_log() {
    let (log, recovered) = Log::open(Arc::new(MemoryDisk::new())).unwrap();
    assert_eq!(recovered, Default::default());
    assert_eq!(log.reader().bounds(), None);
    assert_eq!(log.reader().last().unwrap(), None);
    assert_eq!(read_all(&log), []);
}

#[test]
fn appended_entries_are_read_back_from_memory_and_from_the_disk() {
    let disk = MemoryDisk::new();
    let (mut log, _) = Log::open(Arc::new(disk.clone())).unwrap();
    log.write_now(vec![append(0..7, 1, 100), append(7..9, 1, 0)]).unwrap();
    let expected: Vec<_> = (0..9).map(|at| entry(at, 1, if at < 7 { 100 } else { 0 })).collect();
    assert_eq!(read_all(&log), expected);
    assert_eq!(read_all(&open_uncached(&disk)), expected);
    assert_eq!(log.reader().read(3..5, usize::MAX).unwrap(), expected[3..5]);
}

#[test]
fn a_read_stops_at_its_byte_bound_but_returns_at_least_one_entry() {
    let disk = MemoryDisk::new();
    open_uncached(&disk).write_now(vec![append(0..50, 1, 10_000)]).unwrap();
    for log in [open_uncached(&disk), Log::open(Arc::new(disk.clone())).unwrap().0] {
        let count = |from, bytes_max| log.reader().read(from..50, bytes_max).unwrap().len();
        assert_eq!(count(0, 0), 1);
        assert_eq!(count(0, 9_999), 1);
        assert_eq!(count(0, 29_999), 2);
        assert_eq!(count(0, 30_000), 3);
        assert_eq!(count(2, 120_000), 12);
        assert_eq!(count(45, usize::MAX), 5);
    }
}

#[test]
fn an_entry_larger_than_a_value_is_split_and_joined() {
    let disk = MemoryDisk::new();
    let len = STORE_VALUE_BYTES_MAX;
    let sizes = [10, len - 17, len - 16, len - 15, len, 3 * len + 5, 6 << 20, 10];
    let entries: Vec<_> = sizes.iter().zip(0..).map(|(&len, at)| entry(at, 9, len)).collect();
    open_uncached(&disk).write_now(vec![Write::Append(entries.clone())]).unwrap();
    let log = open_uncached(&disk);
    assert_eq!(read_all(&log), entries);
    for at in 0..entries.len() {
        let found = log.reader().read(at as u64..at as u64 + 1, 0).unwrap();
        assert_eq!(found, entries[at..at + 1]);
    }
    assert!(disk.scan().all(|pair| pair.unwrap().1.len() <= STORE_VALUE_BYTES_MAX));
}

#[test]
fn entries_of_one_write_share_chunks() {
    let disk = MemoryDisk::new();
    open_uncached(&disk)
        .write_now((0..100).map(|at| append(at..at + 1, 1, 1000)).collect())
        .unwrap();
    let chunks = disk.scan().filter(|pair| pair.as_ref().unwrap().0[0] == 1).count();
    assert_eq!(chunks, (100 * 1016usize).div_ceil(STORE_VALUE_BYTES_MAX));
}

#[test]
fn truncation_cuts_within_chunks_and_the_log_goes_on_from_there() {
    for keep in 0..12 {
        let disk = MemoryDisk::new();
        let mut log = open_uncached(&disk);
        log.write_now(vec![append(0..5, 1, 9)]).unwrap();
        log.write_now(vec![append(5..6, 1, 200_000), append(6..12, 1, 9)]).unwrap();
        log.write_now(vec![Write::TruncateAfter(Some(keep))]).unwrap();
        let mut expected: Vec<_> =
            (0..=keep).map(|at| entry(at, 1, if at == 5 { 200_000 } else { 9 })).collect();
        assert_eq!(read_all(&log), expected);
        assert_eq!(read_all(&open_uncached(&disk)), expected);
        log.write_now(vec![append(keep + 1..keep + 4, 2, 9)]).unwrap();
        expected.extend((keep + 1..keep + 4).map(|at| entry(at, 2, 9)));
        assert_eq!(read_all(&open_uncached(&disk)), expected);
    }
}

#[test]
fn truncation_and_append_in_one_write_leave_only_the_new_entries() {
    let disk = MemoryDisk::new();
    let mut log = open_uncached(&disk);
    log.write_now(vec![append(0..4, 1, 9)]).unwrap();
    let writes = vec![
        append(4..9, 1, 9),
        Write::TruncateAfter(Some(5)),
        append(6..8, 2, 9),
        Write::TruncateAfter(Some(2)),
        append(3..5, 3, 9),
    ];
    log.write_now(writes).unwrap();
    let expected = [entry(0, 1, 9), entry(1, 1, 9), entry(2, 1, 9), entry(3, 3, 9), entry(4, 3, 9)];
    assert_eq!(read_all(&log), expected);
    assert_eq!(read_all(&open_uncached(&disk)), expected);
}

#[test]
fn truncation_after_nothing_empties_the_log() {
    let disk = MemoryDisk::new();
    let mut log = open_uncached(&disk);
    log.write_now(vec![append(0..9, 1, 9), Write::TruncateAfter(None)]).unwrap();
    assert!(indexes(&log).is_empty());
    log.write_now(vec![append(0..2, 2, 9)]).unwrap();
    assert_eq!(indexes(&open_uncached(&disk)), [0, 1]);
}

#[test]
fn purged_entries_are_not_readable_even_where_their_chunk_stays() {
    let disk = MemoryDisk::new();
    let mut log = open_uncached(&disk);
    log.write_now(vec![append(0..5, 1, 9)]).unwrap();
    log.write_now(vec![append(5..10, 1, 9)]).unwrap();
    log.write_now(vec![purge(6)]).unwrap();
    assert_eq!(indexes(&log), [7, 8, 9]);
    assert_eq!(disk.get(&chunk_key(0, 0)).unwrap(), None);
    let (log, recovered) = Log::open(Arc::new(disk.clone())).unwrap();
    assert_eq!(indexes(&log), [7, 8, 9]);
    assert_eq!(recovered.bounds, Some((7, 9)));
    assert_eq!(recovered.purged, Some((6, Bytes::from("purged 6"))));
}

#[test]
fn a_purge_beyond_the_log_lets_it_begin_again_after_it() {
    let disk = MemoryDisk::new();
    let mut log = open_uncached(&disk);
    log.write_now(vec![append(0..5, 1, 9), purge(100), purge(50)]).unwrap();
    assert_eq!(log.reader().bounds(), None);
    let mut log = open_uncached(&disk);
    log.write_now(vec![append(101..103, 1, 9)]).unwrap();
    assert_eq!(indexes(&open_uncached(&disk)), [101, 102]);
}

#[test]
fn a_truncation_below_a_purge_empties_the_log() {
    let disk = MemoryDisk::new();
    let mut log = open_uncached(&disk);
    log.write_now(vec![append(0..10, 1, 9), purge(5), Write::TruncateAfter(Some(3))]).unwrap();
    log.write_now(vec![append(6..8, 2, 9)]).unwrap();
    assert_eq!(read_all(&open_uncached(&disk)), [entry(6, 2, 9), entry(7, 2, 9)]);
}

#[test]
#[should_panic(expected = "appended entries follow the last one")]
fn a_gap_in_appended_entries_panics() {
    let mut log = open_uncached(&MemoryDisk::new());
    log.write_now(vec![append(0..2, 1, 9), append(3..4, 1, 9)]).unwrap();
}

#[test]
fn every_record_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let pointer = SnapshotPointer { generation: 3, chunks: 9, crc: 77, meta: Bytes::from("meta") };
    {
        let (mut log, _) = Log::open(Arc::new(open_sled(&dir.path().join("raft")))).unwrap();
        log.write_now(vec![
            Write::Identity(Bytes::from("node")),
            Write::Vote(Bytes::from("vote 1")),
            append(0..10, 1, 100),
            Write::Committed(Bytes::from("committed")),
            Write::Snapshot(pointer.clone()),
            purge(4),
        ])
        .unwrap();
        log.write_now(vec![Write::Vote(Bytes::from("vote 2"))]).unwrap();
        assert_eq!(log.reader().vote(), Some(Bytes::from("vote 2")));
    }
    let (log, recovered) = Log::open(Arc::new(open_sled(&dir.path().join("raft")))).unwrap();
    assert_eq!(recovered.identity, Some(Bytes::from("node")));
    assert_eq!(recovered.vote, Some(Bytes::from("vote 2")));
    assert_eq!(recovered.committed, Some(Bytes::from("committed")));
    assert_eq!(recovered.purged, Some((4, Bytes::from("purged 4"))));
    assert_eq!(recovered.bounds, Some((5, 9)));
    assert_eq!(recovered.snapshot, Some(pointer));
    assert_eq!(log.reader().vote(), Some(Bytes::from("vote 2")));
    assert_eq!(log.reader().last().unwrap(), Some(entry(9, 1, 100)));
}

#[test]
fn old_entries_leave_the_memory_and_stay_readable() {
    let disk = Arc::new(MemoryDisk::new());
    let (mut log, _) = Log::open_with_cache(disk, 10_000).unwrap();
    for at in 0..100 {
        log.write_now(vec![append(at..at + 1, 1, 1000)]).unwrap();
    }
    assert_eq!(log.shared().view.lock().cached_len(), 9);
    assert!(
        log.reader().is_cached(99) && log.reader().is_cached(91) && !log.reader().is_cached(90)
    );
    assert_eq!(indexes(&log), (0..100).collect::<Vec<_>>());
}

#[test]
fn entries_that_are_not_on_the_disk_never_leave_the_memory() {
    let (log, _) = Log::open_with_cache(Arc::new(MemoryDisk::new()), 0).unwrap();
    let mut view = log.shared().view.lock();
    let first = view.admit(&[append(0..60, 1, 1000)]);
    view.admit(&[append(60..100, 1, 1000)]);
    assert_eq!(view.cached_len(), 100);
    view.complete(first, None);
    assert_eq!(view.cached_len(), 40);
}

#[test]
fn a_crash_keeps_what_was_committed_and_a_prefix_of_the_rest() {
    for kept in 0..=2 {
        let disk = MemoryDisk::new();
        let mut log = open_uncached(&disk);
        log.write_now(vec![append(0..10, 1, 9), Write::Committed(Bytes::from("1"))]).unwrap();
        log.write_now(vec![Write::Committed(Bytes::from("2"))]).unwrap();
        log.write_now(vec![purge(9)]).unwrap();
        disk.crash(kept);
        let (_, recovered) = Log::open(Arc::new(disk)).unwrap();
        assert_eq!(recovered.committed, Some(Bytes::from(if kept == 0 { "1" } else { "2" })));
        assert_eq!(recovered.purged.is_some(), kept == 2);
        assert_eq!(recovered.bounds, if kept == 2 { None } else { Some((0, 9)) });
    }
}

#[test]
fn a_lazy_write_becomes_durable_with_the_next_durable_one() {
    let disk = MemoryDisk::new();
    let mut log = open_uncached(&disk);
    log.write_now(vec![Write::Committed(Bytes::from("1"))]).unwrap();
    log.write_now(vec![Write::Vote(Bytes::from("vote"))]).unwrap();
    assert_eq!((log.stats().lazy_commits, log.stats().commits), (1, 1));
    disk.crash(0);
    let (_, recovered) = Log::open(Arc::new(disk)).unwrap();
    assert_eq!(recovered.committed, Some(Bytes::from("1")));
}

#[test]
fn a_flipped_bit_in_any_value_is_found_when_the_store_is_opened() {
    let disk = MemoryDisk::new();
    let mut log = open_uncached(&disk);
    log.write_now(vec![append(0..3, 1, 50), append(3..4, 1, 100_000), append(4..9, 1, 50)])
        .unwrap();
    log.write_now(vec![Write::Vote(Bytes::from("v")), Write::Snapshot(SnapshotPointer::default())])
        .unwrap();
    log.write_now(vec![purge(0), Write::Committed(Bytes::from("c"))]).unwrap();
    for pair in disk.scan() {
        let (key, value) = pair.unwrap();
        for at in [0, 3, 4, 7, 8, 12, 15, 16, value.len() / 2, value.len() - 1] {
            let mut bad = value.to_vec();
            let Some(byte) = bad.get_mut(at) else { continue };
            *byte ^= 0x10;
            disk.commit(vec![(key.clone(), Some(bad.into()))]).unwrap();
            let err = open_error(&disk);
            assert!(matches!(err, StoreError::Damaged { .. }), "{key:?} at {at}: {err}");
            assert!(err.to_string().contains("memory") && err.to_string().contains("new node id"));
        }
        let cut = value.slice(..value.len() - 1);
        disk.commit(vec![(key.clone(), Some(cut))]).unwrap();
        assert!(matches!(open_error(&disk), StoreError::Damaged { .. }), "{key:?} cut short");
        disk.commit(vec![(key, Some(value))]).unwrap();
    }
    assert_eq!(read_all(&open_uncached(&disk)).len(), 8);
}

#[test]
fn a_missing_chunk_is_found_and_named() {
    let disk = MemoryDisk::new();
    let mut log = open_uncached(&disk);
    log.write_now(vec![append(0..3, 1, 50)]).unwrap();
    log.write_now(vec![append(3..4, 1, 150_000)]).unwrap();
    log.write_now(vec![append(4..6, 1, 50)]).unwrap();
    for key in [chunk_key(3, 1), chunk_key(3, 2), chunk_key(3, 4)] {
        let value = disk.get(&key).unwrap();
        assert!(value.is_some());
        disk.commit(vec![(key.clone(), None)]).unwrap();
        assert!(open_error(&disk).to_string().contains("log entry 3"));
        disk.commit(vec![(key, value)]).unwrap();
    }
    disk.commit(vec![(chunk_key(0, 0), None)]).unwrap();
    // The store alone cannot tell a log that begins at 3 from one whose beginning is lost, a purge record can.
    disk.commit(vec![(meta_key(plan::PURGED), Some(seal(plan::PURGED, &0u64.to_le_bytes())))])
        .unwrap();
    assert!(open_error(&disk).to_string().contains("log entry 3"));
}

#[test]
fn damage_met_by_a_reader_is_an_error_that_names_store_and_key() {
    let disk = MemoryDisk::new();
    let mut log = open_uncached(&disk);
    log.write_now(vec![append(0..3, 1, 50)]).unwrap();
    log.write_now(vec![append(3..6, 1, 50)]).unwrap();
    disk.commit(vec![(chunk_key(3, 0), Some(Bytes::from("what")))]).unwrap();
    assert_eq!(log.reader().read(0..3, usize::MAX).unwrap().len(), 3);
    let err = log.reader().read(0..6, usize::MAX).unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::InvalidData);
    assert!(err.to_string().contains("memory is damaged at log chunk 3"), "{err}");
    disk.commit(vec![(chunk_key(3, 0), None)]).unwrap();
    let err = log.reader().read(3..6, usize::MAX).unwrap_err();
    assert!(err.to_string().contains("memory is damaged at log chunk 3 (missing)"), "{err}");
}

#[test]
fn a_newer_format_is_refused_and_says_so() {
    let disk = MemoryDisk::new();
    drop(open_uncached(&disk));
    disk.commit(vec![(meta_key(plan::FORMAT), Some(seal(plan::FORMAT, &3u32.to_le_bytes())))])
        .unwrap();
    let err = open_error(&disk);
    assert!(matches!(err, StoreError::Newer { found: 3, known: 2, .. }));
    assert!(err.to_string().contains("run the newer version"));
}

#[test]
fn a_store_without_its_format_or_with_foreign_keys_is_damaged() {
    let disk = MemoryDisk::new();
    drop(open_uncached(&disk));
    for key in [meta_key("else"), vec![2, 1], vec![1, 0]] {
        disk.commit(vec![(key.clone(), Some(seal("else", b"")))]).unwrap();
        assert!(matches!(open_error(&disk), StoreError::Damaged { .. }));
        disk.commit(vec![(key, None)]).unwrap();
    }
    disk.commit(vec![(meta_key(plan::FORMAT), None), (chunk_key(1, 0), Some(Bytes::from("x")))])
        .unwrap();
    assert!(open_error(&disk).to_string().contains("record `format` (missing)"));
}

#[test]
fn a_directory_in_use_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open_sled(dir.path());
    let err = SledDisk::open(dir.path(), 8 * MIB).err().unwrap();
    assert!(matches!(err, StoreError::Locked { .. }));
    assert_eq!(err.to_string().lines().count(), 1);
}

#[test]
fn blob_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_sled(dir.path()));
    std::fs::write(dir.path().join("blobs/1"), "x").unwrap();
    let err = SledDisk::open(dir.path(), 8 * MIB).err().unwrap();
    assert!(err.to_string().contains("damaged at blobs/"), "{err}");
}

#[test]
fn an_index_that_was_not_finished_when_the_disk_was_full_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let key = meta_key("kept");
    open_sled(dir.path()).commit(vec![(key.clone(), Some(Bytes::from("value")))]).unwrap();
    // As sled names it, newer than any other.
    for (name, bytes) in
        [("snap.00000000FFFFFFFF.generating", &b""[..]), ("snap.1.generating", b"half")]
    {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    assert_eq!(open_sled(dir.path()).get(&key).unwrap(), Some(Bytes::from("value")));
}

#[test]
fn a_store_that_is_not_sled_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("conf"), [7u8; 64]).unwrap();
    std::fs::write(dir.path().join("db"), [7u8; 4096]).unwrap();
    let err = SledDisk::open(dir.path(), 8 * MIB).err().unwrap().to_string();
    assert!(
        err.contains("join under a new node id") && err.contains(dir.path().to_str().unwrap()),
        "{err}"
    );
}

#[test]
fn acknowledged_writes_that_sled_forgets_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (raft, db) = (dir.path().join("raft"), dir.path().join("raft/db"));
    {
        let (mut log, _) = Log::open(Arc::new(open_sled(&raft))).unwrap();
        for at in 0..100 {
            log.write_now(vec![append(at..at + 1, 1, 2_000)]).unwrap();
        }
    }
    let intact = std::fs::read(&db).unwrap();
    let used = intact.iter().rposition(|&byte| byte != 0).unwrap();
    for part in 1..8 {
        let mut damaged = intact.clone();
        damaged[used * part / 8] ^= 0x40;
        std::fs::write(&db, damaged).unwrap();
        let result = SledDisk::open(&raft, 8 * MIB).and_then(|disk| Log::open(Arc::new(disk)));
        let err = result.err().unwrap_or_else(|| panic!("damage in part {part} was not noticed"));
        assert!(err.to_string().contains("join under a new node id"), "{err}");
    }
}

#[test]
fn a_mark_that_did_not_reach_the_disk_is_no_reason_to_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let mut old = Vec::new();
    for at in 0..3 {
        let (mut log, recovered) = Log::open(Arc::new(open_sled(dir.path()))).unwrap();
        assert_eq!(recovered.bounds, if at == 0 { None } else { Some((0, at - 1)) });
        log.write_now(vec![append(at..at + 1, 1, 9)]).unwrap();
        drop(log);
        match at {
            0 => old = std::fs::read(&mark).unwrap(),
            1 => std::fs::write(&mark, &old).unwrap(),
            _ => std::fs::write(&mark, "").unwrap(),
        }
    }
    std::fs::remove_file(&mark).unwrap();
    assert_eq!(Log::open(Arc::new(open_sled(dir.path()))).unwrap().1.bounds, Some((0, 2)));
}

#[test]
#[should_panic(expected = "bytes")]
fn a_value_too_large_for_sled_never_reaches_it() {
    let dir = tempfile::tempdir().unwrap();
    let value = Bytes::from(vec![0; STORE_VALUE_BYTES_MAX + 1]);
    let _ = open_sled(dir.path()).commit(vec![(vec![1], Some(value))]);
}

#[test]
fn a_log_on_sled_creates_no_blobs_and_survives_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<_> =
        (0..40).map(|at| entry(at, 5, if at % 7 == 0 { 300_000 } else { 40_000 })).collect();
    {
        let (mut log, _) = Log::open_with_cache(Arc::new(open_sled(dir.path())), 0).unwrap();
        for chunk in entries.chunks(3) {
            log.write_now(vec![Write::Append(chunk.to_vec())]).unwrap();
        }
        assert_eq!(read_all(&log), entries);
    }
    let (log, _) = Log::open_with_cache(Arc::new(open_sled(dir.path())), 0).unwrap();
    assert_eq!(read_all(&log), entries);
    assert_eq!(std::fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
}
