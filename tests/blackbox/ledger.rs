//! What one client was told, and what may therefore be found in the cluster.

use std::collections::{BTreeMap, BTreeSet};

use roost::client::model::Child;

/// A znode that is only ever set on condition of its version: so each version has one value, whatever became of the
/// requests whose answers were lost.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// Version and value as last acknowledged, or read.
    known: Option<(i32, u64)>,
    /// Expected version and value of each write that may have been done since.
    attempts: Vec<(i32, u64)>,
}

impl Chain {
    pub(crate) fn attempt(&mut self, expected: i32, value: u64) {
        self.attempts.push((expected, value));
    }

    /// Notes an acknowledgement, or the answer of a linearizable read, if it is one that the cluster may give.
    pub(crate) fn learn(&mut self, version: i32, value: u64) -> Result<(), String> {
        self.check(version, value)?;
        self.known = Some((version, value));
        self.attempts.retain(|(expected, _)| *expected >= version);
        Ok(())
    }

    /// Says whether the version may have this value.
    pub(crate) fn check(&self, version: i32, value: u64) -> Result<(), String> {
        let is_known = self.known == Some((version, value));
        let is_later = self.known.is_none_or(|(known, _)| version > known);
        let is_attempt = self.attempts.contains(&(version - 1, value));
        if is_known || (is_later && is_attempt) {
            return Ok(());
        }
        Err(format!("version {version} is {value}, known are {self:?}"))
    }

    /// Whether a write may have been done without its answer having arrived.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.attempts.len() > 1
    }
}

/// A session and what was bound to it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) token: String,
    pub(crate) ephemerals: BTreeSet<String>,
    /// Whether the cluster has said that it is gone.
    pub(crate) has_ended: bool,
}

/// All that one client was told.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) chains: BTreeMap<String, Chain>,
    /// Names that were created and not deleted.
    pub(crate) created: BTreeSet<String>,
    /// Names that were deleted; none is used again.
    pub(crate) deleted: BTreeSet<String>,
    /// Paths that the cluster gave to sequential znodes.
    pub(crate) sequential: Vec<String>,
    /// By id.
    pub(crate) leases: BTreeMap<String, Lease>,
    /// Answers that the cluster may not give.
    pub(crate) wrong: Vec<String>,
    /// How many requests failed, so that it is not known what became of them.
    pub(crate) unknown: u64,
}

/// The ephemerals and the sessions of the cluster, the sessions read both before and after.
pub(crate) struct Living {
    pub(crate) sessions_before: BTreeSet<String>,
    /// Name to owner.
    pub(crate) ephemerals: BTreeMap<String, String>,
    pub(crate) sessions_after: BTreeSet<String>,
}

impl Ledger {
    /// Compares the children of this client's own znode with what it was told.
    pub(crate) fn check_own(&mut self, children: &[Child]) {
        let mut found = BTreeSet::new();
        for child in children {
            found.insert(child.name.as_str());
            let (Some(chain), Some(stat)) = (self.chains.get(&child.name), &child.stat) else {
                continue;
            };
            let value = child.payload.0.as_deref().map(String::from_utf8_lossy);
            let value = value.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
            if let Err(why) = chain.check(stat.version, value) {
                self.wrong.push(format!("{}: {why}", child.name));
            }
        }
        let is_missing = |name: &&String| !found.contains(name.as_str());
        let acked = self.chains.iter().filter(|(_, chain)| chain.known.is_some());
        let missing = acked.map(|(name, _)| name).chain(&self.created).filter(is_missing);
        self.wrong.extend(missing.map(|name| format!("{name} was acknowledged and is lost")));
        let undone = self.deleted.iter().filter(|name| found.contains(name.as_str()));
        self.wrong.extend(undone.map(|name| format!("{name} was deleted and is there")));
    }

    /// Compares the living ephemerals with what this client was told of its own.
    pub(crate) fn check_leases(&mut self, living: &Living) {
        for (session, lease) in &self.leases {
            for name in &lease.ephemerals {
                let owner = living.ephemerals.get(name);
                if lease.has_ended && owner.is_some() {
                    self.wrong.push(format!("{name} has outlived its session {session}"));
                }
                // A session that is there afterwards was there all the time.
                if living.sessions_after.contains(session) && owner != Some(session) {
                    self.wrong.push(format!("{name} of the living session {session} is lost"));
                }
            }
        }
    }
}
