//! Systems and measures.

use std::fmt::Write;

use super::escape;
use super::sides::sides;
use crate::check::Verdict;
use crate::check::registry::{Measures, Strips};
use crate::judge;
use crate::run::RunResult;
use crate::workload::Workload;

/// What never came about within a run is worse than anything that did.
const NEVER: f64 = f64::INFINITY;

/// One row: its name, its values, and whether more is worse.
struct Row {
    name: &'static str,
    values: Vec<Option<f64>>,
    more_is_worse: bool,
    digits: usize,
}

/// Returns the answered share of all requests to all nodes, percent.
pub(super) fn share(strips: &Strips) -> Option<f64> {
    let seconds = strips.values().flatten();
    let (answered, all) = seconds.fold((0_u64, 0_u64), |(answered, all), second| {
        (answered + u64::from(second.0), all + u64::from(second.1))
    });
    (all > 0).then(|| answered as f64 * 100.0 / all as f64)
}

/// Returns how many violations of linearizability were described of a system in its register run, if it had one that
/// says anything.
fn violations(target: &str, all: &[RunResult]) -> Option<f64> {
    let is_it = |run: &&RunResult| run.workload == Workload::Register && run.target == target;
    let run = all.iter().find(is_it)?;
    let mut count = 0;
    for name in [judge::WITNESS, judge::LINEARIZABLE] {
        match run.verdicts.get(name)? {
            Verdict::Ok => {}
            Verdict::Violated(lines) => count += lines.len(),
            Verdict::Unknown(_) => return None,
        }
    }
    // That nothing was found where little happened is not worth a number.
    (count > 0 || !run.is_void()).then_some(count as f64)
}

fn rows(results: &[&RunResult], all: &[RunResult]) -> Vec<Row> {
    let mut rows = Vec::new();
    let linearizability = results.iter().map(|result| violations(&result.target, all)).collect();
    let mut row = |name, more_is_worse, digits, value: &dyn Fn(&Measures) -> Option<f64>| {
        let values = results.iter().map(|result| result.measures.as_ref().and_then(value));
        rows.push(Row { name, values: values.collect(), more_is_worse, digits });
    };
    row("calls of consumers", false, 0, &|one| Some(one.calls as f64));
    row("failed at first", true, 0, &|one| Some(one.failed_first as f64));
    row("failed for good", true, 0, &|one| Some(one.failed_all as f64));
    row("lost registrations", true, 0, &|one| Some(one.lost.len() as f64));
    row("ghosts at the end", true, 0, &|one| Some(one.ghosts_at_end.len() as f64));
    row("ghosts, provider-seconds", true, 1, &|one| Some(one.ghost_provider_seconds));
    row("missing, provider-seconds", true, 1, &|one| Some(one.missing_provider_seconds));
    row("stale reads, %", true, 1, &|one| {
        (one.reads > 0).then(|| one.staleness_ms.values.len() as f64 * 100.0 / one.reads as f64)
    });
    row("how stale, p99 ms", true, 0, &|one| one.staleness_ms.quantile(0.99));
    row("writes answered, %", false, 1, &|one| share(&one.writes));
    row("lists answered, %", false, 1, &|one| share(&one.lists));
    row("subscriptions begun, %", false, 1, &|one| share(&one.subscribes));
    row("converged after the last fault, ms", true, 0, &|one| {
        Some(one.converged_ms.unwrap_or(NEVER))
    });
    row("notification, p50 ms", true, 0, &|one| one.notification_ms.quantile(0.5));
    row("notification, p99 ms", true, 0, &|one| one.notification_ms.quantile(0.99));
    row("never notified", true, 0, &|one| Some(one.never_notified as f64));
    row("detection of a crash, p50 ms", true, 0, &|one| one.detection_ms.quantile(0.5));
    type Pick = fn(&Measures) -> &Strips;
    let kinds: [(&'static str, &'static str, Pick); 3] = [
        ("writes, cut off, %", "writes, majority, %", |one| &one.site_writes),
        ("lists, cut off, %", "lists, majority, %", |one| &one.site_lists),
        ("subscriptions, cut off, %", "subscriptions, majority, %", |one| &one.site_subscribes),
    ];
    for (cut_off, majority, strips) in kinds {
        let shares = results.iter().map(|result| {
            let sides = result.measures.as_ref().map(|one| sides(result, strips(one)));
            sides.map_or((None, None), |(cut_off, majority)| (cut_off.share(), majority.share()))
        });
        let (on_one, on_other): (Vec<_>, Vec<_>) = shares.unzip();
        for (name, values) in [(cut_off, on_one), (majority, on_other)] {
            rows.push(Row { name, values, more_is_worse: false, digits: 1 });
        }
    }
    let (name, values) = ("linearizability violations", linearizability);
    rows.push(Row { name, values, more_is_worse: true, digits: 0 });
    rows
}

/// Returns the table. In each row the best and the worst are marked where they differ by more than a tenth; runs that
/// prove nothing are shown and not ranked. Figures of other workloads are looked for among `all`.
pub(super) fn table(results: &[&RunResult], all: &[RunResult]) -> String {
    let mut out = String::from("<table><tr><th>measure</th>");
    results.iter().for_each(|result| {
        let void = match (result.is_empty(), result.is_void()) {
            (true, _) => " (too little happened)",
            (false, true) => " (faults not seen)",
            (false, false) => "",
        };
        let _ = write!(out, "<th>{}{void}</th>", escape(&result.target));
    });
    out += "</tr>";
    for (at, row) in rows(results, all).into_iter().enumerate() {
        let _ = write!(out, "<tr><td>{}</td>", row.name);
        let ranked = row.values.iter().zip(results).filter(|(_, result)| !result.is_void());
        let known: Vec<f64> = ranked.filter_map(|(value, _)| *value).collect();
        let low = known.iter().copied().fold(f64::INFINITY, f64::min);
        let high = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // The number of calls is the load, not a merit.
        let differ =
            at > 0 && low < high && (high == NEVER || high - low > 0.1 * high.abs().max(1e-9));
        let (best, worst) = if row.more_is_worse { (low, high) } else { (high, low) };
        for (value, result) in row.values.iter().zip(results) {
            let class = match value {
                _ if result.is_void() => "",
                Some(value) if *value == NEVER => " class=\"worst\"",
                Some(value) if differ && *value == best => " class=\"best\"",
                Some(value) if differ && *value == worst => " class=\"worst\"",
                _ => "",
            };
            let digits = row.digits;
            let text = match value {
                None => "—".to_owned(),
                Some(value) if *value == NEVER => "never".to_owned(),
                Some(value) => format!("{value:.digits$}"),
            };
            let _ = write!(out, "<td{class}>{text}</td>");
        }
        out += "</tr>";
    }
    out + "</table>\n"
}
