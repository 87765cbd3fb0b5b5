//! Linearizability of each key by itself, after Wing and Gong with the memory of Lowe: a search for an order of the
//! ops that respects real time and in which every answer is right. It trusts nothing that the server says of order.
//!
//! The history is a list of calls and returns. The search takes the first call whose effect is legal out of the list,
//! and so on; when it meets a return whose call was not taken, the order so far was wrong and the last step is
//! undone. Two things make it fast. Configurations (which ops are taken, and the state) are remembered as 128-bit
//! hashes and never searched twice; two different ones share a hash with a probability of about n²/2¹²⁸. And an op
//! that only observes is taken as soon as it is legal and never undone alone: if it could be taken later, it could as
//! well be taken now.
//!
//! Ops with an unknown outcome have no return: they may be taken at any time after their call, or never. Writes among
//! them that nobody saw are left out at first.
//!
//! Cost: O(n·2^c) configurations for n ops, c of them concurrent, usually O(n). The budget bounds them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Verdict, shown};
use crate::history::Outcome;
use crate::history::kv::{KvAnswer, KvCall, KvOp, Refusal};

/// Configurations searched for one key before the verdict is "unknown".
const BUDGET: usize = 2_000_000;

/// One op on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The value was this.
    Saw(Option<u64>),
    /// There was a value.
    SawSome,
    /// There was a value other than this.
    SawOther(u64),
    Create(u64),
    Set(u64),
    Cas(u64, u64),
    Delete,
}

impl Action {
    /// Returns the state after it, or `None` when it cannot have happened in this state.
    fn step(self, state: Option<u64>) -> Option<Option<u64>> {
        match self {
            Action::Saw(value) => (state == value).then_some(state),
            Action::SawSome => state.is_some().then_some(state),
            Action::SawOther(value) => state.is_some_and(|has| has != value).then_some(state),
            Action::Create(value) => state.is_none().then_some(Some(value)),
            Action::Set(value) => state.is_some().then_some(Some(value)),
            Action::Cas(from, to) => (state == Some(from)).then_some(Some(to)),
            Action::Delete => state.is_some().then_some(None),
        }
    }

    fn only_observes(self) -> bool {
        matches!(self, Action::Saw(_) | Action::SawSome | Action::SawOther(_))
    }
}

#[derive(Clone, Copy, Debug)]
struct Step {
    start_us: u64,
    /// `None` for an unknown outcome.
    end_us: Option<u64>,
    action: Action,
    process: u32,
}

/// Decides whether every key of a history is linearizable. Stale reads are passed over: they promise nothing.
pub fn check(history: &[KvOp]) -> Verdict {
    let mut keys: BTreeMap<&str, Vec<Step>> = BTreeMap::new();
    for op in history {
        for (key, action) in actions(op) {
            let end_us = (!op.is_unknown()).then_some(op.end_us);
            let step = Step { start_us: op.start_us, end_us, action, process: op.process };
            keys.entry(key).or_default().push(step);
        }
    }
    let mut verdict = Verdict::Ok;
    for (key, steps) in keys {
        verdict = verdict.and(match decide(&steps, BUDGET) {
            Found::Order => Verdict::Ok,
            Found::Nothing(why) => Verdict::of(vec![format!("{key} is not linearizable: {why}")]),
            Found::BudgetSpent => Verdict::Unknown(format!(
                "{key}: no order was found within {BUDGET} configurations, and none was excluded"
            )),
        });
    }
    verdict
}

/// Returns what an op did to or saw of each key; nothing when it certainly did nothing.
fn actions(op: &KvOp) -> Vec<(&str, Action)> {
    let answer = match &op.outcome {
        Outcome::Ok(answer) => Some(answer),
        Outcome::Unknown(_) => None,
        Outcome::Failed(_) => return Vec::new(),
    };
    match (&op.call, answer) {
        (KvCall::Read { key }, Some(KvAnswer::Read { seen, .. })) => {
            vec![(key, Action::Saw(seen.map(|seen| seen.value)))]
        }
        (KvCall::ReadAll { keys }, Some(KvAnswer::ReadAll { seen, .. })) => {
            let saw = seen.iter().map(|seen| Action::Saw(seen.map(|seen| seen.value)));
            keys.iter().map(String::as_str).zip(saw).collect()
        }
        (KvCall::ReadStale { .. }, _) => Vec::new(),
        (call, Some(KvAnswer::Refused(refusal))) => refused(call, *refusal),
        (KvCall::Read { .. } | KvCall::ReadAll { .. }, _) => Vec::new(),
        (KvCall::Create { key, value }, _) => vec![(key, Action::Create(*value))],
        (KvCall::Set { key, value }, _) => vec![(key, Action::Set(*value))],
        (KvCall::Cas { key, from, to, .. }, _) => vec![(key, Action::Cas(*from, *to))],
        (KvCall::Delete { key }, _) => vec![(key, Action::Delete)],
        (KvCall::SetAll { writes }, _) => {
            writes.iter().map(|(key, value)| (key.as_str(), Action::Set(*value))).collect()
        }
    }
}

fn refused(call: &KvCall, refusal: Refusal) -> Vec<(&str, Action)> {
    match (call, refusal) {
        (KvCall::Cas { key, from, .. }, Refusal::BadVersion) => {
            vec![(key, Action::SawOther(*from))]
        }
        (KvCall::Create { key, .. }, Refusal::NodeExists) => vec![(key, Action::SawSome)],
        (
            KvCall::Read { key }
            | KvCall::Set { key, .. }
            | KvCall::Delete { key }
            | KvCall::Cas { key, .. },
            Refusal::NoNode,
        ) => {
            vec![(key, Action::Saw(None))]
        }
        // Which of several znodes was missing is not said.
        _ => Vec::new(),
    }
}

/// Searches first without the unknown writes whose values nobody ever saw: they may never have happened, so an order
/// without them is an order. Only if there is none they are tried too, which can take very much longer.
fn decide(steps: &[Step], budget: usize) -> Found {
    let seen: BTreeSet<u64> = steps
        .iter()
        .filter_map(|step| match step.action {
            Action::Saw(value) => value,
            Action::Cas(from, _) => Some(from),
            _ => None,
        })
        .collect();
    let is_needed = |step: &Step| match step.action {
        Action::Create(value) | Action::Set(value) | Action::Cas(_, value) => {
            step.end_us.is_some() || seen.contains(&value)
        }
        _ => true,
    };
    let needed: Vec<Step> = steps.iter().copied().filter(is_needed).collect();
    match search(&needed, budget) {
        Found::Order => Found::Order,
        _ if needed.len() < steps.len() => search(steps, budget),
        other => other,
    }
}

enum Found {
    Order,
    Nothing(String),
    BudgetSpent,
}

/// The calls and returns that are still to be explained, as a doubly linked list over a fixed array. The first and
/// the last are no events but its ends.
struct Events {
    /// Which step, and whether this is its return.
    what: Vec<(usize, bool)>,
    next: Vec<usize>,
    before: Vec<usize>,
    /// Place of each step's return, if it has one.
    returns: Vec<Option<usize>>,
}

impl Events {
    fn new(steps: &[Step]) -> Events {
        let mut timed: Vec<(u64, bool, usize)> = Vec::with_capacity(steps.len() * 2);
        for (at, step) in steps.iter().enumerate() {
            timed.push((step.start_us, false, at));
            timed.extend(step.end_us.map(|end_us| (end_us, true, at)));
        }
        // At equal times calls come first: ops that touch are concurrent.
        timed.sort_unstable();
        let mut what = vec![(usize::MAX, false)];
        what.extend(timed.iter().map(|&(_, is_return, at)| (at, is_return)));
        what.push((usize::MAX, true));
        let mut returns = vec![None; steps.len()];
        for (place, &(at, is_return)) in what.iter().enumerate() {
            if is_return && at != usize::MAX {
                returns[at] = Some(place);
            }
        }
        let next = (1..=what.len()).collect();
        let before = (0..what.len()).map(|place| place.saturating_sub(1)).collect();
        Events { what, next, before, returns }
    }

    fn end(&self) -> usize {
        self.what.len() - 1
    }

    fn unlink(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn relink(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = place;
        self.before[next] = place;
    }

    /// Takes a call and its return out of the list.
    fn take(&mut self, call: usize) {
        self.unlink(call);
        if let Some(place) = self.returns[self.what[call].0] {
            self.unlink(place);
        }
    }

    /// Puts back what was taken last.
    fn put_back(&mut self, call: usize) {
        if let Some(place) = self.returns[self.what[call].0] {
            self.relink(place);
        }
        self.relink(call);
    }
}

fn search(steps: &[Step], budget: usize) -> Found {
    let mut events = Events::new(steps);
    let mut state: Option<u64> = None;
    let mut taken: u128 = 0;
    let mut memory: HashSet<u128> = HashSet::new();
    let mut path: Vec<(usize, Option<u64>)> = Vec::new();
    let mut left = steps.iter().filter(|step| step.end_us.is_some()).count();
    // The return that was met with the most ops taken: where every order gets stuck.
    let mut stuck: (usize, usize, Option<u64>) = (0, 0, None);
    let mut place = events.next[0];
    while left > 0 {
        let (at, is_return) = events.what[place];
        if !is_return {
            let step = steps[at];
            if let Some(after) = step.action.step(state) {
                let key = taken ^ hash(at as u64) ^ hash(!after.map_or(0, |value| value << 1 | 1));
                if memory.insert(key) {
                    if memory.len() > budget {
                        return Found::BudgetSpent;
                    }
                    path.push((place, state));
                    (state, taken) = (after, taken ^ hash(at as u64));
                    left -= usize::from(step.end_us.is_some());
                    events.take(place);
                    place = events.next[0];
                    continue;
                }
            }
            place = events.next[place];
            continue;
        }
        debug_assert!(place != events.end(), "a step with a return is left");
        if path.len() >= stuck.0 {
            stuck = (path.len(), at, state);
        }
        loop {
            let Some((call, before)) = path.pop() else { return Found::Nothing(why(steps, stuck)) };
            let undone = events.what[call].0;
            events.put_back(call);
            (state, taken) = (before, taken ^ hash(undone as u64));
            left += usize::from(steps[undone].end_us.is_some());
            place = events.next[call];
            if !steps[undone].action.only_observes() {
                break;
            }
        }
    }
    Found::Order
}

fn why(steps: &[Step], (explained, at, state): (usize, usize, Option<u64>)) -> String {
    let step = &steps[at];
    format!(
        "process {} from {} to {} {:?}, which no order explains; the longest one explains {explained} of {} ops and \
         leaves the value {state:?}",
        step.process,
        shown(step.start_us),
        shown(step.end_us.unwrap_or(u64::MAX)),
        step.action,
        steps.len(),
    )
}

/// Returns 128 bits of a number that look random: two rounds of splitmix64.
fn hash(number: u64) -> u128 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let high = mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15));
    let low = mix(high ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
    u128::from(high) << 64 | u128::from(low)
}

#[cfg(test)]
#[path = "wgl_tests.rs"]
mod tests;
