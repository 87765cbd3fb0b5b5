//! The command line.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::ap::{self, Form};
use crate::fault::{Kit, Net};
use crate::history::load;
use crate::history::registry::Noted;
use crate::report;
use crate::run::{RunResult, run};
use crate::schedule::{Family, Schedule, parse_ms};
use crate::target::{ApRegistry, Etcd, Roost, System, ZooKeeper};
use crate::workload::Workload;

/// What every comparison is made of unless other targets are named.
const TARGETS: [&str; 5] = ["roost", "ap-described", "ap-careful", "zookeeper", "etcd"];
/// All that there are.
const ALL_TARGETS: &str = "roost, roost-zk, ap-described, ap-careful, zookeeper, etcd";

/// What schedules are drawn from unless other families are named.
const FAMILIES: &str = "network,process";

/// Chaos for service registries: the same faults against CP and AP, checked histories, one report.
#[derive(Parser)]
#[command(name = "roost-jepsen", version)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run workloads on targets while faults happen, and report.
    Run(RunArgs),
    /// Run the registry workload on all targets under one schedule, and linearizable registers on what promises them.
    Compare(RunArgs),
    /// Print the schedule of a seed.
    Schedule {
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 3)]
        nodes: u8,
        #[arg(long, default_value = "60s", value_parser = parse_ms)]
        duration: u64,
        #[arg(long, default_value = FAMILIES)]
        faults: String,
        #[arg(long, value_enum, default_value = "proxies")]
        net: Net,
    },
    /// Draw the report of earlier runs again.
    Report {
        /// The directory of the runs.
        dir: PathBuf,
    },
    /// Run one node of the AP registry.
    ApServe {
        /// Who it is, unique among the nodes.
        #[arg(long)]
        node: u8,
        /// Which replication; the same on all nodes.
        #[arg(long, value_enum)]
        form: Form,
        /// Where clients and other nodes reach it.
        #[arg(long)]
        listen: SocketAddr,
        /// Where another node is reached; once for each.
        #[arg(long)]
        peer: Vec<String>,
    },
}

#[derive(Args)]
struct RunArgs {
    /// Names, separated by commas: roost, roost-zk, ap-described, ap-careful, zookeeper, etcd. By default all but
    /// roost-zk that are installed and have what the workload needs.
    #[arg(long, value_delimiter = ',')]
    target: Vec<String>,
    /// What the clients do; several, separated by commas, one after another.
    #[arg(long, value_enum, default_value = "registry", value_delimiter = ',')]
    workload: Vec<Workload>,
    /// What schedule and workload are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length of each run.
    #[arg(long, default_value = "60s", value_parser = parse_ms)]
    duration: u64,
    /// Nodes of each cluster.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Timeout of sessions.
    #[arg(long, default_value = "3s", value_parser = parse_ms)]
    timeout: u64,
    /// ZooKeeper's tickTime; its servers give each other up after four ticks.
    #[arg(long, default_value = "500ms", value_parser = parse_ms)]
    zk_tick: u64,
    /// Families of faults that the schedule is drawn from, separated by commas: network, slow, packet, process, clock,
    /// rate, fsync, full, power, damage, member; or all. Those that cannot be made here are left out, with a line.
    #[arg(long, default_value = FAMILIES)]
    faults: String,
    /// What is between the nodes.
    #[arg(long, value_enum, default_value = "proxies")]
    net: Net,
    /// A file with a schedule, instead of the one of the seed.
    #[arg(long)]
    schedule: Option<PathBuf>,
    /// Where histories, summary and report go; created when missing.
    #[arg(long, default_value = "target/jepsen")]
    out: PathBuf,
    /// The roost program; by default the one beside this program.
    #[arg(long)]
    roost: Option<PathBuf>,
}

/// Runs the command. Exit codes: 0 all promises were kept, 1 one was broken or could not be judged, 2 it did not run.
pub fn main() -> ExitCode {
    let command = Command::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(obey_until_told(command)),
        Err(err) => Err(format!("cannot start: {err}")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("roost-jepsen: {why}");
            ExitCode::from(2)
        }
    }
}

/// Obeys, unless it is told to stop: then the nodes that it runs are killed, as at the end of a run.
async fn obey_until_told(command: Command) -> Result<bool, String> {
    let mut told = signal(SignalKind::terminate()).map_err(|err| err.to_string())?;
    tokio::select! {
        outcome = obey(command) => outcome,
        _ = told.recv() => Err("told to stop".into()),
        _ = ctrl_c() => Err("interrupted".into()),
    }
}

async fn obey(command: Command) -> Result<bool, String> {
    match command.verb {
        Verb::Run(args) => run_all(&args, &args.workload).await,
        Verb::Compare(args) => run_all(&args, &[Workload::Registry, Workload::Register]).await,
        Verb::Schedule { seed, nodes, duration, faults, net } => {
            let families = families(&faults, seed, net)?;
            print!("{}", Schedule::generate(seed, nodes, duration, &families));
            Ok(true)
        }
        Verb::Report { dir } => {
            let results = load_results(&dir)?;
            draw(&dir, &results)?;
            Ok(results.iter().all(RunResult::is_good))
        }
        Verb::ApServe { node, form, listen, peer } => {
            ap::serve(ap::Options { node, form, listen, peers: peer }).await.map(|()| true)
        }
    }
}

/// Returns the families that were named and can be made here, and says which cannot.
fn families(named: &str, seed: u64, net: Net) -> Result<BTreeSet<Family>, String> {
    let mut families: BTreeSet<Family> = match named {
        "all" => Family::ALL.into(),
        named => named.split(',').map(str::parse).collect::<Result<_, _>>()?,
    };
    // A run has one or the other: the seed decides.
    if families.contains(&Family::Clock) && families.contains(&Family::Rate) {
        families.remove(if seed.is_multiple_of(2) { &Family::Rate } else { &Family::Clock });
    }
    for (family, why) in Kit::find(&families, net).lacking() {
        eprintln!("SKIPPED: no faults of the family {family}: {why}");
        families.remove(family);
    }
    Ok(families)
}

fn schedule(args: &RunArgs) -> Result<Schedule, String> {
    let Some(path) = &args.schedule else {
        if !(1..=9).contains(&args.nodes) {
            return Err("--nodes: expected 1 to 9".into());
        }
        let families = families(&args.faults, args.seed, args.net)?;
        return Ok(Schedule::generate(args.seed, args.nodes, args.duration, &families));
    };
    let text = std::fs::read_to_string(path).map_err(|err| format!("{}: {err}", path.display()))?;
    text.parse().map_err(|why| format!("{}: {why}", path.display()))
}

fn system(name: &str, args: &RunArgs) -> Result<Arc<dyn System>, String> {
    let own = std::env::current_exe().map_err(|err| format!("where is this program? {err}"))?;
    let ap = |form| Ok(Arc::new(ApRegistry { program: own.clone(), form }) as Arc<dyn System>);
    match name {
        "ap-described" => ap(Form::Described),
        "ap-careful" => ap(Form::Careful),
        "roost" | "roost-zk" => {
            let program = args.roost.clone().unwrap_or_else(|| own.with_file_name("roost"));
            if !program.is_file() {
                let path = program.display();
                return Err(format!(
                    "{path} is not there: build it with `cargo build`, or say --roost"
                ));
            }
            Ok(Arc::new(Roost { program, is_zk: name == "roost-zk" }))
        }
        "zookeeper" => match ZooKeeper::missing() {
            Some(why) => Err(why),
            None => Ok(Arc::new(ZooKeeper { tick_ms: args.zk_tick })),
        },
        "etcd" => match Etcd::missing() {
            Some(why) => Err(why),
            None => Ok(Arc::new(Etcd)),
        },
        _ => Err(format!("{name:?} is no target: expected some of {ALL_TARGETS}")),
    }
}

/// Returns the targets that were named, or else those that are installed.
fn systems(args: &RunArgs) -> Result<Vec<Arc<dyn System>>, String> {
    if !args.target.is_empty() {
        return args.target.iter().map(|name| system(name, args)).collect();
    }
    let is_rival = |name: &str| matches!(name, "zookeeper" | "etcd");
    let mut systems = Vec::new();
    for name in TARGETS {
        match system(name, args) {
            Ok(system) => systems.push(system),
            Err(why) if is_rival(name) => println!("{name} is left out: {why}"),
            Err(why) => return Err(why),
        }
    }
    Ok(systems)
}

async fn run_all(args: &RunArgs, workloads: &[Workload]) -> Result<bool, String> {
    let schedule = schedule(args)?;
    let systems = systems(args)?;
    let failed = |err: std::io::Error| format!("{}: {err}", args.out.display());
    std::fs::create_dir_all(&args.out).map_err(failed)?;
    std::fs::write(args.out.join("schedule.txt"), schedule.to_string()).map_err(failed)?;
    println!("{schedule}");
    let mut results = Vec::new();
    for workload in workloads {
        for system in &systems {
            if (workloads.len() > 1 || args.target.is_empty()) && !system.runs(*workload) {
                continue;
            }
            println!("{} with the workload {} …", system.name(), workload.name());
            let result =
                run(Arc::clone(system), &schedule, *workload, args.timeout, args.net, &args.out)
                    .await?;
            say(&result);
            results.push(result);
        }
    }
    let json = serde_json::to_string_pretty(&results).map_err(|err| err.to_string())?;
    std::fs::write(args.out.join("summary.json"), json).map_err(failed)?;
    draw(&args.out, &results)?;
    Ok(results.iter().all(RunResult::is_good))
}

fn say(result: &RunResult) {
    let (answered, failed, unknown) = result.requests;
    println!("  requests: {answered} answered, {failed} failed, {unknown} unknown");
    if let Some(measures) = &result.measures {
        println!(
            "  calls: {}, of which {} failed at first and {} for good; lost at the end: {:?}",
            measures.calls, measures.failed_first, measures.failed_all, measures.lost
        );
    }
    for (name, figure) in &result.figures {
        println!("  {name}: {figure}");
    }
    for (name, verdict) in &result.verdicts {
        let remark = if result.unpromised.contains(name) { " (not promised)" } else { "" };
        println!("  {name}{remark}: {verdict:?}");
    }
}

fn load_results(dir: &Path) -> Result<Vec<RunResult>, String> {
    let path = dir.join("summary.json");
    let text =
        std::fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()))?;
    let mut results: Vec<RunResult> =
        serde_json::from_str(&text).map_err(|err| format!("{}: {err}", path.display()))?;
    // Measures are made again from what happened, so that a better measure serves old runs too.
    for result in results.iter_mut().filter(|result| result.workload == Workload::Registry) {
        let history = dir.join(format!("{}-registry.jsonl", result.target));
        let events: Vec<Noted> = load(&history).map_err(|err| err.to_string())?;
        result.measures = Some(crate::check::registry::measure(&events, &result.frame));
    }
    Ok(results)
}

fn draw(dir: &Path, results: &[RunResult]) -> Result<(), String> {
    let path = dir.join("report.html");
    std::fs::write(&path, report::html(results))
        .map_err(|err| format!("{}: {err}", path.display()))?;
    println!("report: {}", path.display());
    Ok(())
}
