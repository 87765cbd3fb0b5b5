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

/// Decides at each tick whether the deadlines still mean anything. See rules 3 to 5 of the module's introduction.
#[derive(Debug)]
pub struct ExpiryGate {
    gap_ms_max: u64,
    quorum_ack_age_ms_max: u64,
    /// The last tick: its time, and the term in which the deadlines were last restarted and have been good since.
    last_tick_ms: Option<u64>,
    good_in_term: Option<u64>,
}

impl ExpiryGate {
    /// Returns a gate that takes ticks further apart than `gap_ms_max` for a pause of the process, and an acknowledgement
    /// older than `quorum_ack_age_ms_max` for the loss of the quorum. The gap must be longer than the tick, or nothing
    /// ever expires; on the other hand it is the time for which reports may lie unread without anyone noticing, so it
    /// should be well below the shortest timeout.
    pub fn new(gap_ms_max: u64, quorum_ack_age_ms_max: u64) -> ExpiryGate {
        ExpiryGate { gap_ms_max, quorum_ack_age_ms_max, last_tick_ms: None, good_in_term: None }
    }

    /// Decides for one tick. A restart that is due while there is no quorum is given once there is one, so that the full
    /// timeout runs from then.
    pub fn tick(&mut self, seen: Observation) -> Decision {
        // A monotonic clock does not go back. Should it, the deadlines mean as little as after a jump forward.
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
            return Decision::Restart;
        }
        Decision::Expire
    }
}
