//! The replicated state machine: what a cluster agrees on.
//!
//! A [`Tree`] is a plain value. [`Tree::apply`] takes one transaction of the log and changes the value;
//! everything that decides the outcome is in the value and in the transaction. So two trees that applied
//! the same transactions are equal, on whatever machine and however the transactions were batched.
//!
//! What it keeps to:
//!
//! - `apply` is total: no transaction, however it was made, makes it panic, fail or wait. A refusal is a
//!   [`Code`] in the answer, never an error of the machine. Arithmetic on what others supply wraps or
//!   saturates.
//! - Every transaction that is taken up gets the next zxid, refused ones and repeated ones too; a refused
//!   one changes nothing else but the clock and its origin's sequence. A [`Outcome::Duplicate`] or
//!   [`Outcome::Gap`] changes nothing at all. So one zxid names one state, and [`Tree::digest`] may be
//!   compared at equal zxids.
//! - A parent exists for each znode but the root; a znode is in its parent's children; an ephemeral znode
//!   has a live owner whose session lists it, and no children. `change.rs` is the only place that edits
//!   these links, the index of what is due, the usage of quotas and the rolling digest, so that they cannot come apart.
//! - A clone is O(1) and immutable from then on: readers and the snapshot writer hold one while `apply`
//!   goes on.
//! - Nothing depends on the order of a hash map: the one that holds the znodes is never iterated.
//!
//! What it lacks on purpose: clocks (time comes with the transaction), liveness of sessions (the leader
//! proposes `Expire`), watches (it only returns events), and I/O.
//!
//! Where it departs from ZooKeeper: deletions of due container and TTL znodes name their candidates and are
//! checked again when applied; TTLs count on the cluster's clock instead of `mtime`; a second request with
//! the same idempotency key gets the first one's answer; data, lists and results have bounds (`limits`)
//! that are checked here too; closing a session deletes its ephemerals in path order; an access control list
//! may not have permissions that do not exist.
//!
//! Files: `apply` is one function per op and `multi` all-or-nothing around it, `sessions` and `idempotency`
//! the tables beside the znodes, `due` the container and TTL rule, `quota` the quotas, `policies` the policies, `protect`
//! how many providers a service may lose at once, `health` how instances stand whatever they say, `services` their
//! lists in whatever layout, `deregister` what is taken out and kept from coming back, `change` the edits, `read` the
//! questions, `lists` the access control lists, each once, `digest` the hashes, `snapshot` and `load` the way
//! to bytes and back. What a list permits is for [`identity`](crate::identity).

mod apply;
mod change;
mod deregister;
mod digest;
mod due;
mod health;
mod idempotency;
mod lists;
mod load;
mod multi;
mod path_set;
mod policies;
mod protect;
mod quota;
mod read;
mod services;
mod sessions;
mod snapshot;
mod znode;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};

use crate::limits::{NODE_ID_MAX, SESSIONS_MAX};
use crate::policy::Policies;
use crate::types::{
    Acl, AclId, AclList, Applied, Code, Data, Failure, NodeId, Origin, Outcome, Perms, SessionId,
    Txn, TxnTime, ZnodePath, Zxid,
};

pub use crate::identity::permits;
pub use crate::registry::{Health, is_health_note, noted_at};
pub use load::Loader;
pub use protect::{Fate, Standing};
pub use quota::{Quota, QuotaLimits};
#[cfg(test)]
pub(crate) use read::looked_up;
pub use services::{ListState, Lists, Services};
pub use sessions::Session;
pub use snapshot::SnapshotWriter;
pub use znode::{Lifetime, Znode};

use idempotency::Results;
use quota::Quotas;

/// The znodes that exist from the start and cannot be deleted, parents first.
const BUILT_IN: [&str; 4] = ["/", "/zookeeper", CONFIG, "/zookeeper/quota"];
/// The one that shows the members of the cluster.
const CONFIG: &str = "/zookeeper/config";

/// The replicated state at one zxid. A clone is O(1).
#[derive(Clone)]
pub struct Tree {
    nodes: HashMap<ZnodePath, Arc<Znode>>,
    sessions: OrdMap<SessionId, Arc<Session>>,
    /// Of each node: its incarnation and the last seq that was taken up.
    origins: OrdMap<NodeId, (u64, u64)>,
    results: Results,
    /// The access control lists in use, with the number of znodes that use them.
    acls: OrdMap<AclList, u64>,
    /// Derived from the znodes below `/zookeeper/quota` and those that they speak of.
    quotas: Quotas,
    /// Derived from the znodes below `/roost/policies`.
    policies: Policies,
    /// How many providers are the children of a path; of those paths that have any. Derived from the ephemerals.
    providers: HashMap<ZnodePath, u64>,
    /// Derived from the znodes at the places of services.
    services: Services,
    /// Childless container and TTL znodes by the time from which they may be deleted.
    due: OrdSet<(u64, ZnodePath)>,
    zxid: Zxid,
    /// How many sessions were ever opened: the low 56 bits of the latest id.
    sessions_opened: u64,
    /// [`SESSIONS_MAX`]; tests have less.
    sessions_max: usize,
    time: TxnTime,
    /// Wrapping sum of the hashes of all records.
    rolling: u64,
    data_bytes: u64,
    ephemerals: u64,
}

impl fmt::Debug for Tree {
    /// Shows what identifies a state, not its million znodes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (znodes, sessions) = (self.znode_count(), self.session_count());
        write!(
            f,
            "Tree at zxid {}: {znodes} znodes, {sessions} sessions, digest {}",
            self.zxid,
            self.digest()
        )
    }
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    /// Returns the state before any transaction: `/`, `/zookeeper`, `/zookeeper/quota` and
    /// `/zookeeper/config`, the last readable to all and writable only to `super`. As in ZooKeeper these
    /// were never counted as created, hence `/` starts with cversion -1 and `/zookeeper` with -2.
    pub fn new() -> Tree {
        let mut tree = Tree::empty();
        for path in BUILT_IN {
            let path = ZnodePath::parse(path).expect("the built-in paths are valid");
            let acl = match path.as_str() {
                CONFIG => vec![Acl {
                    perms: Perms::READ,
                    id: AclId { scheme: "world".to_owned(), id: "anyone".to_owned() },
                }],
                _ => Vec::new(),
            };
            let acl = lists::intern(&mut tree.acls, acl);
            let data = Some(Data::new(&[]));
            tree.link(&path, Znode { data, acl, ..Znode::default() }, false);
        }
        tree
    }

    /// As [`Tree::new`], with another bound than [`SESSIONS_MAX`].
    #[cfg(test)]
    pub(crate) fn with_room_for(sessions_max: usize) -> Tree {
        Tree { sessions_max, ..Tree::new() }
    }

    /// Returns a tree without even a root, to be filled.
    fn empty() -> Tree {
        Tree {
            nodes: HashMap::new(),
            sessions: OrdMap::new(),
            origins: OrdMap::new(),
            results: Results::default(),
            acls: OrdMap::new(),
            quotas: Quotas::new(),
            policies: Policies::default(),
            providers: HashMap::new(),
            services: Services::default(),
            due: OrdSet::new(),
            zxid: Zxid(0),
            sessions_opened: 0,
            sessions_max: SESSIONS_MAX,
            time: TxnTime::default(),
            rolling: 0,
            data_bytes: 0,
            ephemerals: 0,
        }
    }

    /// Applies one transaction of the log, `time` being that of its batch; a time earlier than one seen
    /// before counts as that one. Returns what it did. An origin with node 0 is not tracked: such a
    /// transaction is always taken up. Cost: O(log n) per znode it touches.
    pub fn apply(&mut self, time: TxnTime, txn: &Txn) -> Outcome {
        if let Some(ignored) = self.ignored(txn.origin) {
            return ignored;
        }
        let Origin { node, incarnation, seq } = txn.origin;
        if (1..=NODE_ID_MAX).contains(&node) {
            self.set_origin(node, (incarnation, seq));
        }
        self.time.wall_ms = self.time.wall_ms.max(time.wall_ms);
        self.time.cluster_ms = self.time.cluster_ms.max(time.cluster_ms);
        self.zxid = self.zxid.next();
        Outcome::Applied(self.take_up(txn))
    }

    /// Returns why a transaction of this origin is to be ignored, `None` when it is the next one.
    fn ignored(&self, origin: Origin) -> Option<Outcome> {
        let takes_any: bool = mutant!(M35, true, false);
        if takes_any || !(1..=NODE_ID_MAX).contains(&origin.node) {
            return None;
        }
        let expected = match self.origins.get(&origin.node) {
            None => 1,
            Some(&(incarnation, last)) => match origin.incarnation.cmp(&incarnation) {
                Ordering::Less => return Some(Outcome::Duplicate),
                Ordering::Equal if origin.seq <= last => return Some(Outcome::Duplicate),
                Ordering::Equal => last.saturating_add(1),
                Ordering::Greater => 1,
            },
        };
        (origin.seq != expected).then_some(Outcome::Gap { expected })
    }

    fn take_up(&mut self, txn: &Txn) -> Applied {
        let zxid = self.zxid;
        let key = txn.idempotency_key.as_deref();
        if let Some((zxid, result)) = key.and_then(|key| self.results.get(txn.session, key)) {
            return Applied { zxid, result: result.clone(), events: Vec::new() };
        }
        if let Err(code) = self.check_request(txn) {
            return Applied { zxid, result: Err(Failure::from(code)), events: Vec::new() };
        }
        let mut events = Vec::new();
        let result = self.carry_out(txn, &mut events);
        self.settle_health(&mut events);
        if let Some(key) = key {
            self.keep_result(zxid, txn.session, key, &result);
        }
        Applied { zxid, result, events }
    }

    /// Checks what concerns the transaction itself, not its op. These refusals are not kept for its
    /// idempotency key: nothing was tried, and the same request through the right connection must still be
    /// able to succeed.
    fn check_request(&self, txn: &Txn) -> Result<(), Code> {
        if txn.origin.node > NODE_ID_MAX || !idempotency::is_valid(txn.idempotency_key.as_deref()) {
            return Err(Code::BadArguments);
        }
        self.check_session(txn.session, txn.owner)
    }
}
