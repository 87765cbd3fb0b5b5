//! What subscribers were told, compared with what was written.
//!
//! A subscriber's stream is taken as it came: snapshots, changes, resets. Demanded of each:
//! 1. zxids of changes grow, and a change is not told again after a snapshot that includes it;
//! 2. every acknowledged write that lies between the beginning of a stretch (its snapshot) and its end was told,
//!    exactly once, with its value;
//! 3. nothing was told that nobody wrote (a write of unknown outcome counts as written where it was told);
//! 4. a snapshot has exactly what was written last before it;
//! 5. all subscribers agree on what a zxid did, also where the writers do not know.
//!
//! In the end the replay of each stream is the tree ([`arrived`]): what a subscription that only says "look again" can be
//! held to, and what finds news that never came.
//!
//! A reset ends a stretch: what follows is not asked for until the next snapshot, and the number of resets is for the
//! report. Cost: O((writes + messages) log n) per subscriber.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;

/// A value of a path after a write; `None` when it was deleted.
pub type Value = Option<u64>;

/// A write to a watched path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Where.
    pub path: String,
    /// What; values are unique in a run.
    pub value: Value,
    /// Its place in the order; `None` for an unknown outcome.
    pub zxid: Option<u64>,
}

/// One message of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// All paths and their values in the state of a zxid.
    Snapshot {
        /// The state.
        zxid: u64,
        /// What is there.
        values: BTreeMap<String, u64>,
    },
    /// What one transaction did to the watched paths.
    Change {
        /// The transaction.
        zxid: u64,
        /// Paths and their values after it.
        changes: Vec<(String, Value)>,
    },
    /// Changes were skipped.
    Reset,
    /// Everything up to this zxid has been told.
    Progress {
        /// That zxid.
        zxid: u64,
    },
}

/// The history of the watched paths, and what else is allowed.
struct Truth<'a> {
    /// Acknowledged writes, by zxid.
    known: BTreeMap<u64, Vec<(&'a str, Value)>>,
    unknown: Vec<(&'a str, Value)>,
    /// Unknown writes that were told, by zxid: the same for all subscribers.
    revealed: BTreeMap<u64, Vec<(String, Value)>>,
}

/// Demands the five rules of all subscribers' streams over the same paths.
pub fn check(writes: &[Written], streams: &[Vec<Told>]) -> Verdict {
    let mut truth =
        Truth { known: BTreeMap::new(), unknown: Vec::new(), revealed: BTreeMap::new() };
    for write in writes {
        match write.zxid {
            Some(zxid) => {
                truth.known.entry(zxid).or_default().push((&write.path, write.value));
            }
            None => truth.unknown.push((&write.path, write.value)),
        }
    }
    let mut violations = Vec::new();
    for (at, stream) in streams.iter().enumerate() {
        let mut say = |what: String| violations.push(format!("subscriber {at}: {what}"));
        truth.follow(stream, &mut say);
    }
    // Only now is every unknown write known that anybody was told.
    for (at, stream) in streams.iter().enumerate() {
        let mut say = |what: String| violations.push(format!("subscriber {at}: {what}"));
        truth.compare_snapshots(stream, &mut say);
        truth.find_gaps(stream, &mut say);
    }
    Verdict::of(violations)
}

/// Returns what somebody holds who has believed a stream; `None` before it knows.
pub fn replay(stream: &[Told]) -> Option<BTreeMap<String, u64>> {
    let mut held: Option<BTreeMap<String, u64>> = None;
    for told in stream {
        match told {
            Told::Snapshot { values, .. } => held = Some(values.clone()),
            Told::Reset => held = None,
            Told::Progress { .. } => {}
            Told::Change { changes, .. } => {
                let Some(held) = &mut held else { continue };
                for (path, value) in changes {
                    match value {
                        Some(value) => held.insert(path.clone(), *value),
                        None => held.remove(path),
                    };
                }
            }
        }
    }
    held
}

/// Demands that the replay of each stream is what was there in the end.
pub fn arrived(streams: &[Vec<Told>], tree: &BTreeMap<String, u64>) -> Verdict {
    let mut violations = Vec::new();
    for (at, stream) in streams.iter().enumerate() {
        let held = replay(stream);
        if held.as_ref() != Some(tree) {
            violations.push(format!("subscriber {at} ended with {held:?}, the tree with {tree:?}"));
        }
    }
    Verdict::of(violations)
}

impl Truth<'_> {
    /// Rules 1, 3 and 5.
    fn follow(&mut self, stream: &[Told], say: &mut impl FnMut(String)) {
        let mut last: Option<u64> = None;
        for told in stream {
            match told {
                Told::Snapshot { zxid, .. } => last = Some(*zxid),
                Told::Reset => last = None,
                Told::Progress { zxid } => {
                    last = last.max(Some(*zxid));
                }
                Told::Change { zxid, changes } => {
                    if last.is_some_and(|last| *zxid <= last) {
                        say(format!("zxid {zxid} was told again, or late, after {last:?}"));
                    }
                    last = Some(*zxid);
                    self.explain(*zxid, changes, say);
                }
            }
        }
    }

    fn explain(&mut self, zxid: u64, changes: &[(String, Value)], say: &mut impl FnMut(String)) {
        let told: Vec<(&str, Value)> =
            changes.iter().map(|(path, value)| (path.as_str(), *value)).collect();
        if let Some(known) = self.known.get(&zxid) {
            if *known != told {
                say(format!("of zxid {zxid} {told:?} was told, but it did {known:?}"));
            }
        } else if let Some(revealed) = self.revealed.get(&zxid) {
            if revealed != changes {
                say(format!("of zxid {zxid} {told:?} was told, another was told {revealed:?}"));
            }
        } else if told.iter().all(|change| self.unknown.contains(change)) {
            self.revealed.insert(zxid, changes.to_vec());
        } else {
            say(format!("of zxid {zxid} {told:?} was told, which nobody wrote"));
        }
    }

    /// Rule 4.
    fn compare_snapshots(&self, stream: &[Told], say: &mut impl FnMut(String)) {
        for told in stream {
            let Told::Snapshot { zxid, values } = told else { continue };
            let mut expected: BTreeMap<&str, Value> = BTreeMap::new();
            let known = self.known.range(..=*zxid);
            let known = known.map(|(zxid, done)| (*zxid, done.clone()));
            let revealed = self.revealed.range(..=*zxid).map(|(zxid, done)| {
                (*zxid, done.iter().map(|(path, value)| (path.as_str(), *value)).collect())
            });
            let mut all: Vec<(u64, Vec<(&str, Value)>)> = known.chain(revealed).collect();
            all.sort_by_key(|(zxid, _)| *zxid);
            all.into_iter().for_each(|(_, done)| expected.extend(done));
            let paths = expected.keys().copied().chain(values.keys().map(String::as_str));
            for path in paths.collect::<std::collections::BTreeSet<&str>>() {
                let there = values.get(path).copied();
                let due = expected.get(path).copied().flatten();
                // A write that nobody else was told may be seen first in a snapshot.
                let is_explained = self.unknown.contains(&(path, there));
                if there != due && !is_explained {
                    say(format!(
                        "the snapshot of zxid {zxid} has {there:?} at {path} and not {due:?}"
                    ));
                }
            }
        }
    }

    /// Rule 2.
    fn find_gaps(&self, stream: &[Told], say: &mut impl FnMut(String)) {
        let mut since: Option<u64> = None;
        for told in stream {
            let (upto, includes) = match told {
                Told::Snapshot { zxid, .. } => {
                    since = Some(*zxid);
                    continue;
                }
                Told::Reset => {
                    since = None;
                    continue;
                }
                Told::Change { zxid, .. } => (*zxid, true),
                Told::Progress { zxid } => (*zxid, false),
            };
            if let Some(from) = since.filter(|from| *from < upto) {
                let skipped = |zxid: &u64| *zxid > from && (*zxid < upto || !includes);
                let known = self.known.range(from..=upto).map(|(zxid, _)| *zxid);
                let revealed = self.revealed.range(from..=upto).map(|(zxid, _)| *zxid);
                for zxid in known.chain(revealed).filter(skipped) {
                    say(format!("zxid {zxid} was not told between {from} and {upto}"));
                }
            }
            since = since.map(|from| from.max(upto));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Told, Value, Written, arrived, check};
    use crate::check::Verdict;

    fn write(path: &str, value: Value, zxid: Option<u64>) -> Written {
        Written { path: path.into(), value, zxid }
    }

    fn change(zxid: u64, path: &str, value: Value) -> Told {
        Told::Change { zxid, changes: vec![(path.into(), value)] }
    }

    fn snapshot(zxid: u64, values: &[(&str, u64)]) -> Told {
        let values = values.iter().map(|(path, value)| ((*path).to_owned(), *value));
        Told::Snapshot { zxid, values: BTreeMap::from_iter(values) }
    }

    fn three() -> Vec<Written> {
        let write = |path, value, zxid| write(path, value, Some(zxid));
        vec![write("/a", Some(1), 5), write("/b", Some(2), 6), write("/a", None, 8)]
    }

    fn one(stream: Vec<Told>) -> Verdict {
        check(&three(), &[stream])
    }

    #[test]
    fn a_whole_stream_is_good_and_so_is_one_with_a_reset_and_a_snapshot() {
        let whole = vec![
            snapshot(4, &[]),
            change(5, "/a", Some(1)),
            change(6, "/b", Some(2)),
            change(8, "/a", None),
            Told::Progress { zxid: 9 },
        ];
        assert_eq!(one(whole), Verdict::Ok);
        let reset = vec![
            snapshot(5, &[("/a", 1)]),
            Told::Reset,
            snapshot(8, &[("/b", 2)]),
            Told::Progress { zxid: 9 },
        ];
        assert_eq!(one(reset), Verdict::Ok);
    }

    #[test]
    fn gaps_doubles_and_changes_that_nobody_made_are_found() {
        let first = || vec![snapshot(4, &[]), change(5, "/a", Some(1))];
        let with = |more: Vec<Told>| one([first(), more].concat());
        assert!(with(vec![change(8, "/a", None)]).is_violated(), "a gap");
        assert!(with(vec![Told::Progress { zxid: 6 }]).is_violated(), "a gap at the end");
        assert!(with(vec![change(5, "/a", Some(1))]).is_violated(), "a double");
        assert!(with(vec![change(6, "/b", Some(3))]).is_violated(), "another value");
        let foreign = vec![change(6, "/b", Some(2)), change(7, "/b", Some(9))];
        assert!(with(foreign).is_violated(), "nobody's");
    }

    #[test]
    fn a_snapshot_that_lacks_what_was_written_is_found() {
        assert!(one(vec![snapshot(6, &[("/a", 1)])]).is_violated());
        assert!(one(vec![snapshot(8, &[("/a", 1), ("/b", 2)])]).is_violated());
    }

    #[test]
    fn what_is_unknown_to_its_writer_is_the_same_for_all_subscribers() {
        let writes = [write("/a", Some(1), Some(5)), write("/a", Some(2), None)];
        let told = |zxid| vec![snapshot(5, &[("/a", 1)]), change(zxid, "/a", Some(2))];
        assert_eq!(check(&writes, &[told(6), told(6)]), Verdict::Ok);
        let silent = vec![snapshot(5, &[("/a", 1)]), Told::Progress { zxid: 7 }];
        assert!(check(&writes, &[told(6), silent]).is_violated());
    }

    #[test]
    fn a_replay_that_lacks_the_last_news_is_found() {
        let tree = BTreeMap::from([("/b".to_owned(), 2)]);
        let whole =
            vec![snapshot(5, &[("/a", 1)]), change(6, "/b", Some(2)), change(8, "/a", None)];
        assert_eq!(arrived(std::slice::from_ref(&whole), &tree), Verdict::Ok);
        assert!(arrived(&[whole[..2].to_vec()], &tree).is_violated());
        assert!(arrived(&[[whole, vec![Told::Reset]].concat()], &tree).is_violated());
    }
}
