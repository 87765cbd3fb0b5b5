//! What is said of a run: the history of each workload, given to the checkers that it is for.
//!
//! A verdict has a name, which the report shows and [`System::unpromised`](crate::target::System::unpromised) refers to:
//! what a target does not promise is checked and shown all the same, and does not make the run a failure.

use std::collections::BTreeMap;

use crate::check::registry::measure;
use crate::check::session::{SessionLife, ghost_us, gone_in_time};
use crate::check::watch::{Told, Written};
use crate::check::{Verdict, enough, lock, monotonic, multi, session, set, watch, wgl, witness};
use crate::fault::Tormented;
use crate::history::kv::{KvAnswer, KvCall, KvOp};
use crate::history::registry::{Answered, Event, Noted};
use crate::history::{Op, Outcome};
use crate::run::RunResult;
use crate::workload::{
    lock as locks, register, session as sessions, set as sets, watch as watches,
};

/// Fewer answered requests than this per second of a run say nothing.
const ANSWERED_PER_SECOND_MIN: usize = 3;
/// How much later than its timeout a silent session's znode may be found after the last fault: an election by a busy
/// machine, and the ticks of whoever expires.
const GRACE_US: u64 = 5_000_000;

/// The guard against an empty success.
pub const ENOUGH: &str = "enough happened";
/// See `check::witness`.
pub const WITNESS: &str = "one history in zxid order (witness)";
/// See `check::wgl`.
pub const LINEARIZABLE: &str = "each key is linearizable (search)";
/// See `check::multi`.
pub const WHOLE: &str = "transactions are whole";
/// See `check::monotonic`.
pub const MONOTONIC: &str = "no client's view goes back";
/// See `check::set`.
pub const SET: &str = "sequential names are unique and none is lost";
/// See `check::lock`.
pub const LOCK: &str = "never two holders that may believe it";
/// See `check::session`.
pub const NEVER_EARLY: &str = "no session ends early, or after its end was said";
/// See `check::session`.
pub const IN_TIME: &str = "silent sessions are gone in time";
/// See `check::watch`.
pub const STREAM: &str = "subscribers are told all, once, in order";
/// See `check::watch`.
pub const ARRIVED: &str = "each replay is the tree in the end";

impl RunResult {
    fn say(&mut self, name: &str, verdict: Verdict) {
        self.verdicts.insert(name.into(), verdict);
    }

    fn seconds(&self) -> usize {
        (self.frame.end_us / 1_000_000) as usize
    }

    fn say_enough(&mut self, is_enough: bool) {
        let too_little = || Verdict::Unknown("too little happened to say anything".into());
        self.say(ENOUGH, if is_enough { Verdict::Ok } else { too_little() });
    }

    fn count<C, R>(&mut self, history: &[Op<C, R>]) {
        let count =
            |is: fn(&Outcome<R>) -> bool| history.iter().filter(|op| is(&op.outcome)).count();
        self.requests.0 += count(|outcome| matches!(outcome, Outcome::Ok(_)));
        self.requests.1 += count(|outcome| matches!(outcome, Outcome::Failed(_)));
        self.requests.2 += count(|outcome| matches!(outcome, Outcome::Unknown(_)));
    }
}

/// Says what happened, and whether the faults were seen to act and were come through.
pub fn faults(tormented: Tormented, result: &mut RunResult) {
    let Tormented { bands, breaches, unseen } = tormented;
    result.bands = bands;
    result.say("nodes come through their faults", Verdict::of(breaches));
    let acted = match unseen.is_empty() {
        true => Verdict::Ok,
        false => Verdict::Unknown(format!("not seen to act: {}", unseen.join(", "))),
    };
    result.say("faults acted", acted);
}

/// Measures a run of the registry workload.
pub fn registry(events: &[Noted], result: &mut RunResult) {
    for noted in events {
        if let Event::Asked { result: answer, .. } = noted.what {
            match answer {
                Answered::Ok | Answered::Refused => result.requests.0 += 1,
                Answered::Failed => result.requests.1 += 1,
                Answered::Unknown => result.requests.2 += 1,
            }
        }
    }
    let measures = measure(events, &result.frame);
    let enough = result.requests.0 >= result.seconds() * ANSWERED_PER_SECOND_MIN;
    result.say_enough(enough && measures.calls > 0);
    result.measures = Some(measures);
}

/// Judges a run of the register workload or of one of its relatives.
pub fn register(recorded: &register::Recorded, result: &mut RunResult) {
    let register::Recorded { history, monotonic: processes } = recorded;
    result.count(history);
    result.say(ENOUGH, enough(history, result.seconds() * ANSWERED_PER_SECOND_MIN));
    result.say(WITNESS, witness::check(history));
    result.say(LINEARIZABLE, wgl::check(history));
    result.say(WHOLE, multi::check(history));
    result.say(MONOTONIC, monotonic::check(history, processes));
}

/// Judges a run of the set workload.
pub fn set(recorded: &sets::Recorded, result: &mut RunResult) {
    let sets::Recorded { adds, removes, found } = recorded;
    result.count(adds);
    result.count(removes);
    result.say(ENOUGH, enough(adds, result.seconds() * ANSWERED_PER_SECOND_MIN));
    let verdict = match found {
        Some(found) => set::check(adds, removes, found),
        None => Verdict::Unknown("nobody could say what was there in the end".into()),
    };
    result.say(SET, verdict);
    let count = found.as_ref().map_or(0, BTreeMap::len);
    result.figures.insert("elements at the end".into(), count as f64);
}

/// Judges a run of the lock workload.
pub fn lock(recorded: &locks::Recorded, result: &mut RunResult) {
    result.requests = recorded.requests;
    // Half a holding per second: less is no contention.
    result.say_enough(recorded.held.len() * 2 >= result.seconds());
    let mut by_lock: BTreeMap<&str, Vec<lock::Holding>> = BTreeMap::new();
    for held in &recorded.held {
        by_lock.entry(&held.lock).or_default().push(held.holding.clone());
    }
    let verdicts = by_lock.values().map(|holdings| lock::check(holdings));
    result.say(LOCK, verdicts.fold(Verdict::Ok, Verdict::and));
    result.figures.insert("times that a lock was held".into(), recorded.held.len() as f64);
}

/// Judges a run of the session workload.
pub fn session(recorded: &sessions::Recorded, result: &mut RunResult) {
    result.requests = recorded.requests;
    let lives: &[SessionLife] = &recorded.lives;
    let enough = recorded.requests.0 >= result.seconds() * ANSWERED_PER_SECOND_MIN;
    result.say_enough(enough && lives.len() * 4 >= result.seconds());
    result.say(NEVER_EARLY, session::check(lives));
    result.say(IN_TIME, gone_in_time(lives, result.frame.healed_us, GRACE_US));
    result.figures.insert("sessions".into(), lives.len() as f64);
    let ghosts_s = ghost_us(lives, GRACE_US) as f64 / 1e6;
    result.figures.insert("seconds of ghosts, outages included".into(), ghosts_s);
}

/// Judges a run of the watch workload.
pub fn watch(recorded: &watches::Recorded, result: &mut RunResult) {
    let watches::Recorded { writes, streams, tree } = recorded;
    result.count(writes);
    result.say(ENOUGH, enough(writes, result.seconds() * ANSWERED_PER_SECOND_MIN));
    let written: Vec<Written> = writes.iter().filter_map(written).collect();
    result.say(STREAM, watch::check(&written, streams));
    let verdict = match tree {
        Some(tree) => watch::arrived(streams, tree),
        None => Verdict::Unknown("nobody could say what was there in the end".into()),
    };
    result.say(ARRIVED, verdict);
    let told = streams.iter().flatten();
    let (mut changes, mut snapshots) = (0.0, 0.0);
    for told in told {
        match told {
            Told::Change { .. } => changes += 1.0,
            Told::Snapshot { .. } => snapshots += 1.0,
            Told::Reset | Told::Progress { .. } => {}
        }
    }
    result.figures.insert("changes told".into(), changes);
    result.figures.insert("snapshots told".into(), snapshots);
}

/// Returns what a request wrote, if it may have written anything.
fn written(op: &KvOp) -> Option<Written> {
    let (key, value) = match &op.call {
        KvCall::Create { key, value } | KvCall::Set { key, value } => (key, Some(*value)),
        KvCall::Delete { key } => (key, None),
        _ => return None,
    };
    let zxid = match &op.outcome {
        Outcome::Ok(KvAnswer::Done { zxid, .. }) => Some(*zxid),
        Outcome::Unknown(_) => None,
        _ => return None,
    };
    let path = key.rsplit('/').next().unwrap_or_default().to_owned();
    Some(Written { path, value, zxid })
}

#[cfg(test)]
mod tests {
    use super::{ENOUGH, LOCK, lock};
    use crate::check::Verdict;
    use crate::check::lock::Holding;
    use crate::report::tests::result;
    use crate::workload::lock::{Held, Recorded};

    fn held(lock: &str, czxid: u64, granted_us: u64) -> Held {
        let holding = Holding {
            process: czxid as u32,
            czxid,
            asked_us: granted_us,
            granted_us,
            renewed_us: granted_us,
            timeout_us: 1_000,
            release_sent_us: None,
            released_zxid: None,
        };
        Held { lock: lock.to_owned(), holding }
    }

    #[test]
    fn each_lock_is_judged_by_itself_and_few_holdings_prove_nothing() {
        let mut run = result("roost", 0, &[]);
        let mut recorded =
            Recorded { held: vec![held("a", 1, 0), held("b", 2, 0)], requests: (9, 0, 0) };
        lock(&recorded, &mut run);
        assert!(run.verdicts[LOCK].is_ok(), "two locks may have two holders");
        assert!(matches!(run.verdicts[ENOUGH], Verdict::Unknown(_)) && !run.is_good());
        recorded.held.push(held("a", 3, 500));
        lock(&recorded, &mut run);
        assert!(run.verdicts[LOCK].is_violated(), "the first may still believe in it");
    }
}
