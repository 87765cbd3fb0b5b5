use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Answer of [`open_session`](crate::client::Client::open_session).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedSession {
    /// Its id, `0x…`.
    pub session: String,
    /// What proves to be its holder.
    pub token: String,
    /// The timeout as the cluster moved it into its range, ms.
    pub timeout_ms: u64,
    /// The opening's place in the order.
    pub zxid: u64,
}

/// Answer of [`renew_session`](crate::client::Client::renew_session).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewedSession {
    /// Its id, `0x…`.
    pub session: String,
    /// It lives at least this long from the moment the request was sent, ms.
    pub timeout_ms: u64,
    /// When the registry wishes to hear of it next, ms after the request was sent. `None` from a node that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_renew_ms: Option<u64>,
}

impl RenewedSession {
    /// Returns when to renew next, after a plan to do so at this interval: as the cluster asks, but never later than half of
    /// the timeout, so that one renewal may be lost.
    pub fn next_renewal(&self, planned: Duration) -> Duration {
        let longest = Duration::from_millis(self.timeout_ms / 2);
        self.next_renew_ms.map_or(planned, Duration::from_millis).min(longest)
    }
}

/// Answer of [`close_session`](crate::client::Client::close_session).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedSession {
    /// How many ephemerals went with it.
    pub removed: u64,
    /// The closing's place in the order.
    pub zxid: u64,
}

/// One session in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Its id, `0x…`.
    pub session: String,
    /// Its timeout, ms.
    pub timeout_ms: u64,
    /// How many ephemerals it holds.
    pub ephemerals: u64,
}

/// Answer of [`sessions`](crate::client::Client::sessions).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// The sessions.
    pub sessions: Vec<SessionSummary>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The state that the last page was read from.
    pub zxid: u64,
}

/// Answer of [`session`](crate::client::Client::session).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDetail {
    /// Its id, `0x…`.
    pub session: String,
    /// Its timeout, ms.
    pub timeout_ms: u64,
    /// The paths of its ephemerals.
    pub ephemerals: Vec<String>,
    /// The state this was read from.
    pub zxid: u64,
}

/// One service in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSummary {
    /// Its name.
    pub name: String,
    /// How many providers it has.
    pub providers: u64,
    /// How many consumers it has.
    pub consumers: u64,
}

/// Answer of [`services`](crate::client::Client::services).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The services, by name.
    pub services: Vec<ServiceSummary>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The state that the last page was read from.
    pub zxid: u64,
}

/// What to register.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The provider's id; `host:port` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where to reach it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share of traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Anything else that consumers have to know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Its state of health, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Token of the session that has registered it so far, and may lose it to the caller's in one transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_over: Option<String>,
}

/// Answer of [`register`](crate::client::Client::register).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The service.
    pub name: String,
    /// The provider's id.
    pub id: String,
    /// Its znode.
    pub path: String,
    /// Another number is another registration, whatever the id and the address. 0 from a node that does not say.
    #[serde(default)]
    pub incarnation: u64,
    /// The write's place in the order.
    pub zxid: u64,
}

/// Answer of [`versions`](crate::client::Client::versions).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// By name; a service that does not exist is not among them.
    pub versions: BTreeMap<String, ServiceVersion>,
    /// The state this was read from.
    pub zxid: u64,
}

/// How it stands with the lists of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceVersion {
    /// Zxid of the newest change.
    pub revision: u64,
    /// 16 hex digits: equal lists have equal signs.
    pub sign: String,
}

/// How to leave in good order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When the provider is removed at the latest, ms from now.
    pub deadline_ms: u64,
    /// `all_subscribers` to be answered when all have been told, or `none`.
    pub wait: String,
    /// How long the answer waits at most, ms; until the deadline when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answer of [`drain`](crate::client::Client::drain).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// The registration that leaves.
    pub path: String,
    /// How many subscribers have been told.
    pub notified: u64,
    /// How many have not.
    pub lagging: u64,
    /// Nodes that cannot say.
    #[serde(default)]
    pub unknown: Vec<u64>,
    /// The change's place in the order.
    pub zxid: u64,
}

/// One provider of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its id.
    pub id: String,
    /// Where to reach it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share of traffic.
    pub weight: u32,
    /// Anything else that it wants known.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Its state of health, as it says itself.
    pub status: String,
    /// How it stands, whatever it says: `healthy`, `suspect` or `unhealthy`. Empty from a node that does not say.
    #[serde(default)]
    pub health: String,
    /// The session that holds it; `None` when its znode is not ephemeral.
    #[serde(default)]
    pub session: Option<String>,
    /// When it was registered.
    pub czxid: u64,
    /// Version of its data.
    pub version: i32,
}

/// One consumer of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its id.
    pub id: String,
    /// What it wants known.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The session that holds it; `None` when its znode is not ephemeral.
    #[serde(default)]
    pub session: Option<String>,
}

/// A znode among the providers or consumers whose data is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unparsable {
    /// Its id.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Answer of [`service`](crate::client::Client::service).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its providers, by id.
    pub providers: Vec<Provider>,
    /// Its consumers, by id.
    #[serde(default)]
    pub consumers: Vec<Consumer>,
    /// What is registered in a form that cannot be read.
    #[serde(default)]
    pub unparsable: Vec<Unparsable>,
    /// The state this was read from.
    pub zxid: u64,
}
