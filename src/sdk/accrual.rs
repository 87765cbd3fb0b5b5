/// When an instance counts as failing, and how often it is looked after then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccrualOptions {
    /// So many failed calls in a row take it out. Range: 1 and more.
    pub failures: u32,
    /// It is probed this long after it was taken out, and after each probe that failed, ms.
    pub probe_interval_ms: u64,
}

impl Default for AccrualOptions {
    /// Returns 3 failures and 5 s.
    fn default() -> AccrualOptions {
        AccrualOptions { failures: 3, probe_interval_ms: 5_000 }
    }
}

/// What calls have told of one instance. Times are ms from any fixed moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accrual {
    /// Failed calls since the last that succeeded.
    failures: u32,
    /// Set while it is out of the choice: when it is to be probed next.
    probe_at_ms: Option<u64>,
}

impl Accrual {
    /// Returns whether it may be chosen.
    pub fn is_available(&self) -> bool {
        self.probe_at_ms.is_none()
    }

    /// Notes a call or probe that succeeded: one is enough to be back. Returns whether it was out.
    pub fn succeeded(&mut self) -> bool {
        let was_out = !self.is_available();
        *self = Accrual::default();
        was_out
    }

    /// Notes a call that failed. Returns whether this one took it out.
    pub fn failed(&mut self, options: AccrualOptions, now_ms: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < options.failures.max(1) || !self.is_available() {
            return false;
        }
        self.probe_at_ms = Some(now_ms.saturating_add(options.probe_interval_ms));
        true
    }

    /// Returns when it is to be probed, ms; `None` while it is available.
    pub fn probe_at_ms(&self) -> Option<u64> {
        self.probe_at_ms
    }

    /// Notes that a probe begins, so that the next is due an interval later whatever becomes of this one.
    pub fn probing(&mut self, options: AccrualOptions, now_ms: u64) {
        if self.probe_at_ms.is_some() {
            self.probe_at_ms = Some(now_ms.saturating_add(options.probe_interval_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Accrual, AccrualOptions};

    const OPTIONS: AccrualOptions = AccrualOptions { failures: 3, probe_interval_ms: 5_000 };

    #[test]
    fn three_failures_in_a_row_take_it_out_and_one_success_brings_it_back() {
        let mut accrual = Accrual::default();
        assert!(!accrual.failed(OPTIONS, 0) && !accrual.failed(OPTIONS, 1));
        assert!(!accrual.succeeded(), "it was not out");
        assert!(
            !accrual.failed(OPTIONS, 2) && !accrual.failed(OPTIONS, 3) && accrual.is_available()
        );
        assert!(accrual.failed(OPTIONS, 4) && !accrual.is_available());
        assert_eq!(accrual.probe_at_ms(), Some(5_004));
        assert!(!accrual.failed(OPTIONS, 9), "a call that was under way changes nothing");
        assert_eq!(accrual.probe_at_ms(), Some(5_004));
        accrual.probing(OPTIONS, 5_010);
        assert_eq!(accrual.probe_at_ms(), Some(10_010));
        assert!(accrual.succeeded() && accrual.is_available());
    }
}
