use std::fmt::Write;
use std::time::Duration;

use reqwest::Method;
use serde::Serialize;

/// An attempt is not cut shorter than this in favour of another endpoint.
const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Whether a request that may have been carried out can be sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing.
    Read,
    /// It carries an idempotency key.
    KeyedWrite,
    /// It must not be.
    Never,
}

/// One request, independent of the endpoint.
pub(super) struct Call {
    pub(super) method: Method,
    /// Encoded, with the leading `/v1`.
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Body,
    /// Expected version of the znode.
    pub(super) if_match: Option<i32>,
    pub(super) repeat: Repeat,
    /// How long the cluster waits, as it is asked to, before it answers.
    pub(super) wait: Duration,
}

pub(super) enum Body {
    None,
    Raw(Vec<u8>),
    Json(String),
}

impl Call {
    pub(super) fn read(path: String) -> Call {
        Call::new(Method::GET, path, Repeat::Read)
    }

    pub(super) fn write(method: Method, path: String) -> Call {
        Call::new(method, path, Repeat::KeyedWrite)
    }

    pub(super) fn new(method: Method, path: String, repeat: Repeat) -> Call {
        let (query, body, wait) = (Vec::new(), Body::None, Duration::ZERO);
        Call { method, path, query, body, if_match: None, repeat, wait }
    }

    /// Returns how much of the time that is left one endpoint may take when there are others: half of it, beside what the
    /// cluster was asked to wait.
    pub(super) fn share_of(&self, left: Duration) -> Duration {
        let spare = left.saturating_sub(self.wait);
        left.min(self.wait + ATTEMPT_TIMEOUT_MIN.max(spare / 2))
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Call {
        self.body =
            Body::Json(serde_json::to_string(body).expect("the client's own types are JSON"));
        self
    }

    pub(super) fn raw(mut self, body: Vec<u8>) -> Call {
        self.body = Body::Raw(body);
        self
    }

    /// Adds a query parameter when there is a value.
    pub(super) fn param(mut self, name: &'static str, value: Option<impl ToString>) -> Call {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }
}

/// Percent-encodes a path or one element of it for use in a URL: everything but letters, digits, `-._~` and
/// `/`.
pub fn encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").expect("writing to a string"),
        }
    }
    out
}
