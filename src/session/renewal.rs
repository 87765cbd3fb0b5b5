/// Least and most renewals per timeout that a client may plan for.
pub const MISSES_MIN: u32 = 2;
/// See [`MISSES_MIN`].
pub const MISSES_MAX: u32 = 10;
/// What a client plans for that does not say.
pub const MISSES_DEFAULT: u32 = 3;

/// Pressure, in thousandths, up to which nobody is asked to renew less often, and from which everybody is as far as can be.
const CALM: u32 = 250;
/// See [`CALM`].
const STRAINED: u32 = 750;

/// Returns when a client that plans for so many renewals per timeout had better renew next, ms after it sent the last one.
/// That is an even share of the timeout; under pressure (in thousandths) up to half of it, so that one renewal may still be
/// lost before the session is. Misses out of range count as the nearest.
pub fn next_renew_ms(timeout_ms: u32, misses: u32, pressure: u32) -> u32 {
    let even = timeout_ms / misses.clamp(MISSES_MIN, MISSES_MAX);
    let longest = timeout_ms / MISSES_MIN;
    let strain = u64::from(pressure.clamp(CALM, STRAINED) - CALM);
    let more = u64::from(longest - even) * strain / u64::from(STRAINED - CALM);
    even + more as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_stretches_the_interval_but_never_beyond_half_of_the_timeout() {
        for (misses, pressure, expected) in [
            (3, 0, 5_000),
            (3, CALM, 5_000),
            (3, 500, 6_250),
            (3, STRAINED, 7_500),
            (3, 1_000, 7_500),
            (2, 1_000, 7_500),
            (10, 0, 1_500),
            (10, 500, 4_500),
            (0, 0, 7_500),
            (99, 0, 1_500),
        ] {
            assert_eq!(next_renew_ms(15_000, misses, pressure), expected, "{misses} {pressure}");
        }
        for timeout_ms in [0, 1, 999, u32::MAX] {
            for pressure in [0, 251, 400, 749, u32::MAX] {
                let next = next_renew_ms(timeout_ms, 3, pressure);
                assert!(
                    (timeout_ms / 3..=timeout_ms / 2).contains(&next),
                    "{timeout_ms} {pressure}"
                );
            }
        }
    }
}
