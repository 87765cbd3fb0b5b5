use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use reqwest::Response;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::call::{Call, encode_path};
use super::error::Error;
use super::model::{Snapshot, WatchEvent};
use super::request::{Client, jittered, refusal_of};
use super::sse::{SseMessage, SseParser};
use crate::probe::describe;

/// A stream that has said nothing for so long is given up: a node says something every 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What to watch of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// The znode's own data.
    Data,
    /// The coming and going of its children.
    Children,
    /// Its children and their data.
    ChildrenData,
    /// The znode and everything below it.
    Subtree,
}

impl WatchKind {
    /// Returns the name in requests.
    pub fn name(self) -> &'static str {
        match self {
            WatchKind::Data => "data",
            WatchKind::Children => "children",
            WatchKind::ChildrenData => "children_data",
            WatchKind::Subtree => "subtree",
        }
    }
}

/// One thing to watch. Its text form is `kind:path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchFilter {
    /// What of the path.
    pub kind: WatchKind,
    /// The path.
    pub path: String,
}

impl fmt::Display for WatchFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.path)
    }
}

/// A subscription that outlives its connections. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    path: String,
    /// Everything up to this zxid has been handed out; `None` asks for a snapshot.
    since: Option<u64>,
    /// Index of the endpoint of the present or last connection.
    at: usize,
    connection: Option<Connection>,
    ready: VecDeque<(Option<u64>, WatchEvent)>,
    failures: u32,
    /// No connection is tried before this moment.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Connection {
    response: Response,
    parser: SseParser,
}

impl Client {
    /// Returns a subscription to these paths: first a snapshot, or with `since` the changes after that zxid.
    /// Connects at the first [`next`](Watch::next).
    pub fn watch(&self, filters: &[WatchFilter], since: Option<u64>) -> Watch {
        Watch {
            client: self.clone(),
            path: format!("/v1/watch?{}", query_of(filters)),
            since,
            at: self.endpoint_index(),
            connection: None,
            ready: VecDeque::new(),
            failures: 0,
            not_before: None,
        }
    }
}

/// The answer of a poll, as far as it is used.
#[derive(serde::Deserialize)]
struct Polled {
    snapshot: Option<Snapshot>,
}

impl Client {
    /// Returns what a watch of these paths would begin with, from the state of one node.
    pub async fn snapshot(&self, filters: &[WatchFilter]) -> Result<Snapshot, Error> {
        let polled: Polled =
            self.send(&Call::read(format!("/v1/poll?{}", query_of(filters)))).await?;
        polled
            .snapshot
            .ok_or_else(|| Error::BadAnswer("a poll without since has no snapshot".to_owned()))
    }
}

fn query_of(filters: &[WatchFilter]) -> String {
    let one = |filter: &WatchFilter| format!("watch={}", encode_path(&filter.to_string()));
    filters.iter().map(one).collect::<Vec<_>>().join("&")
}

impl Watch {
    /// Returns the zxid up to which everything has been handed out: what `since` of a later watch should be.
    pub fn since(&self) -> Option<u64> {
        self.since
    }

    /// Returns the next event, however long it takes while connected; a broken connection is replaced by one
    /// to the next endpoint without the caller noticing. Errors: `unreachable` when there was no connection
    /// for the client's timeout, or at any endpoint if the client is [impatient](Client::impatient) (calling
    /// again goes on trying, nothing is lost), or the cluster's refusal.
    /// May be dropped at any await and called again.
    pub async fn next(&mut self) -> Result<WatchEvent, Error> {
        let mut deadline = Instant::now() + self.client.timeout();
        loop {
            if let Some((since, event)) = self.ready.pop_front() {
                self.since = since;
                return Ok(event);
            }
            let outcome = match &self.connection {
                Some(_) => self.receive().await,
                None => self.connect(deadline).await,
            };
            if let Err(error) = outcome {
                self.connection = None;
                self.fail(error, deadline)?;
            } else if self.connection.is_some() {
                deadline = Instant::now() + self.client.timeout();
            }
        }
    }

    /// Notes a failure, and returns it if it is the caller's matter.
    fn fail(&mut self, error: Error, deadline: Instant) -> Result<(), Error> {
        let for_caller = match &error {
            Error::Refused(refusal) => refusal.status != 503 && !error.is("busy"),
            Error::BadAnswer(_) | Error::Invalid(_) => true,
            Error::Unreachable(_) | Error::Timeout(_) => false,
        };
        self.client.leave_endpoint(self.at);
        self.failures += 1;
        self.not_before = match self.client.is_impatient() {
            true => None,
            false => Some(Instant::now() + jittered(self.failures)),
        };
        let has_tried_all = self.client.is_impatient()
            && (self.failures as usize).is_multiple_of(self.client.endpoints().len());
        if for_caller || has_tried_all || Instant::now() >= deadline { Err(error) } else { Ok(()) }
    }

    async fn connect(&mut self, deadline: Instant) -> Result<(), Error> {
        if let Some(moment) = self.not_before {
            sleep_until(moment).await;
        }
        self.at = self.client.endpoint_index();
        let endpoint = self.client.endpoints()[self.at].clone();
        let mut request =
            self.client.stream_request(self.at, &self.path).header("Accept", "text/event-stream");
        if let Some(zxid) = self.since {
            request = request.header("Last-Event-ID", zxid.to_string());
        }
        let attempt_end = deadline.max(Instant::now() + Duration::from_millis(100));
        let response = timeout_at(attempt_end, request.send())
            .await
            .map_err(|_| Error::Unreachable(format!("{endpoint} did not begin the stream")))?
            .map_err(|err| {
                Error::Unreachable(format!("cannot watch at {endpoint}: {}", describe(&err)))
            })?;
        if !response.status().is_success() {
            return Err(refusal_of(&endpoint, response).await);
        }
        self.connection = Some(Connection { response, parser: SseParser::default() });
        Ok(())
    }

    /// Takes the next chunk of the stream and queues the events that it completes.
    async fn receive(&mut self) -> Result<(), Error> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let gone = |why: String| Error::Unreachable(format!("the watch stream ended: {why}"));
        let chunk = timeout(SILENCE_MAX, connection.response.chunk())
            .await
            .map_err(|_| gone(format!("silent for {} s", SILENCE_MAX.as_secs())))?
            .map_err(|err| gone(describe(&err)))?
            .ok_or_else(|| gone("closed by the node".to_owned()))?;
        let messages = connection.parser.push(&chunk).map_err(|_| {
            Error::BadAnswer("a message of the watch stream is too large".to_owned())
        })?;
        self.failures = 0;
        for message in messages {
            self.ready.extend(interpret(&message)?);
        }
        Ok(())
    }
}

/// Returns the event of a message with the point to resume from after it; `None` for an event of a later
/// version.
fn interpret(message: &SseMessage) -> Result<Option<(Option<u64>, WatchEvent)>, Error> {
    let event = match message.event.as_str() {
        "snapshot" => WatchEvent::Snapshot(parse(message)?),
        "change" => WatchEvent::Change(parse(message)?),
        "reset" => WatchEvent::Reset(parse(message)?),
        "progress" => {
            let id = message.id.as_deref().and_then(|id| id.parse().ok());
            WatchEvent::Progress {
                zxid: id.ok_or_else(|| Error::BadAnswer("progress without a zxid".to_owned()))?,
            }
        }
        _ => return Ok(None),
    };
    let since = match &event {
        WatchEvent::Snapshot(snapshot) => Some(snapshot.zxid),
        WatchEvent::Change(change) => Some(change.zxid),
        WatchEvent::Progress { zxid } => Some(*zxid),
        // A connection that breaks before the promised snapshot must ask for it again.
        WatchEvent::Reset(_) => None,
    };
    Ok(Some((since, event)))
}

fn parse<T: DeserializeOwned>(message: &SseMessage) -> Result<T, Error> {
    serde_json::from_str(&message.data).map_err(|err| {
        Error::BadAnswer(format!("a {} of the watch stream does not parse: {err}", message.event))
    })
}
