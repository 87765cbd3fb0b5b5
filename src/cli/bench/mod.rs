//! `roost bench`: load on a running cluster, over HTTP, and what it measured.
//!
//! The generator often shares its machine with what it measures, so it must cost little: bare HTTP/1.1
//! connections that stay open, one request outstanding on each, the connection and its user in one task (no
//! wake-up of another), requests put together from prepared parts, and no parsing of the answers that
//! succeed.
//!
//! How to read the numbers:
//!
//! - The loop is closed: a client sends its next request when the last one is answered. Under overload the
//!   latency grows with `--clients`, and a pause of the cluster is seen once by each client, not once by
//!   each request that an open loop would have sent meanwhile. `ops/s, slowest second` shows such pauses;
//!   the percentiles alone would hide them.
//! - A refused request is counted by its code and not among the latencies; it is not sent again, except in
//!   `storm`, where a provider has to get in however long it takes.
//! - `client µs/op` is the CPU time of this process per request, user and system: what to subtract from the
//!   machine.
//!
//! Everything happens below `/bench/<random>`, which is removed at the end, also after Ctrl-C.
//!
//! What it deliberately lacks: an open loop at a given rate, and knowledge of which node leads.

pub mod args;
mod connection;
mod fanout;
mod field;
mod load;
mod pauses;
mod report;
mod storm;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::args::{BenchArgs, BenchLoad};
use self::field::Field;
use self::load::Mix;
use super::args::GlobalArgs;
use super::output::{Failure, Output};
use super::signal::interrupted;

/// Runs a load and prints its report.
pub(super) async fn execute(args: BenchArgs, global: &GlobalArgs) -> Result<(), Failure> {
    let client = global.client()?;
    let output = Output { json: global.json };
    let field = Field::new(client).await?;
    let measured = tokio::select! {
        measured = measure(&args.load, &field, global.json) => measured,
        () = interrupted() => Err(Failure::Local("interrupted, nothing was measured".to_owned())),
    };
    let cleared = field.clear().await;
    let report = measured?;
    output.result(&report, || report.to_text().into_bytes())?;
    cleared
}

async fn measure(
    load: &BenchLoad,
    field: &Field,
    as_json: bool,
) -> Result<report::Report, Failure> {
    let bar = |steps| progress_bar(steps, as_json);
    match load {
        BenchLoad::Write(args) => {
            let mix = Mix { name: "write", read_percent: 0, consistency: "linearizable" };
            load::run(args, mix, field, bar).await
        }
        BenchLoad::Read { load: args, consistency } => {
            load::run(args, Mix { name: "read", read_percent: 100, consistency }, field, bar).await
        }
        BenchLoad::Mixed { load: args, read_percent, consistency } => {
            let mix = Mix { name: "mixed", read_percent: *read_percent, consistency };
            load::run(args, mix, field, bar).await
        }
        BenchLoad::Storm(args) => storm::run(args, field, bar).await,
        BenchLoad::Fanout(args) => fanout::run(args, field, bar).await,
        BenchLoad::Pauses(args) => pauses::run(args, field, bar).await,
    }
}

/// Returns a bar on stderr, invisible when that is no terminal.
fn progress_bar(steps: u64, is_hidden: bool) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if is_hidden {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}").expect("a constant template");
    bar.with_style(style)
}
