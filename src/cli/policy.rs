//! The verbs on policies.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Context;
use super::output::{Failure, table};
use super::parse;

/// See [`Verb::Policy`](super::args::Verb::Policy).
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// List the policies.
    Ls {
        /// Only those of this kind.
        kind: Option<String>,
    },
    /// Print a policy as JSON.
    Get {
        /// Its kind: admission, disconnect, overrides, notify
        kind: String,
        /// Its name.
        name: String,
    },
    /// Set a policy.
    Set {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What it says.
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Remove a policy.
    Rm {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Check a policy and print what it would do now, without setting it.
    Test {
        /// Its kind.
        kind: String,
        /// What it says.
        #[command(flatten)]
        policy: PolicyArgs,
        /// The path of a write to ask about.
        #[arg(long, value_name = "PATH")]
        write: Option<String>,
        /// The data of that write.
        #[arg(long, requires = "write")]
        data: Option<String>,
        /// The address from which it comes, one's own when left out.
        #[arg(long, value_name = "IP", requires = "write")]
        from: Option<String>,
    },
}

/// What a policy says.
#[derive(Debug, clap::Args)]
pub struct PolicyArgs {
    /// A JSON object, or @FILE with one.
    pub json: String,
    /// Why, for whoever reads it later.
    #[arg(long)]
    pub reason: Option<String>,
    /// It goes by itself after so long, e.g. 30m or 2h.
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub ttl: Option<std::time::Duration>,
}

impl PolicyArgs {
    fn policy(&self) -> Result<Value, Failure> {
        let text = match self.json.strip_prefix('@') {
            None => self.json.clone(),
            Some(file) => std::fs::read_to_string(file)
                .map_err(|why| Failure::Local(format!("{file}: {why}")))?,
        };
        let parsed: Result<Map<String, Value>, _> = serde_json::from_str(&text);
        let mut fields =
            parsed.map_err(|why| Failure::Usage(format!("the policy is no JSON object: {why}")))?;
        if let Some(reason) = &self.reason {
            fields.insert("reason".to_owned(), json!(reason));
        }
        if let Some(ttl) = self.ttl {
            fields.insert("ttl_s".to_owned(), json!(ttl.as_secs()));
        }
        Ok(Value::Object(fields))
    }
}

pub(super) async fn execute(context: &Context, command: &PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Ls { kind } => list(context, kind.as_deref()).await,
        PolicyCommand::Get { kind, name } => {
            let answer = context.client.policy(kind, name).await?;
            context.output.result(&answer, || pretty(&answer["policy"]))
        }
        PolicyCommand::Set { kind, name, policy } => {
            let done = context.client.set_policy(kind, name, &policy.policy()?).await?;
            context.output.result(&done, Vec::new)
        }
        PolicyCommand::Rm { kind, name } => {
            let done = context.client.remove_policy(kind, name).await?;
            context.output.result(&done, Vec::new)
        }
        PolicyCommand::Test { kind, policy, write, data, from } => {
            let write =
                write.as_ref().map(|path| json!({ "path": path, "data": data, "address": from }));
            let wanted = json!({ "kind": kind, "policy": policy.policy()?, "write": write });
            let answer = context.client.test_policy(&wanted).await?;
            context.output.result(&answer, || pretty(&answer))
        }
    }
}

async fn list(context: &Context, kind: Option<&str>) -> Result<(), Failure> {
    let answer = context.client.policies(kind).await?;
    context.output.result(&answer, || {
        let heads = ["KIND", "NAME", "MODE", "PATTERN", "SET BY", "REASON"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        for entry in answer["policies"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let policy = &entry["policy"];
            let mode = policy["mode"].as_str().unwrap_or("enforce").to_owned();
            let (pattern, by) = (text(&policy["pattern"]), text(&policy["set_by"]));
            rows.push(vec![
                text(&entry["kind"]),
                text(&entry["name"]),
                mode,
                pattern,
                by,
                text(&policy["reason"]),
            ]);
        }
        table(&rows).into_bytes()
    })
}

/// Returns JSON for people.
fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
