//! What is said of a run: the history of each workload, given to the checkers that it is for.
//!
//! A verdict has a name, which the report shows and [`System::unpromised`](crate::target::System::unpromised) refers to:
//! what a target does not promise is checked and shown all the same, and does not make the run a failure.

use std::collections::BTreeMap;

use crate::check::registry::measure;
use crate::check::session::{SessionLife, ghost_us, gone_in_time};
use crate::check::watch::{Told, Written};
use crate::check::{
    Demand, Verdict, enough, lock, monotonic, multi, session, set, watch, wgl, witness,
};
use crate::fault::Tormented;
use crate::history::kv::{KvAnswer, KvCall, KvOp};
use crate::history::registry::{Answered, Event, Noted};
use crate::history::{Op, Outcome, Request};
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
/// The guard against faults that are none.
pub const ACTED: &str = "faults acted";
/// See `check::registry`.
pub const LOST: &str = "no acknowledged registration is lost";
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

    /// Counts the requests of a run, and says whether enough of them, and of what else the workload needs, happened.
    fn say_enough(&mut self, requests: &[Request], is_rest_enough: bool) {
        let bands = self.bands.iter().map(|band| (band.from_ms * 1_000, band.until_ms * 1_000));
        let answered_min = self.seconds() * ANSWERED_PER_SECOND_MIN;
        let rest = match is_rest_enough {
            true => Verdict::Ok,
            false => Verdict::Unknown("too little happened to say anything".into()),
        };
        self.say(
            ENOUGH,
            enough(requests, &Demand { answered_min, bands: bands.collect() }).and(rest),
        );
        for request in requests {
            match request.result {
                Answered::Ok | Answered::Refused => self.requests.0 += 1,
                Answered::Failed => self.requests.1 += 1,
                Answered::Unknown => self.requests.2 += 1,
            }
        }
    }
}

fn requests<C, R>(history: &[Op<C, R>]) -> Vec<Request> {
    history.iter().map(Op::request).collect()
}

/// Says what happened, and whether the faults were seen to act and were come through.
pub fn faults(tormented: Tormented, result: &mut RunResult) {
    let Tormented { bands, breaches, unseen, seen } = tormented;
    let acted = match (unseen.is_empty(), bands.len()) {
        (false, _) => Verdict::Unknown(format!("not seen to act: {}", unseen.join(", "))),
        (true, 1..) if seen == 0 => {
            Verdict::Unknown(format!("none of {} was seen to act", bands.len()))
        }
        _ => Verdict::Ok,
    };
    // When things could begin to become right: faults may have ended later than they should.
    let healed_ms = bands.iter().map(|band| band.until_ms).max().unwrap_or(0);
    result.frame.healed_us = healed_ms * 1_000;
    result.bands = bands;
    result.say("nodes come through their faults", Verdict::of(breaches));
    result.say(ACTED, acted);
}

/// Measures a run of the registry workload.
pub fn registry(events: &[Noted], result: &mut RunResult) {
    let asked = events.iter().filter_map(|noted| match noted.what {
        Event::Asked { start_us, result, .. } => Some(Request { start_us, result }),
        _ => None,
    });
    let requests: Vec<Request> = asked.collect();
    let measures = measure(events, &result.frame);
    result.say_enough(&requests, measures.calls > 0);
    let lost = measures.lost.iter();
    let lost = lost.map(|id| format!("{id} renewed and is missing from a list at the end"));
    result.say(LOST, Verdict::of(lost.collect()));
    result.measures = Some(measures);
}

/// Judges a run of the register workload or of one of its relatives.
pub fn register(recorded: &register::Recorded, result: &mut RunResult) {
    let register::Recorded { history, monotonic: processes } = recorded;
    result.say_enough(&requests(history), true);
    result.say(WITNESS, witness::check(history));
    result.say(LINEARIZABLE, wgl::check(history));
    result.say(WHOLE, multi::check(history));
    result.say(MONOTONIC, monotonic::check(history, processes));
}

/// Judges a run of the set workload.
pub fn set(recorded: &sets::Recorded, result: &mut RunResult) {
    let sets::Recorded { adds, removes, found } = recorded;
    result.say_enough(&[requests(adds), requests(removes)].concat(), true);
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
    // Half a holding per second: less is no contention.
    result.say_enough(&recorded.requests, recorded.held.len() * 2 >= result.seconds());
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
    let lives: &[SessionLife] = &recorded.lives;
    result.say_enough(&recorded.requests, lives.len() * 4 >= result.seconds());
    result.say(NEVER_EARLY, session::check(lives));
    result.say(IN_TIME, gone_in_time(lives, result.frame.healed_us, GRACE_US));
    result.figures.insert("sessions".into(), lives.len() as f64);
    let ghosts_s = ghost_us(lives, GRACE_US) as f64 / 1e6;
    result.figures.insert("seconds of ghosts, outages included".into(), ghosts_s);
}

/// Judges a run of the watch workload.
pub fn watch(recorded: &watches::Recorded, result: &mut RunResult) {
    let watches::Recorded { writes, streams, tree } = recorded;
    result.say_enough(&requests(writes), true);
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
    use super::{ENOUGH, LOCK, faults, lock};
    use crate::check::Verdict;
    use crate::check::lock::Holding;
    use crate::fault::Tormented;
    use crate::history::Request;
    use crate::history::registry::Answered;
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

    fn tormented(bands: &[(u64, u64)], seen: usize) -> Tormented {
        let band = |&(from_ms, until_ms): &(u64, u64)| crate::run::Band {
            from_ms,
            until_ms,
            fault: "kill n1".into(),
        };
        Tormented { bands: bands.iter().map(band).collect(), seen, ..Tormented::default() }
    }

    #[test]
    fn a_schedule_of_which_nothing_was_seen_proves_nothing_and_healing_is_when_faults_really_ended()
    {
        let mut run = result("roost", 0, &[]);
        faults(tormented(&[(3_000, 4_200), (1_000, 6_300)], 1), &mut run);
        assert!(run.verdicts["faults acted"].is_ok());
        assert_eq!(run.frame.healed_us, 6_300_000);
        faults(tormented(&[(3_000, 4_200)], 0), &mut run);
        assert!(matches!(run.verdicts["faults acted"], Verdict::Unknown(_)));
        faults(tormented(&[], 0), &mut run);
        assert!(run.verdicts["faults acted"].is_ok(), "none was wanted");
    }

    #[test]
    fn each_lock_is_judged_by_itself_and_few_holdings_prove_nothing() {
        let mut run = result("roost", 0, &[]);
        let request = |at: u64| Request { start_us: at * 100_000, result: Answered::Ok };
        let requests = (0..100).map(request).collect();
        let mut recorded = Recorded { held: vec![held("a", 1, 0), held("b", 2, 0)], requests };
        lock(&recorded, &mut run);
        assert!(run.verdicts[LOCK].is_ok(), "two locks may have two holders");
        assert!(matches!(run.verdicts[ENOUGH], Verdict::Unknown(_)) && !run.is_good());
        recorded.held.push(held("a", 3, 500));
        lock(&recorded, &mut run);
        assert!(run.verdicts[LOCK].is_violated(), "the first may still believe in it");
    }
}
