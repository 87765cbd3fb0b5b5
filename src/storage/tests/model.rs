//! Random writes, reopens and crashes, against a vector that does the same.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Disk, Log, LogEntry, MemoryDisk, Recovered, SledDisk, Write};
use super::{MIB, entry, purge};

#[derive(Clone, Debug)]
enum Step {
    Append { count: usize, len: usize },
    Truncate { back: u64 },
    TruncateAll,
    Purge { from_first: u64 },
    Vote(u8),
    Committed(u8),
    Read { from: u64, to: u64 },
    Reopen,
    Crash { kept: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..20usize, prop_oneof![5 => 0..2_000usize, 1 => 40_000..60_000usize, 1 => 100_000..200_000usize])
            .prop_map(|(count, len)| Step::Append { count: if len > 2_000 { count.min(3) } else { count }, len }),
        3 => (0..15u64).prop_map(|back| Step::Truncate { back }),
        1 => Just(Step::TruncateAll),
        3 => (0..30u64).prop_map(|from_first| Step::Purge { from_first }),
        1 => any::<u8>().prop_map(Step::Vote),
        2 => any::<u8>().prop_map(Step::Committed),
        4 => (0..40u64, 0..40u64).prop_map(|(from, to)| Step::Read { from, to }),
        1 => Just(Step::Reopen),
        2 => (0..4usize).prop_map(|kept| Step::Crash { kept }),
    ]
}

/// Several steps may go into one write.
fn script() -> impl Strategy<Value = Vec<Vec<Step>>> {
    prop::collection::vec(prop::collection::vec(step(), 1..4), 1..40)
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    entries: Vec<LogEntry>,
    purged: Option<u64>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
}

impl Model {
    fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged + 1)
    }

    /// Returns the write of a step, done here already.
    fn write(&mut self, step: &Step, flavour: u8) -> Option<Write> {
        let first = self.first();
        let end = first + self.entries.len() as u64;
        match *step {
            Step::Append { count, len } => {
                let added: Vec<_> =
                    (end..end + count as u64).map(|at| entry(at, flavour, len)).collect();
                self.entries.extend(added.clone());
                Some(Write::Append(added))
            }
            Step::Truncate { back } => {
                let keep = end.checked_sub(back + 1)?;
                self.entries.retain(|entry| entry.index <= keep);
                Some(Write::TruncateAfter(Some(keep)))
            }
            Step::TruncateAll => {
                self.entries.clear();
                Some(Write::TruncateAfter(None))
            }
            Step::Purge { from_first } => {
                let upto = (first + from_first).saturating_sub(2);
                self.entries.retain(|entry| entry.index > upto);
                self.purged = self.purged.max(Some(upto));
                Some(purge(upto))
            }
            Step::Vote(vote) => {
                self.vote = Some(Bytes::from(vec![vote]));
                self.vote.clone().map(Write::Vote)
            }
            Step::Committed(committed) => {
                self.committed = Some(Bytes::from(vec![committed]));
                self.committed.clone().map(Write::Committed)
            }
            Step::Read { .. } | Step::Reopen | Step::Crash { .. } => None,
        }
    }

    fn check(&self, log: &Log) {
        let reader = log.reader();
        assert_eq!(reader.read(0..u64::MAX, usize::MAX).unwrap(), self.entries);
        let bounds = self.entries.first().zip(self.entries.last());
        assert_eq!(reader.bounds(), bounds.map(|(first, last)| (first.index, last.index)));
        assert_eq!(reader.vote(), self.vote);
    }

    fn check_recovered(&self, log: &Log, recovered: &Recovered) {
        self.check(log);
        assert_eq!(recovered.vote, self.vote);
        assert_eq!(recovered.committed, self.committed);
        assert_eq!(recovered.purged.as_ref().map(|(upto, _)| *upto), self.purged);
        assert_eq!(recovered.bounds, log.reader().bounds());
    }
}

/// A log that can be closed, opened again and, in memory, crashed.
struct Bench<'a> {
    log: Option<Log>,
    open: &'a dyn Fn() -> Arc<dyn Disk>,
    crash: &'a dyn Fn(usize),
    cache_bytes_max: usize,
    /// The state of the model after the last durable write, and after each lazy one since.
    possible: Vec<Model>,
}

impl Bench<'_> {
    fn reopen(&mut self, model: &Model) {
        self.log = None;
        let (log, recovered) = Log::open_with_cache((self.open)(), self.cache_bytes_max).unwrap();
        model.check_recovered(&log, &recovered);
        self.log = Some(log);
    }

    fn run(&mut self, script: &[Vec<Step>]) {
        let mut model = Model::default();
        self.possible = vec![model.clone()];
        self.reopen(&model);
        for (steps, flavour) in script.iter().zip(0..) {
            let writes: Vec<_> =
                steps.iter().filter_map(|step| model.write(step, flavour)).collect();
            let log = self.log.as_mut().unwrap();
            let before = log.stats();
            log.write_now(writes).unwrap();
            // A purge that does nothing writes nothing.
            let (durable, lazy) = (log.stats().commits, log.stats().lazy_commits);
            if durable > before.commits {
                self.possible.clear();
            }
            if durable > before.commits || lazy > before.lazy_commits {
                self.possible.push(model.clone());
            }
            model.check(log);
            for step in steps {
                self.look(step, &mut model);
            }
        }
        self.reopen(&model);
    }

    fn look(&mut self, step: &Step, model: &mut Model) {
        match *step {
            Step::Read { from, to } => {
                let range = model.first() + from..model.first() + to;
                let found =
                    self.log.as_ref().unwrap().reader().read(range.clone(), usize::MAX).unwrap();
                let expected = model.entries.iter().filter(|entry| range.contains(&entry.index));
                assert!(found.iter().eq(expected));
            }
            Step::Reopen => self.reopen(model),
            Step::Crash { kept } => {
                (self.crash)(kept);
                *model = self.possible[kept.min(self.possible.len() - 1)].clone();
                self.possible = vec![model.clone()];
                self.reopen(model);
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_in_memory_behaves_like_a_vector_through_reopens_and_crashes(
        script in script(),
        cache_bytes_max in prop_oneof![Just(0), Just(5_000), Just(1 << 20)],
    ) {
        let disk = MemoryDisk::new();
        let open = || Arc::new(disk.clone()) as Arc<dyn Disk>;
        let crash = |kept| disk.crash(kept);
        Bench { log: None, open: &open, crash: &crash, cache_bytes_max, possible: vec![] }.run(&script);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_on_sled_behaves_like_a_vector_through_reopens(script in script()) {
        let script: Vec<Vec<Step>> = script
            .into_iter()
            .map(|steps| steps.into_iter().filter(|step| !matches!(step, Step::Crash { .. })).collect())
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let open = || Arc::new(SledDisk::open(dir.path(), 8 * MIB).unwrap()) as Arc<dyn Disk>;
        Bench { log: None, open: &open, crash: &|_| {}, cache_bytes_max: 5_000, possible: vec![] }.run(&script);
    }
}
