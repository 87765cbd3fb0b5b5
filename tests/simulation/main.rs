//! Deterministic simulation: whole clusters on one thread, over a network, disks and clocks that a seed decides about. The same
//! seed gives the same run, step by step, so a violation that was found once can be looked at as often as it takes.
//!
//! A run has clients that read, write, append, keep sessions and subscribe, while nodes crash with and without their unsynced
//! writes, stand still, are cut off, and their wall clocks jump. `check` knows what must be true of it.
//!
//! `ROOST_SIM_SEEDS=10000 cargo test --test simulation seeds` runs more; `ROOST_SIM_SEED=17` runs that one, and says what
//! happened; `ROOST_SIM_FROM=5000` begins there. What it cannot find: sled, the kernel, real TCP, and whatever needs two
//! threads at once. For that there are tests with processes.

mod check;
mod clients;
mod faults;
mod net;
mod run;
mod scenarios;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use run::{Report, run};

/// How many seeds a run of the tests takes.
const SEEDS: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Runs these seeds until one fails, on as many threads as there are processors, and returns the reports by seed.
fn run_all(seeds: std::ops::Range<u64>) -> Vec<(u64, Report)> {
    let next = AtomicU64::new(seeds.start);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return reports;
            }
            let report = run(seed);
            if !report.violations.is_empty() {
                next.store(seeds.end, Ordering::Relaxed);
            }
            reports.push((seed, report));
        }
    };
    let mut reports: Vec<(u64, Report)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a run does not panic"))
            .collect()
    });
    reports.sort_by_key(|(seed, _)| *seed);
    reports
}

#[test]
fn no_seed_violates_what_must_always_be_true() {
    let seeds = match (number("ROOST_SIM_SEED"), number("ROOST_SIM_FROM").unwrap_or(1)) {
        (Some(seed), _) => seed..seed + 1,
        (None, from) => from..from + number("ROOST_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let reports = run_all(seeds.clone());
    let failed: Vec<_> = reports.iter().filter(|(_, it)| !it.violations.is_empty()).collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(|(_, report)| of(report)).sum::<u64>();
    println!(
        "{} seeds, {} simulated s: {} faults, {} elections, {} acknowledged writes, {} reads ({} values compared), {} changes told",
        reports.len(),
        sum(|it| it.simulated_ms) / 1_000,
        sum(|it| it.faults),
        sum(|it| it.terms as u64),
        sum(|it| it.acknowledged),
        sum(|it| it.reads),
        sum(|it| it.reads_checked),
        sum(|it| it.changes_told),
    );
    for (seed, report) in &failed {
        println!("seed {seed}: ROOST_SIM_SEED={seed} cargo test --test simulation no_seed");
        report.violations.iter().for_each(|what| println!("    {what}"));
    }
    let numbers: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "of {} seeds these fail: {numbers:?}", reports.len());
    // A run in which nothing happens proves nothing.
    let count = reports.len() as u64;
    assert!(sum(|it| it.acknowledged) >= 50 * count, "too little was written");
    assert!(sum(|it| it.reads_checked) >= 50 * count, "too little was read");
    assert!(sum(|it| it.faults) >= 5 * count, "too little went wrong");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let twice: Vec<(Report, Report)> =
        [3, 14, 15].into_iter().map(|seed| (run(seed), run(seed))).collect();
    twice.iter().for_each(|(once, again)| assert_eq!(once, again));
    assert_ne!(twice[0].0.trace, twice[1].0.trace);
}
