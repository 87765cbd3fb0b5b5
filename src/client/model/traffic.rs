use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What [`deregister_all`](crate::client::Client::deregister_all) takes out: exactly one of `instance`, `session`, `ip` and
/// `selector`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deregistration {
    /// The path of a registration, or the id that it has in any service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The id of a session, which is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// An address, with a port or without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Metadata that they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<BTreeMap<String, String>>,
    /// Only providers of these services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<String>>,
    /// Only below this pattern of paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Keeps them from coming back for so long, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_ms: Option<u64>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only says what would go.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of [`deregister_all`](crate::client::Client::deregister_all).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deregistered {
    /// The paths that went, or would go.
    pub removed: Vec<String>,
    /// The znodes that keep them from coming back.
    pub tombstones: Vec<String>,
    /// Whether a session was closed.
    pub session_closed: bool,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The state in which they are gone, or would go.
    pub zxid: u64,
}
