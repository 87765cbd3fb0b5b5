use std::fmt;

use serde::{Deserialize, Serialize};

/// The answer of a cluster that refused: the JSON of the HTTP door and its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The HTTP status; not part of the JSON.
    #[serde(skip)]
    pub status: u16,
    /// The stable name of the reason, snake_case.
    pub code: String,
    /// The reason for a person.
    pub message: String,
    /// ZooKeeper's number of the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zk_code: Option<i32>,
    /// When to try again, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Which op of a multi, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_index: Option<u32>,
}

/// Why a call of the client did not give an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The cluster answered, and refused.
    Refused(Refusal),
    /// No endpoint took the request within the time allowed; nothing was done. The text names the last
    /// endpoint.
    Unreachable(String),
    /// The request was sent but no answer came within the time allowed; a write may have been done.
    Timeout(String),
    /// Something answered that does not speak this API.
    BadAnswer(String),
    /// The call cannot be made as it stands: an endpoint or an argument has no meaning.
    Invalid(String),
}

impl Error {
    /// Returns the stable name of the reason: the cluster's own, or `unreachable`, `client_timeout`,
    /// `bad_answer`, `invalid`.
    pub fn code(&self) -> &str {
        match self {
            Error::Refused(refusal) => &refusal.code,
            Error::Unreachable(_) => "unreachable",
            Error::Timeout(_) => "client_timeout",
            Error::BadAnswer(_) => "bad_answer",
            Error::Invalid(_) => "invalid",
        }
    }

    /// Returns the HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// Returns how long the cluster advises to wait before another attempt, ms; 0 when it does not.
    pub fn retry_after_ms(&self) -> u64 {
        match self {
            Error::Refused(refusal) => refusal.retry_after_ms.unwrap_or(0),
            _ => 0,
        }
    }

    /// Returns the reason for a person, without the code.
    pub fn message(&self) -> &str {
        match self {
            Error::Refused(refusal) => &refusal.message,
            Error::Unreachable(text)
            | Error::Timeout(text)
            | Error::BadAnswer(text)
            | Error::Invalid(text) => text,
        }
    }

    /// Returns whether the cluster refused with this code.
    pub fn is(&self, code: &str) -> bool {
        matches!(self, Error::Refused(refusal) if refusal.code == code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message())
    }
}

impl std::error::Error for Error {}
