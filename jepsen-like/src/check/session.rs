//! Sessions: never ended early, and said to have ended only when their znodes are gone.
//!
//! 1. *Never early.* An acknowledged opening or renewal, sent at s, means that the session lives at least until
//!    s + timeout. So neither "expired" nor the absence of its znode may be answered before that, unless the client
//!    has asked for its end.
//! 2. *Gone when said.* A linearizable read that begins after "expired" was answered does not find the znode.
//! 3. *Gone in time.* A silent session's znode is gone within the timeout plus a grace that the caller chooses; beyond it
//!    the znode is a ghost. During an outage lateness is right, and whoever leads after it has to give everybody a full
//!    timeout: so as a promise it is counted from the end of the last fault at the earliest, see [`gone_in_time`], and
//!    over a whole run it is a measure, see [`ghost_us`]. Both by the suite's own clock.
//!
//! Cost: O(n) per session.

use serde::{Deserialize, Serialize};

use super::{Verdict, shown};

/// What one client did with one session, and what anybody saw of its znode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLife {
    /// Its id.
    pub session: String,
    /// Its timeout, µs.
    pub timeout_us: u64,
    /// In the order of their ends.
    pub events: Vec<SessionEvent>,
}

/// One answered request, from its sending to its answer, µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEvent {
    /// When it was sent.
    pub start_us: u64,
    /// When it was answered.
    pub end_us: u64,
    /// What was answered.
    pub said: Said,
}

/// What an answer says of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It was opened or renewed, and so promised for a whole timeout.
    Alive,
    /// It was asked to live on, and nothing was promised: the answer was no promise, or did not come.
    PerhapsRenewed,
    /// The client asked for its end; the event ends when it was answered or given up.
    Closed,
    /// It has expired.
    Expired,
    /// A linearizable read found its znode.
    ZnodeThere,
    /// A linearizable read, after its creation was acknowledged, did not.
    ZnodeGone,
}

impl SessionLife {
    /// Returns until when the session had to live, as known from what was sent before this moment and acknowledged.
    fn lives_until_us(&self, before_us: u64) -> u64 {
        let renewals = self
            .events
            .iter()
            .filter(|event| event.said == Said::Alive && event.start_us <= before_us);
        let until = renewals.map(|event| event.start_us + self.timeout_us).max().unwrap_or(0);
        let closed = self.events.iter().filter(|event| event.said == Said::Closed);
        closed.map(|event| event.start_us).min().map_or(until, |closed| until.min(closed))
    }
}

/// Demands the first two rules.
pub fn check(lives: &[SessionLife]) -> Verdict {
    let mut violations = Vec::new();
    for life in lives {
        let mut expired_us: Option<u64> = None;
        for event in &life.events {
            let until = life.lives_until_us(event.end_us);
            let (session, at) = (&life.session, shown(event.end_us));
            match event.said {
                Said::Expired | Said::ZnodeGone if event.end_us < until => {
                    violations.push(format!(
                        "session {session}: {:?} was answered at {at}, but it lives at least until {}",
                        event.said,
                        shown(until)
                    ));
                }
                Said::ZnodeThere if expired_us.is_some_and(|expired| expired < event.start_us) => {
                    violations.push(format!(
                        "session {session}: its znode was found at {at}, after it was said to have expired"
                    ));
                }
                _ => {}
            }
            if event.said == Said::Expired {
                expired_us = Some(expired_us.unwrap_or(event.end_us));
            }
        }
    }
    Verdict::of(violations)
}

/// Demands the third rule: no znode is found later than its session's timeout and the grace after the session was last
/// asked to live on, or after the end of all faults.
pub fn gone_in_time(lives: &[SessionLife], healed_us: u64, grace_us: u64) -> Verdict {
    let mut violations = Vec::new();
    for life in lives {
        let asks = life.events.iter().filter(|event| {
            matches!(event.said, Said::Alive | Said::PerhapsRenewed | Said::Closed)
        });
        let last_us = asks.map(|event| event.end_us).max().unwrap_or(0).max(healed_us);
        let due_us = last_us + life.timeout_us + grace_us;
        let seen = life.events.iter().filter(|event| event.said == Said::ZnodeThere);
        if let Some(late) = seen.map(|event| event.start_us).max().filter(|at| *at > due_us) {
            violations.push(format!(
                "session {}: its znode was found at {}, although it had to be gone at {}",
                life.session,
                shown(late),
                shown(due_us)
            ));
        }
    }
    Verdict::of(violations)
}

/// Returns for how long in all znodes were found after their sessions had been silent for timeout and grace, µs.
pub fn ghost_us(lives: &[SessionLife], grace_us: u64) -> u64 {
    let ghost = |life: &SessionLife| {
        let due = life.lives_until_us(u64::MAX) + grace_us;
        let seen = life.events.iter().filter(|event| event.said == Said::ZnodeThere);
        seen.map(|event| event.start_us.saturating_sub(due)).max().unwrap_or(0)
    };
    lives.iter().map(ghost).sum()
}

#[cfg(test)]
mod tests {
    use super::{Said, SessionEvent, SessionLife, check, ghost_us, gone_in_time};
    use crate::check::Verdict;

    fn life(events: &[(u64, u64, Said)]) -> SessionLife {
        let event = |&(start_us, end_us, said)| SessionEvent { start_us, end_us, said };
        let events = events.iter().map(event).collect();
        SessionLife { session: "0x1".into(), timeout_us: 100, events }
    }

    #[test]
    fn a_life_that_is_long_enough_is_good() {
        let silent = life(&[
            (0, 5, Said::Alive),
            (50, 55, Said::Alive),
            (140, 145, Said::ZnodeThere),
            (149, 151, Said::Expired),
            (152, 153, Said::ZnodeGone),
        ]);
        let closed =
            life(&[(0, 5, Said::Alive), (10, 12, Said::Closed), (13, 14, Said::ZnodeGone)]);
        assert_eq!(check(&[silent, closed]), Verdict::Ok);
    }

    #[test]
    fn an_early_end_is_found() {
        assert!(check(&[life(&[(0, 5, Said::Alive), (90, 99, Said::Expired)])]).is_violated());
        let renewed = [(0, 5, Said::Alive), (50, 60, Said::Alive), (120, 130, Said::ZnodeGone)];
        assert!(check(&[life(&renewed)]).is_violated());
    }

    #[test]
    fn a_znode_that_outlives_the_word_of_its_end_is_found() {
        let bad = [(0, 5, Said::Alive), (100, 110, Said::Expired), (111, 112, Said::ZnodeThere)];
        assert!(check(&[life(&bad)]).is_violated());
    }

    #[test]
    fn a_ghost_is_measured_from_the_end_of_the_grace() {
        let late = [life(&[(0, 5, Said::Alive), (190, 191, Said::ZnodeThere)])];
        assert_eq!((ghost_us(&late, 20), ghost_us(&late, 95)), (70, 0));
    }

    #[test]
    fn a_znode_that_stays_is_late_after_the_last_ask_and_after_the_last_fault() {
        let late = [life(&[(0, 5, Said::Alive), (190, 191, Said::ZnodeThere)])];
        assert_eq!(gone_in_time(&late, 0, 85), Verdict::Ok);
        assert!(gone_in_time(&late, 0, 84).is_violated());
        assert_eq!(gone_in_time(&late, 70, 20), Verdict::Ok, "a fault held it up");
        let asked =
            [(0, 5, Said::Alive), (60, 70, Said::PerhapsRenewed), (190, 191, Said::ZnodeThere)];
        assert_eq!(gone_in_time(&[life(&asked)], 0, 20), Verdict::Ok, "it may have been renewed");
    }

    #[test]
    fn a_renewal_that_promised_nothing_is_no_reason_to_live() {
        let early =
            [(0, 5, Said::Alive), (60, 70, Said::PerhapsRenewed), (101, 102, Said::Expired)];
        assert_eq!(check(&[life(&early)]), Verdict::Ok);
    }
}
