use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use indicatif::ProgressBar;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::args::FanoutArgs;
use super::connection::{self, Prepared};
use super::field::Field;
use super::report::{Report, Tally, cpu_time};
use crate::cli::output::Failure;
use crate::client::{SseParser, encode_path, jittered};

/// How long one change may take to reach everybody.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long all subscribers may take to get in.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(120);

/// What the subscribers share.
#[derive(Debug)]
struct Fanout {
    hosts: Vec<String>,
    target: String,
    start: Instant,
    /// The present change, counted from 1, and when it was sent off. There is only one on its way, so what a
    /// subscriber hears is that one.
    present: Mutex<(u32, Instant)>,
    /// A permit for each snapshot received, that is, for each subscriber that is in.
    entered: Semaphore,
    /// A permit for each delivery of the present change.
    delivered: Semaphore,
    tally: Mutex<Tally>,
}

/// Subscribes all watchers to one path, then changes it, one change after the other has reached everybody.
pub(super) async fn run(
    args: &FanoutArgs,
    field: &Field,
    bar: impl Fn(u64) -> ProgressBar,
) -> Result<Report, Failure> {
    let data = vec![b'x'; args.size as usize];
    field.fill(1, &data).await?;
    let fanout = Arc::new(Fanout {
        hosts: field.hosts(),
        target: format!(
            "/v1/watch?watch={}",
            encode_path(&format!("children_data:{}", field.path))
        ),
        start: Instant::now(),
        present: Mutex::new((0, Instant::now())),
        entered: Semaphore::new(0),
        delivered: Semaphore::new(0),
        tally: Mutex::new(Tally::default()),
    });
    let mut subscribers = JoinSet::new();
    for index in 0..args.watchers as usize {
        subscribers.spawn(subscribe(fanout.clone(), index));
    }
    let entering = fanout.entered.acquire_many(args.watchers);
    match timeout(SUBSCRIBE_TIMEOUT, entering).await {
        Ok(Ok(permits)) => permits.forget(),
        _ => {
            let errors = format!("{:?}", fanout.tally.lock().errors());
            return Err(Failure::Local(format!("not all watchers could subscribe: {errors}")));
        }
    }
    let (started, cpu_before) = (Instant::now(), cpu_time());
    let bar = bar(u64::from(args.changes));
    let last = change(&fanout, args, field, &data, &bar).await?;
    bar.finish_and_clear();
    let (elapsed, cpu) = (started.elapsed(), cpu_time().saturating_sub(cpu_before));
    subscribers.shutdown().await;
    let each = fanout.tally.lock().clone();
    let mut report = Report::new("fanout", each.count(), elapsed, cpu);
    report.latencies =
        vec![("delivery to each", each.latency()), ("delivery to all", last.latency())];
    let mut failures = each;
    failures.add(&last);
    report.errors = failures.errors().clone();
    Ok(report)
}

/// Makes the changes; returns how long each took to reach the last subscriber.
async fn change(
    fanout: &Fanout,
    args: &FanoutArgs,
    field: &Field,
    data: &[u8],
    bar: &ProgressBar,
) -> Result<Tally, Failure> {
    let mut last = Tally::default();
    let key = field.key(0);
    for number in 1..=args.changes {
        let sent = Instant::now();
        *fanout.present.lock() = (number, sent);
        field.client.set(&key, data.to_vec(), None).await?;
        match timeout(DELIVERY_TIMEOUT, fanout.delivered.acquire_many(args.watchers)).await {
            Ok(Ok(permits)) => {
                permits.forget();
                last.success(sent.elapsed(), fanout.start.elapsed());
            }
            _ => {
                let missing = args.watchers as usize - fanout.delivered.available_permits();
                let secs = DELIVERY_TIMEOUT.as_secs();
                return Err(Failure::Local(format!(
                    "{missing} watchers did not hear of a change within {secs} s"
                )));
            }
        }
        bar.inc(1);
    }
    Ok(last)
}

/// One subscriber; subscribes anew when its stream ends.
async fn subscribe(fanout: Arc<Fanout>, index: usize) {
    let mut at = index % fanout.hosts.len();
    let mut heard = None;
    for failures in 1.. {
        let code = match connection::open(&fanout.hosts[at]).await {
            Err(_) => "unreachable".to_owned(),
            Ok((mut sender, connection)) => {
                let driving = tokio::spawn(connection);
                let request =
                    Prepared::new(Method::GET, &fanout.hosts[at], &fanout.target, Bytes::new());
                let code = match connection::send(&mut sender, &request).await {
                    Err(_) => "connection_lost".to_owned(),
                    Ok(response) if response.status().is_success() => {
                        listen(&fanout, response.into_body(), &mut heard).await
                    }
                    Ok(response) => {
                        let code = connection::refusal_code(response).await;
                        code.unwrap_or_else(|_| "connection_lost".to_owned())
                    }
                };
                driving.abort();
                code
            }
        };
        fanout.tally.lock().failure(&code);
        at = (at + 1) % fanout.hosts.len();
        sleep(jittered(failures)).await;
    }
}

/// Notes what a stream delivers until it ends; returns why it did. `heard` is the last change that this
/// subscriber has heard of, `None` before its first snapshot.
async fn listen(fanout: &Fanout, mut body: Incoming, heard: &mut Option<u32>) -> String {
    let mut parser = SseParser::default();
    while let Some(Ok(frame)) = body.frame().await {
        let Some(chunk) = frame.data_ref() else { continue };
        let Ok(messages) = parser.push(chunk) else { break };
        for message in messages {
            match (message.event.as_str(), &heard) {
                ("snapshot", None) => {
                    *heard = Some(0);
                    fanout.entered.add_permits(1);
                }
                // A later snapshot stands for a change that was skipped.
                ("snapshot" | "change", _) => {
                    let (present, sent) = *fanout.present.lock();
                    if heard.replace(present) != Some(present) {
                        fanout.tally.lock().success(sent.elapsed(), fanout.start.elapsed());
                        fanout.delivered.add_permits(1);
                    }
                }
                ("reset", _) => fanout.tally.lock().failure("reset"),
                _ => {}
            }
        }
    }
    "stream_ended".to_owned()
}
