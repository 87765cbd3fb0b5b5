use std::time::Duration;

/// Longest wait before the first repetition.
const FIRST_MS: u64 = 100;
/// Longest wait before any repetition.
const MAX_MS: u64 = 10_000;
/// The part of a timeout after which a session is renewed: two renewals may fail before it is lost.
const RENEWALS_PER_TIMEOUT: u64 = 3;

/// How long to wait between attempts that fail: a random part ("full jitter") of a time that doubles from 100 ms to
/// 10 s. A value: the caller has the random number and does the waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    max_ms: u64,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { failures: 0, max_ms: MAX_MS }
    }
}

impl Backoff {
    /// Returns one whose waits are at most this long, and never longer than 10 s.
    pub fn up_to(max: Duration) -> Backoff {
        let max_ms = u64::try_from(max.as_millis()).unwrap_or(MAX_MS).clamp(FIRST_MS, MAX_MS);
        Backoff { failures: 0, max_ms }
    }

    /// Notes a failure and returns how long to wait, from a random number that may be anything.
    pub fn failed(&mut self, random: u64) -> Duration {
        let ceiling_ms = self.ceiling_ms();
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(random % (ceiling_ms + 1))
    }

    /// Notes a success: the next wait is short again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Returns how many attempts have failed since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns the longest time that the next failure may ask to wait, ms.
    pub fn ceiling_ms(&self) -> u64 {
        (FIRST_MS << self.failures.min(10)).min(self.max_ms)
    }
}

/// Returns how long after a renewal the next one is due: what the registry advised, or a third of the timeout, in both
/// cases less a random part of up to a fifth, so that those who began together drift apart. `random` may be anything.
/// Never longer than two thirds of the timeout, whatever was advised.
pub fn renew_after(timeout_ms: u64, advised_ms: Option<u64>, random: u64) -> Duration {
    let longest = (timeout_ms * 2 / RENEWALS_PER_TIMEOUT).max(1);
    let base = advised_ms.unwrap_or(timeout_ms / RENEWALS_PER_TIMEOUT).clamp(1, longest);
    Duration::from_millis(base - random % (base / 5 + 1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, proptest};

    use super::{Backoff, renew_after};

    #[test]
    fn the_wait_doubles_from_a_tenth_of_a_second_to_ten_and_begins_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<u64> = (0..9)
            .map(|_| {
                let ceiling = backoff.ceiling_ms();
                assert_eq!(backoff.failed(ceiling), Duration::from_millis(ceiling));
                ceiling
            })
            .collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        backoff.succeeded();
        assert_eq!((backoff.ceiling_ms(), backoff.failed(0)), (100, Duration::ZERO));
        let mut short = Backoff::up_to(Duration::from_secs(1));
        let longest = (0..20).map(|_| short.failed(u64::MAX - 1)).max();
        assert!(longest <= Some(Duration::from_secs(1)) && short.ceiling_ms() == 1_000);
    }

    #[test]
    fn two_thousand_clients_that_failed_together_come_back_evenly_spread() {
        // The longest wait, in 20 buckets: none may hold more than three times the mean.
        let mut buckets = [0_u32; 20];
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..2_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let mut backoff = Backoff { failures: 20, ..Backoff::default() };
            let wait = backoff.failed(random >> 16).as_millis();
            buckets[usize::try_from(wait * 20 / 10_001).unwrap()] += 1;
        }
        assert!(buckets.iter().all(|&count| count > 30 && count < 300), "{buckets:?}");
    }

    proptest! {
        #[test]
        fn a_renewal_is_never_later_than_two_thirds_of_the_timeout(
            timeout_ms in 3_u64..600_000, advised in any::<Option<u64>>(), random in any::<u64>()
        ) {
            let wait = u64::try_from(renew_after(timeout_ms, advised, random).as_millis()).unwrap();
            assert!(wait <= timeout_ms * 2 / 3);
            if advised.is_none() {
                assert!(wait >= timeout_ms / 3 * 4 / 5 && wait <= timeout_ms / 3);
            }
        }
    }
}
