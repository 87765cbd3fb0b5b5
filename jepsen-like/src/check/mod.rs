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
//! | `registry` | no acknowledged registration is lost at the end; and measures: what consumers suffered |
//!
//! Rules of honesty. An op whose outcome is unknown may have taken effect or not, whichever suits the server. A
//! checker whose budget ran out says [`Verdict::Unknown`], never `Ok`; budgets count work, not time, so the same
//! history has the same verdict everywhere. A history in which too little happened is [`Verdict::Unknown`] too: see
//! [`enough`].

mod life;
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

use crate::history::Request;
use crate::history::registry::Answered;

/// At most so many violations are described; the first are the ones to look at.
const DESCRIBED_MAX: usize = 20;
/// Fewer requests than this per second of faults say nothing of faults.
const DURING_PER_SECOND_MIN: u64 = 1;

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

/// What has to have happened in a run, so that a verdict on it means something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// So many requests have to be answered.
    pub answered_min: usize,
    /// From when to when there were faults, µs.
    pub bands: Vec<(u64, u64)>,
}

impl Demand {
    /// Returns how long there were faults, µs.
    fn faulty_us(&self) -> u64 {
        let mut bands = self.bands.clone();
        bands.sort_unstable();
        let (mut sum, mut reached) = (0, 0);
        for (from, until) in bands {
            sum += until.saturating_sub(from.max(reached));
            reached = reached.max(until);
        }
        sum
    }
}

/// Guards against an empty success, for every workload: `Unknown` when too few requests were answered, when fewer than
/// one a second began while there were faults, or when a fifth or more of all have an unknown outcome, under which
/// almost anything would pass.
pub fn enough(requests: &[Request], demand: &Demand) -> Verdict {
    let count = |is: &dyn Fn(&Request) -> bool| requests.iter().filter(|one| is(one)).count();
    let answered = count(&|one| matches!(one.result, Answered::Ok | Answered::Refused));
    if answered < demand.answered_min {
        return Verdict::Unknown(format!("only {answered} requests were answered: too few to say"));
    }
    let is_in = |&(from, until): &(u64, u64), one: &Request| (from..until).contains(&one.start_us);
    let during = count(&|one| demand.bands.iter().any(|band| is_in(band, one)));
    let faulty_s = demand.faulty_us() / 1_000_000;
    if (during as u64) < faulty_s * DURING_PER_SECOND_MIN {
        return Verdict::Unknown(format!(
            "only {during} requests began in the {faulty_s} s of faults: too few to say"
        ));
    }
    let unknown = count(&|one| one.result == Answered::Unknown);
    if unknown * 5 >= requests.len().max(1) {
        let all = requests.len();
        return Verdict::Unknown(format!(
            "{unknown} of {all} requests have an unknown outcome: too many to say"
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
    use super::{Demand, Verdict, enough};
    use crate::history::Request;
    use crate::history::registry::Answered;

    fn requests(of: &[(u64, Answered)]) -> Vec<Request> {
        of.iter().map(|(second, result)| (second * 1_000_000, *result)).map(made).collect()
    }

    fn made((start_us, result): (u64, Answered)) -> Request {
        Request { start_us, result }
    }

    #[test]
    fn a_run_in_which_too_little_happened_is_neither_good_nor_bad() {
        let demand = Demand { answered_min: 2, bands: Vec::new() };
        let is_open =
            |of: &[(u64, Answered)]| matches!(enough(&requests(of), &demand), Verdict::Unknown(_));
        let (ok, failed, unknown) = (Answered::Ok, Answered::Failed, Answered::Unknown);
        assert!(!is_open(&[(0, ok), (0, Answered::Refused)]));
        assert!(is_open(&[(0, ok), (0, failed), (0, unknown)]));
        assert!(is_open(&[(0, ok), (0, ok), (0, ok), (0, ok), (0, unknown)]));
        assert!(!is_open(&[(0, ok), (0, ok), (0, ok), (0, ok), (0, failed), (0, unknown)]));
    }

    #[test]
    fn a_run_in_which_nobody_asked_while_there_were_faults_says_nothing_of_faults() {
        let second = |from: u64, until: u64| (from * 1_000_000, until * 1_000_000);
        // Two that overlap, and one more: five seconds.
        let bands = vec![second(3, 5), second(2, 4), second(8, 10)];
        let demand = Demand { answered_min: 1, bands };
        let asked = |seconds: &[u64]| {
            let all: Vec<_> = seconds.iter().map(|second| (*second, Answered::Ok)).collect();
            enough(&requests(&all), &demand)
        };
        assert!(asked(&[2, 3, 4, 8, 9]).is_ok());
        assert!(matches!(asked(&[2, 3, 4, 9]), Verdict::Unknown(_)));
        assert!(matches!(asked(&[0, 1, 5, 6, 7, 10, 11, 3]), Verdict::Unknown(_)));
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
