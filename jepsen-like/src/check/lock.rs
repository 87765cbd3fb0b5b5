//! A lock made of an ephemeral znode: whoever creates it holds it, until it deletes it or its session ends.
//!
//! A holder may *believe* that it still holds the lock until the time at which its last acknowledged renewal was sent
//! plus the session's timeout, or until it asks for the release: the server promises that the session lives so long.
//! So:
//! 1. Fencing numbers (the czxid of each holding) are unique and grow with real time.
//! 2. Nobody else is given the lock while a holder may believe in it.
//! 3. A release that was acknowledged comes before the next holding, in the order of zxids.
//!
//! A client that goes on believing for longer than its lease is not protected by any server; that is what fencing
//! numbers are for. Cost: O(n log n).

use serde::{Deserialize, Serialize};

use super::{Verdict, shown};

/// One time that somebody held the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Who.
    pub process: u32,
    /// The zxid that created the znode.
    pub czxid: u64,
    /// When the create was sent, µs.
    pub asked_us: u64,
    /// When it was acknowledged, µs.
    pub granted_us: u64,
    /// When the last acknowledged renewal of its session was sent, µs; before that, when the session was asked for.
    pub renewed_us: u64,
    /// The session's timeout, µs.
    pub timeout_us: u64,
    /// When the release was sent, µs.
    pub release_sent_us: Option<u64>,
    /// The zxid of the release, if it was acknowledged.
    pub released_zxid: Option<u64>,
}

impl Holding {
    /// Returns until when the holder may believe.
    fn believed_until_us(&self) -> u64 {
        let lease = self.renewed_us.saturating_add(self.timeout_us);
        self.release_sent_us.map_or(lease, |sent| sent.min(lease))
    }
}

/// Demands the three rules of all holdings of one lock.
pub fn check(holdings: &[Holding]) -> Verdict {
    let mut violations = Vec::new();
    let mut sorted: Vec<&Holding> = holdings.iter().collect();
    sorted.sort_by_key(|holding| holding.czxid);
    for pair in sorted.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let who = format!("process {} (czxid {})", a.process, a.czxid);
        let next = format!("process {} (czxid {})", b.process, b.czxid);
        if a.czxid == b.czxid {
            violations.push(format!("{who} and {next} hold the lock with one fencing number"));
        }
        if b.granted_us < a.asked_us {
            violations.push(format!("{next} was granted the lock before {who} asked for it"));
        }
        if b.granted_us < a.believed_until_us() {
            violations.push(format!(
                "{next} was given the lock by {}, while {who} could believe in it until {}",
                shown(b.granted_us),
                shown(a.believed_until_us())
            ));
        }
        if a.released_zxid.is_some_and(|zxid| zxid >= b.czxid) {
            violations
                .push(format!("{who} still had the lock to release when {next} was given it"));
        }
    }
    Verdict::of(violations)
}

#[cfg(test)]
mod tests {
    use super::{Holding, check};
    use crate::check::Verdict;

    fn holding(process: u32, czxid: u64, granted_us: u64) -> Holding {
        Holding {
            process,
            czxid,
            asked_us: granted_us - 1,
            granted_us,
            renewed_us: granted_us - 1,
            timeout_us: 100,
            release_sent_us: None,
            released_zxid: None,
        }
    }

    #[test]
    fn holders_that_follow_each_other_are_good() {
        let first =
            Holding { release_sent_us: Some(50), released_zxid: Some(12), ..holding(1, 10, 20) };
        // The second dies; the third comes when its lease is over.
        assert_eq!(check(&[first, holding(2, 13, 52), holding(3, 20, 152)]), Verdict::Ok);
    }

    #[test]
    fn a_second_holder_within_the_lease_of_the_first_is_found() {
        assert!(check(&[holding(1, 10, 20), holding(2, 13, 118)]).is_violated());
        let renewed = Holding { renewed_us: 60, ..holding(1, 10, 20) };
        assert!(check(&[renewed, holding(2, 13, 125)]).is_violated());
    }

    #[test]
    fn fencing_numbers_that_repeat_or_run_against_time_are_found() {
        assert!(check(&[holding(1, 10, 20), holding(2, 10, 500)]).is_violated());
        assert!(check(&[holding(1, 10, 500), holding(2, 11, 20)]).is_violated());
    }

    #[test]
    fn a_release_after_the_next_holding_is_found() {
        let late =
            Holding { release_sent_us: Some(110), released_zxid: Some(14), ..holding(1, 10, 20) };
        assert!(check(&[late, holding(2, 13, 200)]).is_violated());
    }
}
