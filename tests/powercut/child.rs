//! The process that dies: it checks what an earlier one left, goes on with the script, and prints what is acknowledged.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use roost::storage::{
    Clock, Log, Recovered, SledDisk, SnapshotPointer, SnapshotStore, WalHandle, spawn_writer,
};

use crate::script::{Dice, State, Step, content, number, pieces};

const DIR: &str = "ROOST_TEST_CRASH_DIR";
const SEED: &str = "ROOST_TEST_CRASH_SEED";
const ACKED: &str = "ROOST_TEST_CRASH_ACKED";
const STEPS: &str = "ROOST_TEST_CRASH_STEPS";

/// Starts this test binary again as the child, which ends after so many steps unless it is killed before.
pub(crate) fn spawn(dir: &std::path::Path, seed: u64, acked: u64, steps: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_of_a_crash_test", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(SEED, seed.to_string())
        .env(ACKED, acked.to_string())
        .env(STEPS, steps.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The child itself; does nothing in an ordinary run of the tests.
pub(crate) fn run() {
    let Ok(dir) = env::var(DIR) else { return };
    let number = |name| env::var(name).unwrap().parse::<u64>().unwrap();
    let (dir, seed) = (PathBuf::from(dir), number(SEED));

    let disk = SledDisk::open(&dir.join("raft"), 8 << 20).unwrap();
    let (log, recovered) = Log::open_with_cache(Arc::new(disk), 100_000).unwrap();
    let generation = recovered.snapshot.as_ref().map(|pointer| pointer.generation);
    let snapshots = SnapshotStore::open(&dir.join("snap"), generation).unwrap();
    let mut state = check(&log, &recovered, &snapshots, seed, number(ACKED));
    // The test harness has begun a line.
    say(&format!("\nopen {}", state.step));

    let clock: Clock = Box::new(|| 0);
    let wal = spawn_writer(log, clock).unwrap();
    let mut dice = Dice::new(seed, state.step);
    let (free, wait) = mpsc::channel();
    (0..8).for_each(|_| free.send(()).unwrap());
    for _ in 0..number(STEPS) {
        // Sometimes alone, sometimes many at once.
        let alone = dice.roll(3) == 0;
        let places = if alone { 8 } else { 1 };
        (0..places).for_each(|_| wait.recv().unwrap());
        let step = state.advance(seed);
        submit(&wal, &snapshots, state.step, step, free.clone(), places);
    }
    wal.close();
}

fn submit(
    wal: &WalHandle,
    snapshots: &SnapshotStore,
    number: u64,
    mut step: Step,
    free: mpsc::Sender<()>,
    places: u32,
) {
    if let Some(generation) = step.snapshot {
        step.writes.push(roost::storage::Write::Snapshot(write_snapshot(snapshots, generation)));
    }
    let old = snapshots.clone();
    let done = move |result: io::Result<()>| {
        // An error can only be the cut itself; nothing after it is acknowledged.
        if result.is_ok() && step.durable {
            say(&format!("ack {number}"));
        }
        if let (Ok(()), Some(generation)) = (&result, step.snapshot) {
            let _ = old.remove_older(generation);
        }
        for _ in 0..places {
            let _ = free.send(());
        }
    };
    wal.submit(step.writes, Box::new(done));
}

fn write_snapshot(snapshots: &SnapshotStore, generation: u64) -> SnapshotPointer {
    let mut writer = snapshots.begin(generation).unwrap();
    for piece in pieces(generation) {
        writer.push(&piece).unwrap();
    }
    writer.finish(Bytes::copy_from_slice(&generation.to_le_bytes())).unwrap()
}

/// Everything on the disk is exactly what the script leaves after some step, none of those acknowledged missing.
fn check(
    log: &Log,
    recovered: &Recovered,
    snapshots: &SnapshotStore,
    seed: u64,
    acked: u64,
) -> State {
    let step = recovered.committed.as_ref().map_or(0, number);
    assert!(step >= acked, "step {acked} was acknowledged, only {step} are there");
    let state = State::after(seed, step);
    assert_eq!(recovered.vote.as_ref().map(number), state.vote);
    assert_eq!(recovered.purged.as_ref().map(|(upto, _)| *upto), state.purged);
    let found = log.reader().read(0..u64::MAX, usize::MAX).unwrap();
    assert_eq!(found.len(), state.entries.len(), "entries after step {step}");
    for ((entry, &(by, len)), index) in found.iter().zip(&state.entries).zip(state.first..) {
        assert_eq!(entry.index, index);
        assert!(
            entry.bytes == content(by, index, len),
            "entry {index} of step {by} after step {step}"
        );
    }
    let generation = recovered.snapshot.as_ref().map(|pointer| pointer.generation);
    assert_eq!(generation, state.snapshot, "snapshot after step {step}");
    if let Some(pointer) = &recovered.snapshot {
        let mut reader = snapshots.read(pointer).unwrap();
        for piece in pieces(pointer.generation) {
            assert!(reader.next_piece().unwrap().is_some_and(|found| found == piece));
        }
        assert_eq!(reader.next_piece().unwrap(), None);
    }
    state
}

fn say(line: &str) {
    writeln!(io::stdout().lock(), "{line}").unwrap();
}
