//! What can be typed after `roost bench`.

use std::time::Duration;

use clap::Subcommand;

use crate::cli::parse;

/// See [`Command::Bench`](crate::cli::args::Command::Bench).
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Which load.
    #[command(subcommand)]
    pub load: BenchLoad,
}

/// The loads.
#[derive(Debug, Subcommand)]
pub enum BenchLoad {
    /// Set the data of znodes.
    Write(LoadArgs),
    /// Read the data of znodes.
    Read {
        /// How much and how long.
        #[command(flatten)]
        load: LoadArgs,
        /// How current the reads have to be.
        #[arg(long, default_value = "linearizable", value_parser = ["linearizable", "sequential", "stale"])]
        consistency: String,
    },
    /// Reads and writes.
    Mixed {
        /// How much and how long.
        #[command(flatten)]
        load: LoadArgs,
        /// Reads in a hundred requests.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(0..=100))]
        read_percent: u8,
        /// How current the reads have to be.
        #[arg(long, default_value = "linearizable", value_parser = ["linearizable", "sequential", "stale"])]
        consistency: String,
    },
    /// Sessions that open and register an ephemeral znode all at once, as after a restart of everything.
    Storm(StormArgs),
    /// Subscribers of one path, and how long each change takes to reach them all.
    Fanout(FanoutArgs),
    /// A large tree, and how long snapshots of it make writes and reads wait.
    Pauses(PausesArgs),
}

/// See [`BenchLoad::Pauses`].
#[derive(Clone, Debug, clap::Args)]
pub struct PausesArgs {
    /// Znodes.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub znodes: u32,
    /// Data of one znode, bytes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_048_000))]
    pub size: u32,
    /// Connections that write without a pause, so that the log grows.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub clients: u32,
    /// Snapshots that each node has to take before the end.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub snapshots: u32,
}

/// How much and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct LoadArgs {
    /// Requests outstanding, each on a connection of its own, spread evenly over the endpoints.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub clients: u32,
    /// How long to measure.
    #[arg(long, value_name = "TIME", value_parser = parse::duration, default_value = "10s")]
    pub duration: Duration,
    /// How long to load before measuring.
    #[arg(long, value_name = "TIME", value_parser = parse::duration, default_value = "1s")]
    pub warmup: Duration,
    /// Data of one znode, bytes.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_000))]
    pub size: u32,
    /// Znodes that are written and read.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keys: u32,
}

/// See [`BenchLoad::Storm`].
#[derive(Clone, Debug, clap::Args)]
pub struct StormArgs {
    /// Sessions.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: u32,
    /// Connections that they share, each with one request outstanding.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub clients: u32,
    /// Data of one ephemeral, bytes.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_000))]
    pub size: u32,
    /// Timeout of the sessions, ms.
    #[arg(long, default_value_t = 120_000, value_parser = clap::value_parser!(u64).range(1_000..=600_000))]
    pub timeout_ms: u64,
}

/// See [`BenchLoad::Fanout`].
#[derive(Clone, Debug, clap::Args)]
pub struct FanoutArgs {
    /// Subscribers.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub watchers: u32,
    /// Changes, one after the other.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub changes: u32,
    /// Data of one change, bytes.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_000))]
    pub size: u32,
}
