use crate::limits::{
    PACING_MESSAGES_PER_S, PACING_PERIOD_MS, PACING_WINDOW_MS_MAX, PACING_WINDOW_MS_STEP,
};

/// Decides how far apart one listener is told things, by how many a node has to tell all of them: not at all when it is
/// calm. What comes meanwhile is told together. Time is passed in.
#[derive(Debug, Default)]
pub struct Pacer {
    /// When the period began that is being counted, ms.
    began_ms: u64,
    /// What was left to be told since.
    counted: u64,
    window_ms: u64,
    /// Whether the window is what it is whatever the load.
    is_forced: bool,
}

impl Pacer {
    /// Returns one that goes by the load, or always says the given window, ms.
    pub fn new(forced_ms: Option<u64>) -> Pacer {
        let window_ms = forced_ms.unwrap_or(0);
        Pacer { window_ms, is_forced: forced_ms.is_some(), ..Pacer::default() }
    }

    /// Notes that so many things are left to be told, and returns the window, ms. It is that of the periods before: one
    /// burst, however large, is told at once.
    pub fn note(&mut self, now_ms: u64, count: usize) -> u64 {
        let periods = now_ms.saturating_sub(self.began_ms) / PACING_PERIOD_MS;
        if periods > 0 {
            let is_loaded =
                self.counted * 1_000 > PACING_MESSAGES_PER_S * periods * PACING_PERIOD_MS;
            self.counted = 0;
            self.began_ms += periods * PACING_PERIOD_MS;
            if !self.is_forced {
                self.window_ms = match is_loaded {
                    true => (self.window_ms + PACING_WINDOW_MS_STEP).min(PACING_WINDOW_MS_MAX),
                    false => self.window_ms.saturating_sub(periods * PACING_WINDOW_MS_STEP),
                };
            }
        }
        self.counted += count as u64;
        self.window_ms
    }
}

/// Counts how many of something there are per second.
#[derive(Debug, Default)]
pub struct Rate {
    began_ms: u64,
    counted: u64,
    per_s: u64,
}

impl Rate {
    /// Notes so many, and returns how many there were per second until about a second ago.
    pub fn note(&mut self, now_ms: u64, count: usize) -> u64 {
        let elapsed_ms = now_ms.saturating_sub(self.began_ms);
        if elapsed_ms >= 1_000 {
            *self = Rate {
                began_ms: now_ms,
                counted: 0,
                per_s: self.counted.saturating_mul(1_000) / elapsed_ms,
            };
        }
        self.counted += count as u64;
        self.per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: usize = (PACING_MESSAGES_PER_S * PACING_PERIOD_MS / 1_000) as usize;

    /// Notes as much in each period, and returns the window at the end of each.
    fn windows(pacer: &mut Pacer, periods: std::ops::Range<u64>, count: usize) -> Vec<u64> {
        periods.map(|period| pacer.note(period * PACING_PERIOD_MS, count)).collect()
    }

    #[test]
    fn under_load_the_window_rises_by_steps_up_to_its_bound_and_falls_to_nothing() {
        let mut pacer = Pacer::new(None);
        let rising: Vec<u64> = (0..15).map(|step| (step * 100).min(1_000)).collect();
        assert_eq!(windows(&mut pacer, 0..15, LOAD + 1), rising);
        let falling: Vec<u64> = [1_000].into_iter().chain((0..10).rev().map(|s| s * 100)).collect();
        assert_eq!(windows(&mut pacer, 15..26, LOAD), falling);
    }

    #[test]
    fn a_burst_after_silence_is_not_held_and_silence_after_it_ends_the_window() {
        let mut pacer = Pacer::new(None);
        assert_eq!(pacer.note(10_000, 100 * LOAD), 0);
        assert_eq!(pacer.note(10_001, 1), 0);
        assert_eq!(pacer.note(10_100, 1), PACING_WINDOW_MS_STEP);
        assert_eq!(pacer.note(11_000, 1), 0);
    }

    #[test]
    fn the_rate_counts_over_the_whole_time_since_and_not_only_while_something_came() {
        let mut pacer = Pacer::new(None);
        pacer.note(0, 2 * LOAD);
        assert_eq!(pacer.note(2 * PACING_PERIOD_MS, 0), 0);
        pacer.note(2 * PACING_PERIOD_MS, 2 * LOAD + 1);
        assert_eq!(pacer.note(4 * PACING_PERIOD_MS, 0), PACING_WINDOW_MS_STEP);
    }

    #[test]
    fn a_rate_is_that_of_the_second_before() {
        let mut rate = Rate::default();
        assert_eq!((0..10).map(|n| rate.note(n * 100, 50)).max(), Some(0));
        assert_eq!((rate.note(1_000, 1), rate.note(1_900, 0)), (500, 500));
        assert_eq!((rate.note(2_000, 0), rate.note(4_000, 0)), (1, 0));
    }

    #[test]
    fn a_forced_window_stays() {
        let mut pacer = Pacer::new(Some(250));
        assert_eq!(windows(&mut pacer, 0..3, 0), [250; 3]);
        assert_eq!(windows(&mut pacer, 3..6, 9 * LOAD), [250; 3]);
    }
}
