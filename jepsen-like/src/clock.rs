//! The only place of the suite that asks what time it is: monotonic microseconds since a run began.
//!
//! All that a run records is on one machine and on this one clock, so times of different clients compare.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A source of time, cheap to copy. All copies count from the same origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Returns a clock that stands at 0 now.
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Returns µs since the start.
    #[allow(clippy::disallowed_methods)]
    pub fn now_us(&self) -> u64 {
        u64::try_from(Instant::now().saturating_duration_since(self.origin).as_micros())
            .unwrap_or(u64::MAX)
    }

    /// Returns ms since the start.
    pub fn now_ms(&self) -> u64 {
        self.now_us() / 1_000
    }

    /// Waits until so many ms since the start.
    pub async fn sleep_until_ms(&self, at_ms: u64) {
        tokio::time::sleep_until(self.origin + Duration::from_millis(at_ms)).await;
    }
}

/// Returns the wall clock, ms since 1970: the physical part of the AP registry's stamps.
#[allow(clippy::disallowed_methods)]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
