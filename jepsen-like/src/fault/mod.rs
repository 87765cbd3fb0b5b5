//! Faults made real: what a schedule says happens to processes, links, disks, clocks and members of a cluster.
//!
//! ```text
//! Kit (what can be made here?) ─▶ Rig (file systems, clocks; before the nodes start) ─▶ torment (one step after another)
//! ```
//!
//! | family | made by | needs |
//! |---|---|---|
//! | network, slow | the proxies of `net`; or, between nodes, namespaces and packet filters, or a switch | nothing; or root, nft |
//! | packet | the switch of `net`, between nodes that are in namespaces | root |
//! | process | SIGKILL, SIGSTOP, SIGCONT | nothing |
//! | clock, rate | libfaketime, preloaded into every node, and a file per node that says what time it is | libfaketime |
//! | fsync | strace, attached to the node, which answers its syncs with EIO or holds them up | strace, and to be allowed to trace |
//! | full, power | an ext4 file system in a file for each node's data, filled up or shut down under the frozen process | root, loop devices |
//! | damage | the node's store, changed while it is down | a target that names its store |
//! | member | the calls `remove`, `learners`, `promote` and `transfer` | a target that has them |
//!
//! Rules of honesty. A fault must be *seen* to have acted: bytes were held up, a sync was answered by strace, a node has
//! looked at the clock that it was given, an unsynced file is gone after the power. One that was alone and was not seen makes
//! the run inconclusive, and so does a schedule of which none was seen. What a node may do under its faults is decided here, too: it may end when its disk is full or
//! fails, it may refuse a store that was damaged; then it comes back with an empty one, as a new member. A node that
//! ends for another reason, or that does not come back, is a finding.
//!
//! A cluster survives the loss of one disk of three, not of two: while a node that lost its disk is not a voter again,
//! no other node's is touched. Such a fault is passed over, which its band says. Nor is a store torn while its power is
//! cut: what the cut took away would hide that something is missing.
//!
//! Between nodes there are three networks, and the same schedule for all ([`Net`]). Proxies need no root, and nothing is
//! lost in them. In namespaces packets are dropped, so what TCP does about that is in the game: by the kernel's filters on
//! a bridge, where a link is neither late nor narrow, or by a switch of our own, which can do all that a link can do and is seeded.
//! Clients are reached through proxies in all three, since they are all in this process.
//!
//! What this deliberately lacks: the kernel's netem, which many machines have not.

mod acts;
mod clock;
mod evidence;
mod freeze;
mod kit;
mod member;
mod namespaces;
mod rig;
mod store;
mod torment;
mod trace;
mod volume;

pub use kit::Kit;
pub use rig::{Net, Rig};
pub use torment::{Tormented, torment};

use serde::{Deserialize, Serialize};

/// A fault as it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Band {
    /// From the start of the workload, ms.
    pub from_ms: u64,
    /// Likewise.
    pub until_ms: u64,
    /// The fault, with numbers in the place of roles.
    pub fault: String,
}
