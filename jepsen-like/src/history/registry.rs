//! What happened in a run of the registry workload: the truth (which providers worked, known because the suite runs
//! them), what registries answered, what consumers held, and what came of their calls.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// An event and when it was noted, µs. A request is noted when it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// When.
    pub at_us: u64,
    /// What.
    pub what: Event,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A provider began to answer calls.
    Up {
        /// Its id.
        provider: String,
    },
    /// A provider stopped to answer calls.
    Down {
        /// Its id.
        provider: String,
        /// Why.
        end: End,
    },
    /// A request to a registry's node ended.
    Asked {
        /// From 1.
        node: u8,
        /// The site of the client that asked, from 1.
        site: u8,
        /// What was asked.
        what: Asked,
        /// For which provider, or empty.
        provider: String,
        /// When it was sent, µs.
        start_us: u64,
        /// What came of it.
        result: Answered,
    },
    /// A node answered a consumer's or an observer's question for the list.
    Listed {
        /// From 1.
        node: u8,
        /// `None` for the observer, who asks past all faults of the network.
        consumer: Option<u32>,
        /// When it was asked, µs.
        start_us: u64,
        /// The ids in the answer.
        providers: BTreeSet<String>,
    },
    /// The list that a consumer holds changed.
    Held {
        /// Who.
        consumer: u32,
        /// The ids that it holds now.
        providers: BTreeSet<String>,
    },
    /// A consumer called a provider of its list, and others if that failed.
    Called {
        /// Who.
        consumer: u32,
        /// When the first attempt began, µs.
        start_us: u64,
        /// Whether the first attempt succeeded.
        first: bool,
        /// Whether any attempt did.
        any: bool,
    },
}

/// Why a provider stopped to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It deregistered, waited a little, and stopped.
    Left,
    /// It was gone from one moment to the next.
    Crashed,
    /// It accepts connections and says nothing.
    Hung,
}

/// What can be asked of a registry's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// To open a session.
    Open,
    /// To register a provider.
    Register,
    /// To renew a session, which a whole timeout is promised by the answer to.
    Renew,
    /// For a sign of life, by which a session is kept as long as the node is heard by who decides about it.
    Ping,
    /// To deregister a provider.
    Deregister,
    /// To free a provider's id of an earlier attempt of its own at registering.
    Free,
    /// For the list.
    List,
    /// For a stream of changes.
    Subscribe,
}

impl Asked {
    /// Returns whether it changes something.
    pub fn is_write(self) -> bool {
        match self {
            Asked::Open | Asked::Register | Asked::Renew | Asked::Deregister | Asked::Free => true,
            Asked::Ping | Asked::List | Asked::Subscribe => false,
        }
    }
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// Done.
    Ok,
    /// Refused for a reason in the state, as "your session has expired": the node works.
    Refused,
    /// Certainly not done.
    Failed,
    /// Perhaps done.
    Unknown,
}
