/// When to act on changes that come in crowds: after a quiet time, but not later than a longest time after the first of
/// them. A value; times are ms from any fixed moment.
#[derive(Clone, Debug)]
pub(super) struct Debounce {
    quiet_ms: u64,
    longest_ms: u64,
    /// The first and the last change that were not acted on.
    pending: Option<(u64, u64)>,
}

impl Debounce {
    pub(super) fn new(quiet_ms: u64, longest_ms: u64) -> Debounce {
        Debounce { quiet_ms, longest_ms, pending: None }
    }

    /// Notes a change.
    pub(super) fn changed(&mut self, now_ms: u64) {
        let first = self.pending.map_or(now_ms, |(first, _)| first);
        self.pending = Some((first, now_ms));
    }

    /// Returns when to act; `None` while there is nothing to act on.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let (first, last) = self.pending?;
        Some((last + self.quiet_ms).min(first + self.longest_ms.max(self.quiet_ms)))
    }

    /// Notes that it was acted on. To be called before looking at the state: what changes from then on is a new change.
    pub(super) fn acted(&mut self) {
        self.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::Debounce;

    /// Returns when it is acted on these changes, and how many changes each time had seen.
    fn acts(changes: &[u64]) -> Vec<(u64, usize)> {
        let mut debounce = Debounce::new(1_000, 10_000);
        let mut acts = Vec::new();
        for (seen, &at) in changes.iter().enumerate() {
            if let Some(due) = debounce.due_ms().filter(|&due| due <= at) {
                acts.push((due, seen));
                debounce.acted();
            }
            debounce.changed(at);
        }
        acts.extend(debounce.due_ms().map(|due| (due, changes.len())));
        acts
    }

    #[test]
    fn a_hundred_changes_in_a_second_are_acted_on_once_and_the_last_is_seen() {
        let burst: Vec<u64> = (0..100).map(|index| index * 10).collect();
        assert_eq!(acts(&burst), [(1_990, 100)]);
    }

    #[test]
    fn changes_that_never_end_are_acted_on_every_ten_seconds_and_single_ones_after_one() {
        let steady: Vec<u64> = (0..400).map(|index| index * 100).collect();
        let times: Vec<u64> = acts(&steady).iter().map(|&(at, _)| at).collect();
        assert_eq!(times, [10_000, 20_000, 30_000, 40_000]);
        assert_eq!(acts(&[0, 5_000]), [(1_000, 1), (6_000, 2)]);
        assert!(Debounce::new(1, 2).due_ms().is_none());
    }
}
