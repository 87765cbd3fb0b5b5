use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::Method;
use hyper::body::Bytes;
use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::args::StormArgs;
use super::connection::{self, Connection, Prepared, Sender};
use super::field::Field;
use super::report::{Report, Tally, cpu_time};
use crate::cli::output::Failure;
use crate::client::model::OpenedSession;
use crate::client::{encode_path, jittered};

/// How often one request is refused before its session is given up.
const ATTEMPTS_MAX: u32 = 60;

/// What the connections share.
#[derive(Debug)]
struct Storm {
    hosts: Vec<String>,
    /// Encoded path of the ephemerals, without their number.
    path: String,
    data: Bytes,
    sessions: u32,
    timeout_ms: u64,
    next: AtomicU32,
    start: Instant,
    bar: ProgressBar,
}

/// What one connection has measured.
#[derive(Debug, Default)]
struct Tallies {
    open: Tally,
    register: Tally,
    both: Tally,
    tokens: Vec<String>,
}

/// Opens all sessions and registers an ephemeral in each, then closes them.
pub(super) async fn run(
    args: &StormArgs,
    field: &Field,
    bar: impl Fn(u64) -> ProgressBar,
) -> Result<Report, Failure> {
    let clients = args.clients.min(args.sessions) as usize;
    let cpu_before = cpu_time();
    let storm = Arc::new(Storm {
        hosts: field.hosts(),
        path: format!("/v1/znodes{}/e", encode_path(&field.path)),
        data: Bytes::from(vec![b'x'; args.size as usize]),
        sessions: args.sessions,
        timeout_ms: args.timeout_ms,
        next: AtomicU32::new(0),
        start: Instant::now(),
        bar: bar(u64::from(args.sessions)),
    });
    let mut connections = JoinSet::new();
    for index in 0..clients {
        connections.spawn(enter(storm.clone(), index));
    }
    let mut total = Tallies::default();
    while let Some(tallies) = connections.join_next().await {
        let tallies = tallies.map_err(|err| Failure::Local(format!("a client failed: {err}")))?;
        total.open.add(&tallies.open);
        total.register.add(&tallies.register);
        total.both.add(&tallies.both);
        total.tokens.extend(tallies.tokens);
    }
    let elapsed = storm.start.elapsed();
    let cpu = cpu_time().saturating_sub(cpu_before);
    storm.bar.finish_and_clear();
    let closing = close_all(&storm, clients, total.tokens).await?;
    let mut report = Report::new("storm", total.both.count(), elapsed, cpu);
    report.ops_slowest_second = total.both.slowest_second(elapsed);
    report.latencies = vec![
        ("open", total.open.latency()),
        ("register", total.register.latency()),
        ("both", total.both.latency()),
        ("close", closing.latency()),
    ];
    let mut failures = total.open;
    failures.add(&total.register);
    failures.add(&total.both);
    failures.add(&closing);
    report.errors = failures.errors().clone();
    Ok(report)
}

/// A connection that is replaced when it breaks.
struct Line<'a> {
    storm: &'a Storm,
    at: usize,
    open: Option<Sender>,
}

impl Line<'_> {
    fn new(storm: &Storm, index: usize) -> Line<'_> {
        Line { storm, at: index % storm.hosts.len(), open: None }
    }

    fn host(&self) -> &str {
        &self.storm.hosts[self.at]
    }

    /// Sends what `request` makes for the present host until it is carried out, backing off while refused; every
    /// refusal is counted. `None` after too many.
    async fn insist(
        &mut self,
        tally: &mut Tally,
        request: impl Fn(&str) -> Prepared,
    ) -> Option<Bytes> {
        for failures in 1..=ATTEMPTS_MAX {
            match self.attempt(&request).await {
                Ok(body) => return Some(body),
                Err(code) => tally.failure(&code),
            }
            sleep(jittered(failures)).await;
        }
        None
    }

    async fn attempt(&mut self, request: &impl Fn(&str) -> Prepared) -> Result<Bytes, String> {
        let mut sender = match self.open.take() {
            Some(sender) => sender,
            None => match connection::open(self.host()).await {
                Ok((sender, connection)) => {
                    tokio::spawn(drive(connection));
                    sender
                }
                Err(_) => return Err(self.leave("unreachable")),
            },
        };
        let prepared = request(self.host());
        match connection::exchange_for_body(&mut sender, &prepared).await {
            Ok(answer) => {
                self.open = Some(sender);
                answer
            }
            Err(_) => Err(self.leave("connection_lost")),
        }
    }

    /// Turns to the next endpoint.
    fn leave(&mut self, code: &str) -> String {
        self.at = (self.at + 1) % self.storm.hosts.len();
        code.to_owned()
    }
}

async fn drive(connection: Connection) {
    // A broken connection is noticed by its sender.
    let _ = connection.await;
}

/// Takes one session after the other until all are taken.
async fn enter(storm: Arc<Storm>, index: usize) -> Tallies {
    let mut tallies = Tallies::default();
    let mut line = Line::new(&storm, index);
    let open_body = Bytes::from(format!(r#"{{"timeout_ms":{}}}"#, storm.timeout_ms));
    loop {
        let number = storm.next.fetch_add(1, Ordering::Relaxed);
        if number >= storm.sessions {
            return tallies;
        }
        let started = Instant::now();
        let open = |host: &str| {
            let request = Prepared::new(Method::POST, host, "/v1/sessions", open_body.clone());
            request.header("content-type", "application/json")
        };
        let opened = line.insist(&mut tallies.open, open).await;
        let opened = opened.and_then(|body| serde_json::from_slice::<OpenedSession>(&body).ok());
        let Some(opened) = opened else {
            tallies.open.failure("gave_up");
            continue;
        };
        let between = Instant::now();
        tallies.open.success(between - started, between - storm.start);
        let target = format!("{}{number:07}?mode=ephemeral", storm.path);
        let register = |host: &str| {
            let request = Prepared::new(Method::POST, host, &target, storm.data.clone());
            // A create whose answer was lost must not fail as a duplicate when it is sent again.
            request.header("roost-session", &opened.token).header("idempotency-key", &target)
        };
        let registered = line.insist(&mut tallies.register, register).await;
        let ended = Instant::now();
        match registered {
            Some(_) => {
                tallies.register.success(ended - between, ended - storm.start);
                tallies.both.success(ended - started, ended - storm.start);
            }
            None => tallies.register.failure("gave_up"),
        }
        tallies.tokens.push(opened.token);
        storm.bar.inc(1);
    }
}

/// Closes the sessions, each connection its share.
async fn close_all(
    storm: &Arc<Storm>,
    clients: usize,
    tokens: Vec<String>,
) -> Result<Tally, Failure> {
    let mut connections = JoinSet::new();
    let share = tokens.len().div_ceil(clients).max(1);
    for (index, tokens) in tokens.chunks(share).enumerate() {
        connections.spawn(close(storm.clone(), index, tokens.to_vec(), Instant::now()));
    }
    let mut total = Tally::default();
    while let Some(tally) = connections.join_next().await {
        total.add(&tally.map_err(|err| Failure::Local(format!("a client failed: {err}")))?);
    }
    Ok(total)
}

async fn close(storm: Arc<Storm>, index: usize, tokens: Vec<String>, start: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut line = Line::new(&storm, index);
    for token in tokens {
        let session = token.split('.').next().unwrap_or_default();
        let target = format!("/v1/sessions/{session}");
        let close = |host: &str| {
            let request = Prepared::new(Method::DELETE, host, &target, Bytes::new());
            request.header("roost-session", &token).header("idempotency-key", &target)
        };
        let started = Instant::now();
        if line.insist(&mut tally, close).await.is_some() {
            tally.success(started.elapsed(), start.elapsed());
        }
    }
    tally
}
