use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::str::FromStr;

use super::{Fault, Schedule};

/// Faults that need the same of the machine and of the target. The text form is the name in small letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Links that are cut, slow or lossy.
    Network,
    /// Links that carry little.
    Slow,
    /// Packets that come twice or in another order.
    Packet,
    /// Processes that are killed and paused.
    Process,
    /// Wall clocks that jump.
    Clock,
    /// Clocks that run too fast or too slowly, monotonic ones too.
    Rate,
    /// Syncs that fail or are slow.
    Fsync,
    /// Disks without room.
    Full,
    /// Power cuts.
    Power,
    /// Stores that are torn, damaged or lost.
    Damage,
    /// Members that go and come, and leadership that is handed over.
    Member,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 11] = [
        Family::Network,
        Family::Slow,
        Family::Packet,
        Family::Process,
        Family::Clock,
        Family::Rate,
        Family::Fsync,
        Family::Full,
        Family::Power,
        Family::Damage,
        Family::Member,
    ];

    /// Returns what schedules are drawn from unless something else is said: what needs nothing.
    pub fn usual() -> BTreeSet<Family> {
        [Family::Network, Family::Process].into()
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Family::Network => "network",
            Family::Slow => "slow",
            Family::Packet => "packet",
            Family::Process => "process",
            Family::Clock => "clock",
            Family::Rate => "rate",
            Family::Fsync => "fsync",
            Family::Full => "full",
            Family::Power => "power",
            Family::Damage => "damage",
            Family::Member => "member",
        }
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(word: &str) -> Result<Family, String> {
        let named = Family::ALL.into_iter().find(|family| family.name() == word);
        named.ok_or_else(|| {
            let names = Family::ALL.map(Family::name).join(", ");
            format!("{word:?} is no family of faults: expected some of {names}")
        })
    }
}

impl Fault {
    /// Returns the family that it belongs to.
    pub fn family(&self) -> Family {
        match self {
            Fault::Kill(_) | Fault::KillAll | Fault::Pause(_) => Family::Process,
            Fault::Partition(_)
            | Fault::OneWay { .. }
            | Fault::Bridge(_)
            | Fault::Ring
            | Fault::Delay { .. }
            | Fault::Loss { .. } => Family::Network,
            Fault::Slow { .. } => Family::Slow,
            Fault::Duplicate { .. } | Fault::Reorder { .. } => Family::Packet,
            Fault::Clock { .. } => Family::Clock,
            Fault::Rate { .. } => Family::Rate,
            Fault::FsyncFail(_) | Fault::FsyncSlow { .. } => Family::Fsync,
            Fault::DiskFull(_) => Family::Full,
            Fault::PowerCut(_) | Fault::PowerCutAll => Family::Power,
            Fault::Wipe(_) | Fault::Tear { .. } | Fault::Flip { .. } => Family::Damage,
            Fault::Leave(_) | Fault::Transfer(_) => Family::Member,
        }
    }
}

impl Schedule {
    /// Returns the families of the faults that are in it.
    pub fn needed(&self) -> BTreeSet<Family> {
        self.steps.iter().map(|step| step.fault.family()).collect()
    }
}
