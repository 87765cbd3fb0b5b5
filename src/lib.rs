//! roost: a service registry that is always right. See ARCHITECTURE.md for the map.
//!
//! Without features only the pure layers compile: `types`, `tree`, `watch`, `session`, `zkcli`, `codec`. The feature
//! `client` adds the HTTP client; `server` (the default) adds the node.

pub mod codec;
#[cfg(feature = "server")]
pub mod http;
pub mod limits;
#[cfg(feature = "server")]
pub mod node;
#[cfg(feature = "client")]
pub mod registry;
pub mod session;
pub mod tree;
pub mod types;
pub mod watch;
pub mod zkcli;
