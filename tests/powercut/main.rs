//! Storage when its process is killed and when the power goes: nothing acknowledged is lost, the store always opens,
//! and goes on from there.
//!
//! `kill -9` leaves the page cache, so it only shows what the process itself had not written. A power cut is a file
//! system in a loop file that is shut down under the frozen process: whatever was not synced is gone, exactly.

mod child;
mod script;
mod volume;

use std::env;
use std::fs::{self, DirEntry};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use script::Dice;
use volume::Volume;

/// Steps of a child that is to be killed: more than it can do before.
const ENDLESS: u64 = 1_000_000;

#[test]
fn child_of_a_crash_test() {
    child::run();
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked = 0;
    for round in 0..12 {
        acked = crash(dir.path(), 1, round, acked, |_| {});
    }
    verify(dir.path(), 1, acked);
}

#[test]
fn a_power_cut_on_ext4_loses_nothing_acknowledged() {
    cut_power("ext4", 4, 6);
}

#[test]
fn a_power_cut_on_xfs_loses_nothing_acknowledged() {
    cut_power("xfs", 2, 4);
}

/// Cuts the power so many times in the life of each of so many stores; of as many as `ROOST_POWER_STORES` says.
fn cut_power(kind: &str, stores: u64, cuts: u64) {
    let stores = env::var("ROOST_POWER_STORES").map_or(stores, |text| text.parse().unwrap());
    for seed in 100..100 + stores {
        let Some(mut volume) = Volume::create(kind) else { return };
        let mut acked = 0;
        for round in 0..cuts {
            acked = crash(&volume.path(), seed, round, acked, |child| {
                freeze(child);
                volume.cut().unwrap();
            });
            volume.restart().unwrap();
        }
        verify(&volume.path(), seed, acked);
    }
}

/// Ends the process with the test, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the script until a moment that seed and round choose, and kills it there; `before` comes just before. Returns
/// the last step that was acknowledged.
fn crash(dir: &Path, seed: u64, round: u64, acked: u64, before: impl FnOnce(&Child)) -> u64 {
    let mut child = Ended(child::spawn(dir, seed, acked, ENDLESS));
    let lines = lines_of(&mut child.0);
    let mut dice = Dice::new(seed, round ^ 0xc0ffee);
    // The first cut may come before anything is stored at all, the others after some steps.
    let wanted = if round == 0 { 10 * dice.roll(3) } else { dice.roll(250) };
    let mut last = acked;
    let mut seen = 0;
    while seen < wanted {
        let line = lines.recv().unwrap_or_else(|_| {
            panic!("seed {seed} round {round}: the child failed after step {last}")
        });
        last = last.max(step_of(&line, "ack "));
        seen += u64::from(line.starts_with("ack "));
    }
    // Anywhere within a commit, or while the store opens.
    thread::sleep(Duration::from_micros(dice.roll(if wanted == 0 { 200_000 } else { 4_000 })));
    before(&child.0);
    drop(child);
    lines.iter().fold(last, |last, line| last.max(step_of(&line, "ack ")))
}

/// Opens what is left and compares it with the script.
fn verify(dir: &Path, seed: u64, acked: u64) {
    let mut child = Ended(child::spawn(dir, seed, acked, 0));
    let lines = lines_of(&mut child.0);
    assert!(child.0.wait().unwrap().success(), "seed {seed}");
    assert!(lines.iter().any(|line| step_of(&line, "open ") >= acked), "seed {seed}");
}

fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let out = BufReader::new(child.stdout.take().unwrap());
    let (send, receive) = mpsc::channel();
    thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    receive
}

fn step_of(line: &str, prefix: &str) -> u64 {
    line.strip_prefix(prefix).map_or(0, |step| step.parse().unwrap())
}

/// Stops every thread of the process: a power cut leaves none running.
fn freeze(child: &Child) {
    let status = Command::new("kill").arg("-STOP").arg(child.id().to_string()).status();
    assert!(status.unwrap().success());
    let running = |task: DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses; a task that is gone has none.
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['T', 'Z']))
    };
    let tasks = format!("/proc/{}/task", child.id());
    while fs::read_dir(&tasks).unwrap().flatten().any(running) {
        // Until the next look.
        thread::sleep(Duration::from_micros(100));
    }
}
