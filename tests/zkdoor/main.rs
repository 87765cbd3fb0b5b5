//! The ZooKeeper door by raw bytes: whole nodes in this process, on a network in memory, each with a real socket for
//! clients. What real client libraries make of it is tested elsewhere; here it is what they cannot show.

// The nodes and what can befall them; not everything of it is needed here.
#[path = "../cluster/harness.rs"]
#[allow(dead_code)]
mod harness;

mod admin;
mod admission;
mod client;
mod disconnect;
mod limits;
mod namespaces;
mod ops;
mod order;
mod pacing;
mod sessions;
mod watches;
mod words;
