//! roost: a service registry that is always right. See ARCHITECTURE.md for the map.
//!
//! Without features only the pure layers compile: `types`, `batch`, `codec`, `identity`, `policy`, `registry`, `traffic`, `tree`,
//! `watch`, `session`, `zkcli`, `jute`. The feature `client` adds the HTTP client and the SDK; `server` (the default) adds the node and
//! the command line.

#[macro_use]
mod mutants;

pub mod batch;
#[cfg(feature = "server")]
pub mod blocking;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod codec;
#[cfg(feature = "server")]
pub mod http;
pub mod identity;
pub mod jute;
pub mod limits;
pub mod policy;
#[cfg(feature = "client")]
pub mod probe;
pub mod registry;
#[cfg(feature = "client")]
pub mod sdk;
pub mod session;
pub mod traffic;
pub mod tree;
pub mod types;
pub mod watch;
pub mod zkcli;

#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod latest;
#[cfg(feature = "server")]
pub mod node;
#[cfg(feature = "server")]
pub mod peer;
#[cfg(feature = "server")]
pub mod raft;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod storage;
#[cfg(feature = "server")]
pub mod zk;
