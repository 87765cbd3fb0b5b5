//! What is replicated: instances, and changes of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An instance's name: service and id.
pub(super) type Key = (String, String);

/// A registered provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Instance {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) weight: u32,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) status: String,
    /// Whose lease it is under.
    pub(super) session: String,
    /// That lease's length, ms.
    pub(super) timeout_ms: u64,
}

/// A change of one instance; without one it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) instance: Option<Instance>,
}
