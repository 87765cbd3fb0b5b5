use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::Method;
use hyper::body::Bytes;
use indicatif::ProgressBar;
use parking_lot::Mutex;
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
/// Refusals after which the same request may succeed.
const PASSING: [&str; 7] = [
    "busy",
    "no_leader",
    "timeout",
    "stopping",
    "outcome_unknown",
    "unreachable",
    "connection_lost",
];

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
    tallies: Mutex<Tallies>,
}

/// What all connections have measured.
#[derive(Debug, Default)]
struct Tallies {
    open: Tally,
    register: Tally,
    both: Tally,
    /// Connecting included.
    close: Tally,
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
        tallies: Mutex::default(),
    });
    let mut connections = JoinSet::new();
    for index in 0..clients {
        connections.spawn(enter(storm.clone(), index));
    }
    finish(connections).await?;
    let elapsed = storm.start.elapsed();
    let cpu = cpu_time().saturating_sub(cpu_before);
    storm.bar.finish_and_clear();
    close_all(&storm, clients).await?;
    let total = storm.tallies.lock();
    let mut report = Report::new("storm", total.both.count(), elapsed, cpu);
    report.ops_slowest_second = total.both.slowest_second(elapsed);
    report.latencies = vec![
        ("open", total.open.latency()),
        ("register", total.register.latency()),
        ("both", total.both.latency()),
        ("close", total.close.latency()),
    ];
    for tally in [&total.open, &total.register, &total.close] {
        for (code, count) in tally.errors() {
            *report.errors.entry(code.clone()).or_default() += count;
        }
    }
    Ok(report)
}

async fn finish(mut connections: JoinSet<()>) -> Result<(), Failure> {
    while let Some(ended) = connections.join_next().await {
        ended.map_err(|err| Failure::Local(format!("a client failed: {err}")))?;
    }
    Ok(())
}

/// Which tally a request belongs to.
type Of = fn(&mut Tallies) -> &mut Tally;

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

    /// Sends what `request` makes for the present host until it is carried out, backing off while refused;
    /// every refusal is counted. `None` after too many, or one that is final.
    async fn insist(&mut self, of: Of, request: impl Fn(&str) -> Prepared) -> Option<Bytes> {
        for failures in 1..=ATTEMPTS_MAX {
            match self.attempt(&request).await {
                Ok(body) => return Some(body),
                Err(code) => {
                    of(&mut self.storm.tallies.lock()).failure(&code);
                    if !PASSING.contains(&code.as_str()) {
                        return None;
                    }
                }
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
async fn enter(storm: Arc<Storm>, index: usize) {
    let mut line = Line::new(&storm, index);
    loop {
        let number = storm.next.fetch_add(1, Ordering::Relaxed);
        if number >= storm.sessions {
            return;
        }
        enter_one(&mut line, number).await;
        storm.bar.inc(1);
    }
}

/// Opens one session and registers its ephemeral.
async fn enter_one(line: &mut Line<'_>, number: u32) {
    let storm = line.storm;
    let started = Instant::now();
    let open_body = Bytes::from(format!(r#"{{"timeout_ms":{}}}"#, storm.timeout_ms));
    let open = |host: &str| {
        let request = Prepared::new(Method::POST, host, "/v1/sessions", open_body.clone());
        request.header("content-type", "application/json")
    };
    let opened = line.insist(|tallies| &mut tallies.open, open).await;
    let opened = opened.and_then(|body| serde_json::from_slice::<OpenedSession>(&body).ok());
    let Some(OpenedSession { token, .. }) = opened else {
        storm.tallies.lock().open.failure("gave_up");
        return;
    };
    let between = Instant::now();
    let target = format!("{}{number:07}?mode=ephemeral", storm.path);
    let register = |host: &str| {
        let request = Prepared::new(Method::POST, host, &target, storm.data.clone());
        // A create whose answer was lost must not fail as a duplicate when it is sent again.
        request.header("roost-session", &token).header("idempotency-key", &target)
    };
    let registered = line.insist(|tallies| &mut tallies.register, register).await;
    let ended = Instant::now();
    let mut tallies = storm.tallies.lock();
    tallies.open.success(between - started, between - storm.start);
    match registered {
        Some(_) => {
            tallies.register.success(ended - between, ended - storm.start);
            tallies.both.success(ended - started, ended - storm.start);
        }
        None => tallies.register.failure("gave_up"),
    }
    tallies.tokens.push(token);
}

/// Closes the sessions, each connection its share.
async fn close_all(storm: &Arc<Storm>, clients: usize) -> Result<(), Failure> {
    let tokens = std::mem::take(&mut storm.tallies.lock().tokens);
    let mut connections = JoinSet::new();
    let share = tokens.len().div_ceil(clients).max(1);
    for (index, tokens) in tokens.chunks(share).enumerate() {
        connections.spawn(close(storm.clone(), index, tokens.to_vec()));
    }
    finish(connections).await
}

async fn close(storm: Arc<Storm>, index: usize, tokens: Vec<String>) {
    let mut line = Line::new(&storm, index);
    for token in tokens {
        let session = token.split('.').next().unwrap_or_default();
        let target = format!("/v1/sessions/{session}");
        let close = |host: &str| {
            let request = Prepared::new(Method::DELETE, host, &target, Bytes::new());
            request.header("roost-session", &token)
        };
        let started = Instant::now();
        if line.insist(|tallies| &mut tallies.close, close).await.is_some() {
            storm.tallies.lock().close.success(started.elapsed(), storm.start.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::extract::State;
    use axum::http::{HeaderMap, Method, StatusCode, Uri};
    use indicatif::ProgressBar;
    use parking_lot::Mutex;

    use super::run;
    use crate::cli::bench::args::StormArgs;
    use crate::cli::bench::field::Field;
    use crate::client::Client;

    /// How many requests came, and which of them were carried out.
    type Calls = Arc<Mutex<(u32, Vec<String>)>>;

    /// Refuses every third request as busy.
    async fn registry(
        calls: State<Calls>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
    ) -> (StatusCode, String) {
        let mut calls = calls.lock();
        calls.0 += 1;
        let number = calls.0;
        if number.is_multiple_of(3) {
            let busy = r#"{"code":"busy","message":"full","retry_after_ms":1}"#;
            return (StatusCode::TOO_MANY_REQUESTS, busy.to_owned());
        }
        let token = headers.get("roost-session").map_or("", |token| token.to_str().unwrap());
        calls.1.push(format!("{method} {} {token}", uri.path()));
        let body = format!(
            r#"{{"session":"0x{number}","token":"0x{number}.s","timeout_ms":1000,"zxid":1}}"#
        );
        (StatusCode::OK, body)
    }

    #[tokio::test]
    async fn every_session_gets_in_registers_and_is_closed_however_often_it_is_refused() {
        let calls = Calls::default();
        let router = axum::Router::new().fallback(registry).with_state(calls.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });

        let field =
            Field { client: Client::new(vec![endpoint]).unwrap(), path: "/bench/x".to_owned() };
        let args = StormArgs { sessions: 10, clients: 4, size: 8, timeout_ms: 1_000 };
        let report = run(&args, &field, |_| ProgressBar::hidden()).await.unwrap();
        server.abort();

        assert_eq!(report.ops, 10);
        let carried_out = &calls.lock().1;
        let distinct = |start: &str| {
            let mut found: Vec<_> =
                carried_out.iter().filter(|call| call.starts_with(start)).collect();
            found.sort();
            found.dedup();
            found.len()
        };
        assert_eq!(distinct("POST /v1/znodes/bench/x/e"), 10);
        assert_eq!(distinct("DELETE /v1/sessions/"), 10);
        // Thirty requests are carried out: of the 44 sent, the 3rd, 6th … 42nd are refused.
        assert_eq!(report.errors["busy"], 14);
    }
}
