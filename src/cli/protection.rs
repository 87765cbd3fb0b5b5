//! The verbs on what protects services from losing too many providers at once.

use clap::Subcommand;
use serde_json::{Value, json};

use super::Context;
use super::output::{Failure, table};

/// See [`Verb::Protection`](super::args::Verb::Protection).
#[derive(Debug, Subcommand)]
pub enum ProtectionCommand {
    /// List the silent sessions whose end is put off, and how the services stand.
    Ls,
    /// Confirm that such sessions are gone, and end them.
    Confirm {
        /// Whose.
        #[command(flatten)]
        whose: Whose,
        /// Why, for whoever reads it later.
        #[arg(long)]
        reason: String,
    },
}

/// Whose end is confirmed.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// A session, 0x…
    session: Option<String>,
    /// All that this service would lose: the path whose children its providers are.
    #[arg(long, value_name = "PATH")]
    service: Option<String>,
    /// All that there are.
    #[arg(long)]
    all: bool,
}

pub(super) async fn execute(context: &Context, command: &ProtectionCommand) -> Result<(), Failure> {
    match command {
        ProtectionCommand::Ls => list(context).await,
        ProtectionCommand::Confirm { whose, reason } => {
            let what = match (&whose.session, &whose.service) {
                (Some(session), _) => ("session", json!(session)),
                (None, Some(service)) => ("service", json!(service)),
                (None, None) => ("all", json!(true)),
            };
            let answer = context.client.confirm_removal(what, reason).await?;
            context.output.result(&answer, || {
                let ended = answer["ended"].as_array().into_iter().flatten();
                let lines = ended.filter_map(Value::as_str).map(|session| format!("{session}\n"));
                lines.collect::<String>().into_bytes()
            })
        }
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let mut answer = context.client.protection(None).await?;
    while let Some(next) = answer["next"].as_str().map(str::to_owned) {
        let mut page = context.client.protection(Some(&next)).await?;
        let mut suspects = answer["suspects"].take();
        if let (Some(all), Some(more)) = (suspects.as_array_mut(), page["suspects"].as_array_mut())
        {
            all.append(more);
        }
        page["suspects"] = suspects;
        answer = page;
    }
    context.output.result(&answer, || {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let row = |of: &Value, keys: &[&str]| keys.iter().map(|key| text(&of[*key])).collect();
        let heads = ["SERVICE", "POLICY", "MODE", "PRESENT", "LOST", "BUDGET"];
        let mut services: Vec<Vec<String>> = vec![heads.map(str::to_owned).to_vec()];
        for service in answer["services"].as_array().into_iter().flatten() {
            let keys = ["service", "policy", "mode", "present", "lost", "budget"];
            services.push(row(service, &keys));
        }
        let heads = ["SUSPECT", "SINCE", "LEFT", "SERVICES"];
        let mut suspects: Vec<Vec<String>> = vec![heads.map(str::to_owned).to_vec()];
        for suspect in answer["suspects"].as_array().into_iter().flatten() {
            let seconds =
                |key: &str| format!("{}s", suspect[key].as_u64().unwrap_or_default() / 1000);
            let named = suspect["services"].as_array().into_iter().flatten();
            let named: Vec<&str> = named.filter_map(Value::as_str).collect();
            suspects.push(vec![
                text(&suspect["session"]),
                seconds("since_ms"),
                seconds("left_ms"),
                named.join(" "),
            ]);
        }
        format!("{}\n{}", table(&services), table(&suspects)).into_bytes()
    })
}
