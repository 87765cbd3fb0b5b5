//! Sequential znodes as a set: every name is given once, also after it was deleted, names grow in the order of their
//! zxids, what was acknowledged is there at the end unless somebody asked for its deletion, what was certainly deleted is
//! not, and what is there was asked for.
//!
//! Cost: O(n log n).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Verdict, shown};
use crate::history::{Op, Outcome};

/// An element added: `call` is its value, unique in a run, the answer the name given.
pub type AddOp = Op<u64, Added>;

/// An element deleted: `call` is its name.
pub type RemoveOp = Op<String, ()>;

/// Answer to a sequential create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The name with its number, below one parent.
    pub name: String,
    /// Its place in the order.
    pub zxid: u64,
}

/// Compares the adds and removes with what a last, linearizable read found: names and their values.
pub fn check(history: &[AddOp], removes: &[RemoveOp], found: &BTreeMap<String, u64>) -> Verdict {
    let mut violations = Vec::new();
    let maybe_removed: BTreeSet<&str> = removes
        .iter()
        .filter(|op| !matches!(op.outcome, Outcome::Failed(_)))
        .map(|op| op.call.as_str())
        .collect();
    for op in removes.iter().filter(|op| op.answer().is_some()) {
        if found.contains_key(&op.call) {
            violations.push(format!(
                "{} was deleted, acknowledged at {}, and is there",
                op.call,
                shown(op.end_us)
            ));
        }
    }
    let mut asked: BTreeSet<u64> = BTreeSet::new();
    let mut names: BTreeMap<&str, &AddOp> = BTreeMap::new();
    let mut by_zxid: BTreeMap<u64, &str> = BTreeMap::new();
    for op in history {
        if !matches!(op.outcome, Outcome::Failed(_)) {
            asked.insert(op.call);
        }
        let Some(added) = op.answer() else { continue };
        if let Some(earlier) = names.insert(&added.name, op) {
            violations.push(format!(
                "{} was given twice, for {} and for {}",
                added.name, earlier.call, op.call
            ));
        }
        by_zxid.insert(added.zxid, &added.name);
        match found.get(&added.name) {
            None if maybe_removed.contains(added.name.as_str()) => {}
            None => violations.push(format!(
                "{} with {} was acknowledged at {} and is lost",
                added.name,
                op.call,
                shown(op.end_us)
            )),
            Some(value) if *value != op.call => {
                violations.push(format!("{} holds {value} instead of {}", added.name, op.call));
            }
            Some(_) => {}
        }
    }
    for (earlier, later) in by_zxid.iter().zip(by_zxid.iter().skip(1)) {
        if earlier.1 >= later.1 {
            violations.push(format!(
                "{} of zxid {} does not come after {} of zxid {}",
                later.1, later.0, earlier.1, earlier.0
            ));
        }
    }
    let mut values: BTreeMap<u64, &str> = BTreeMap::new();
    for (name, value) in found {
        if !asked.contains(value) {
            violations.push(format!("{name} holds {value}, which nobody added"));
        }
        if let Some(other) = values.insert(*value, name) {
            violations.push(format!("{value} was added once and is there as {other} and {name}"));
        }
    }
    Verdict::of(violations)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{AddOp, Added, RemoveOp, check};
    use crate::check::Verdict;
    use crate::history::{Op, Outcome};

    fn add(value: u64, outcome: Outcome<Added>) -> AddOp {
        Op { process: 1, node: 1, start_us: value, end_us: value + 1, call: value, outcome }
    }

    fn ok(value: u64, name: &str, zxid: u64) -> AddOp {
        add(value, Outcome::Ok(Added { name: name.into(), zxid }))
    }

    fn found(all: &[(&str, u64)]) -> BTreeMap<String, u64> {
        all.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn an_unknown_add_may_be_there_once_or_not() {
        let history = [ok(1, "n-1", 5), add(2, Outcome::Unknown("cut".into())), ok(3, "n-3", 7)];
        assert_eq!(check(&history, &[], &found(&[("n-1", 1), ("n-3", 3)])), Verdict::Ok);
        assert_eq!(
            check(&history, &[], &found(&[("n-1", 1), ("n-2", 2), ("n-3", 3)])),
            Verdict::Ok
        );
        let twice = found(&[("n-1", 1), ("n-2", 2), ("n-3", 3), ("n-4", 2)]);
        assert!(check(&history, &[], &twice).is_violated());
    }

    #[test]
    fn lost_doubled_disordered_and_foreign_elements_are_found() {
        let two = [ok(1, "n-1", 5), ok(2, "n-2", 6)];
        assert!(check(&two, &[], &found(&[("n-1", 1)])).is_violated(), "lost");
        assert!(check(&two, &[], &found(&[("n-1", 2), ("n-2", 1)])).is_violated(), "mixed up");
        let all = found(&[("n-1", 1), ("n-2", 2), ("n-3", 3)]);
        assert!(check(&two, &[], &all).is_violated(), "foreign");
        let same = [ok(1, "n-1", 5), ok(2, "n-1", 6)];
        assert!(check(&same, &[], &found(&[("n-1", 1)])).is_violated(), "given twice");
        let back = [ok(1, "n-2", 5), ok(2, "n-1", 6)];
        assert!(check(&back, &[], &found(&[("n-2", 1), ("n-1", 2)])).is_violated(), "out of order");
    }

    #[test]
    fn what_was_deleted_stays_away_and_only_it_may_be_missing() {
        let two = [ok(1, "n-1", 5), ok(2, "n-2", 6)];
        let remove = |outcome| {
            let call = "n-1".to_owned();
            [RemoveOp { process: 1, node: 1, start_us: 9, end_us: 10, call, outcome }]
        };
        let (without, with) = (found(&[("n-2", 2)]), found(&[("n-1", 1), ("n-2", 2)]));
        let done = remove(Outcome::Ok(()));
        assert_eq!(check(&two, &done, &without), Verdict::Ok);
        assert!(check(&two, &done, &with).is_violated(), "it came back");
        let unknown = remove(Outcome::Unknown("cut".into()));
        assert_eq!(check(&two, &unknown, &without), Verdict::Ok);
        assert_eq!(check(&two, &unknown, &with), Verdict::Ok);
        let failed = remove(Outcome::Failed("refused".into()));
        assert!(check(&two, &failed, &without).is_violated(), "nobody deleted it");
        let again = [ok(1, "n-1", 5), ok(2, "n-1", 11)];
        assert!(check(&again, &done, &found(&[])).is_violated(), "its name was given again");
    }
}
