//! The conclusion: sentences that follow from the measures, and say when nothing follows.

use super::sides::{Side, sides};
use super::table::share;
use crate::check::Verdict;
use crate::check::registry::Measures;
use crate::judge;
use crate::run::RunResult;
use crate::workload::Workload;

/// Systems whose numbers of failed calls are within this share of each other are called equal.
const EQUAL_SHARE: f64 = 0.1;

/// Beyond this lag of the clients' own timers (p99, ms), times are not those of the registries.
const LAG_MS_MAX: f64 = 50.0;

/// Returns what can be said of some runs, the most important first.
pub(super) fn conclusion(results: &[RunResult]) -> Vec<String> {
    // What says nothing is not compared with what does.
    let counting = results.iter().filter(|result| !result.is_void());
    let compared: Vec<(&RunResult, &Measures)> =
        counting.filter_map(|result| Some((result, result.measures.as_ref()?))).collect();
    let mut said = Vec::new();
    let empty = results.iter().filter(|one| one.is_empty()).map(run_of);
    let empty: Vec<String> = empty.collect();
    if !empty.is_empty() {
        said.push(format!(
            "Too little happened in the runs of {} to conclude anything about them.",
            list(&strs(&empty))
        ));
    }
    let unseen = results.iter().filter(|one| one.is_void() && !one.is_empty()).map(run_of);
    let unseen: Vec<String> = unseen.collect();
    if !unseen.is_empty() {
        said.push(format!(
            "In the runs of {} a fault was not seen to act, so nothing is concluded about them.",
            list(&strs(&unseen))
        ));
    }
    said.extend(busy(results));
    said.extend(failed_calls(&compared));
    said.extend(lost(&compared));
    said.extend(results.iter().filter_map(otherwise));
    said.extend(availability(&compared));
    said.extend(by_side(&compared));
    said.extend(wrong_lists(&compared));
    said.extend(stale(&compared));
    said.extend(converged(&compared));
    said.extend(notified(&compared));
    said.extend(stronger(results));
    if said.is_empty() {
        said.push("There were no runs to compare.".into());
    }
    said
}

/// A machine that was too busy measures itself.
fn busy(results: &[RunResult]) -> Option<String> {
    let lag = |result: &RunResult| result.timer_lag_ms.quantile(0.99).unwrap_or(0.0);
    let worst = results.iter().map(lag).fold(0.0, f64::max);
    (worst > LAG_MS_MAX).then(|| {
        format!(
            "The machine was too busy for times and failed calls to be compared: timers of the clients were up to \
             {worst:.0} ms late (p99). Verdicts and lost registrations hold all the same."
        )
    })
}

fn name(result: &RunResult) -> &str {
    &result.target
}

/// Says whose run it is, and of what unless that is the comparison.
fn run_of(result: &RunResult) -> String {
    match result.workload {
        Workload::Registry => result.target.clone(),
        other => format!("{} ({})", result.target, other.name()),
    }
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Says names as a person lists them.
fn list(names: &[&str]) -> String {
    match names {
        [] => "none".into(),
        [one] => (*one).into(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn percent(part: u64, all: u64) -> f64 {
    part as f64 * 100.0 / all.max(1) as f64
}

fn failed_calls(compared: &[(&RunResult, &Measures)]) -> Option<String> {
    let rate = |measures: &Measures| percent(measures.failed_first, measures.calls);
    let (best, least) = compared.iter().min_by(|a, b| rate(a.1).total_cmp(&rate(b.1)))?;
    let (worst, most) = compared.iter().max_by(|a, b| rate(a.1).total_cmp(&rate(b.1)))?;
    let all: Vec<String> = compared
        .iter()
        .map(|(result, one)| {
            let good = percent(one.failed_all, one.calls);
            format!("{} {:.1} % ({good:.2} % after retries)", result.target, rate(one))
        })
        .collect();
    let all = list(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let lead = if rate(most) - rate(least) <= EQUAL_SHARE * rate(most) {
        "What users feel was about the same with all of them".to_owned()
    } else {
        format!("Users felt it least with {} and most with {}", best.target, worst.target)
    };
    Some(format!("{lead}: of the consumers' calls the first attempt failed for {all}."))
}

fn lost(compared: &[(&RunResult, &Measures)]) -> Vec<String> {
    let (lost, kept): (Vec<_>, Vec<_>) =
        compared.iter().partition(|(_, measures)| !measures.lost.is_empty());
    let mut said = Vec::new();
    for (result, measures) in &lost {
        let ids: Vec<&str> = measures.lost.iter().map(String::as_str).collect();
        said.push(format!(
            "{} lost registrations that it had acknowledged: at the end {} of providers that worked and renewed were \
             missing from some consumer's list ({}).",
            result.target,
            measures.lost.len(),
            list(&ids)
        ));
    }
    if !kept.is_empty() {
        let names: Vec<&str> = kept.iter().map(|(result, _)| name(result)).collect();
        said.push(format!("No acknowledged registration was lost by {}.", list(&names)));
    }
    said
}

/// What a registry run showed beside its lists: a node that ended or came to another state is no matter of figures.
fn otherwise(result: &RunResult) -> Option<String> {
    let rest = result.verdicts.iter().filter(|(name, _)| {
        ![judge::LOST, judge::ENOUGH, judge::ACTED].contains(&name.as_str())
            && !result.unpromised.contains(*name)
    });
    let rest = || rest.clone().filter(|_| result.workload == Workload::Registry);
    let broken: Vec<&str> = rest()
        .filter(|(_, verdict)| verdict.is_violated())
        .map(|(name, _)| name.as_str())
        .collect();
    let is_open = |verdict: &Verdict| matches!(verdict, Verdict::Unknown(_));
    let open: Vec<&str> =
        rest().filter(|(_, verdict)| is_open(verdict)).map(|(name, _)| name.as_str()).collect();
    let target = &result.target;
    match (&broken[..], &open[..]) {
        ([], []) => None,
        ([], open) => Some(format!("Of {target} this could not be judged: {}.", list(open))),
        (broken, _) => Some(format!("{target} BROKE this in the registry run: {}.", list(broken))),
    }
}

fn availability(compared: &[(&RunResult, &Measures)]) -> Option<String> {
    let shares: Vec<(&str, f64, f64)> = compared
        .iter()
        .filter_map(|(result, one)| Some((name(result), share(&one.writes)?, share(&one.lists)?)))
        .collect();
    let all: Vec<String> = shares
        .iter()
        .map(|(name, writes, lists)| {
            format!("{name} {writes:.1} % of writes and {lists:.1} % of lists")
        })
        .collect();
    let best = shares.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let all = list(&all.iter().map(String::as_str).collect::<Vec<_>>());
    Some(format!("Answered under these faults: {all}. {} took the most writes.", best.0))
}

fn wrong_lists(compared: &[(&RunResult, &Measures)]) -> Option<String> {
    let wrong = |one: &Measures| one.ghost_provider_seconds + one.missing_provider_seconds;
    let (best, _) = compared.iter().min_by(|a, b| wrong(a.1).total_cmp(&wrong(b.1)))?;
    let all: Vec<String> = compared
        .iter()
        .map(|(result, one)| {
            format!(
                "{} {:.1} s of ghosts and {:.1} s of missing providers",
                result.target, one.ghost_provider_seconds, one.missing_provider_seconds
            )
        })
        .collect();
    let all = list(&all.iter().map(String::as_str).collect::<Vec<_>>());
    Some(format!(
        "Lists were wrong, per consumer: {all}. They were nearest to the truth with {}.",
        best.target
    ))
}

/// Says something of each, as a person lists it; `None` if there is nothing to say of any.
fn each(
    compared: &[(&RunResult, &Measures)],
    say: impl Fn(&RunResult, &Measures) -> Option<String>,
) -> Option<String> {
    let said: Vec<String> = compared.iter().filter_map(|(run, one)| say(run, one)).collect();
    let all: Vec<&str> = said.iter().map(String::as_str).collect();
    (!all.is_empty()).then(|| list(&all))
}

fn by_side(compared: &[(&RunResult, &Measures)]) -> Option<String> {
    let share = |side: &Side| side.share().map(|share| format!("{share:.0} %"));
    let all = each(compared, |result, one| {
        let (write_off, write_on) = sides(result, &one.site_writes);
        let (list_off, list_on) = sides(result, &one.site_lists);
        Some(format!(
            "{} {} of writes and {} of lists against {} and {}",
            result.target,
            share(&write_off)?,
            share(&list_off)?,
            share(&write_on)?,
            share(&list_on)?
        ))
    });
    let all = all?;
    Some(format!(
        "While a partition had left a majority, clients that were cut off from it were answered, against those on its \
         side: {all}."
    ))
}

fn stale(compared: &[(&RunResult, &Measures)]) -> Option<String> {
    let all = each(compared, |result, one| {
        let (count, reads) = (one.staleness_ms.values.len() as u64, one.reads);
        let share = percent(count, reads);
        let target = &result.target;
        (reads > 0).then(|| match one.staleness_ms.quantile(0.99) {
            Some(age) => format!("{target} {share:.1} %, up to {:.1} s (p99)", age / 1e3),
            None => format!("{target} none"),
        })
    });
    Some(format!(
        "Lists that were out of date when they were given out, and by how much: {}.",
        all?
    ))
}

fn converged(compared: &[(&RunResult, &Measures)]) -> Option<String> {
    let all = each(compared, |result, one| {
        let target = &result.target;
        Some(match one.converged_ms {
            Some(ms) => format!("{target} after {:.1} s", ms / 1e3),
            None => format!("{target} never within the run"),
        })
    });
    Some(format!("After the last fault every node listed the truth: {}.", all?))
}

fn notified(compared: &[(&RunResult, &Measures)]) -> Option<String> {
    let all = each(compared, |result, one| {
        let (half, most) =
            (one.notification_ms.quantile(0.5)?, one.notification_ms.quantile(0.99)?);
        let never = match one.never_notified {
            0 => String::new(),
            count => format!(", and {count} times never"),
        };
        Some(format!("{} after {half:.0} ms (p50) and {most:.0} ms (p99){never}", result.target))
    });
    Some(format!(
        "A consumer held a new provider, after its registration was acknowledged: {}.",
        all?
    ))
}

/// What was promised beyond a list, by the name of the workload that asked for it.
fn promise(workload: Workload) -> &'static str {
    match workload {
        Workload::Registry => "its list",
        Workload::Register => "that reads and writes of znodes are one linearizable history",
        Workload::Multi => "that transactions are seen whole",
        Workload::Monotonic => "that no client's view goes back",
        Workload::Set => "that sequential names are unique and none is lost",
        Workload::Lock => "that nobody gets a lock while its holder may believe in it",
        Workload::Session => "that sessions end neither early nor late",
        Workload::Watch => "that subscribers are told everything, once, in order",
    }
}

fn stronger(results: &[RunResult]) -> Vec<String> {
    let judged = results.iter().filter(|result| result.workload != Workload::Registry);
    judged.map(verdict_on).collect()
}

fn verdict_on(result: &RunResult) -> String {
    let (target, promise) = (&result.target, promise(result.workload));
    let is_promised = |name: &String| !result.unpromised.contains(name);
    let count = |is: &dyn Fn(&String, &Verdict) -> bool| {
        result.verdicts.iter().filter(|(name, verdict)| is(name, verdict)).count()
    };
    let broken = count(&|name, verdict| verdict.is_violated() && is_promised(name));
    let unpromised = count(&|name, verdict| verdict.is_violated() && !is_promised(name));
    let is_open = |verdict: &Verdict| matches!(verdict, Verdict::Unknown(_));
    let open = count(&|name, verdict| is_open(verdict) && is_promised(name));
    let (answered, _, unknown) = result.requests;
    let workload = result.workload.name();
    match (broken, open) {
        (0, 0) if unpromised > 0 => format!(
            "{target} does not promise {promise}, and under the workload {workload} that was seen: {unpromised} of its \
             checkers found what is no such thing. What it does promise was kept."
        ),
        (0, 0) if !result.unpromised.is_empty() && result.workload == Workload::Register => {
            format!(
                "{target} does not promise {promise}; in this run it was so all the same ({answered} answered, {unknown} of \
             unknown outcome)."
            )
        }
        (0, 0) => format!(
            "{target} promised {promise}, and kept it ({answered} answered, {unknown} of unknown outcome)."
        ),
        (0, open) => format!(
            "Of what {target} promises {open} could not be judged under the workload {workload}."
        ),
        (broken, _) => format!(
            "{target} BROKE {broken} of its stronger promises under the workload {workload}."
        ),
    }
}
