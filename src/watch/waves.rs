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
    /// Returns after how many ms it is a listener's turn, once in a round: at once while its wave runs, if it has not been
    /// told since that began.
    pub fn wait_ms(&self, cluster_ms: u64, turn: u64, told_ms_ago: Option<u64>) -> u64 {
        let present = cluster_ms / self.interval_ms % self.count;
        let running_ms = cluster_ms % self.interval_ms;
        match (turn % self.count + self.count - present) % self.count {
            0 if told_ms_ago.is_none_or(|ago| ago > running_ms) => 0,
            0 => self.count * self.interval_ms - running_ms,
            away => away * self.interval_ms - running_ms,
        }
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
            turn in 0..u64::MAX, start_ms in 0..100_000u64, gaps in prop::collection::vec(0..700u64, 1..100),
        ) {
            let (mut now_ms, mut told_ms) = (start_ms, None);
            for gap in gaps {
                // Something happens, and the listener is told when it is its turn.
                let wait_ms = WAVES.wait_ms(now_ms, turn, told_ms.map(|it| now_ms - it));
                prop_assert!(wait_ms <= 3_000);
                let due_ms = now_ms + wait_ms;
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
    fn neighbours_in_number_are_spread_over_all_waves() {
        let mut shares = [0; 10];
        for session in 0..10_000_u64 {
            shares[(turn_of(&session.to_le_bytes()) % 10) as usize] += 1;
        }
        assert!(shares.iter().all(|share| (850..1_150).contains(share)), "{shares:?}");
    }
}
