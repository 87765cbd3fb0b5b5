/// For how long a node has been well: it has not stood still, and it has known a leader. A client that closes its connection
/// while its node was *not* well has probably left the node, and says nothing about itself.
#[derive(Debug)]
pub struct Steadiness {
    gap_ms_max: u64,
    last_ms: Option<u64>,
    since_ms: Option<u64>,
}

impl Steadiness {
    /// Returns one that takes notes further apart than this for a pause of the process.
    pub fn new(gap_ms_max: u64) -> Steadiness {
        Steadiness { gap_ms_max, last_ms: None, since_ms: None }
    }

    /// Notes that the process runs, and whether it knows a leader.
    pub fn note(&mut self, now_ms: u64, has_leader: bool) {
        let is_even = self.is_even(now_ms);
        self.last_ms = Some(now_ms);
        self.since_ms = match self.since_ms {
            _ if !has_leader => None,
            Some(since_ms) if is_even => Some(since_ms),
            _ => Some(now_ms),
        };
    }

    /// Returns for how long, ms, up to now; 0 if a note is overdue.
    pub fn steady_ms(&self, now_ms: u64) -> u64 {
        match self.since_ms {
            Some(since_ms) if self.is_even(now_ms) => now_ms.saturating_sub(since_ms),
            _ => 0,
        }
    }

    fn is_even(&self, now_ms: u64) -> bool {
        let gap_ms = self.last_ms.and_then(|last_ms| now_ms.checked_sub(last_ms));
        gap_ms.is_some_and(|gap_ms| gap_ms <= self.gap_ms_max)
    }
}

#[cfg(test)]
mod tests {
    use super::Steadiness;

    #[test]
    fn a_pause_or_the_loss_of_the_leader_begins_anew() {
        let mut steadiness = Steadiness::new(100);
        assert_eq!(steadiness.steady_ms(0), 0);
        for now_ms in (0..=1_000).step_by(100) {
            steadiness.note(now_ms, true);
        }
        assert_eq!((steadiness.steady_ms(1_000), steadiness.steady_ms(1_100)), (1_000, 1_100));
        assert_eq!(steadiness.steady_ms(1_101), 0, "it stands still at this moment");
        assert_eq!(steadiness.steady_ms(999), 0, "a clock that goes back is none");
        steadiness.note(1_101, true);
        assert_eq!(steadiness.steady_ms(1_150), 49, "it stood still");
        steadiness.note(1_200, false);
        assert_eq!(steadiness.steady_ms(1_200), 0);
        steadiness.note(1_300, true);
        assert_eq!(steadiness.steady_ms(1_350), 50);
    }
}
