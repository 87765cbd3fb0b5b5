//! The figures.

use std::fmt::Write;

use super::escape;
use super::sides::sides;
use super::svg::{Figure, LEFT, RIGHT};
use crate::check::registry::{Answers, CURVE_STEP_US, Distribution, Measures};
use crate::run::{Band, RunResult};

const STRIP: f64 = 13.0;
const PLOT: f64 = 70.0;
const BAND_COLOURS: [&str; 4] = ["#5b7fff", "#b06ad6", "#e08e2b", "#4aa3a3"];
const TARGET_COLOURS: [&str; 6] =
    ["#00695c", "#b3261e", "#3949ab", "#8a5a00", "#6a1b9a", "#37474f"];

/// Returns the colour of a second in which so many of all requests were answered.
fn colour((answered, all): Answers) -> &'static str {
    match (answered, all) {
        (_, 0) => "#e6eaee",
        (answered, all) if answered == all => "#3aa76d",
        (0, _) => "#c9352b",
        (answered, all) if answered * 2 >= all => "#f0c14b",
        _ => "#e07b39",
    }
}

/// Returns the figure of one run with its heading.
pub(super) fn timeline(result: &RunResult) -> String {
    let Some(measures) = &result.measures else { return String::new() };
    let seconds = result.frame.end_us as f64 / 1e6;
    let mut figure = Figure::new(seconds);
    bands(&mut figure, result);
    let kinds = [
        ("writes", &measures.writes, &measures.site_writes),
        ("lists", &measures.lists, &measures.site_lists),
        ("subscribe", &measures.subscribes, &measures.site_subscribes),
    ];
    for (kind, by_node, by_site) in kinds {
        for (node, answers) in by_node {
            strip(&mut figure, seconds, &format!("n{node} {kind}"), answers);
        }
        let (cut_off, majority) = sides(result, by_site);
        for (side, name) in [(cut_off, "cut off"), (majority, "majority")] {
            strip(&mut figure, seconds, &format!("{name}: {kind}"), &side.strip);
        }
        figure.height += 5.0;
    }
    calls(&mut figure, measures);
    curves(&mut figure, measures);
    let height = figure.height;
    for (at, band) in result.bands.iter().enumerate() {
        let (from, width) = span(&figure, band);
        figure.shade((from, 0.0), (width, height), BAND_COLOURS[at % BAND_COLOURS.len()]);
    }
    figure.axis();
    let mut out = format!("<h3>{}</h3>\n", escape(&result.target));
    out += &figure.finish(&format!("{} over time", result.target));
    out += "<p class=\"quiet\">";
    for (at, band) in result.bands.iter().enumerate() {
        let colour = BAND_COLOURS[at % BAND_COLOURS.len()];
        let _ = write!(
            out,
            "<span style=\"color:{colour}\">■</span> {:.1}–{:.1} s {} &nbsp; ",
            band.from_ms as f64 / 1e3,
            band.until_ms as f64 / 1e3,
            escape(&band.fault)
        );
    }
    out + "</p>\n"
}

/// Draws what came of the requests of each second.
fn strip(figure: &mut Figure, seconds: f64, name: &str, strip: &[Answers]) {
    let y = figure.height;
    figure.text((LEFT - 8.0, y + STRIP - 2.0), "end", name);
    for (second, answers) in strip.iter().enumerate().filter(|(at, _)| (*at as f64) < seconds) {
        let (from, to) = (figure.x(second as f64), figure.x(second as f64 + 1.0));
        let title = format!("{name}, {second} s: {} of {}", answers.0, answers.1);
        figure.rect((from, y), ((to - from - 0.6).max(0.5), STRIP), colour(*answers), &title);
    }
    figure.height += STRIP + 2.0;
}

/// Returns where a fault begins, and how wide it is.
fn span(figure: &Figure, band: &Band) -> (f64, f64) {
    let (from, to) = (figure.x(band.from_ms as f64 / 1e3), figure.x(band.until_ms as f64 / 1e3));
    (from, (to - from).max(1.5))
}

fn bands(figure: &mut Figure, result: &RunResult) {
    // Faults that overlap lie on rows of their own above the strips.
    let mut rows: Vec<u64> = Vec::new();
    for (at, band) in result.bands.iter().enumerate() {
        let row = rows.iter().position(|until| *until <= band.from_ms);
        let row = row.unwrap_or_else(|| {
            rows.push(0);
            rows.len() - 1
        });
        rows[row] = band.until_ms;
        let (from, width) = span(figure, band);
        let colour = BAND_COLOURS[at % BAND_COLOURS.len()];
        let y = row as f64 * 10.0;
        figure.rect((from, y), (width, 8.0), colour, &band.fault);
    }
    if !rows.is_empty() {
        figure.text((LEFT - 8.0, 9.0), "end", "faults");
    }
    figure.height = rows.len() as f64 * 10.0 + 6.0;
}

/// Draws a frame for curves up to a value, and returns where values are.
fn plot(figure: &mut Figure, name: &str, top: f64) -> impl Fn(f64) -> f64 + use<> {
    let (y, base) = (figure.height, figure.height + PLOT);
    figure.text((LEFT - 8.0, y + 12.0), "end", &format!("{top:.0}"));
    figure.text((LEFT - 8.0, base), "end", "0");
    figure.text((LEFT - 40.0, y + PLOT / 2.0 + 4.0), "end", name);
    figure.line(&[(LEFT, base), (RIGHT, base)], "#9aa5b1");
    figure.height += PLOT + 10.0;
    move |value: f64| base - (PLOT - 6.0) * (value / top.max(1e-9)).min(1.0)
}

fn calls(figure: &mut Figure, measures: &Measures) {
    let most = measures.calls_by_second.iter().map(|(_, first, _)| *first).max().unwrap_or(0);
    let y = plot(figure, "failed calls/s", f64::from(most.max(1)));
    for (second, (all, first, good)) in measures.calls_by_second.iter().enumerate() {
        let (from, to) = (figure.x(second as f64), figure.x(second as f64 + 1.0));
        let width = (to - from - 1.0).max(0.5);
        for (count, fill) in [(first, "#f0b7a6"), (good, "#b3261e")] {
            let top = y(f64::from(*count));
            let title =
                format!("{second} s: {all} calls, {first} failed at first, {good} for good");
            if *count > 0 {
                figure.rect((from, top), (width, y(0.0) - top), fill, &title);
            }
        }
    }
}

fn curves(figure: &mut Figure, measures: &Measures) {
    let most = measures.ghosts.iter().chain(&measures.missing).copied().fold(1.0, f64::max);
    let y = plot(figure, "ghosts, missing", most.ceil());
    for (curve, stroke) in [(&measures.ghosts, "#6a1b9a"), (&measures.missing, "#e07b39")] {
        let step = CURVE_STEP_US as f64 / 1e6;
        let points: Vec<(f64, f64)> = curve
            .iter()
            .enumerate()
            .map(|(at, value)| (figure.x(at as f64 * step), y(*value)))
            .collect();
        figure.line(&points, stroke);
    }
}

/// Returns figures of the measures that have many values, on a logarithmic axis.
pub(super) fn distributions(results: &[&RunResult]) -> String {
    type Pick = fn(&Measures) -> &Distribution;
    let all: [(&str, Pick); 3] = [
        ("from a registration to a consumer's list", |one| &one.notification_ms),
        ("from a crash to a consumer's list", |one| &one.detection_ms),
        ("age of stale lists", |one| &one.staleness_ms),
    ];
    let mut out = String::new();
    for (name, pick) in all {
        // Decades from 1 ms to 100 s.
        let mut figure = Figure::new(5.0);
        let place = |figure: &Figure, ms: f64| figure.x(ms.max(1.0).log10());
        figure.height = 6.0;
        for (at, result) in results.iter().enumerate() {
            let Some(measures) = &result.measures else { continue };
            let distribution = pick(measures);
            let y = figure.height + 10.0;
            figure.text((LEFT - 8.0, y + 4.0), "end", &result.target);
            let fill = TARGET_COLOURS[at % TARGET_COLOURS.len()];
            let ends = (distribution.quantile(0.0), distribution.quantile(1.0));
            if let (Some(low), Some(high)) = ends {
                let ends = [(place(&figure, low), y), (place(&figure, high), y)];
                figure.line(&ends, fill);
                for (share, said) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")] {
                    let Some(value) = distribution.quantile(share) else { continue };
                    let count = distribution.values.len();
                    let title = format!("{said} {value:.0} ms of {count}");
                    figure.circle((place(&figure, value), y), fill, &title);
                }
            } else {
                figure.text((LEFT, y + 4.0), "start", "none");
            }
            figure.height += 22.0;
        }
        for (decade, label) in
            ["1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s"].iter().enumerate()
        {
            let x = figure.x(decade as f64);
            figure.text((x, figure.height + 12.0), "middle", label);
        }
        figure.height += 16.0;
        let _ = write!(
            out,
            "<h3>{name}</h3>\n<p class=\"quiet\">Line: all of them; dots: p50, p90, p99.</p>\n"
        );
        out += &figure.finish(name);
    }
    out
}
