use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, Uri};
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

/// What the clients share.
#[derive(Debug)]
struct Load {
    hosts: Vec<String>,
    /// A write and a read for each endpoint; they get their URIs from below.
    prepared: Vec<[Prepared; 2]>,
    /// By key; empty if the load has no writes.
    write_uris: Vec<Uri>,
    /// By key; empty if the load has no reads.
    read_uris: Vec<Uri>,
    keys: usize,
    clients: usize,
    read_percent: u8,
    measure_from: Instant,
    measure_until: Instant,
    done: AtomicU64,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix<'a> {
    /// Its name in the report.
    pub(super) name: &'static str,
    /// Reads in a hundred requests.
    pub(super) read_percent: u8,
    /// How current the reads have to be.
    pub(super) consistency: &'a str,
}

/// Loads the cluster and measures it.
pub(super) async fn run(
    args: &LoadArgs,
    mix: Mix<'_>,
    field: &Field,
    bar: impl Fn(u64) -> ProgressBar,
) -> Result<Report, Failure> {
    let Mix { name, read_percent, consistency } = mix;
    let data = vec![b'x'; args.size as usize];
    field.fill(args.keys, &data).await?;
    let data = Bytes::from(data);
    let hosts = field.hosts();
    let prepare = |method, host, body| Prepared::new(method, host, "/", body);
    let prepared = hosts
        .iter()
        .map(|host| {
            [prepare(Method::PUT, host, data.clone()), prepare(Method::GET, host, Bytes::new())]
        })
        .collect();
    let measure_from = Instant::now() + args.warmup;
    let load = Arc::new(Load {
        hosts,
        prepared,
        write_uris: uris(if read_percent < 100 { args.keys } else { 0 }, "", field),
        read_uris: uris(
            if read_percent > 0 { args.keys } else { 0 },
            &format!("?raw=true&consistency={consistency}"),
            field,
        ),
        keys: args.keys as usize,
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

fn uris(keys: u32, query: &str, field: &Field) -> Vec<Uri> {
    let target = |key| format!("/v1/znodes{}{query}", encode_path(&field.key(key)));
    (0..keys).map(|key| target(key).parse().expect("an encoded path is a URI")).collect()
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
    let [mut write, mut read] = load.prepared[at].clone();
    let mut turn = index;
    let mut started = Instant::now();
    while started < load.measure_until {
        // The keys of two clients differ at any one moment if there are enough of them.
        let key = turn % load.keys;
        turn += load.clients;
        let is_read = match load.read_percent {
            0 => false,
            100 => true,
            percent => rand::rng().random_range(0..100) < percent,
        };
        let (request, uris) =
            if is_read { (&mut read, &load.read_uris) } else { (&mut write, &load.write_uris) };
        request.uri = uris[key].clone();
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
