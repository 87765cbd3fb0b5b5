use std::fmt;

/// An attempt that did not work, for a reason outside the replicated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A bound is reached; nothing was done. Retry after this many ms.
    Busy {
        /// The bound's name.
        what: &'static str,
        /// Advice on when to try again.
        retry_after_ms: u64,
    },
    /// No leader could be reached within the time allowed; nothing was done.
    NoLeader,
    /// The request may or may not have been done.
    OutcomeUnknown,
    /// The read could not be served within the time allowed.
    Timeout(&'static str),
    /// The request is refused as it stands; the text says what to change.
    Refused(String),
    /// The request says something that has no meaning; nothing was done.
    Invalid {
        /// What, and why, for a person.
        why: String,
        /// Which op of a multi, from 0.
        multi_index: Option<u32>,
    },
    /// A policy forbids the request; nothing was done.
    Forbidden {
        /// The policy, and behind a slash its rule.
        rule: String,
        /// Why, for a person.
        why: String,
        /// Which op of a multi, from 0.
        multi_index: Option<u32>,
    },
    /// Something in the request is larger than its bound.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its bound, in the unit that `what` implies.
        limit: u64,
    },
    /// The node is not a member of a cluster yet.
    NotInitialized,
    /// The node is stopping.
    Stopping,
    /// The local store or a socket failed; the text names which and what to do.
    Io(String),
}

impl Error {
    /// Returns the stable name in JSON answers, snake_case.
    pub fn name(&self) -> &'static str {
        match self {
            Error::Busy { .. } => "busy",
            Error::NoLeader => "no_leader",
            Error::OutcomeUnknown => "outcome_unknown",
            Error::Timeout(_) => "timeout",
            Error::Refused(_) => "refused",
            Error::Invalid { .. } => "bad_arguments",
            Error::Forbidden { .. } => "no_auth",
            Error::TooLarge { .. } => "too_large",
            Error::NotInitialized => "not_initialized",
            Error::Stopping => "stopping",
            Error::Io(_) => "io",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Busy { what, retry_after_ms } => write!(f, "{what} is full: retry in {retry_after_ms} ms"),
            Error::NoLeader => {
                f.write_str("the cluster has no leader that this node can reach: nothing was done")
            }
            Error::OutcomeUnknown => f.write_str("the outcome is unknown: read before you retry"),
            Error::Timeout(what) => write!(f, "{what} took too long"),
            Error::Refused(why) | Error::Invalid { why, .. } => f.write_str(why),
            Error::Forbidden { rule, why, .. } => write!(f, "the policy {rule} forbids it: {why}"),
            Error::TooLarge { what, limit } => write!(f, "{what} is too large: the limit is {limit}"),
            Error::NotInitialized => f.write_str(
                "this node belongs to no cluster yet: run `roost init` on one node, or `roost join`",
            ),
            Error::Stopping => f.write_str("the node is stopping"),
            Error::Io(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}
