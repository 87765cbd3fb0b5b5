use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use indicatif::ProgressBar;
use rand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout_at};

use super::args::LoadArgs;
use super::connection::{self, Prepared, Sender};
use super::field::Field;
use super::report::{Report, Tally, cpu_time};
use crate::cli::output::Failure;
use crate::client::{encode_path, jittered};

/// Requests that are not answered so long after the end are counted as lost.
const GRACE: Duration = Duration::from_secs(5);
/// Prepared requests of one endpoint; with more keys than this a request repeats sooner than its key's turn would come.
const PREPARED_MAX: u32 = 100_000;

/// What the clients share.
#[derive(Debug)]
struct Load {
    hosts: Vec<String>,
    /// For each endpoint the writes, then the reads, by key.
    requests: Vec<[Vec<Prepared>; 2]>,
    clients: usize,
    read_percent: u8,
    measure_from: Instant,
    measure_until: Instant,
    done: AtomicU64,
}

/// Loads the cluster and measures it. `read_percent` is how many of a hundred requests read.
pub(super) async fn run(
    name: &'static str,
    args: &LoadArgs,
    read_percent: u8,
    consistency: &str,
    field: &Field,
    bar: impl Fn(u64) -> ProgressBar,
) -> Result<Report, Failure> {
    let data = vec![b'x'; args.size as usize];
    field.fill(args.keys, &data).await?;
    let data = Bytes::from(data);
    let hosts = field.hosts();
    let requests =
        hosts.iter().map(|host| prepare(host, args.keys, &data, consistency, field)).collect();
    let measure_from = Instant::now() + args.warmup;
    let load = Arc::new(Load {
        hosts,
        requests,
        clients: args.clients as usize,
        read_percent,
        measure_from,
        measure_until: measure_from + args.duration,
        done: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    for index in 0..load.clients {
        clients.spawn(client(load.clone(), index));
    }
    let cpu = watch_progress(&load, &bar(args.duration.as_secs().max(1))).await;
    let mut total = Tally::default();
    while let Some(tally) = clients.join_next().await {
        total.add(&tally.map_err(|err| Failure::Local(format!("a client failed: {err}")))?);
    }
    let mut report = Report::new(name, total.count(), args.duration, cpu);
    report.ops_slowest_second = total.slowest_second(args.duration);
    report.latencies.push((name, total.latency()));
    report.errors = total.errors().clone();
    Ok(report)
}

fn prepare(
    host: &str,
    keys: u32,
    data: &Bytes,
    consistency: &str,
    field: &Field,
) -> [Vec<Prepared>; 2] {
    let path = |key| format!("/v1/znodes{}", encode_path(&field.key(key)));
    let keys = 0..keys.min(PREPARED_MAX);
    let write = |key| Prepared::new(Method::PUT, host, &path(key), data.clone());
    let read = |key| {
        let target = format!("{}?raw=true&consistency={consistency}", path(key));
        Prepared::new(Method::GET, host, &target, Bytes::new())
    };
    [keys.clone().map(write).collect(), keys.map(read).collect()]
}

/// Shows the rate until the measurement is over; returns the CPU time that it took.
async fn watch_progress(load: &Load, bar: &ProgressBar) -> Duration {
    sleep_until(load.measure_from).await;
    let cpu_before = cpu_time();
    let mut ticks = interval(Duration::from_millis(500));
    while Instant::now() < load.measure_until {
        tokio::select! {
            _ = ticks.tick() => {}
            () = sleep_until(load.measure_until) => {}
        }
        let elapsed = load.measure_from.elapsed();
        let rate = load.done.load(Ordering::Relaxed) as f64 / elapsed.as_secs_f64().max(0.001);
        bar.set_position(elapsed.as_secs());
        bar.set_message(format!("s, {rate:.0} ops/s"));
    }
    bar.finish_and_clear();
    cpu_time().saturating_sub(cpu_before)
}

/// One client: one connection after the other, until the time is over.
async fn client(load: Arc<Load>, index: usize) -> Tally {
    let mut tally = Tally::default();
    let mut at = index % load.hosts.len();
    let mut failures = 0;
    while Instant::now() < load.measure_until {
        let lost = match connection::open(&load.hosts[at]).await {
            Err(_) => "unreachable",
            Ok((mut sender, connection)) => {
                failures = 0;
                let work = timeout_at(
                    load.measure_until + GRACE,
                    exchanges(&load, index, at, &mut sender, &mut tally),
                );
                tokio::select! {
                    result = work => match result {
                        Ok(Ok(())) => return tally,
                        Ok(Err(_)) => "connection_lost",
                        Err(_) => "unanswered",
                    },
                    _ = connection => "connection_lost",
                }
            }
        };
        if Instant::now() >= load.measure_from {
            tally.failure(lost);
        }
        failures += 1;
        at = (at + 1) % load.hosts.len();
        sleep(jittered(failures)).await;
    }
    tally
}

/// Sends one request after the other; returns when the time is over, or with the connection's error.
async fn exchanges(
    load: &Load,
    index: usize,
    at: usize,
    sender: &mut Sender,
    tally: &mut Tally,
) -> Result<(), hyper::Error> {
    let [writes, reads] = &load.requests[at];
    let mut turn = index;
    let mut started = Instant::now();
    while started < load.measure_until {
        // The keys of two clients differ at any one moment if there are enough of them.
        let key = turn % writes.len();
        turn += load.clients;
        let is_read = match load.read_percent {
            0 => false,
            100 => true,
            percent => rand::rng().random_range(0..100) < percent,
        };
        let request = if is_read { &reads[key] } else { &writes[key] };
        let result = connection::exchange(sender, request).await?;
        let ended = Instant::now();
        if started >= load.measure_from {
            match result {
                Ok(()) => {
                    tally.success(ended - started, ended - load.measure_from);
                    load.done.fetch_add(1, Ordering::Relaxed);
                }
                Err(code) => tally.failure(&code),
            }
        }
        started = ended;
    }
    Ok(())
}
