//! roost: a service registry that is always right. See ARCHITECTURE.md for the map.
//!
//! Without features only the pure layers compile: `types`, `tree`, `watch`, `session`, `zkcli`, `codec`. The feature
//! `client` adds the HTTP client; `server` (the default) adds the node.

#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod codec;
pub mod limits;
pub mod types;
