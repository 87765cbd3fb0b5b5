//! What goes wrong, and when: a schedule of faults as a value with a text form, made from a seed or written by hand.
//!
//! ```text
//! schedule seed 7 nodes 3 duration 60s
//! at 6s for 10s partition leader c-leader | rest
//! at 20.5s for 3s kill n2
//! at 26s for 4s one-way n1 -> n3
//! ```
//!
//! A *party* is a node (`n1` … `n9`), the clients of a site (`c1` … `c9`: those that are near the node of that number),
//! or a role: `leader`, `follower` and `last` are nodes and `c-leader` … their clients, resolved when the fault
//! begins (a registry without leader has node 1 in that role); `rest` is everybody whom the other groups do not name.
//!
//! | fault | what it does for so long |
//! |---|---|
//! | `kill a b` | kill -9 of these nodes; started again at the end, with their disks |
//! | `kill-all` | all of them at once |
//! | `wipe a` | as `kill`, and the disk is empty at the end: where that is not survived, it comes back as a new member |
//! | `pause a b` | SIGSTOP, and SIGCONT at the end: the stand-in for a long garbage collection |
//! | `partition a b \| c` | no bytes pass between parties of different groups; who is in no group is not affected |
//! | `one-way a -> b` | no bytes pass from a to b; those from b to a do |
//! | `bridge a` | nodes other than a do not see each other, all see a |
//! | `ring` | each node sees only the two that are next to it by number |
//! | `delay a 50ms jitter 20ms` | everything from and to these parties takes so much longer, each way |
//! | `loss a 20%` | of the segments from and to these parties so many are lost, and sent again after 200 ms |
//! | `slow a 64kB/s` | each link from and to these parties carries so much and no more, each way; 1 kB is 1,000 bytes |
//! | `duplicate a b 10%` | so many of the packets between these nodes and others come twice |
//! | `reorder a b 25% 20ms` | so many of them are held back for so long, and those behind overtake them |
//! | `clock a +3600s` | its wall clock is so much ahead, or behind with `-`; its monotonic clock is not touched |
//! | `rate a 150%` | killed and started again, its clocks running so fast, the monotonic one too; likewise at the end |
//! | `fsync-fail a` | what it asks to be synced fails with EIO |
//! | `fsync-slow a 50ms` | it takes so much longer |
//! | `disk-full a` | the file system of its data has no room |
//! | `power-cut a b` | what is not on the disk yet never will be; started again at the end |
//! | `power-cut-all` | all of them at once |
//! | `tear a 4096` | as `kill`, and at the end so many of the last bytes of its store are missing |
//! | `flip a 3` | as `kill`, and at the end so many bits of its store are wrong, at places that the seed chooses |
//! | `leave a` | removed from the cluster; at the end it comes back with an empty disk, as a new member |
//! | `transfer a` | leadership is handed to it, once |
//!
//! Faults may overlap; a node runs when no fault wants it down, and a link passes bytes when none cuts it. Healing is
//! not a step: each fault ends by itself.
//!
//! Faults come in [families](Family) by what they need of the machine and of the target. A schedule is drawn from a set
//! of them, `network` and `process` unless its first line says `from …`. [`Schedule::generate`] is a pure function of
//! its arguments: the same seed and set are the same schedule, for ever and for every registry that is compared. What it
//! deliberately lacks: knowledge of what can be made where, and how; that is in `fault`.

mod effect;
mod family;
mod generate;
mod text;

pub(crate) use text::parse_ms;

pub use effect::{End, Link, Network, resolve};
pub use family::Family;

use std::collections::BTreeSet;

/// A plan of faults. Its text form is described above; [`std::fmt::Display`] and [`std::str::FromStr`] are inverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// What it was made from, and what workloads draw from.
    pub seed: u64,
    /// Nodes, 1 to 9.
    pub nodes: u8,
    /// Length of the run, ms.
    pub duration_ms: u64,
    /// What faults were drawn from.
    pub families: BTreeSet<Family>,
    /// In the order of their beginnings.
    pub steps: Vec<Step>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it begins, ms from the start of the workload.
    pub at_ms: u64,
    /// How long it lasts, ms.
    pub for_ms: u64,
    /// What it is.
    pub fault: Fault,
}

impl Step {
    /// Returns when it ends, ms.
    pub fn until_ms(&self) -> u64 {
        self.at_ms.saturating_add(self.for_ms)
    }
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table above explains them")]
pub enum Fault {
    Kill(Vec<Who>),
    KillAll,
    Wipe(Who),
    Pause(Vec<Who>),
    Partition(Vec<Group>),
    OneWay { from: Party, to: Party },
    Bridge(Who),
    Ring,
    Delay { parties: Vec<Party>, ms: u64, jitter_ms: u64 },
    Loss { parties: Vec<Party>, percent: u8 },
    Slow { parties: Vec<Party>, kb_per_second: u32 },
    Duplicate { nodes: Vec<Who>, percent: u8 },
    Reorder { nodes: Vec<Who>, percent: u8, ms: u64 },
    Clock { node: Who, ms: i64 },
    Rate { node: Who, percent: u16 },
    FsyncFail(Who),
    FsyncSlow { node: Who, ms: u64 },
    DiskFull(Who),
    PowerCut(Vec<Who>),
    PowerCutAll,
    Tear { node: Who, bytes: u32 },
    Flip { node: Who, bits: u8 },
    Leave(Who),
    Transfer(Who),
}

/// A node, by number or by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// From 1.
    Number(u8),
    /// Who leads when the fault begins.
    Leader,
    /// The node after that.
    Follower,
    /// The node before the leader: of three, the other follower.
    Last,
}

/// A node, or the clients near it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// The node.
    Node(Who),
    /// The clients.
    Clients(Who),
}

/// One side of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// These.
    Of(Vec<Party>),
    /// Everybody whom no other group names.
    Rest,
}
