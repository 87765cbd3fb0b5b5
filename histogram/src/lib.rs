//! Histograms of whole numbers with four buckets per power of two: a value is known to an eighth of itself, whatever its size.
//!
//! It stands in for the crate of the same name, for openraft's sake, which keeps statistics of its own in such histograms: the
//! same types and methods as far as openraft uses them, and nothing else. What differs: there is one scale, and the buckets of
//! a value are computed, not looked up.

use std::fmt;
use std::marker::PhantomData;

/// Buckets per power of two.
const PER_POWER: u64 = 4;
/// The exponent of that.
const PER_POWER_BITS: u32 = 2;
/// Buckets for all numbers of 64 bits: those below `PER_POWER` have one each.
const BUCKETS: usize = (PER_POWER as usize) * (64 - PER_POWER_BITS as usize + 1);

/// How often which values were recorded. `T` is there for the types of others and holds nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
    of: PhantomData<T>,
}

/// Values below or at which so many of those are that were recorded; each the least of its bucket, and zero without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many were recorded.
    pub samples: u64,
    /// A thousandth.
    pub p0_1: u64,
    /// A hundredth.
    pub p1: u64,
    /// A twentieth.
    pub p5: u64,
    /// A tenth.
    pub p10: u64,
    /// Half.
    pub p50: u64,
    /// Nine tenths.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p99_9: u64,
}

impl<T> Histogram<T> {
    /// Returns one without values.
    pub fn new() -> Histogram<T> {
        Histogram { counts: Box::new([0; BUCKETS]), total: 0, of: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        self.counts[bucket(value)] += times;
        self.total += times;
    }

    /// Returns the percentiles of what was recorded. Cost: O(buckets).
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.at(1),
            p1: self.at(10),
            p5: self.at(50),
            p10: self.at(100),
            p50: self.at(500),
            p90: self.at(900),
            p99: self.at(990),
            p99_9: self.at(999),
        }
    }

    /// Returns the least value of the bucket in which the value lies below or at which so many thousandths are.
    fn at(&self, thousandths: u64) -> u64 {
        let rank = (u128::from(self.total) * u128::from(thousandths)).div_ceil(1_000).max(1);
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank
        });
        reached.map_or(0, least)
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Histogram<T> {
        Histogram::new()
    }
}

impl<T> fmt::Debug for Histogram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.percentile_stats().fmt(f)
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PercentileStats { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        write!(
            f,
            "{samples} samples, p0.1 {p0_1}, p1 {p1}, p5 {p5}, p10 {p10}, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}"
        )
    }
}

/// Returns the bucket of a value.
fn bucket(value: u64) -> usize {
    let Some(shift) = value.checked_ilog2().and_then(|log| log.checked_sub(PER_POWER_BITS)) else {
        return value as usize;
    };
    (PER_POWER * u64::from(shift) + (value >> shift)) as usize
}

/// Returns the least value of a bucket.
fn least(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let Some(above) = bucket.checked_sub(2 * PER_POWER) else { return bucket };
    (PER_POWER + above % PER_POWER) << (above / PER_POWER + 1)
}

/// Several histograms one below the other, for people.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    lines: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// Returns one without histograms.
    pub fn new() -> AsciiChart {
        AsciiChart::default()
    }

    /// Adds a histogram under a name.
    pub fn add<T>(mut self, name: &str, histogram: Histogram<T>) -> AsciiChart {
        self.lines.push((name.to_owned(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|(name, stats)| writeln!(f, "{name:>24}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_that_begins_nearest_below_it() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for at in 0..BUCKETS {
            assert_eq!(bucket(least(at)), at);
            let next = if at + 1 < BUCKETS { least(at + 1) } else { 0 };
            assert_eq!(bucket(next.wrapping_sub(1)), at, "up to the next one");
        }
        assert_eq!((0..=8).map(bucket).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((bucket(9), bucket(10), least(bucket(1_000))), (8, 9, 896));
    }

    #[test]
    fn percentiles_are_those_of_the_values_to_a_quarter_of_a_power_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(
            (histogram.percentile_stats().samples, histogram.percentile_stats().p50),
            (0, 0)
        );
        for value in 1..=10_000 {
            histogram.record(value);
        }
        let found = histogram.percentile_stats();
        for (found, truth) in [
            (found.p0_1, 10),
            (found.p1, 100),
            (found.p5, 500),
            (found.p10, 1_000),
            (found.p50, 5_000),
            (found.p90, 9_000),
            (found.p99, 9_900),
            (found.p99_9, 9_990),
        ] {
            assert_eq!(found, least(bucket(truth)), "{truth}");
        }
        histogram.record_n(1, 90_000);
        assert_eq!(histogram.percentile_stats().p50, 1);
        let chart = AsciiChart::new().add("of this test", histogram);
        assert_eq!(
            chart.to_string(),
            "            of this test: 100000 samples, p0.1 1, p1 1, p5 1, p10 1, p50 1, p90 1, p99 8192, p99.9 8192\n"
        );
    }
}
