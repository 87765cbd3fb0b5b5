//! What clients did and saw, as values: the only thing that a checker knows of a run.
//!
//! An [`Op`] is one request of one client: when it began, when it ended, what was asked, and one of three outcomes.
//! The third, *unknown*, is the point of it: a request that was sent and not answered may take effect at any later
//! time, or never. To call it failed would make checkers find violations that are none, to call it done would make
//! them miss those that are. Whatever cannot be proved to have had no effect is unknown, also at the end of a run.
//!
//! Times are monotonic µs of one clock, see [`Clock`]. A client ("process") has one request at a time; one whose
//! request was unknown goes on, since the checkers let the old request take effect later.
//!
//! On disk a history is a file of JSON lines, one op each, in the order in which they began. What it lacks on
//! purpose: anything that a server says of itself and that no client has seen.

pub mod kv;
pub mod registry;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::registry::Answered;
use crate::clock::Clock;

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op<C, R> {
    /// The client.
    pub process: u32,
    /// The node that it spoke to, from 1; 0 when it matters to nobody.
    pub node: u8,
    /// When it was about to be sent, µs.
    pub start_us: u64,
    /// When the client had its answer or gave up, µs.
    pub end_us: u64,
    /// What was asked.
    pub call: C,
    /// What came of it.
    pub outcome: Outcome<R>,
}

/// What is known of a request afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<R> {
    /// It was answered, possibly by a refusal that says something about the state.
    Ok(R),
    /// It certainly had and will have no effect, and says nothing about the state.
    Failed(String),
    /// It may have taken effect, or may yet.
    Unknown(String),
}

/// A request as far as it matters to whether enough happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it was about to be sent, µs.
    pub start_us: u64,
    /// What came of it.
    pub result: Answered,
}

impl<C, R> Op<C, R> {
    /// Returns what counts of it.
    pub fn request(&self) -> Request {
        let result = match &self.outcome {
            Outcome::Ok(_) => Answered::Ok,
            Outcome::Failed(_) => Answered::Failed,
            Outcome::Unknown(_) => Answered::Unknown,
        };
        Request { start_us: self.start_us, result }
    }

    /// Returns the answer, if there was one.
    pub fn answer(&self) -> Option<&R> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Failed(_) | Outcome::Unknown(_) => None,
        }
    }

    /// Returns whether the outcome is unknown.
    pub fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown(_))
    }
}

/// Collects the ops of all clients of a run. Clones share the collection.
#[derive(Debug)]
pub struct Recorder<C, R> {
    clock: Clock,
    ops: Arc<Mutex<Vec<Op<C, R>>>>,
}

impl<C, R> Clone for Recorder<C, R> {
    fn clone(&self) -> Self {
        Recorder { clock: self.clock, ops: Arc::clone(&self.ops) }
    }
}

/// An op that has begun.
#[derive(Debug)]
pub struct Begun(usize);

impl<C: Clone, R: Clone> Recorder<C, R> {
    /// Returns an empty collection.
    pub fn new(clock: Clock) -> Recorder<C, R> {
        Recorder { clock, ops: Arc::default() }
    }

    fn ops(&self) -> MutexGuard<'_, Vec<Op<C, R>>> {
        // A client that panicked has left a list that is whole.
        self.ops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request is about to be sent. Until [`end`](Recorder::end) its outcome is unknown.
    pub fn begin(&self, process: u32, node: u8, call: C) -> Begun {
        let mut ops = self.ops();
        let start_us = self.clock.now_us();
        let outcome = Outcome::Unknown("under way when the run ended".into());
        ops.push(Op { process, node, start_us, end_us: u64::MAX, call, outcome });
        Begun(ops.len() - 1)
    }

    /// Notes what came of it.
    pub fn end(&self, begun: Begun, outcome: Outcome<R>) {
        let mut ops = self.ops();
        let op = &mut ops[begun.0];
        op.end_us = self.clock.now_us();
        op.outcome = outcome;
    }

    /// Returns all ops so far, in the order in which they began.
    pub fn history(&self) -> Vec<Op<C, R>> {
        self.ops().clone()
    }
}

/// Writes values as JSON lines.
pub fn save<T: Serialize>(path: &Path, values: &[T]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for value in values {
        serde_json::to_writer(&mut file, value)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// Reads what [`save`] wrote. Error: names the file and the line that does not parse.
pub fn load<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<T>> {
    let mut values = Vec::new();
    for (at, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        let value = serde_json::from_str(&line?).map_err(|err| {
            let place = format!("{}, line {}: {err}", path.display(), at + 1);
            io::Error::new(io::ErrorKind::InvalidData, place)
        })?;
        values.push(value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::kv::{KvAnswer, KvCall};
    use super::{Clock, Op, Outcome, Recorder, load, save};

    #[test]
    fn what_was_not_ended_is_unknown_and_a_history_survives_the_disk() {
        let recorder: Recorder<KvCall, KvAnswer> = Recorder::new(Clock::start());
        let first = recorder.begin(1, 2, KvCall::Read { key: "/a".into() });
        recorder.begin(2, 1, KvCall::Create { key: "/a".into(), value: 7 });
        recorder.end(first, Outcome::Ok(KvAnswer::Read { zxid: 3, seen: None }));
        let history = recorder.history();
        assert!(history[1].is_unknown() && history[1].end_us == u64::MAX);
        assert!(history[0].end_us >= history[1].start_us, "{history:?}");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        save(&path, &history).unwrap();
        let loaded: Vec<Op<KvCall, KvAnswer>> = load(&path).unwrap();
        assert_eq!(loaded, history);

        std::fs::write(&path, "{\"process\":").unwrap();
        let error = load::<Op<KvCall, KvAnswer>>(&path).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
