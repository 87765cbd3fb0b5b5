//! What snapshots cost: fills a large tree, writes on until every node has taken some snapshots, and compares the
//! latencies of a few slow clients while a snapshot is being built somewhere with those at other times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use indicatif::ProgressBar;
use rand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::args::PausesArgs;
use super::connection::{self, Prepared};
use super::field::Field;
use super::report::{Report, Tally, cpu_time};
use crate::cli::output::Failure;
use crate::client::{encode_path, jittered};

/// Time between two requests of one probe.
const PROBE_INTERVAL: Duration = Duration::from_millis(2);
/// Time between two looks at the nodes' metrics.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

struct Pauses {
    hosts: Vec<String>,
    field: String,
    keys: u32,
    data: Bytes,
    started: Instant,
    building: AtomicBool,
    over: AtomicBool,
}

impl Pauses {
    fn target(&self, query: &str) -> String {
        let key = rand::rng().random_range(0..self.keys);
        format!("/v1/znodes{}{query}", encode_path(&format!("{}/k{key:07}", self.field)))
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Fills the tree, loads the cluster until enough snapshots were taken, and reports.
pub(super) async fn run(
    args: &PausesArgs,
    field: &Field,
    bar: impl Fn(u64) -> ProgressBar,
) -> Result<Report, Failure> {
    let data = vec![b'x'; args.size as usize];
    let filling = bar(u64::from(args.znodes));
    field
        .fill_with_progress(args.znodes, &data, |done| filling.set_position(u64::from(done)))
        .await?;
    filling.finish_and_clear();
    let pauses = Arc::new(Pauses {
        hosts: field.hosts(),
        field: field.path.clone(),
        keys: args.znodes,
        data: Bytes::from(data),
        started: Instant::now(),
        building: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    let cpu_before = cpu_time();
    let mut load = JoinSet::new();
    for index in 0..args.clients as usize {
        load.spawn(client(pauses.clone(), index, Method::PUT, None));
    }
    let mut probes = JoinSet::new();
    for index in 0..pauses.hosts.len() {
        probes.spawn(client(pauses.clone(), index, Method::PUT, Some(PROBE_INTERVAL)));
        probes.spawn(client(pauses.clone(), index, Method::GET, Some(PROBE_INTERVAL)));
    }
    let snapshots = look(&pauses, args.snapshots, &bar(u64::from(args.snapshots))).await;
    pauses.over.store(true, Ordering::Relaxed);
    let mut rows: BTreeMap<(&'static str, bool), Tally> = BTreeMap::new();
    while let Some(probe) = probes.join_next().await {
        let (method, tallies) =
            probe.map_err(|err| Failure::Local(format!("a probe failed: {err}")))?;
        for (during, tally) in [false, true].into_iter().zip(tallies) {
            rows.entry((method, during)).or_default().add(&tally);
        }
    }
    let mut written = 0;
    while let Some(client) = load.join_next().await {
        let (_, tallies) =
            client.map_err(|err| Failure::Local(format!("a client failed: {err}")))?;
        written += tallies.iter().map(Tally::count).sum::<u64>();
    }
    let elapsed = pauses.started.elapsed();
    let mut report = Report::new("pauses", written, elapsed, cpu_time().saturating_sub(cpu_before));
    report.snapshots = Some(snapshots?);
    for ((method, during), tally) in &rows {
        let name = match (*method, during) {
            ("PUT", false) => "write, no snapshot",
            ("PUT", true) => "write, snapshot",
            (_, false) => "read, no snapshot",
            (_, true) => "read, snapshot",
        };
        report.latencies.push((name, tally.latency()));
        for (code, count) in tally.errors() {
            *report.errors.entry(code.clone()).or_default() += count;
        }
    }
    Ok(report)
}

/// Watches the nodes' metrics until each has taken so many snapshots; returns how many there were in all.
async fn look(pauses: &Pauses, wanted: u32, bar: &ProgressBar) -> Result<u32, Failure> {
    let mut seen: Vec<(Option<String>, u32)> = vec![(None, 0); pauses.hosts.len()];
    loop {
        let mut building = false;
        for (host, (index, count)) in pauses.hosts.iter().zip(&mut seen) {
            let metrics = metrics(host).await?;
            let value = |name: &str| {
                let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
                line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0").to_owned()
            };
            building |= value("roost_snapshot_building") != "0.0";
            let now = value("roost_raft_snapshot_index");
            if index.as_ref().is_some_and(|before| *before != now) {
                *count += 1;
            }
            *index = Some(now);
        }
        pauses.building.store(building, Ordering::Relaxed);
        let least = seen.iter().map(|(_, count)| *count).min().unwrap_or(wanted);
        bar.set_position(u64::from(least));
        if least >= wanted {
            bar.finish_and_clear();
            return Ok(seen.iter().map(|(_, count)| count).sum());
        }
        sleep(LOOK_INTERVAL).await;
    }
}

async fn metrics(host: &str) -> Result<String, Failure> {
    let failed = |what: String| Failure::Local(format!("metrics of {host}: {what}"));
    let asking = async {
        let (mut sender, connection) =
            connection::open(host).await.map_err(|err| err.to_string())?;
        let request = Prepared::new(Method::GET, host, "/metrics", Bytes::new());
        tokio::select! {
            answer = connection::exchange_for_body(&mut sender, &request) => {
                answer.map_err(|err| err.to_string())?
            }
            _ = connection => Err("the connection was lost".to_owned()),
        }
    };
    let body = asking.await.map_err(failed)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Sends one request after the other, pausing in between if told to. Returns the latencies of those that no snapshot
/// accompanied, and of those that one did, at their start or end.
async fn client(
    pauses: Arc<Pauses>,
    index: usize,
    method: Method,
    interval: Option<Duration>,
) -> (&'static str, [Tally; 2]) {
    let name = if method == Method::PUT { "PUT" } else { "GET" };
    let mut tallies = [Tally::default(), Tally::default()];
    let host = &pauses.hosts[index % pauses.hosts.len()];
    let mut failures = 0;
    while !pauses.is_over() {
        if let Ok((mut sender, connection)) = connection::open(host).await {
            let work = exchanges(&pauses, host, &method, interval, &mut sender, &mut tallies);
            tokio::select! {
                done = work => if done.is_ok() { break },
                _ = connection => {}
            }
        }
        tallies[0].failure("connection_lost");
        failures += 1;
        sleep(jittered(failures)).await;
    }
    (name, tallies)
}

async fn exchanges(
    pauses: &Pauses,
    host: &str,
    method: &Method,
    interval: Option<Duration>,
    sender: &mut connection::Sender,
    tallies: &mut [Tally; 2],
) -> Result<(), hyper::Error> {
    while !pauses.is_over() {
        let request = match *method {
            Method::PUT => {
                Prepared::new(Method::PUT, host, &pauses.target(""), pauses.data.clone())
            }
            _ => Prepared::new(Method::GET, host, &pauses.target("?raw=true"), Bytes::new()),
        };
        let during_start = pauses.building.load(Ordering::Relaxed);
        let started = Instant::now();
        let result = connection::exchange(sender, &request).await?;
        let ended = Instant::now();
        let during = during_start || pauses.building.load(Ordering::Relaxed);
        let tally = &mut tallies[usize::from(during)];
        match result {
            Ok(()) => tally.success(ended - started, ended - pauses.started),
            Err(code) => tally.failure(&code),
        }
        if let Some(interval) = interval {
            sleep(interval).await;
        }
    }
    Ok(())
}
