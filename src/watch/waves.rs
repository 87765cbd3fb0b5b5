use super::Moment;
use crate::limits::CLOCK_UNWRITTEN_MS_MAX;

/// The turns in which listeners are told: each has its wave, and after the last one comes the first again. Nothing is kept of
/// it: time and the listener decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waves {
    /// How many, at least 1.
    pub count: u64,
    /// Time between two, ms, at least 1.
    pub interval_ms: u64,
}

impl Waves {
    /// Returns for how long a listener that asks now, and of whom it is not known when it was told something, waits.
    pub fn wait(&self, cluster_ms: u64, turn: u64) -> Wait {
        let turn_ms = self.wait_ms(cluster_ms, turn, None);
        Wait { turn_ms, round_ms: self.count.saturating_mul(self.interval_ms) }
    }

    /// Returns after how many ms it is a listener's turn, once in a round: at once while its wave runs, if it has not been
    /// told since that began. `told_ms` is when it was told something last, by the cluster's clock too; that may be later
    /// than the time, which was read before another thread told it.
    pub fn wait_ms(&self, cluster_ms: u64, turn: u64, told_ms: Option<u64>) -> u64 {
        let from_ms = told_ms.map_or(cluster_ms, |told_ms| told_ms.max(cluster_ms));
        let present = from_ms / self.interval_ms % self.count;
        let began_ms = from_ms - from_ms % self.interval_ms;
        let due_ms = match (turn % self.count + self.count - present) % self.count {
            0 if told_ms.is_none_or(|told_ms| told_ms < began_ms) => from_ms,
            0 => began_ms + self.count * self.interval_ms,
            away => began_ms + away * self.interval_ms,
        };
        due_ms - cluster_ms
    }
}

/// For how long somebody who comes back is held back for what it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Until its turn, ms from now.
    pub turn_ms: u64,
    /// All turns together take so long, ms: nothing is held back for longer.
    pub round_ms: u64,
}

/// For how long a node goes by what entries have told it of the cluster's clock, at least, ms: while turns count there are
/// several of them in that time.
const AHEAD_PERIOD_MS: u64 = 2 * CLOCK_UNWRITTEN_MS_MAX;

/// By how much the cluster's clock is ahead of a node's, as of the entry that came most quickly within a while: with it one
/// time is not two times to a listener that is told in turns, however late entries come. That clock stands still while there
/// is no leader, and no two clocks run alike; so what was long ago does not count. What it says never goes back: it
/// goes at half the speed instead, until that is the time again. So turns go on, and nodes come to agree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    began_ms: u64,
    /// Of the period that is running, and of the one before.
    now: Option<i64>,
    before: Option<i64>,
    /// What it said when the period began, ms.
    floor_ms: Option<u64>,
}

impl Ahead {
    /// Takes up the cluster's time of an entry that is applied now.
    pub fn note(&mut self, now_ms: u64, cluster_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.began_ms);
        if elapsed_ms >= AHEAD_PERIOD_MS {
            let before = self.now.filter(|_| elapsed_ms < 2 * AHEAD_PERIOD_MS);
            let floor_ms = self.known_ms(now_ms);
            *self = Ahead { began_ms: now_ms, now: None, before, floor_ms };
        }
        let ahead_ms = (cluster_ms as i64).saturating_sub(now_ms as i64);
        self.now = self.now.max(Some(ahead_ms));
    }

    /// Returns this time by both clocks.
    pub fn moment(&self, now_ms: u64) -> Moment {
        Moment { now_ms, cluster_ms: self.cluster_ms(now_ms) }
    }

    /// Returns the cluster's time, ms; 0 before the first entry.
    fn cluster_ms(&self, now_ms: u64) -> u64 {
        self.known_ms(now_ms).unwrap_or(0)
    }

    fn known_ms(&self, now_ms: u64) -> Option<u64> {
        let ahead_ms = self.now.max(self.before);
        let cluster_ms = ahead_ms.map(|ahead_ms| now_ms.saturating_add_signed(ahead_ms));
        let elapsed_ms = now_ms.saturating_sub(self.began_ms);
        cluster_ms.max(self.floor_ms.map(|floor_ms| floor_ms + elapsed_ms / 2))
    }
}

/// Returns the number that decides about a listener's turn, from what it is known by: the same on every node and in every
/// run. Source: FNV-1a, and the last step of MurmurHash3, without which the last bytes would decide too much.
pub fn turn_of(name: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = name.iter().fold(0xcbf2_9ce4_8422_2325, step);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ hash >> 33).wrapping_mul(factor);
    }
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAVES: Waves = Waves { count: 10, interval_ms: 300 };

    proptest! {
        #[test]
        fn everybody_is_told_in_its_wave_and_once_a_round(
            turn in 0..u64::MAX, start_ms in 0..100_000u64,
            gaps in prop::collection::vec((0..700u64, 0..50u64), 1..100),
        ) {
            let (mut now_ms, mut told_ms) = (start_ms, None);
            for (gap, lag) in gaps {
                // Something happens, and the listener is told when it is its turn. When that was may have been read before
                // the listener was told what happened before.
                let read_ms = now_ms.saturating_sub(lag);
                let wait_ms = WAVES.wait_ms(read_ms, turn, told_ms);
                prop_assert!(wait_ms <= 3_000 + lag);
                let due_ms = read_ms + wait_ms;
                prop_assert_eq!(due_ms / 300 % 10, turn % 10);
                if let Some(told_ms) = told_ms {
                    prop_assert!(due_ms / 3_000 > told_ms / 3_000, "{} and {}", told_ms, due_ms);
                }
                told_ms = Some(due_ms);
                now_ms = due_ms + gap;
            }
        }
    }

    #[test]
    fn nodes_agree_about_the_time_again_after_a_leader_is_gone_for_a_while() {
        let (mut old, mut new) = (Ahead::default(), Ahead::default());
        assert_eq!(old.cluster_ms(7), 0, "nothing is known");
        // Entries come a little late, and one of them much.
        for (now_ms, cluster_ms) in [(1_020, 501_000), (2_900, 502_000), (3_010, 503_000)] {
            old.note(now_ms, cluster_ms);
        }
        assert_eq!(old.cluster_ms(4_000), 503_990);
        // Without a leader the clock stands still for four seconds; then there is a node that has not seen it before.
        let entries = (1..=5).map(|n| (3_010 + n * 4_000, 499_000 + n * 4_000));
        for (now_ms, cluster_ms) in entries {
            old.note(now_ms, cluster_ms);
            new.note(now_ms, cluster_ms);
        }
        assert_eq!((old.cluster_ms(23_010), new.cluster_ms(23_010)), (523_000, 519_000));
        let steps = (23_010..32_010).step_by(1_000).map(|now_ms| old.cluster_ms(now_ms));
        let said: Vec<u64> = steps.collect();
        assert_eq!(said[..3], [523_000, 523_500, 524_000], "it does not stand still");
        assert!(said.is_sorted() && said.last() == Some(&new.cluster_ms(31_010)), "{said:?}");
    }

    #[test]
    fn neighbours_in_number_are_spread_over_all_waves() {
        let mut shares = [0; 10];
        for session in 0..10_000_u64 {
            shares[(turn_of(&session.to_le_bytes()) % 10) as usize] += 1;
        }
        assert!(shares.iter().all(|share| (850..1_150).contains(share)), "{shares:?}");
    }
}
