use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::Rng;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

use super::call::{Body, Call, Repeat};
use super::error::{Error, Refusal};
use crate::probe::describe;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How long one connect may take: nodes are near, so a longer silence means a dead machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BACKOFF_MS_FIRST: u64 = 50;
const BACKOFF_MS_MAX: u64 = 1_000;
/// Rounds of all endpoints when none even accepts a connection.
const ROUNDS_UNCONNECTED_MAX: u32 = 4;

/// A handle to a cluster. A clone is cheap and shares the connections; it may differ in timeout and session.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    endpoints: Arc<Endpoints>,
    timeout: Duration,
    token: Option<Arc<str>>,
    /// Name and password.
    credentials: Option<Arc<(String, String)>>,
    /// Whose services its calls mean; empty for the default one.
    namespace: Arc<str>,
    /// Each endpoint is tried once and nothing is waited for.
    is_impatient: bool,
}

#[derive(Debug)]
struct Endpoints {
    urls: Vec<String>,
    /// Index of the one that answered last.
    current: AtomicUsize,
}

/// What one attempt at one endpoint gave.
enum Attempt {
    Answer(Vec<u8>),
    /// No other attempt would be better, or safe.
    Final(Error),
    /// Another may be tried, after as many ms as the endpoint advised.
    Again {
        error: Error,
        after_ms: u64,
    },
}

impl Client {
    /// Returns a client of the cluster behind these endpoints (`host:port` or `http://host:port`), with a
    /// timeout of 10 s for each call. Connects to nothing yet. Error: an empty list, or an endpoint that is
    /// no http address.
    pub fn new(endpoints: Vec<String>) -> Result<Client, Error> {
        let urls = endpoints.iter().map(|text| normalize(text)).collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err(Error::Invalid("no endpoint is given".to_owned()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|err| Error::Invalid(describe(&err)))?;
        let endpoints = Arc::new(Endpoints { urls, current: AtomicUsize::new(0) });
        Ok(Client {
            http,
            endpoints,
            timeout: TIMEOUT_DEFAULT,
            token: None,
            credentials: None,
            namespace: Arc::from(""),
            is_impatient: false,
        })
    }

    /// Returns a client whose calls end within this time, retries included.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { timeout, ..self.clone() }
    }

    /// Returns a client whose requests carry this session's token: it may create ephemerals, and each of its
    /// requests renews the session.
    pub fn with_session(&self, token: &str) -> Client {
        Client { token: Some(Arc::from(token)), ..self.clone() }
    }

    /// Returns a client whose requests prove that it knows this name and password, as `addauth digest
    /// name:password` does in ZooKeeper's clients. They are sent as they are: there is no TLS.
    pub fn with_credentials(&self, name: &str, password: &str) -> Client {
        let credentials = Some(Arc::new((name.to_owned(), password.to_owned())));
        Client { credentials, ..self.clone() }
    }

    /// Returns a client whose calls about services mean those of this namespace; the empty name is the default one. Calls
    /// about znodes and sessions stay what they are: their paths are whole.
    pub fn in_namespace(&self, namespace: &str) -> Client {
        Client { namespace: Arc::from(namespace), ..self.clone() }
    }

    /// Returns the namespace whose services its calls mean; empty for the default one.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns a client that tries each endpoint once and does not wait for any to come back: for those who
    /// ask often.
    pub fn impatient(&self) -> Client {
        Client { is_impatient: true, ..self.clone() }
    }

    /// Returns a client of other endpoints which shares the connections, beginning with the first. Error: as
    /// [`new`](Client::new). An endpoint that is named twice counts once.
    pub fn with_endpoints(&self, endpoints: Vec<String>) -> Result<Client, Error> {
        let mut urls = Vec::with_capacity(endpoints.len());
        for endpoint in &endpoints {
            let url = normalize(endpoint)?;
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        if urls.is_empty() {
            return Err(Error::Invalid("no endpoint is given".to_owned()));
        }
        let endpoints = Arc::new(Endpoints { urls, current: AtomicUsize::new(0) });
        Ok(Client { endpoints, ..self.clone() })
    }

    /// Returns the time within which every call ends.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the URLs of all endpoints, in the order given.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints.urls
    }

    /// Returns the URL of the endpoint that the next call tries first.
    pub fn endpoint(&self) -> &str {
        &self.endpoints.urls[self.endpoint_index()]
    }

    pub(super) fn is_impatient(&self) -> bool {
        self.is_impatient
    }

    pub(super) fn endpoint_index(&self) -> usize {
        self.endpoints.current.load(Ordering::Relaxed)
    }

    /// Makes calls begin with the endpoint after this one, which failed, unless another call has moved on
    /// already.
    pub(super) fn leave_endpoint(&self, failed: usize) {
        let next = (failed + 1) % self.endpoints.urls.len();
        let current = &self.endpoints.current;
        let _ = current.compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns a bare GET at one endpoint, or a POST of this JSON, with the session's token, for streams.
    pub(super) fn stream_request(
        &self,
        at: usize,
        path: &str,
        json: Option<&str>,
    ) -> RequestBuilder {
        let url = format!("{}{path}", self.endpoints.urls[at]);
        let request = match json {
            Some(text) => {
                self.http.post(url).header("Content-Type", "application/json").body(text.to_owned())
            }
            None => self.http.get(url),
        };
        self.authorized(request)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        let request = match &self.token {
            Some(token) => request.header("Roost-Session", &**token),
            None => request,
        };
        match self.credentials.as_deref() {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        }
    }

    /// Carries a call out and reads its answer's JSON.
    pub(super) async fn send<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        let bytes = self.send_for_bytes(call).await?;
        serde_json::from_slice(&bytes).map_err(|err| {
            Error::BadAnswer(format!(
                "{} {}: the answer does not parse: {err}",
                call.method, call.path
            ))
        })
    }

    /// Carries a call out, at as many endpoints and as often as it takes within the timeout.
    pub(super) async fn send_for_bytes(&self, call: &Call) -> Result<Vec<u8>, Error> {
        let key = (call.repeat == Repeat::KeyedWrite).then(new_key);
        let deadline = Instant::now() + self.timeout;
        let mut round = 0;
        loop {
            let mut attempts = Round::default();
            for _ in 0..self.endpoints.urls.len() {
                let at = self.endpoint_index();
                match self.attempt(at, call, key.as_deref(), deadline).await {
                    Attempt::Answer(bytes) => return Ok(bytes),
                    Attempt::Final(error) => return Err(error),
                    Attempt::Again { error, after_ms } => attempts.note(error, after_ms),
                }
                self.leave_endpoint(at);
                if Instant::now() >= deadline {
                    return Err(attempts.into_error());
                }
            }
            round += 1;
            let wait = wait_after(round, attempts.after_ms);
            if self.is_impatient || attempts.is_hopeless(round) || Instant::now() + wait >= deadline
            {
                return Err(attempts.into_error());
            }
            sleep(wait).await;
        }
    }

    async fn attempt(
        &self,
        at: usize,
        call: &Call,
        key: Option<&str>,
        deadline: Instant,
    ) -> Attempt {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = if self.endpoints.urls.len() > 1 && call.repeat != Repeat::Never {
            call.share_of(left)
        } else {
            left
        };
        let endpoint = &self.endpoints.urls[at];
        let url = format!("{endpoint}{}", call.path);
        let mut request = self.http.request(call.method.clone(), url).query(&call.query);
        request = match &call.body {
            Body::None => request,
            Body::Raw(bytes) => request.body(bytes.clone()),
            Body::Json(text) => {
                request.header("Content-Type", "application/json").body(text.clone())
            }
        };
        if let Some(version) = call.if_match {
            request = request.header("If-Match", format!("\"{version}\""));
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let exchange = async {
            let response = self.authorized(request).send().await?;
            let status = response.status();
            Ok((status, response.bytes().await?))
        };
        match timeout_at(Instant::now() + share, exchange).await {
            Ok(Ok((status, body))) => classify(endpoint, call.repeat, status, &body),
            Ok(Err(err)) => unanswered(endpoint, call.repeat, &err),
            Err(_) => {
                let error = Error::Timeout(format!(
                    "{endpoint} did not answer within {} ms",
                    share.as_millis()
                ));
                again_unless_never(call.repeat, error)
            }
        }
    }
}

/// What the attempts of one round have in common.
#[derive(Default)]
struct Round {
    error: Option<Error>,
    after_ms: u64,
    attempts: u32,
    unconnected: u32,
    uninitialized: u32,
}

impl Round {
    fn note(&mut self, error: Error, after_ms: u64) {
        self.attempts += 1;
        self.after_ms = self.after_ms.max(after_ms);
        let unconnected = matches!(error, Error::Unreachable(_));
        self.unconnected += u32::from(unconnected);
        self.uninitialized += u32::from(error.is("not_initialized"));
        // A node's reason says more than a refused connection.
        if self.error.is_none() || !unconnected {
            self.error = Some(error);
        }
    }

    /// Whether waiting would not change the answer.
    fn is_hopeless(&self, round: u32) -> bool {
        let unconnected = self.unconnected == self.attempts && round >= ROUNDS_UNCONNECTED_MAX;
        unconnected
            || (self.uninitialized > 0 && self.uninitialized + self.unconnected == self.attempts)
    }

    fn into_error(self) -> Error {
        self.error.expect("a round has at least one endpoint")
    }
}

fn classify(endpoint: &str, repeat: Repeat, status: StatusCode, body: &[u8]) -> Attempt {
    if status.is_success() {
        return Attempt::Answer(body.to_vec());
    }
    let error = refusal(endpoint, status, body);
    let after_ms = error.retry_after_ms();
    match status.as_u16() {
        503 => Attempt::Again { error, after_ms },
        429 if error.is("busy") => Attempt::Again { error, after_ms },
        500 if error.is("outcome_unknown") && repeat != Repeat::Never => {
            Attempt::Again { error, after_ms }
        }
        _ => Attempt::Final(error),
    }
}

fn unanswered(endpoint: &str, repeat: Repeat, err: &reqwest::Error) -> Attempt {
    if err.is_connect() {
        let error = Error::Unreachable(format!("cannot connect to {endpoint}: {}", describe(err)));
        return Attempt::Again { error, after_ms: 0 };
    }
    if err.is_builder() {
        return Attempt::Final(Error::Invalid(describe(err)));
    }
    let error = Error::Timeout(format!("{endpoint} broke the connection: {}", describe(err)));
    again_unless_never(repeat, error)
}

fn again_unless_never(repeat: Repeat, error: Error) -> Attempt {
    match repeat {
        Repeat::Never => Attempt::Final(error),
        Repeat::Read | Repeat::KeyedWrite => Attempt::Again { error, after_ms: 0 },
    }
}

/// Reads a refusal from a response's status and body.
fn refusal(endpoint: &str, status: StatusCode, body: &[u8]) -> Error {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => Error::Refused(Refusal { status: status.as_u16(), ..refusal }),
        Err(_) => {
            Error::BadAnswer(format!("{endpoint} answered {status} and not in this API's JSON"))
        }
    }
}

/// Reads a refusal from a response that is not a success.
pub(super) async fn refusal_of(endpoint: &str, response: Response) -> Error {
    let status = response.status();
    match response.bytes().await {
        Ok(body) => refusal(endpoint, status, &body),
        Err(err) => Error::Timeout(format!("{endpoint} broke the connection: {}", describe(&err))),
    }
}

fn normalize(endpoint: &str) -> Result<String, Error> {
    let text = endpoint.trim();
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = url.trim_end_matches('/').to_owned();
    match reqwest::Url::parse(&url) {
        Ok(parsed) if parsed.scheme() == "http" && parsed.host().is_some() => Ok(url),
        _ => Err(Error::Invalid(format!(
            "{endpoint:?} is not an endpoint: expected http://host:port"
        ))),
    }
}

/// Returns 128 random bits as hex.
fn new_key() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

/// Returns how long to wait before the attempt after this many failed ones (from 1): 50 ms doubled each time
/// up to 1 s, of which a random half to whole, so that many clients do not return together.
pub fn jittered(failures: u32) -> Duration {
    let shift = failures.saturating_sub(1).min(10);
    let ms = (BACKOFF_MS_FIRST << shift).min(BACKOFF_MS_MAX);
    Duration::from_millis(rand::rng().random_range(ms / 2..=ms))
}

/// Returns how long to wait before the attempt after this many failed ones, where it was advised to wait so many ms: never
/// less, and up to half as long again, so that those who were told so together do not return together.
pub(super) fn wait_after(failures: u32, advised_ms: u64) -> Duration {
    let spread_ms = rand::rng().random_range(0..=advised_ms / 2);
    jittered(failures).max(Duration::from_millis(advised_ms.saturating_add(spread_ms)))
}

#[cfg(test)]
mod tests {
    use super::wait_after;

    #[test]
    fn those_who_are_told_when_to_come_back_do_so_later_than_that_and_not_together() {
        let waits: Vec<u128> = (0..500).map(|_| wait_after(1, 1_000).as_millis()).collect();
        assert!(waits.iter().all(|ms| (1_000..=1_500).contains(ms)), "{waits:?}");
        let near = |from: u128| waits.iter().filter(|ms| (from..from + 50).contains(ms)).count();
        assert!((1_000..1_500).step_by(50).all(|from| near(from) > 10), "{waits:?}");
        assert!((0..500).all(|_| (500..=1_000).contains(&wait_after(9, 0).as_millis())));
    }
}
