//! Checkers: pure functions from a history to a [`Verdict`].
//!
//! There are two kinds. The *witness* (`witness`) believes the zxid that the server gave to every answer, puts all
//! writes in that order, and demands that every read, version and real-time order fits it: strict, over the whole
//! tree at once, and in O(n log n). A server that lies consistently about its zxids could fool it, so `wgl` decides
//! linearizability of each key a second time, from values and times alone. The others each hold one promise:
//!
//! | module | promise |
//! |---|---|
//! | `wgl` | each key is a linearizable register, whatever the server says of its order |
//! | `witness` | all keys together are one history in zxid order, consistent with real time |
//! | `monotonic` | no client's state goes back, and it sees its own writes |
//! | `set` | sequential znodes: unique, in order, none that was acknowledged is lost |
//! | `lock` | never two holders that both may believe it, and fencing numbers grow |
//! | `session` | never expired early, and gone when expired is said |
//! | `watch` | a subscriber's replay is the history: no gap, no double, in order |
//! | `multi` | all writes of a transaction or none, in every read |
//! | `registry` | no promise but measures: what consumers suffered, for any kind of registry |
//!
//! Rules of honesty. An op whose outcome is unknown may have taken effect or not, whichever suits the server. A
//! checker whose budget ran out says [`Verdict::Unknown`], never `Ok`; budgets count work, not time, so the same
//! history has the same verdict everywhere. A history in which too little happened is [`Verdict::Unknown`] too: see
//! [`enough`].

pub mod lock;
pub mod monotonic;
pub mod multi;
pub mod registry;
pub mod session;
pub mod set;
pub mod watch;
pub mod wgl;
pub mod witness;

use serde::{Deserialize, Serialize};

use crate::history::Op;

/// At most so many violations are described; the first are the ones to look at.
const DESCRIBED_MAX: usize = 20;

/// What a checker says of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The promise was kept.
    Ok,
    /// It was broken; each line says where.
    Violated(Vec<String>),
    /// It is not known, and why.
    Unknown(String),
}

impl Verdict {
    /// Returns `Ok` without violations, else the first of them.
    pub fn of(mut violations: Vec<String>) -> Verdict {
        if violations.is_empty() {
            return Verdict::Ok;
        }
        let more = violations.len().saturating_sub(DESCRIBED_MAX);
        violations.truncate(DESCRIBED_MAX);
        if more > 0 {
            violations.push(format!("and {more} more"));
        }
        Verdict::Violated(violations)
    }

    /// Returns the worse of two: broken before unknown before kept.
    pub fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Violated(mut a), Verdict::Violated(b)) => {
                a.extend(b);
                Verdict::of(a)
            }
            (bad @ Verdict::Violated(_), _) | (_, bad @ Verdict::Violated(_)) => bad,
            (open @ Verdict::Unknown(_), _) | (Verdict::Ok, open) => open,
        }
    }

    /// Returns whether the promise was kept.
    pub fn is_ok(&self) -> bool {
        *self == Verdict::Ok
    }

    /// Returns whether it was broken.
    pub fn is_violated(&self) -> bool {
        matches!(self, Verdict::Violated(_))
    }
}

/// Guards against an empty success: `Unknown` when fewer than `answered_min` ops were answered, or when a fifth or more
/// of all have an unknown outcome, under which almost anything would pass.
pub fn enough<C, R>(history: &[Op<C, R>], answered_min: usize) -> Verdict {
    let answered = history.iter().filter(|op| op.answer().is_some()).count();
    let unknown = history.iter().filter(|op| op.is_unknown()).count();
    if answered < answered_min {
        return Verdict::Unknown(format!("only {answered} ops were answered: too few to say"));
    }
    if unknown * 5 >= history.len().max(1) {
        return Verdict::Unknown(format!(
            "{unknown} of {} ops have an unknown outcome: too many to say",
            history.len()
        ));
    }
    Verdict::Ok
}

/// Says a time as people read it.
fn shown(us: u64) -> String {
    match us {
        u64::MAX => "the end".into(),
        _ => format!("{}.{:03} s", us / 1_000_000, us / 1_000 % 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, enough};
    use crate::history::{Op, Outcome};

    fn op(outcome: Outcome<()>) -> Op<(), ()> {
        Op { process: 1, node: 1, start_us: 0, end_us: 1, call: (), outcome }
    }

    #[test]
    fn a_run_in_which_too_little_happened_is_neither_good_nor_bad() {
        let ok = || op(Outcome::Ok(()));
        let unknown = || op(Outcome::Unknown("cut".into()));
        assert!(enough(&[ok(), ok()], 2).is_ok());
        assert!(matches!(enough(&[ok()], 2), Verdict::Unknown(_)));
        assert!(matches!(enough(&[ok(), ok(), ok(), ok(), unknown()], 2), Verdict::Unknown(_)));
    }

    #[test]
    fn the_worst_verdict_wins() {
        let bad = || Verdict::of(vec!["x".into()]);
        let open = || Verdict::Unknown("y".into());
        assert_eq!(bad().and(open()), bad());
        assert_eq!(Verdict::Ok.and(open()), open());
        assert_eq!(open().and(Verdict::Ok), open());
        assert_eq!(Verdict::Ok.and(Verdict::Ok), Verdict::Ok);
    }
}
