/// What the leader's expiry sees at one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The monotonic clock, ms: the same reading that the queue is then asked with.
    pub now_ms: u64,
    /// The term in which this node leads; `None` when it does not.
    pub leading_term: Option<u64>,
    /// How long ago a quorum last acknowledged this leader, ms; `None` when none has in this term.
    pub quorum_ack_age_ms: Option<u64>,
}

/// What the leader's expiry may do at one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: this node does not lead, or has no quorum.
    Hold,
    /// Give every session its full timeout again, and expire none.
    Restart,
    /// Expire those whose deadline has passed.
    Expire,
}

/// Decides at each tick whether the deadlines still mean anything. See rules 3 to 5 of the module's
/// introduction.
#[derive(Debug)]
pub struct ExpiryGate {
    gap_ms_max: u64,
    quorum_ack_age_ms_max: u64,
    /// The last tick: its time, and the term in which the deadlines were last restarted and have been good
    /// since.
    last_tick_ms: Option<u64>,
    good_in_term: Option<u64>,
}

impl ExpiryGate {
    /// Returns a gate that takes ticks further apart than `gap_ms_max` for a pause of the process, and an
    /// acknowledgement older than `quorum_ack_age_ms_max` for the loss of the quorum. The gap must be longer
    /// than the tick, or nothing ever expires; on the other hand it is the time for which reports may lie
    /// unread without anyone noticing, so it should be well below the shortest timeout.
    pub fn new(gap_ms_max: u64, quorum_ack_age_ms_max: u64) -> ExpiryGate {
        ExpiryGate { gap_ms_max, quorum_ack_age_ms_max, last_tick_ms: None, good_in_term: None }
    }

    /// Decides for one tick. A restart that is due while there is no quorum is given once there is one, so
    /// that the full timeout runs from then.
    pub fn tick(&mut self, seen: Observation) -> Decision {
        // A monotonic clock does not go back. Should it, the deadlines mean as little as after a jump
        // forward.
        let elapsed_ms = self.last_tick_ms.map(|last_ms| seen.now_ms.checked_sub(last_ms));
        self.last_tick_ms = Some(seen.now_ms);
        let is_steady = matches!(elapsed_ms, Some(Some(gap_ms)) if gap_ms <= self.gap_ms_max);
        let has_quorum =
            seen.quorum_ack_age_ms.is_some_and(|age| age <= self.quorum_ack_age_ms_max);
        if seen.leading_term.is_none() || !has_quorum {
            self.good_in_term = None;
            return Decision::Hold;
        }
        if !is_steady || self.good_in_term != seen.leading_term {
            self.good_in_term = seen.leading_term;
            return mutant!(M19, Decision::Expire, Decision::Restart);
        }
        Decision::Expire
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{Expire, Hold, Restart};
    use super::*;

    /// The decisions of a gate (gap 250 ms, acknowledgement 300 ms) for (time, term, age of the
    /// acknowledgement).
    fn decisions(ticks: &[(u64, Option<u64>, Option<u64>)]) -> Vec<Decision> {
        let mut gate = ExpiryGate::new(250, 300);
        let observe = |&(now_ms, leading_term, quorum_ack_age_ms)| Observation {
            now_ms,
            leading_term,
            quorum_ack_age_ms,
        };
        ticks.iter().map(|tick| gate.tick(observe(tick))).collect()
    }

    #[test]
    fn only_the_leader_expires() {
        let ticks = [(0, None, None), (100, None, Some(0)), (200, None, None)];
        assert_eq!(decisions(&ticks), [Hold, Hold, Hold]);
    }

    #[test]
    fn full_timeout_after_a_leader_change() {
        let follower = (0, None, None);
        let leads = |now_ms, term| (now_ms, Some(term), Some(10));
        let ticks = [follower, leads(100, 3), leads(200, 3), leads(300, 5), leads(400, 5)];
        assert_eq!(decisions(&ticks), [Hold, Restart, Expire, Restart, Expire]);
    }

    #[test]
    fn full_timeout_after_leading_again_in_the_same_term() {
        let leads = |now_ms| (now_ms, Some(3), Some(10));
        let ticks = [leads(0), leads(100), (200, None, None), leads(300), leads(400)];
        assert_eq!(decisions(&ticks), [Restart, Expire, Hold, Restart, Expire]);
    }

    #[test]
    fn full_timeout_after_a_paused_leader() {
        let leads = |now_ms| (now_ms, Some(3), Some(10));
        let ticks = [leads(0), leads(250), leads(501), leads(600), leads(599), leads(700)];
        assert_eq!(decisions(&ticks), [Restart, Expire, Restart, Expire, Restart, Expire]);
    }

    #[test]
    fn full_timeout_after_quorum_loss_counted_from_its_return() {
        let acked = |now_ms, age_ms| (now_ms, Some(3), age_ms);
        let ticks = [
            acked(0, None),
            acked(100, Some(0)),
            acked(200, Some(300)),
            acked(300, Some(301)),
            acked(400, Some(401)),
            acked(500, Some(5)),
            acked(600, Some(5)),
        ];
        assert_eq!(decisions(&ticks), [Hold, Restart, Expire, Hold, Hold, Restart, Expire]);
    }

    #[test]
    fn a_pause_without_a_quorum_is_not_forgotten() {
        let ticks = [
            (0, Some(3), Some(0)),
            (900, Some(3), Some(900)),
            (1_000, Some(3), Some(0)),
            (1_100, Some(3), Some(0)),
        ];
        assert_eq!(decisions(&ticks), [Restart, Hold, Restart, Expire]);
    }
}
