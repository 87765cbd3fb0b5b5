use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Reset;

/// A service to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedService {
    /// Its name.
    pub name: String,
    /// Begin with what changed after this zxid instead of with the whole list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// What a stream of services says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceEvent {
    /// All of a service, in place of what was known of it.
    Snapshot(ServiceDelta),
    /// What has changed of a service.
    Delta(ServiceDelta),
    /// Changes were skipped; the whole lists follow.
    Reset(Reset),
    /// A service may not be read any more.
    Refused(ServiceRefusal),
    /// Everything up to this zxid has been told.
    Progress {
        /// That zxid.
        zxid: u64,
    },
}

/// Registrations of a service, each as its znode has it, in whatever layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDelta {
    /// The service.
    pub service: String,
    /// The state that one has with it.
    pub to: u64,
    /// Which came or changed.
    pub upsert: Vec<Instance>,
    /// Which came or changed and describe no instance.
    #[serde(default)]
    pub unparsable: Vec<Opaque>,
    /// Paths of those that went.
    pub remove: Vec<String>,
    /// 16 hex digits: the sign of the list that one has with it, where the node knows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<String>,
}

/// One provider of a service as consumers see it: what one registration says, in whatever layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Unique within its service.
    pub id: String,
    /// Where to reach it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share of traffic, relative to the others; 0 takes it out.
    pub weight: u32,
    /// `up`, `starting`, `draining`, `out_of_service`, or what the service's people agree on.
    pub status: String,
    /// `unhealthy` or `suspect` where the registry has reason to think so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Anything else that it wants known.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The group within the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The znode that says so: no two have the same.
    pub path: String,
    /// Who arranges znodes so: `roost`, `dubbo`, `spring`, …
    pub layout: String,
    /// The zxid of its registration: another number is another process, whatever the id and the address.
    pub incarnation: u64,
    /// The zxid of the last change of what it says.
    pub modified: u64,
}

/// A registration that describes no instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opaque {
    /// Its id.
    pub id: String,
    /// Why.
    pub reason: String,
    /// Its znode.
    pub path: String,
    /// Zxid of its creation.
    pub incarnation: u64,
    /// Zxid of its last change.
    pub modified: u64,
}

/// See [`ServiceEvent::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRefusal {
    /// The service.
    pub service: String,
    /// Why.
    pub code: String,
}
