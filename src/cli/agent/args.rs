//! What can be typed behind `run` and `render`.

use std::path::PathBuf;
use std::time::Duration;

use super::super::parse;
use super::super::service::{InstanceArgs, NamespaceArgs};
use super::check::{Check, Threshold};

/// See [`Command::Run`](crate::cli::args::Command::Run).
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The service.
    #[arg(long)]
    pub service: String,
    /// Whose services are meant.
    #[command(flatten)]
    pub of: NamespaceArgs,
    /// What to say of the provider.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// How long the registration outlives this command when it cannot deregister.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1_000..=600_000))]
    pub timeout_ms: u64,
    /// Register only while this check passes: tcp://HOST:PORT, http://HOST:PORT/PATH, grpc://HOST:PORT[/SERVICE] or
    /// cmd:COMMAND, which a shell executes.
    #[arg(long, value_name = "CHECK")]
    pub check: Option<Check>,
    /// Time from one check to the next.
    #[arg(long, value_name = "TIME", value_parser = parse::duration, default_value = "2s")]
    pub check_interval: Duration,
    /// A check that takes longer has failed.
    #[arg(long, value_name = "TIME", value_parser = parse::duration, default_value = "1s")]
    pub check_timeout: Duration,
    /// Register when K of the last N checks have passed.
    #[arg(long, value_name = "K/N", default_value = "1/1")]
    pub check_pass: Threshold,
    /// Deregister when K of the last N checks have failed.
    #[arg(long, value_name = "K/N", default_value = "3/3")]
    pub check_fail: Threshold,
    /// End the command when nothing has registered it so long after its start, or after the check passed for the first time.
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub exit_if_cannot_register: Option<Duration>,
    /// Directory to note the session in: when this command is started again it takes the registration over at once.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<std::ffi::OsString>,
}

/// See [`Command::Render`](crate::cli::args::Command::Render).
#[derive(Debug, clap::Args)]
pub struct RenderArgs {
    /// The template.
    pub template: PathBuf,
    /// Whose services are meant.
    #[command(flatten)]
    pub of: NamespaceArgs,
    /// The file to write.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Execute this with a shell after the file has changed.
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<String>,
    /// Wait until nothing has changed for so long before writing.
    #[arg(long, value_name = "TIME", value_parser = parse::duration, default_value = "1s")]
    pub wait_min: Duration,
    /// But write at the latest so long after a change.
    #[arg(long, value_name = "TIME", value_parser = parse::duration, default_value = "10s")]
    pub wait_max: Duration,
    /// Directory to keep the lists in, for a start while the registry is away.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Write once and end.
    #[arg(long)]
    pub once: bool,
}
