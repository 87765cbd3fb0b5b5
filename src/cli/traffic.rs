//! The verbs that control traffic.

use std::fmt::Write;
use std::time::Duration;

use clap::ArgGroup;

use super::Context;
use super::output::Failure;
use super::parse;
use crate::client::model::Deregistration;

/// See [`Verb::Deregister`](super::args::Verb::Deregister).
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").required(true).args(["instance", "session", "ip", "selector"]))]
pub struct DeregisterArgs {
    /// The path of a registration, or the id that it has in any service.
    #[arg(long, value_name = "PATH|ID")]
    pub instance: Option<String>,
    /// The id of a session; it is closed.
    #[arg(long, value_name = "ID", conflicts_with_all = ["service", "pattern"])]
    pub session: Option<String>,
    /// All that say this address.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub ip: Option<String>,
    /// All whose metadata have this value; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::pair)]
    pub selector: Vec<(String, String)>,
    /// Only providers of this service; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub service: Vec<String>,
    /// Only below this pattern of paths: `*` is one element, `**` at the end any rest.
    #[arg(long)]
    pub pattern: Option<String>,
    /// Keep them from coming back for so long, e.g. 30s or 10m.
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub block: Option<Duration>,
    /// Why, for others to read.
    #[arg(long)]
    pub reason: Option<String>,
    /// Only print what would go.
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) async fn deregister(context: &Context, args: DeregisterArgs) -> Result<(), Failure> {
    let wish = Deregistration {
        instance: args.instance,
        session: args.session,
        ip: args.ip,
        selector: (!args.selector.is_empty()).then(|| args.selector.into_iter().collect()),
        services: (!args.service.is_empty()).then_some(args.service),
        pattern: args.pattern,
        block_ms: args.block.map(|block| block.as_millis() as u64),
        reason: args.reason,
        dry_run: args.dry_run,
    };
    let done = context.client.deregister_all(&wish).await?;
    context.output.result(&done, || {
        let mut text = String::new();
        for path in &done.removed {
            let verb = if done.dry_run { "would remove" } else { "removed" };
            writeln!(text, "{verb} {path}").expect("writing to a string");
        }
        for path in &done.tombstones {
            let verb = if done.dry_run { "would block by" } else { "blocked by" };
            writeln!(text, "{verb} {path}").expect("writing to a string");
        }
        text.into_bytes()
    })
}
