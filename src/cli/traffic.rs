//! The verbs that control traffic.

use std::fmt::Write;
use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use serde_json::{Map, Value, json};

use super::Context;
use super::output::Failure;
use super::parse;
use super::policy::{self, PolicyCommand};
use crate::client::model::{Deregistration, Drain};
use crate::limits::POLL_WAIT_MS_MAX;

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
    /// Keep them from coming back for so long, e.g. 10m or 2h, a day at most.
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

/// See [`Verb::Drain`](super::args::Verb::Drain).
#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    /// The path of a registration, or with --service its id.
    #[arg(value_name = "PATH|ID")]
    pub instance: String,
    /// The service whose provider it is.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// When it is removed at the latest.
    #[arg(long, value_name = "TIME", value_parser = parse::duration, default_value = "30s")]
    pub deadline: Duration,
    /// Do not wait until all have been told.
    #[arg(long)]
    pub no_wait: bool,
    /// Why, for others to read.
    #[arg(long)]
    pub reason: Option<String>,
}

pub(super) async fn drain(context: &Context, args: DrainArgs) -> Result<(), Failure> {
    let DrainArgs { instance, service, deadline, no_wait, reason } = args;
    let timeout = context.client.timeout();
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    let wait_ms = deadline_ms.min(POLL_WAIT_MS_MAX);
    let wait = if no_wait { "none" } else { "all_subscribers" }.to_owned();
    let drain = Drain { deadline_ms, wait, wait_ms: Some(wait_ms), reason };
    let client = context.client.with_timeout(timeout + Duration::from_millis(wait_ms));
    let done = match &service {
        Some(service) => client.drain(service, &instance, &drain).await?,
        None => client.drain_instance(&instance, &drain).await?,
    };
    context.output.result(&done, || {
        let mut text = format!("{} told, {} not yet\n", done.notified, done.lagging);
        for node in &done.unknown {
            writeln!(text, "node {node} cannot say").expect("writing to a string");
        }
        text.into_bytes()
    })
}

/// See [`Verb::Override`](super::args::Verb::Override).
#[derive(Debug, Subcommand)]
pub enum OverrideCommand {
    /// Set an override; it survives that its instances register again.
    Set(Box<OverrideArgs>),
    /// List the overrides.
    Ls,
    /// Remove an override, and what it did.
    Rm {
        /// Its name.
        name: String,
    },
}

/// See [`OverrideCommand::Set`].
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("where").required(true).args(["service", "dubbo", "pattern"]))]
#[command(group = ArgGroup::new("which").args(["instance", "ip", "selector"]))]
pub struct OverrideArgs {
    /// Its name; a second one of the same name takes its place.
    pub name: String,
    /// Providers of this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Providers of this interface of Dubbo.
    #[arg(long, value_name = "INTERFACE")]
    pub dubbo: Option<String>,
    /// Instances whose znodes match this: `*` is one element, `**` at the end any rest.
    #[arg(long)]
    pub pattern: Option<String>,
    /// Only the one of this id or `host:port`.
    #[arg(long)]
    pub instance: Option<String>,
    /// Only those at this address.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub ip: Option<String>,
    /// Only those whose metadata have this value; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::pair)]
    pub selector: Vec<(String, String)>,
    /// up, starting, draining or out_of_service.
    #[arg(long)]
    pub status: Option<String>,
    /// Their share of traffic; 0 for none.
    #[arg(long)]
    pub weight: Option<u32>,
    /// Added to their metadata; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::pair)]
    pub label: Vec<(String, String)>,
    /// Why, for whoever reads it later.
    #[arg(long)]
    pub reason: String,
    /// It goes by itself after so long, e.g. 90s, 2h or 7d.
    #[arg(long, value_name = "TIME", value_parser = parse::ttl)]
    pub ttl: Option<u64>,
}

impl OverrideArgs {
    fn policy(&self) -> Value {
        let pattern = match (&self.service, &self.dubbo, &self.pattern) {
            (Some(service), ..) => format!("/services/{service}/providers/*"),
            (_, Some(interface), _) => format!("/dubbo/{interface}/providers/*"),
            (.., pattern) => pattern.clone().unwrap_or_default(),
        };
        let texts = |pairs: &[(String, String)]| {
            let text = |(key, value): &(String, String)| (key.clone(), json!(value));
            (!pairs.is_empty()).then(|| Value::Object(pairs.iter().map(text).collect()))
        };
        let fields = [
            ("pattern", Some(json!(pattern))),
            ("reason", Some(json!(self.reason))),
            ("instance", self.instance.as_ref().map(|id| json!(id))),
            ("ip", self.ip.as_ref().map(|ip| json!(ip))),
            ("selector", texts(&self.selector)),
            ("status", self.status.as_ref().map(|status| json!(status))),
            ("weight", self.weight.map(|weight| json!(weight))),
            ("labels", texts(&self.label)),
            ("ttl_s", self.ttl.map(|ttl_s| json!(ttl_s))),
        ];
        let field = |(name, value): (&str, Option<Value>)| Some((name.to_owned(), value?));
        Value::Object(fields.into_iter().filter_map(field).collect::<Map<_, _>>())
    }
}

/// The kind of the policies that overrides are.
const OVERRIDES: &str = "overrides";

pub(super) async fn overrides(context: &Context, command: OverrideCommand) -> Result<(), Failure> {
    match command {
        OverrideCommand::Set(args) => {
            let done = context.client.set_policy(OVERRIDES, &args.name, &args.policy()).await?;
            context.output.result(&done, Vec::new)
        }
        OverrideCommand::Ls => {
            policy::execute(context, &PolicyCommand::Ls { kind: Some(OVERRIDES.to_owned()) }).await
        }
        OverrideCommand::Rm { name } => {
            let done = context.client.remove_policy(OVERRIDES, &name).await?;
            context.output.result(&done, Vec::new)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::OverrideCommand;
    use crate::cli::args::{Args, Command, Verb};

    #[test]
    fn an_override_is_the_policy_that_its_words_mean() {
        for (words, policy) in [
            (
                "--service web --ip 10.0.0.5 --weight 0 --ttl 2h",
                json!({"pattern": "/services/web/providers/*", "ip": "10.0.0.5", "weight": 0, "ttl_s": 7200}),
            ),
            (
                "--dubbo com.a.Demo --instance 10.0.0.5:20880 --status out_of_service",
                json!({"pattern": "/dubbo/com.a.Demo/providers/*", "instance": "10.0.0.5:20880",
                    "status": "out_of_service"}),
            ),
            (
                "--pattern /a/** --selector zone=b --selector rack=7 --label colour=red",
                json!({"pattern": "/a/**", "selector": {"zone": "b", "rack": "7"}, "labels": {"colour": "red"}}),
            ),
        ] {
            let line = format!("roost override set one --reason r {words}");
            let args = Args::from_words(line.split(' ')).unwrap();
            let Command::Verb(Verb::Override(OverrideCommand::Set(set))) = args.command else {
                panic!("{line} sets no override")
            };
            let mut expected = policy;
            expected["reason"] = json!("r");
            assert_eq!(set.policy(), expected, "{line}");
        }
        for words in ["", "--service web --dubbo a", "--service web --ip a --instance b"] {
            let line = format!("roost override set one --reason r {words}");
            assert!(Args::from_words(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
