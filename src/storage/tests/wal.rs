use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::super::{Clock, Disk, Log, MemoryDisk, Write, spawn_writer, wal};
use super::{Stubborn, append, entry, open_sled, read_all};
use crate::limits::{WAL_COMMIT_BYTES_MAX, WAL_QUEUE_BYTES_MAX};

/// A clock that advances by 150 µs each time it is asked.
fn clock() -> Clock {
    let now = AtomicU64::new(0);
    Box::new(move || now.fetch_add(150, Ordering::Relaxed))
}

fn open(disk: impl Disk + 'static) -> Log {
    Log::open_with_cache(Arc::new(disk), 0).unwrap().0
}

fn ignore() -> super::super::Done {
    Box::new(|_| {})
}

#[test]
fn appended_entries_are_readable_before_they_are_durable() {
    let disk = Arc::new(Stubborn::default());
    let (log, _) = Log::open_with_cache(disk.clone(), 0).unwrap();
    let handle = spawn_writer(log, clock()).unwrap();
    disk.hold(true);
    let (send, receive) = mpsc::channel();
    handle.submit(
        vec![append(0..3, 1, 9)],
        Box::new(move |result| send.send(result.is_ok()).unwrap()),
    );
    assert_eq!(handle.reader().read(0..9, usize::MAX).unwrap().len(), 3);
    assert_eq!(receive.try_recv(), Err(mpsc::TryRecvError::Empty));
    disk.hold(false);
    assert!(receive.recv().unwrap());
    handle.close();
}

#[test]
fn jobs_that_wait_share_one_commit_and_are_answered_in_order() {
    let (handle, mut writer) = wal(open(MemoryDisk::new()), clock(), Box::new(|| {}));
    let order = Arc::new(Mutex::new(Vec::new()));
    for at in 0..10 {
        let order = order.clone();
        handle.submit(vec![append(at..at + 1, 1, 100)], Box::new(move |_| order.lock().push(at)));
    }
    assert!(writer.step());
    assert!(!writer.step());
    assert_eq!(*order.lock(), (0..10).collect::<Vec<_>>());
    let stats = handle.stats();
    assert_eq!((stats.commits, stats.entries, stats.entry_bytes), (1, 10, 1000));
    assert_eq!((stats.commit_micros[1], stats.commit_micros_sum), (1, 150));
    assert!(stats.written_bytes > 1000);
}

#[test]
fn a_commit_takes_a_bounded_share_of_the_queue_and_a_large_job_alone() {
    let (handle, mut writer) = wal(open(MemoryDisk::new()), clock(), Box::new(|| {}));
    for at in 0..10 {
        let len = if at == 5 { WAL_COMMIT_BYTES_MAX * 2 } else { WAL_COMMIT_BYTES_MAX / 4 };
        handle.submit(vec![append(at..at + 1, 1, len)], ignore());
    }
    let mut ends = Vec::new();
    while writer.step() {
        ends.push(handle.stats().entries);
    }
    assert_eq!(ends, [3, 5, 6, 9, 10]);
}

#[test]
fn after_a_failed_commit_nothing_is_acknowledged() {
    let disk = Arc::new(Stubborn::default());
    let (log, _) = Log::open(disk.clone()).unwrap();
    let handle = spawn_writer(log, clock()).unwrap();
    handle.write(vec![append(0..1, 1, 9)]).unwrap();
    disk.fail(true);
    let err = handle.write(vec![append(1..2, 1, 9)]).unwrap_err();
    assert!(err.to_string().contains("the disk is full"));
    disk.fail(false);
    for write in [append(2..3, 1, 9), Write::Committed(Bytes::new()), Write::Vote(Bytes::new())] {
        let err = handle.write(vec![write]).unwrap_err();
        assert!(err.to_string().contains("failed earlier"), "{err}");
    }
    handle.close();
    assert_eq!(read_all(&open(disk.disk.clone())), [entry(0, 1, 9)]);
}

#[test]
fn a_full_queue_makes_the_caller_wait_until_there_is_room() {
    let disk = Arc::new(Stubborn::default());
    let (log, _) = Log::open_with_cache(disk.clone(), 0).unwrap();
    let handle = spawn_writer(log, clock()).unwrap();
    disk.hold(true);
    let large = WAL_QUEUE_BYTES_MAX / 4 - 1000;
    let answered = Arc::new(AtomicU64::new(0));
    let (send, submitted) = mpsc::channel();
    let jobs: Vec<_> = (0..8).map(|at| append(at..at + 1, 1, large)).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (job, at) in jobs.into_iter().zip(0..) {
                let count = answered.clone();
                let done = Box::new(move |_| {
                    count.fetch_add(1, Ordering::SeqCst);
                });
                handle.submit(vec![job], done);
                send.send((at, answered.load(Ordering::SeqCst))).unwrap();
            }
            drop(send);
        });
        // One is with the writer and four fill the queue: the next finds room when the writer comes for its second.
        let mut waited = 0;
        for _ in 0..8 {
            let (at, answered) = submitted.recv().unwrap();
            assert!(answered + 5 > at, "{at} was taken with {answered} answered");
            waited += u64::from(at > 4);
            disk.hold(at < 4);
        }
        assert_eq!(waited, 3);
    });
    handle.close();
    assert_eq!(answered.load(Ordering::SeqCst), 8);
}

#[test]
fn close_does_what_is_queued_and_refuses_the_rest() {
    let disk = MemoryDisk::new();
    let handle = spawn_writer(open(disk.clone()), clock()).unwrap();
    for at in 0..100 {
        handle.submit(vec![append(at..at + 1, 1, 9)], ignore());
    }
    handle.close();
    assert_eq!(
        handle.write(vec![append(100..101, 1, 9)]).unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    drop(handle);
    assert_eq!(read_all(&open(disk)).len(), 100);
}

#[test]
fn the_last_handle_ends_the_writer() {
    let (handle, writer) = wal(open(MemoryDisk::new()), clock(), Box::new(|| {}));
    let other = handle.clone();
    drop(handle);
    assert!(!writer.is_closed());
    drop(other);
    assert!(writer.is_closed());
}

#[test]
fn a_writer_that_is_gone_fails_the_jobs_it_leaves() {
    let (handle, writer) = wal(open(MemoryDisk::new()), clock(), Box::new(|| {}));
    let (send, receive) = mpsc::channel();
    handle.submit(
        vec![append(0..1, 1, 9)],
        Box::new(move |result| send.send(result.is_err()).unwrap()),
    );
    drop(writer);
    assert!(receive.recv().unwrap());
}

#[test]
fn a_read_that_the_log_is_cut_under_returns_no_mixture() {
    for reads in 0..4 {
        let disk = Arc::new(Stubborn::default());
        let (mut log, _) = Log::open_with_cache(disk.clone(), 0).unwrap();
        for at in 0..6 {
            log.write_now(vec![append(at..at + 1, 1, 9)]).unwrap();
        }
        let reader = log.reader();
        let cut = move || {
            log.write_now(vec![Write::TruncateAfter(Some(0))]).unwrap();
            log.write_now(vec![append(1..6, 2, 9)]).unwrap();
        };
        *disk.before_read.lock() = Some((reads, Box::new(cut)));
        let expected: Vec<_> = (0..4).map(|at| entry(at, if at == 0 { 1 } else { 2 }, 9)).collect();
        assert_eq!(reader.read(0..4, usize::MAX).unwrap(), expected, "cut before read {reads}");
    }
}

#[test]
fn a_read_that_a_purge_overtakes_returns_what_is_left() {
    let disk = Arc::new(Stubborn::default());
    let (mut log, _) = Log::open_with_cache(disk.clone(), 0).unwrap();
    for at in 0..6 {
        log.write_now(vec![append(at..at + 1, 1, 9)]).unwrap();
    }
    let reader = log.reader();
    let purge = move || log.write_now(vec![super::purge(3)]).unwrap();
    *disk.before_read.lock() = Some((2, Box::new(purge)));
    assert_eq!(reader.read(0..9, usize::MAX).unwrap(), [entry(4, 1, 9), entry(5, 1, 9)]);
}

#[test]
fn readers_see_one_history_while_the_log_is_cut_and_grows() {
    let dir = tempfile::tempdir().unwrap();
    let handle = spawn_writer(open(open_sled(dir.path())), clock()).unwrap();
    handle.write(vec![append(0..20, 0, 9_000)]).unwrap();
    let rounds = 200u64;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let reader = handle.reader();
                scope.spawn(move || {
                    let mut flavour = 0;
                    while flavour < (rounds % 251) as u8 {
                        let found = reader.read(0..u64::MAX, usize::MAX).unwrap();
                        // Entries from 10 on all carry the flavour of one round, and rounds do not go back.
                        let Some(tail) = found.get(10..) else { panic!("{} entries", found.len()) };
                        let Some(first) = tail.first() else { continue };
                        let seen = first.bytes[0] ^ first.index as u8;
                        assert!(seen >= flavour, "{seen} after {flavour}");
                        flavour = seen;
                        for found in tail {
                            assert_eq!(*found, entry(found.index, flavour, 9_000));
                        }
                    }
                })
            })
            .collect();
        for round in 1..=rounds {
            handle.submit(vec![Write::TruncateAfter(Some(9))], ignore());
            handle.submit(vec![append(10..15 + round % 5, round as u8, 9_000)], ignore());
        }
        handle.write(vec![]).unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    handle.close();
}
