//! The verbs on policies.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Context;
use super::output::{Failure, table, time};
use super::parse;

/// See [`Verb::Policy`](super::args::Verb::Policy).
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// List the policies, those that are built in among them.
    Ls {
        /// Only those of this kind.
        kind: Option<String>,
    },
    /// Print a policy as JSON.
    Get {
        /// Its kind: removal, admission, …
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
    ///
    /// It is checked whole, as it would be set: with its reason, and its TTL where its kind or mode needs one.
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
        /// A path to ask whether it may be followed, with its children and their data.
        #[arg(long, value_name = "PATH", conflicts_with = "write")]
        follow: Option<String>,
        /// The address from which it comes, one's own when left out.
        #[arg(long, value_name = "IP")]
        from: Option<String>,
    },
}

/// What a policy says.
#[derive(Debug, clap::Args)]
pub struct PolicyArgs {
    /// A JSON object, or @FILE with one.
    #[arg(value_name = "JSON")]
    pub text: String,
    /// Why, for whoever reads it later. Every policy says it, here or in the JSON.
    #[arg(long)]
    pub reason: Option<String>,
    /// It goes by itself after so long, e.g. 90s, 2h or 7d.
    #[arg(long, value_name = "TIME", value_parser = parse::ttl)]
    pub ttl: Option<u64>,
}

impl PolicyArgs {
    fn policy(&self) -> Result<Value, Failure> {
        let text = match self.text.strip_prefix('@') {
            None => self.text.clone(),
            Some(file) => std::fs::read_to_string(file)
                .map_err(|why| Failure::Local(format!("{file}: {why}")))?,
        };
        let parsed: Result<Map<String, Value>, _> = serde_json::from_str(&text);
        let mut fields =
            parsed.map_err(|why| Failure::Usage(format!("the policy is no JSON object: {why}")))?;
        if let Some(reason) = &self.reason {
            fields.insert("reason".to_owned(), json!(reason));
        }
        if let Some(ttl_s) = self.ttl {
            fields.insert("ttl_s".to_owned(), json!(ttl_s));
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
        PolicyCommand::Test { kind, policy, write, data, follow, from } => {
            let write =
                write.as_ref().map(|path| json!({ "path": path, "data": data, "address": from }));
            let follow = follow.as_ref().map(|path| json!({ "path": path, "address": from }));
            let policy = policy.policy()?;
            let wanted =
                json!({ "kind": kind, "policy": policy, "write": write, "follow": follow });
            let answer = context.client.test_policy(&wanted).await?;
            context.output.result(&answer, || pretty(&answer))
        }
    }
}

async fn list(context: &Context, kind: Option<&str>) -> Result<(), Failure> {
    let answer = context.client.policies(kind).await?;
    context.output.result(&answer, || {
        let heads = ["KIND", "NAME", "MODE", "PATTERN", "SET BY", "ENDS", "REASON"];
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
                policy["expires_at_ms"].as_u64().map(time).unwrap_or_default(),
                text(&policy["reason"]),
            ]);
        }
        table(&rows).into_bytes()
    })
}

/// See [`Verb::Audit`](super::args::Verb::Audit).
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// Only lines behind the one of this number.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub after: u64,
    /// At most so many lines.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

pub(super) async fn audit(context: &Context, args: &AuditArgs) -> Result<(), Failure> {
    let answer = context.client.audit(args.after, args.limit).await?;
    context.output.result(&answer, || {
        let heads = ["SEQ", "ZXID", "TIME", "OP", "RESULT", "PATH", "WHO", "REASON"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        for line in answer["lines"].as_array().into_iter().flatten() {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let who: Vec<_> = line["who"].as_array().into_iter().flatten().collect();
            let who: Vec<_> = who.iter().filter_map(|who| who.as_str()).collect();
            // A denial says which rule, a switch why it was set.
            let why = if line["rule"].is_null() { text("reason") } else { text("why") };
            rows.push(vec![
                line["seq"].to_string(),
                line["zxid"].to_string(),
                time(line["at_ms"].as_u64().unwrap_or_default()),
                text("op"),
                text("result"),
                text("path"),
                who.join(","),
                [text("rule"), why].join(" ").trim().to_owned(),
            ]);
        }
        table(&rows).into_bytes()
    })
}

/// Returns JSON for people.
fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
