//! One self-contained HTML page about some runs: no script, no network, every figure an inline SVG.
//!
//! First what it means (`words`: sentences computed from the measures, nothing else), then the table of systems and
//! measures, then for each run a timeline on which the faults are bands, with the availability of each node, the failed
//! calls, the ghosts and the missing; then the distributions; then what the checkers say; last the words explained and
//! the schedule. Colours are never the only sign: cells have titles, and the table has the numbers.
//!
//! What it deliberately lacks: interaction, and anything that would have to be trusted beyond the summary it is made
//! from.

mod sides;
mod svg;
mod table;
mod timeline;
mod words;

use std::fmt::Write;

use crate::check::Verdict;
use crate::run::RunResult;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:2em auto;padding:0 1em;color:#1c2530;background:#fff}\
h1{font-size:1.7em;margin-bottom:.2em}h2{margin-top:2em;border-bottom:1px solid #d5dbe1;padding-bottom:.2em}\
h3{margin-bottom:.3em}p.lead{font-size:1.05em}ul.words li{margin:.35em 0}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:right;padding:.3em .6em;border-bottom:1px solid #e3e8ec}\
th:first-child,td:first-child{text-align:left}td.worst{color:#b3261e;font-weight:600}td.best{color:#00695c;font-weight:600}\
.ok{color:#00695c}.bad{color:#b3261e;font-weight:600}.open{color:#8a5a00}\
pre{background:#f4f6f8;padding:.8em;overflow:auto;font-size:13px}svg{display:block;max-width:100%}\
svg text{font:12px system-ui,sans-serif;fill:#1c2530}.quiet{color:#5b6670;font-size:.92em}";

/// Replaces what has a meaning in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Returns the report of some runs. Of each system the registry runs are compared, the others are judged.
pub fn html(results: &[RunResult]) -> String {
    let compared: Vec<&RunResult> =
        results.iter().filter(|result| result.measures.is_some()).collect();
    let mut page =
        String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page += "<meta name=\"viewport\" content=\"width=device-width\"><title>Registries under faults</title>";
    let _ = write!(page, "<style>{STYLE}</style></head>\n<body><h1>Registries under faults</h1>\n");
    if let Some(first) = results.first() {
        let frame = &first.frame;
        let _ = writeln!(
            page,
            "<p class=\"quiet\">Seed {}; {} nodes; {} s each; session timeout {} s; {} consumers. The same faults and the \
             same clients for every system.</p>",
            first.seed,
            frame.nodes,
            frame.end_us / 1_000_000,
            frame.timeout_us as f64 / 1e6,
            frame.consumers
        );
    }
    page += "<h2>What it shows</h2>\n<ul class=\"words\">";
    for sentence in words::conclusion(results) {
        let _ = write!(page, "<li>{}</li>", escape(&sentence));
    }
    page += "</ul>\n";
    if !compared.is_empty() {
        page += "<h2>Side by side</h2>\n";
        page += &table::table(&compared, results);
        page += "<h2>Over time</h2>\n<p class=\"quiet\">Bars on top, and what is coloured below them: faults, listed below each figure. Cells are seconds: \
                 green all requests answered, red none, amber some, grey nobody asked. Then failed calls, pale at \
                 first, dark for good; and per consumer ghosts (purple) and missing providers (orange).</p>\n";
        for result in &compared {
            page += &timeline::timeline(result);
        }
        page += "<h2>How long things took</h2>\n";
        page += &timeline::distributions(&compared);
    }
    page += "<h2>What the checkers say</h2>\n";
    page += &verdicts(results);
    page += EXPLAINED;
    page += "</body></html>\n";
    page
}

fn verdicts(results: &[RunResult]) -> String {
    let mut out = String::from(
        "<table><tr><th>run</th><th>promise</th><th>verdict</th><th>requests answered / failed / unknown</th></tr>",
    );
    for result in results {
        let (answered, failed, unknown) = result.requests;
        for (name, verdict) in &result.verdicts {
            let (class, text) = match verdict {
                Verdict::Ok => ("ok", "kept".to_owned()),
                Verdict::Violated(lines) => ("bad", format!("broken: {}", lines.join("; "))),
                Verdict::Unknown(why) => ("open", format!("not known: {why}")),
            };
            let is_promised = !result.unpromised.contains(name);
            let (class, promise) = match is_promised {
                true => (class, name.clone()),
                false => ("open", format!("{name} (not promised)")),
            };
            let _ = write!(
                out,
                "<tr><td>{} · {}</td><td>{}</td><td class=\"{class}\">{}</td><td>{answered} / {failed} / {unknown}</td></tr>",
                escape(&result.target),
                result.workload.name(),
                escape(&promise),
                escape(&text),
            );
        }
        for (name, figure) in &result.figures {
            let _ = write!(
                out,
                "<tr><td>{} · {}</td><td>{}</td><td>{figure:.1}</td><td></td></tr>",
                escape(&result.target),
                result.workload.name(),
                escape(name),
            );
        }
    }
    out + "</table>\n"
}

const EXPLAINED: &str = "<h2>The words</h2><ul>\
<li><b>Failed calls</b>: consumers call the providers of the lists they hold, in turn; <i>at first</i> counts calls whose \
first attempt failed, <i>for good</i> those whose two further attempts at others failed too.</li>\
<li><b>Ghost</b>: listed, and does not work. <b>Missing</b>: works, and its registration or a renewal sent less than a \
timeout ago was acknowledged, but it is not in the list. Both in provider-seconds per consumer.</li>\
<li><b>Lost</b>: missing from some consumer&#39;s list at the very end, though it had to be there for a whole timeout.</li>\
<li><b>Stale read</b>: a list that lacked what had to be in it when it was asked for, or held what had deregistered.</li>\
<li><b>Converged</b>: from the end of the last fault until every node lists the truth and goes on doing so.</li>\
<li><b>Availability</b>: answered share of the requests that were sent to a node; pings that only keep a session are no \
writes. <i>Cut off</i> and <i>majority</i> are about clients, whichever nodes they asked: those that a partition kept from a \
majority of the nodes, and the others, in the seconds of partitions that left a majority on one side.</li>\
<li><b>Linearizability violations</b>: those that the two checkers described in the register run of the system, the first \
20 of each checker and a line for more; systems that promise nothing of the kind have no such run.</li></ul>\n";

#[cfg(test)]
pub(crate) mod tests;
