//! roost: a service registry that is always right. See ARCHITECTURE.md for the map.
//!
//! Without features only the pure layers compile: `types`, `tree`, `watch`, `session`, `zkcli`, `codec`. The feature
//! `client` adds the HTTP client; `server` (the default) adds the node.

pub mod codec;
pub mod limits;
pub mod session;
pub mod types;
pub mod watch;
