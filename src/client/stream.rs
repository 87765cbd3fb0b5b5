use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Response;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::error::Error;
use super::request::{Client, refusal_of, wait_after};
use super::sse::{SseMessage, SseParser};
use crate::probe::describe;

/// A stream that has said nothing for so long is given up: a node says something every 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// From where a stream goes on when its connection breaks behind an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// From where it would have gone on before the event.
    AsBefore,
    /// Behind this zxid.
    After(u64),
    /// From the beginning.
    Anew,
}

/// An event, and from where to go on behind it.
pub(super) type Resumable<E> = (Resume, E);

/// Returns the event of a message; `None` for one of a later version.
type Interpret<E> = fn(&SseMessage) -> Result<Option<Resumable<E>>, Error>;

/// A stream of events that outlives its connections. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Stream<E> {
    client: Client,
    path: String,
    /// What is sent, as JSON; `None` for a GET.
    body: Option<String>,
    interpret: Interpret<E>,
    /// Everything up to this zxid has been handed out; `None` asks for the beginning.
    since: Option<u64>,
    /// Index of the endpoint of the present or last connection.
    at: usize,
    connection: Option<Connection>,
    ready: VecDeque<Resumable<E>>,
    failures: u32,
    /// No connection is tried before this moment.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Connection {
    response: Response,
    parser: SseParser,
}

impl<E> Stream<E> {
    /// Returns the stream that this request gives. Connects at the first [`next`](Stream::next).
    pub(super) fn new(
        client: &Client,
        path: String,
        body: Option<String>,
        since: Option<u64>,
        interpret: Interpret<E>,
    ) -> Stream<E> {
        Stream {
            client: client.clone(),
            path,
            body,
            interpret,
            since,
            at: client.endpoint_index(),
            connection: None,
            ready: VecDeque::new(),
            failures: 0,
            not_before: None,
        }
    }

    /// Returns the zxid up to which everything has been handed out.
    pub(super) fn since(&self) -> Option<u64> {
        self.since
    }

    /// See [`Watch::next`](super::Watch::next).
    pub(super) async fn next(&mut self) -> Result<E, Error> {
        let mut deadline = Instant::now() + self.client.timeout();
        loop {
            if let Some((resume, event)) = self.ready.pop_front() {
                match resume {
                    Resume::AsBefore => {}
                    Resume::After(zxid) => self.since = Some(zxid),
                    Resume::Anew => self.since = None,
                }
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
            false => Some(Instant::now() + wait_after(self.failures, error.retry_after_ms())),
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
        let request = self.client.stream_request(self.at, &self.path, self.body.as_deref());
        let mut request = request.header("Accept", "text/event-stream");
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
            self.ready.extend((self.interpret)(&message)?);
        }
        Ok(())
    }
}

/// Reads the data of a message as JSON.
pub(super) fn parse<T: DeserializeOwned>(message: &SseMessage) -> Result<T, Error> {
    serde_json::from_str(&message.data).map_err(|err| {
        Error::BadAnswer(format!("a {} of the watch stream does not parse: {err}", message.event))
    })
}

/// Returns the zxid of an event that says only how far the stream has come.
pub(super) fn progress(message: &SseMessage) -> Result<u64, Error> {
    let id = message.id.as_deref().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Error::BadAnswer("progress without a zxid".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Refusal;

    #[test]
    fn who_is_told_when_to_come_back_does_not_come_earlier() {
        let client = Client::new(vec!["a:1".to_owned(), "b:1".to_owned()]).unwrap();
        let mut stream: Stream<()> =
            Stream::new(&client, "/v1/watch".to_owned(), None, None, |_| Ok(None));
        let hour = Duration::from_secs(3_600);
        let busy = |retry_after_ms| {
            let code = "busy".to_owned();
            Error::Refused(Refusal { status: 429, code, retry_after_ms, ..Refusal::default() })
        };
        let deadline = Instant::now() + 2 * hour;
        let now = Instant::now();
        assert_eq!(stream.fail(busy(Some(3_600_000)), deadline), Ok(()));
        assert!(stream.not_before >= Some(now + hour));
        assert_eq!(stream.fail(busy(None), deadline), Ok(()));
        assert!(stream.not_before < Some(now + hour));
    }
}
