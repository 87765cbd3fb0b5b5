use super::{Fields, Wrong};
use crate::limits::{PROTECTION_HOLD_S_MAX, PROTECTION_WINDOW_S_MAX};

/// Share of a service's providers that may go by silence within the window, when a policy names none: 20 %.
const MAX_PERMILLE_DEFAULT: u32 = 200;
/// The window, when a policy names none.
const WINDOW_S_DEFAULT: u64 = 300;
/// The longest hold, when a policy names none.
const MAX_HOLD_S_DEFAULT: u64 = 600;

/// How many providers of one service may go by silence. The pattern is that of the path whose children are a service's
/// providers. All counting is with whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The share, in thousandths, of those there were in the window.
    pub max_permille: u32,
    /// The window, ms of the cluster's clock.
    pub window_ms: u64,
    /// How long a session may be held at most, ms: a protection that never ends would be a fault of its own.
    pub max_hold_ms: u64,
    /// So many are kept in any case.
    pub min_keep: u64,
}

impl Default for Removal {
    fn default() -> Removal {
        Removal {
            max_permille: MAX_PERMILLE_DEFAULT,
            window_ms: WINDOW_S_DEFAULT * 1000,
            max_hold_ms: MAX_HOLD_S_DEFAULT * 1000,
            min_keep: 0,
        }
    }
}

impl Removal {
    pub(super) fn parse(fields: &mut Fields) -> Result<Removal, Wrong> {
        let default = Removal::default();
        let seconds = |found: Option<u64>, default_ms: u64| found.map_or(default_ms, |s| s * 1000);
        Ok(Removal {
            max_permille: fields.permille("max_ratio")?.unwrap_or(default.max_permille),
            window_ms: seconds(
                fields.whole("window_s", 1..=PROTECTION_WINDOW_S_MAX)?,
                default.window_ms,
            ),
            max_hold_ms: seconds(
                fields.whole("max_hold_s", 1..=PROTECTION_HOLD_S_MAX)?,
                default.max_hold_ms,
            ),
            min_keep: fields.whole("min_keep", 0..=u64::from(u32::MAX))?.unwrap_or(0),
        })
    }

    /// Returns how many of a service's providers may go by silence within the window, when there were so many in it: at
    /// least one. The first session of a window may go with more ([`Removal::allows`]).
    pub fn budget(&self, providers: u64) -> u64 {
        let share = u128::from(providers) * u128::from(self.max_permille) / 1000;
        u64::try_from(share).unwrap_or(u64::MAX).max(1)
    }

    /// Returns whether a service with so many providers, which has lost so many by silence within the window, may lose so
    /// many more with one session. The first of a window may always go, whatever its share: one that is silent by itself is
    /// no outage, and of a small service every session has more than a share.
    pub fn allows(&self, present: u64, lost: u64, more: u64) -> bool {
        let is_within = lost.saturating_add(more) <= self.budget(present.saturating_add(lost));
        (lost == 0 || is_within) && present.saturating_sub(more) >= self.min_keep
    }
}

#[cfg(test)]
mod tests {
    use super::Removal;

    #[test]
    fn a_fifth_may_go_and_at_least_one() {
        let removal = Removal::default();
        for (providers, budget) in [(0, 1), (1, 1), (4, 1), (9, 1), (10, 2), (100, 20), (104, 20)] {
            assert_eq!(removal.budget(providers), budget, "{providers}");
        }
        assert_eq!(Removal { max_permille: 1000, ..removal }.budget(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_lost_counts_for_the_share_and_against_it() {
        let removal = Removal::default();
        assert!(removal.allows(90, 10, 10) && !removal.allows(90, 10, 11));
        assert!(removal.allows(81, 19, 1) && !removal.allows(80, 20, 1));
        assert!(removal.allows(1, 0, 1) && !removal.allows(1, 1, 1));
        assert!(!Removal { min_keep: 1, ..removal }.allows(1, 0, 1));
    }

    #[test]
    fn one_session_may_go_in_a_window_however_many_providers_it_has() {
        let removal = Removal::default();
        assert!(removal.allows(6, 0, 2) && !removal.allows(4, 2, 2));
        assert!(removal.allows(6, 0, 6) && removal.allows(100, 0, 100));
        assert!(!Removal { min_keep: 5, ..removal }.allows(6, 0, 2));
    }
}
