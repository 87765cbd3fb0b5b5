//! The only place that asks what time it is.
//!
//! Monotonic time decides everything (expiry, deadlines, TTLs); the wall clock is read only to be shown in `ctime` and
//! `mtime`. Both come from tokio's clock underneath, so a test that pauses tokio's time controls the whole node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A source of time, cheap to clone. All clones count from the same origin.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    wall: Wall,
}

#[derive(Clone, Debug)]
enum Wall {
    System,
    /// ms since 1970 at `origin`; advances with the monotonic clock.
    Simulated(Arc<AtomicU64>),
}

impl Clock {
    /// Returns the machine's clock.
    #[allow(clippy::disallowed_methods)]
    pub fn system() -> Clock {
        Clock { origin: Instant::now(), wall: Wall::System }
    }

    /// Returns a clock whose wall time starts at `wall_ms` and advances with tokio's clock alone.
    #[allow(clippy::disallowed_methods)]
    pub fn simulated(wall_ms: u64) -> Clock {
        Clock { origin: Instant::now(), wall: Wall::Simulated(Arc::new(AtomicU64::new(wall_ms))) }
    }

    /// Makes the wall clock of a simulated clock, and of its clones, jump so many ms: it may, and nothing may come of it. The
    /// machine's own clock is left alone.
    pub fn jump_wall(&self, ms: i64) {
        if let Wall::Simulated(at_origin) = &self.wall {
            let jumped = at_origin.load(Ordering::Relaxed).saturating_add_signed(ms);
            at_origin.store(jumped, Ordering::Relaxed);
        }
    }

    /// Returns the monotonic time in ms since this clock was made.
    pub fn now_ms(&self) -> u64 {
        mutant!(M24, self.wall_ms(), self.elapsed().as_millis() as u64)
    }

    /// Returns the monotonic time in µs since this clock was made.
    pub fn now_micros(&self) -> u64 {
        self.elapsed().as_micros() as u64
    }

    /// Returns the wall clock, ms since 1970. It may jump; nothing may be decided by it.
    #[allow(clippy::disallowed_methods)]
    pub fn wall_ms(&self) -> u64 {
        match &self.wall {
            Wall::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            Wall::Simulated(at_origin) => {
                at_origin.load(Ordering::Relaxed) + self.elapsed().as_millis() as u64
            }
        }
    }

    #[allow(clippy::disallowed_methods)]
    fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.origin)
    }
}
