//! The HTTP door: JSON over HTTP/1.1 for everyone. docs/HTTP.md is its contract.
//!
//! A request becomes a checked [`Op`](crate::types::Op) or a question to a tree that does not change any
//! more, and the answer becomes JSON. All rules of the registry are in the tree; all waiting is in the
//! [`Node`]. What is left for the door is language: URLs, headers, JSON, statuses, streams.
//!
//! How a request travels: `serve` accepts the connection and stamps its requests with the peer's address;
//! `routes` finds the handler; `front` counts it, bounds how many are under way and puts `Roost-Node` and
//! `Roost-Zxid` on the answer; `extract` checks path, query, headers and session, `body` the body; a handler (`znodes`,
//! `multi`, `sessions`, `services`, `service_metadata`, `register`, `namespaces`, `deregister`, `overrides`, `watch`, `policies`, `protection`, `cluster`, `operation`) does the rest. Whatever
//! goes wrong is a `Failed` (`error`), so that no answer of the door is anything but the documented JSON.
//! `service_wanted` says which lists a service has, `service_view` is the one place where their entries are read, in whatever
//! layout, `service_body` their JSON,
//! `service_delta` what has changed of them, `service_text` what is said of one entry, `service_stream` many over one stream, `versions` whether to ask at all.
//! `stream` and `snapshot` write the body of a watch stream.
//!
//! What it keeps to:
//!
//! - A route cannot exist without its entry in the OpenAPI document or the reverse: both come from one
//!   declaration.
//! - What a client sends is refused with a reason, never asserted on, and every size has its bound in
//!   `limits`.
//! - Of a znode that a client may not read it learns no more than the name in the parent's list: reads,
//!   snapshots and changes all ask the access control list.
//! - One idempotency key gives one answer, also where the door needs several transactions for one request.
//! - Large answers (snapshots) are written piece by piece while the client takes them.
//!
//! What it lacks on purpose: any state of its own but counters, knowledge of consensus, storage or peers, a
//! choice of the leader (any node answers everything), HTTP/2, and TLS.

mod answer;
#[cfg(test)]
mod api_tests;
mod audit;
mod authority;
mod body;
mod cluster;
mod deregister;
mod discovery;
mod drain;
mod dto;
mod error;
mod extract;
mod front;
#[cfg(test)]
mod hostile_tests;
mod metrics;
mod multi;
mod namespaces;
mod openapi;
mod operation;
mod overrides;
mod policies;
mod policy_effect;
mod policy_trial;
mod protection;
mod read;
mod register;
mod registration;
mod routes;
mod serve;
mod service_body;
mod service_delta;
mod service_metadata;
mod service_stream;
mod service_text;
mod service_view;
mod service_wanted;
mod services;
mod sessions;
mod snapshot;
mod stream;
mod subscribers;
#[cfg(test)]
mod tests;
mod versions;
mod watch;
mod write;
mod znodes;

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::limits::{HTTP_BODIES_BYTES_MAX, HTTP_REQUESTS_MAX};
use crate::node::Node;
use crate::types::AclId;
use metrics::Meters;

pub use routes::router;
pub use serve::serve;

/// What another door contributes to this one, which knows nothing of it.
pub trait Annex: Send + Sync {
    /// Returns what it measures: name, what it means, value.
    fn gauges(&self) -> Vec<(&'static str, &'static str, f64)>;
    /// Returns the answer to a command of its operators as JSON; for the empty name, the names of all commands. Of znodes that
    /// somebody with this authority could not find it says nothing.
    fn command(&self, name: &str, authority: &[AclId]) -> serde_json::Value;
}

/// Where there is no other door.
pub struct NoAnnex;

impl Annex for NoAnnex {
    fn gauges(&self) -> Vec<(&'static str, &'static str, f64)> {
        Vec::new()
    }

    fn command(&self, _: &str, _: &[AclId]) -> serde_json::Value {
        serde_json::json!({ "command": null, "error": "this node has no ZooKeeper door" })
    }
}

/// What all handlers share. A clone is O(1).
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    node: Node,
    meters: Meters,
    stop: CancellationToken,
    annex: Arc<dyn Annex>,
    /// The OpenAPI document as text; set when the routes are declared.
    document: OnceLock<Bytes>,
    /// What is left of [`HTTP_BODIES_BYTES_MAX`].
    bodies: Arc<Semaphore>,
}

impl Door {
    /// Returns the shared part of a door to this node, for one [`router`]. Its streams end when `stop` is
    /// cancelled.
    pub fn new(node: Node, stop: CancellationToken) -> Door {
        let document = OnceLock::new();
        let annex = Arc::new(NoAnnex);
        let bodies = Arc::new(Semaphore::new(HTTP_BODIES_BYTES_MAX));
        Door(Arc::new(Inner { node, meters: Meters::default(), stop, annex, document, bodies }))
    }

    /// Shows what another door contributes. For a door that is not shared yet.
    pub fn with_annex(mut self, annex: Arc<dyn Annex>) -> Door {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.annex = annex;
        }
        self
    }

    fn annex(&self) -> &dyn Annex {
        self.0.annex.as_ref()
    }

    fn gauges(&self) -> Vec<(&'static str, &'static str, f64)> {
        let mut gauges = self.node().gauges();
        gauges.extend(self.annex().gauges());
        gauges
    }

    fn node(&self) -> &Node {
        &self.0.node
    }

    /// Returns how much there is to do, in thousandths of what can be at once.
    fn pressure(&self) -> u32 {
        let requests = self.meters().under_way().saturating_mul(1_000) / HTTP_REQUESTS_MAX;
        self.node().pressure().max(u32::try_from(requests).unwrap_or(u32::MAX))
    }

    fn meters(&self) -> &Meters {
        &self.0.meters
    }

    fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    fn bodies(&self) -> &Arc<Semaphore> {
        &self.0.bodies
    }

    fn document(&self) -> &OnceLock<Bytes> {
        &self.0.document
    }
}
