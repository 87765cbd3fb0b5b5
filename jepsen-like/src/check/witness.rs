//! All keys at once, in the order that the server itself claims: the zxids of its answers are the witness.
//!
//! What is demanded:
//! 1. No two writes have the same zxid.
//! 2. *Real time*: the zxid of a write or of a linearizable read is not below that of any op that had ended before it
//!    began, and a write's is above.
//! 3. *Replay*: put into the order of zxids, every write was possible (a create met nothing, a conditional write its
//!    version), and every version answered is what the replay has.
//! 4. Every read, of its state's zxid, saw exactly what the replay has there: value, version, czxid and mzxid. This
//!    holds for stale reads too: a state may be old, but not wrong.
//!
//! Refusals are left to `wgl`: they carry no zxid.
//!
//! Unknown outcomes: a value is written once in a run, and a read tells the zxid (`mzxid`) that wrote what it saw. So
//! an unknown write that anybody saw has its place; one that nobody saw is taken as not done. Since it may have been
//! overwritten unseen, versions may skip as many as there are such writes on the key. An unknown delete leaves no
//! trace at all: from its start on, finding nothing is no violation here, only for `wgl`. Keys that are set must have
//! been created by an acknowledged create.
//!
//! Cost: O(n log n).

use std::collections::BTreeMap;

use super::{Verdict, shown};
use crate::history::Outcome;
use crate::history::kv::{KvAnswer, KvCall, KvOp, Seen};

/// One write at its place.
#[derive(Clone, Debug)]
struct Write<'a> {
    op: &'a KvOp,
    key: &'a str,
    /// `None` deletes.
    value: Option<u64>,
    creates: bool,
    /// The version that it demanded.
    demands: Option<i32>,
    /// The version answered.
    version: Option<i32>,
}

/// Demands the four rules of a whole history. Ops on znodes that the history's clients did not create are violations:
/// let the history begin with their creation.
pub fn check(history: &[KvOp]) -> Verdict {
    let mut violations = real_time(history);
    let mut writes: BTreeMap<u64, Vec<Write<'_>>> = BTreeMap::new();
    for op in history {
        if let Outcome::Ok(KvAnswer::Done { zxid, version }) = op.outcome {
            if let Some(earlier) = writes.get(&zxid) {
                violations.push(format!(
                    "zxid {zxid} was given to {} and to {}",
                    describe(earlier[0].op),
                    describe(op)
                ));
                continue;
            }
            let parts = parts(op, version);
            if !parts.is_empty() {
                writes.insert(zxid, parts);
            }
        }
    }
    let unseen = place_unknown(history, &mut writes, &mut violations);
    let timelines = replay(&writes, &unseen, &mut violations);
    let mut unknown_deletes: BTreeMap<&str, u64> = BTreeMap::new();
    for op in history.iter().filter(|op| op.is_unknown()) {
        if let KvCall::Delete { key } = &op.call {
            let first = unknown_deletes.entry(key).or_insert(op.start_us);
            *first = op.start_us.min(*first);
        }
    }
    for op in history {
        reads_fit(op, &timelines, &unknown_deletes, &mut violations);
    }
    Verdict::of(violations)
}

fn describe(op: &KvOp) -> String {
    let (start, end) = (shown(op.start_us), shown(op.end_us));
    format!("{:?} of process {} at node {} ({start} to {end})", op.call, op.process, op.node)
}

/// Returns the zxid that an op's answer speaks of, and whether the op is a write.
fn ordered(op: &KvOp) -> Option<(u64, bool)> {
    match (&op.call, op.answer()?) {
        (KvCall::ReadStale { .. }, _) | (_, KvAnswer::Refused(_)) => None,
        (_, KvAnswer::Done { zxid, .. }) => Some((*zxid, true)),
        (_, KvAnswer::Read { zxid, .. } | KvAnswer::ReadAll { zxid, .. }) => Some((*zxid, false)),
    }
}

/// Rule 2, by a sweep over starts while the newest zxid among what has ended is kept.
fn real_time(history: &[KvOp]) -> Vec<String> {
    let mut violations = Vec::new();
    let all: Vec<(&KvOp, u64, bool)> = history
        .iter()
        .filter_map(|op| ordered(op).map(|(zxid, is_write)| (op, zxid, is_write)))
        .collect();
    let mut by_start = all.clone();
    by_start.sort_by_key(|(op, _, _)| op.start_us);
    let mut by_end = all;
    by_end.sort_by_key(|(op, _, _)| op.end_us);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: Option<(u64, &KvOp)> = None;
    for (op, zxid, is_write) in by_start {
        while let Some((earlier, earlier_zxid, _)) =
            ended.next_if(|(earlier, _, _)| earlier.end_us < op.start_us)
        {
            if newest.is_none_or(|(zxid, _)| earlier_zxid > zxid) {
                newest = Some((earlier_zxid, earlier));
            }
        }
        if let Some((before, earlier)) = newest
            && (zxid < before || (is_write && zxid == before))
        {
            violations.push(format!(
                "{} has zxid {zxid}, although zxid {before} had been answered before it began: {}",
                describe(op),
                describe(earlier)
            ));
        }
    }
    violations
}

/// Returns what a write does to each of its keys.
fn parts(op: &KvOp, version: Option<i32>) -> Vec<Write<'_>> {
    let write = |key, value, creates, demands| Write { op, key, value, creates, demands, version };
    match &op.call {
        KvCall::Create { key, value } => vec![write(key.as_str(), Some(*value), true, None)],
        KvCall::Set { key, value } => vec![write(key, Some(*value), false, None)],
        KvCall::Cas { key, version, to, .. } => vec![write(key, Some(*to), false, Some(*version))],
        KvCall::Delete { key } => vec![write(key, None, false, None)],
        KvCall::SetAll { writes } => {
            writes.iter().map(|(key, value)| write(key, Some(*value), false, None)).collect()
        }
        KvCall::Read { .. } | KvCall::ReadStale { .. } | KvCall::ReadAll { .. } => Vec::new(),
    }
}

/// Returns all pairs of key and znode that an op saw.
fn seen(op: &KvOp) -> Vec<(&str, Seen)> {
    match (&op.call, op.answer()) {
        (
            KvCall::Read { key } | KvCall::ReadStale { key },
            Some(KvAnswer::Read { seen: Some(seen), .. }),
        ) => {
            vec![(key, *seen)]
        }
        (KvCall::ReadAll { keys }, Some(KvAnswer::ReadAll { seen, .. })) => {
            let there = keys.iter().zip(seen).filter_map(|(key, seen)| Some((key, (*seen)?)));
            there.map(|(key, seen)| (key.as_str(), seen)).collect()
        }
        _ => Vec::new(),
    }
}

/// Gives unknown writes that were seen their place, and returns how many unseen ones each key has.
fn place_unknown<'a>(
    history: &'a [KvOp],
    writes: &mut BTreeMap<u64, Vec<Write<'a>>>,
    violations: &mut Vec<String>,
) -> BTreeMap<&'a str, i32> {
    let mut unknown: BTreeMap<(&str, u64), &KvOp> = BTreeMap::new();
    let mut unseen: BTreeMap<&str, i32> = BTreeMap::new();
    for op in history.iter().filter(|op| op.is_unknown()) {
        for part in parts(op, None) {
            *unseen.entry(part.key).or_default() += 1;
            part.value.map(|value| unknown.insert((part.key, value), op));
        }
    }
    for op in history {
        for (key, seen) in seen(op) {
            let Some(write) = unknown.get(&(key, seen.value)) else { continue };
            match writes.get_mut(&seen.mzxid) {
                Some(known) if std::ptr::eq(known[0].op, *write) => {
                    note_version(known, key, seen.version);
                }
                Some(known) => violations.push(format!(
                    "{} saw {} of zxid {}, which was another write: {}",
                    describe(op),
                    seen.value,
                    seen.mzxid,
                    describe(known[0].op)
                )),
                None => {
                    for part in parts(write, None) {
                        unseen.entry(part.key).and_modify(|count| *count -= 1);
                    }
                    let mut placed = parts(write, None);
                    note_version(&mut placed, key, seen.version);
                    writes.insert(seen.mzxid, placed);
                }
            }
        }
    }
    unseen
}

/// An unknown write has no answer: a read of each of its keys says which version it made.
fn note_version(parts: &mut [Write<'_>], key: &str, version: i32) {
    for part in parts.iter_mut().filter(|part| part.key == key) {
        part.version = Some(version);
    }
}

type Timelines<'a> = BTreeMap<&'a str, BTreeMap<u64, Option<Seen>>>;

/// Rule 3. Returns each key's states by the zxid from which they hold.
fn replay<'a>(
    writes: &BTreeMap<u64, Vec<Write<'a>>>,
    unseen: &BTreeMap<&str, i32>,
    violations: &mut Vec<String>,
) -> Timelines<'a> {
    let mut timelines: Timelines<'a> = BTreeMap::new();
    for (&zxid, parts) in writes {
        for part in parts {
            let slack = unseen.get(part.key).copied().unwrap_or(0);
            let timeline = timelines.entry(part.key).or_default();
            let before = timeline.last_key_value().and_then(|(_, seen)| *seen);
            let mut refuse = |why: String| {
                violations.push(format!("{} at zxid {zxid} {why}", describe(part.op)));
            };
            let after = match (part.value, before) {
                (None, _) => {
                    if before.is_none() && slack == 0 {
                        refuse("deleted what was not there".into());
                    }
                    None
                }
                (Some(value), before) if part.creates => {
                    if let Some(there) = before.filter(|_| slack == 0) {
                        refuse(format!("created what was there: {there:?}"));
                    }
                    Some(Seen { value, version: 0, czxid: zxid, mzxid: zxid })
                }
                (Some(value), Some(there)) => {
                    let next = there.version + 1;
                    let demanded = part.demands.map(|version| version + 1);
                    let version = part.version.or(demanded).unwrap_or(next);
                    let is_possible = (next..=next + slack).contains(&version)
                        && demanded.is_none_or(|demanded| demanded == version);
                    if !is_possible {
                        refuse(format!("has version {version} after {there:?}"));
                    }
                    Some(Seen { value, version, czxid: there.czxid, mzxid: zxid })
                }
                (Some(_), None) => {
                    refuse("set what was not there".into());
                    None
                }
            };
            timeline.insert(zxid, after);
        }
    }
    timelines
}

/// Rule 4, for one op.
fn reads_fit(
    op: &KvOp,
    timelines: &Timelines<'_>,
    unknown_deletes: &BTreeMap<&str, u64>,
    violations: &mut Vec<String>,
) {
    let at = |key: &str, zxid: u64| {
        let timeline = timelines.get(key)?;
        timeline.range(..=zxid).next_back().and_then(|(_, seen)| *seen)
    };
    let mut fit = |key: &str, zxid: u64, seen: Option<Seen>| {
        let expected = at(key, zxid);
        let may_be_gone = || unknown_deletes.get(key).is_some_and(|start_us| *start_us < op.end_us);
        if seen != expected && !(seen.is_none() && may_be_gone()) {
            let what = describe(op);
            violations.push(format!(
                "{what} saw {seen:?} of {key} at zxid {zxid}, where it was {expected:?}"
            ));
        }
    };
    match (&op.call, op.answer()) {
        (KvCall::Read { key } | KvCall::ReadStale { key }, Some(KvAnswer::Read { zxid, seen })) => {
            fit(key, *zxid, *seen);
        }
        (KvCall::ReadAll { keys }, Some(KvAnswer::ReadAll { zxid, seen })) => {
            keys.iter().zip(seen).for_each(|(key, seen)| fit(key, *zxid, *seen));
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
