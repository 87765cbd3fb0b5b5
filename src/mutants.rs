//! Planted bugs: what the tests must find.
//!
//! `mutant!(M05, wrong, right)` is `right`. Only with the feature `mutants`, which nothing turns on but `scripts/mutants.sh`, is
//! it `wrong` in a process whose `ROOST_MUTANT` says `M05`. A product is built without that feature and has no trace of it,
//! which `tests/tidy.rs` checks.

/// Yields the last expression; see the module.
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident, $wrong:expr, $right:expr) => {
        $right
    };
}

/// Yields the last expression, or the one before it where that bug is planted; see the module.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident, $wrong:expr, $right:expr) => {
        if crate::mutants::is_planted(stringify!($name)) { $wrong } else { $right }
    };
}

/// Returns whether this bug is planted in this process.
#[cfg(feature = "mutants")]
pub(crate) fn is_planted(name: &str) -> bool {
    static PLANTED: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("ROOST_MUTANT").ok());
    PLANTED.as_deref() == Some(name)
}
