use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

/// Latencies beyond this are recorded as this.
const LATENCY_US_MAX: u64 = 600_000_000;

/// What one client has measured.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    latencies_us: Histogram<u32>,
    /// Successes in each second of the measurement.
    seconds: Vec<u32>,
    errors: BTreeMap<String, u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        // Three digits: percentiles are exact to a thousandth.
        let latencies_us =
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constant bounds");
        Tally { latencies_us, seconds: Vec::new(), errors: BTreeMap::new() }
    }
}

impl Tally {
    /// Counts a success: how long it took, and how long after the start of the measurement it ended.
    pub(super) fn success(&mut self, latency: Duration, since_start: Duration) {
        self.latencies_us.saturating_record(micros(latency));
        let second = since_start.as_secs() as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, 0);
        }
        self.seconds[second] += 1;
    }

    /// Counts a failure.
    pub(super) fn failure(&mut self, code: &str) {
        match self.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(code.to_owned(), 1);
            }
        }
    }

    /// Adds what another client has measured.
    pub(super) fn add(&mut self, other: &Tally) {
        self.latencies_us.add(&other.latencies_us).expect("all tallies have the same bounds");
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), 0);
        }
        for (sum, count) in self.seconds.iter_mut().zip(&other.seconds) {
            *sum += count;
        }
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.latencies_us.len()
    }

    pub(super) fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// Returns the successes of the slowest whole second among the first so many; `None` when there is no
    /// whole one.
    pub(super) fn slowest_second(&self, elapsed: Duration) -> Option<u32> {
        (0..elapsed.as_secs() as usize)
            .map(|second| self.seconds.get(second).copied().unwrap_or(0))
            .min()
    }

    pub(super) fn latency(&self) -> Latency {
        let at = |quantile| self.latencies_us.value_at_quantile(quantile);
        Latency {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.latencies_us.max(),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Percentiles of a latency, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Latency {
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

/// What a run has measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Which load.
    pub(super) load: &'static str,
    /// What happened so often: requests, sessions, deliveries.
    pub(super) ops: u64,
    pub(super) elapsed_ms: u64,
    pub(super) ops_per_s: f64,
    /// Operations in the slowest whole second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ops_slowest_second: Option<u32>,
    /// By the name of what was timed.
    pub(super) latencies: Vec<(&'static str, Latency)>,
    /// Snapshots that were taken meanwhile, over all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshots: Option<u32>,
    /// Failures by code.
    pub(super) errors: BTreeMap<String, u64>,
    /// CPU time of this process per operation, µs.
    pub(super) client_cpu_us_per_op: f64,
}

impl Report {
    /// Puts a report together; `cpu` is what this process used while `ops` happened.
    pub(super) fn new(load: &'static str, ops: u64, elapsed: Duration, cpu: Duration) -> Report {
        let per_op = |value: f64| if ops == 0 { 0.0 } else { value / ops as f64 };
        let elapsed_s = elapsed.as_secs_f64().max(f64::EPSILON);
        Report {
            load,
            ops,
            elapsed_ms: micros(elapsed) / 1_000,
            ops_per_s: (ops as f64 / elapsed_s * 10.0).round() / 10.0,
            ops_slowest_second: None,
            latencies: Vec::new(),
            snapshots: None,
            errors: BTreeMap::new(),
            client_cpu_us_per_op: (per_op(micros(cpu) as f64) * 100.0).round() / 100.0,
        }
    }

    /// Returns the report for people.
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        let elapsed_s = self.elapsed_ms as f64 / 1_000.0;
        let _ = write!(
            out,
            "{}: {} ops in {elapsed_s:.2} s, {:.0} ops/s",
            self.load, self.ops, self.ops_per_s
        );
        if let Some(slowest) = self.ops_slowest_second {
            let _ = write!(out, ", slowest second {slowest}");
        }
        if let Some(snapshots) = self.snapshots {
            let _ = write!(out, ", {snapshots} snapshots");
        }
        out.push('\n');
        let head = ["LATENCY ms", "p50", "p90", "p99", "p99.9", "max"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for (name, latency) in &self.latencies {
            let ms = |us: u64| format!("{:.2}", us as f64 / 1_000.0);
            let Latency { p50_us, p90_us, p99_us, p999_us, max_us } = *latency;
            let cells = [p50_us, p90_us, p99_us, p999_us, max_us].map(ms);
            rows.push(std::iter::once((*name).to_owned()).chain(cells).collect());
        }
        out += &crate::cli::output::table(&rows);
        let errors: Vec<_> =
            self.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
        let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
        let _ = writeln!(out, "errors: {errors}; client {:.1} µs/op", self.client_cpu_us_per_op);
        out
    }
}

/// Returns the CPU time that this process has used so far, user and system; zero where the system does not
/// say.
pub(super) fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    Duration::from_micros(
        u64::try_from(micros(usage.user_time()) + micros(usage.system_time())).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Report, Tally};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn tallies_add_up() {
        let (mut all, mut one, mut two) = (Tally::default(), Tally::default(), Tally::default());
        for at in [0, 10, 1_500] {
            one.success(MS(1), MS(at));
        }
        two.success(MS(9), MS(2_500));
        two.failure("busy");
        two.failure("busy");
        all.add(&one);
        all.add(&two);
        assert_eq!((all.count(), all.errors()["busy"]), (4, 2));
        assert_eq!(all.slowest_second(MS(2_999)), Some(1), "the third second is not whole");
        assert_eq!(all.slowest_second(MS(4_000)), Some(0), "a second without success counts");
        assert_eq!(all.slowest_second(MS(900)), None);
        let latency = all.latency();
        assert!(
            latency.p50_us.abs_diff(1_000) <= 1 && latency.max_us.abs_diff(9_000) <= 9,
            "{latency:?}"
        );
    }

    #[test]
    fn a_report_says_rates_percentiles_and_errors() {
        let mut tally = Tally::default();
        tally.success(MS(2), MS(0));
        let mut report = Report::new("write", 1_000, MS(500), Duration::from_micros(7_500));
        report.latencies.push(("write", tally.latency()));
        report.errors.insert("busy".to_owned(), 3);
        let text = report.to_text();
        assert!(text.starts_with("write: 1000 ops in 0.50 s, 2000 ops/s\n"), "{text}");
        assert!(text.ends_with("errors: busy 3; client 7.5 µs/op\n"), "{text}");
        assert!(text.contains("\nwrite       2.00"), "{text}");
        let empty = Report::new("write", 0, Duration::ZERO, Duration::ZERO);
        assert!(empty.client_cpu_us_per_op == 0.0 && empty.ops_per_s == 0.0);
    }
}
