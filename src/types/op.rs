use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Acl, AclId, Code, Event, Origin, Owner, SessionId, Stat, ZnodePath, Zxid};

/// The bytes of a znode. A clone is O(1). Absent data (`Option::<Data>::None`) and empty data are different things and
/// both survive.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Data(Arc<[u8]>);

impl Data {
    /// Copies the bytes.
    pub fn new(bytes: &[u8]) -> Data {
        Data(Arc::from(bytes))
    }
}

impl Deref for Data {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Data;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Data, E> {
                Ok(Data::new(bytes))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Data, E> {
                Ok(Data(Arc::from(bytes)))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The secret that proves a session is one's own.
pub type Password = [u8; 16];

/// Decodes the list of a multi and refuses a multi inside a multi: no such thing is ever done, and bytes that nest it
/// some hundred thousand times would otherwise decode until the stack is used up.
fn flat<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });
    if INSIDE.replace(true) {
        return Err(serde::de::Error::custom("a multi inside a multi"));
    }
    let items = Vec::deserialize(deserializer);
    INSIDE.set(false);
    items
}

/// How long a znode lives and whether its name gets a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CreateMode {
    /// Until it is deleted.
    Persistent,
    /// As above, the name followed by ten digits that grow with each child of the parent.
    PersistentSequential,
    /// Until the session of the transaction ends.
    Ephemeral,
    /// As above, with a sequence number.
    EphemeralSequential,
    /// Until its last child is deleted.
    Container,
    /// Until it has had no children and no change of data for so many ms. Range: 1..=2^40-1.
    Ttl(u64),
    /// As above, with a sequence number.
    TtlSequential(u64),
}

impl CreateMode {
    /// Returns whether the name gets a sequence number.
    pub fn is_sequential(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentSequential
                | CreateMode::EphemeralSequential
                | CreateMode::TtlSequential(_)
        )
    }

    /// Returns whether the znode belongs to the session.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
    }

    /// Returns the TTL in ms of the two TTL modes.
    pub fn ttl_ms(self) -> Option<u64> {
        match self {
            CreateMode::Ttl(ms) | CreateMode::TtlSequential(ms) => Some(ms),
            _ => None,
        }
    }
}

/// A wish to change the replicated state. The doors check all that can be checked without the state before an op is
/// proposed; [`Tree::apply`](crate::tree::Tree::apply) is total over whatever it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Creates a znode.
    Create {
        /// The parent.
        parent: ZnodePath,
        /// The name, or its prefix for sequential modes (then it may be empty).
        name: String,
        /// The data.
        data: Option<Data>,
        /// The rules; empty for open to everyone.
        acl: Vec<Acl>,
        /// The lifetime.
        mode: CreateMode,
    },
    /// Deletes a znode that has no children.
    Delete {
        /// Which.
        path: ZnodePath,
        /// Only if the version is this.
        version: Option<i32>,
    },
    /// Replaces the data.
    SetData {
        /// Of which znode.
        path: ZnodePath,
        /// The new data.
        data: Option<Data>,
        /// Only if the version is this.
        version: Option<i32>,
    },
    /// Replaces the access control list.
    SetAcl {
        /// Of which znode.
        path: ZnodePath,
        /// The new rules; empty for open to everyone.
        acl: Vec<Acl>,
        /// Only if the aversion is this.
        aversion: Option<i32>,
    },
    /// Checks that a znode exists, and its version.
    Check {
        /// Which.
        path: ZnodePath,
        /// Only if the version is this.
        version: Option<i32>,
    },
    /// Does all of the ops or none: `Create`, `Delete`, `DeleteOwn`, `SetData`, `SetOwn`, `SetAcl`, `Check`,
    /// `CheckDue` and `Deregister` only.
    Multi(#[serde(deserialize_with = "flat")] Vec<Op>),
    /// Opens a session; the tree chooses its id.
    OpenSession {
        /// The negotiated timeout.
        timeout_ms: u32,
        /// The secret, chosen at random by the origin.
        password: Password,
        /// The connection it belongs to; `None` for a session that any node may act for.
        owner: Option<Owner>,
    },
    /// Gives a session to another connection.
    AttachSession {
        /// Which.
        session: SessionId,
        /// Its secret.
        password: Password,
        /// Its new owner.
        owner: Option<Owner>,
        /// Its new timeout.
        timeout_ms: u32,
    },
    /// Ends a session and deletes its ephemerals. Also what expiry proposes, with no session in the transaction.
    CloseSession {
        /// Which.
        session: SessionId,
        /// Only if nothing has attached to it since: the owner that the expirer saw. `None` closes in any case.
        unless_moved_from: Option<Option<Owner>>,
    },
    /// Deletes container and TTL znodes that are due; those that are not (any more) are left alone. Proposed by the leader.
    Reap {
        /// The candidates, in path order.
        paths: Vec<ZnodePath>,
    },
    /// Deletes an ephemeral znode of the transaction's own session, as `Delete` does; that of anybody else is `NoAuth`.
    DeleteOwn {
        /// Which.
        path: ZnodePath,
    },
    /// Replaces the data of an ephemeral znode of the transaction's own session, as `SetData` does; another's is `NoAuth`.
    SetOwn {
        /// Of which znode.
        path: ZnodePath,
        /// The new data.
        data: Option<Data>,
    },
    /// Makes `/zookeeper/config` show these members, and as its version the zxid at which it came to show them. Proposed by
    /// the leader. Nothing changes when it does already.
    SetMembers {
        /// A line for each member, each with its end; empty for nothing to show.
        lines: String,
    },
    /// `CloseSession` for a session whose time is up, as the leader of a term has found. In an entry of a later term it does
    /// nothing: it was left over, and that term's leader has given the session its full timeout again. The log knows the
    /// term, so this is settled before the tree sees it.
    ExpireSession {
        /// Which.
        session: SessionId,
        /// The owner that the leader saw.
        unless_moved_from: Option<Owner>,
        /// The term.
        term: u64,
    },
    /// Deletes those of the candidates that are still what was chosen; the others are left alone.
    Deregister {
        /// The znodes that were chosen, each with the zxid at which it was created.
        candidates: Vec<(ZnodePath, Zxid)>,
    },
    /// Ends a session that is silent as `CloseSession` does, or puts its end off where a service would lose too many
    /// providers by it. With a term it is of the leader's own finding, and in an entry of a later term does nothing, as
    /// `ExpireSession`, which it has replaced.
    Expire {
        /// Which.
        session: SessionId,
        /// Only if it still belongs to this owner.
        unless_moved_from: Option<Owner>,
        /// What is known of its silence.
        why: Silence,
        /// The term of the leader who knows of the silence; `None`: it counts whoever leads.
        term: Option<u64>,
    },
    /// Notes whether an instance works, as the leader's probes have found in a term; in an entry of a later term it does
    /// nothing. `NoNode` when there is no such registration any more.
    SetHealth {
        /// The instance.
        path: ZnodePath,
        /// The zxid of its registration.
        czxid: Zxid,
        /// What was found.
        works: bool,
        /// The term.
        term: u64,
    },
    /// Checks that a container or TTL znode is due: that `Reap` would delete it. `BadVersion` when it is not (any more).
    CheckDue {
        /// Which.
        path: ZnodePath,
    },
}

/// What is known of a session that is not heard from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Silence {
    /// Nothing else: its end may be put off.
    Silent,
    /// Nothing listens any more at the addresses that it has registered: its end is not put off.
    Refused,
    /// Somebody has said that it is gone. Only of a session whose end has been put off; else `NoNode`.
    Confirmed,
    /// Its addresses answer: its end is put off for as long as a policy lets it.
    Answers,
}

/// An op with everything that decides its outcome: no clock, session or identity is looked up while it is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// Where it entered the cluster.
    pub origin: Origin,
    /// On whose behalf; [`SessionId::NONE`] for requests without a session.
    pub session: SessionId,
    /// Through which connection the session speaks.
    pub owner: Option<Owner>,
    /// Whom the client has proved to be, and why it does this if it says so. `super` bypasses access control.
    pub authority: Vec<AclId>,
    /// A client's own name for this request: a second transaction with the same session and key gets the first one's
    /// result and changes nothing.
    pub idempotency_key: Option<String>,
    /// The wish.
    pub op: Op,
}

/// The leader's clocks, as carried by a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnTime {
    /// Wall clock, ms since 1970: only for people to read, in `ctime` and `mtime`.
    pub wall_ms: u64,
    /// The cluster's own clock, ms: advances with the leader's monotonic clock, never goes back, decides TTLs.
    pub cluster_ms: u64,
}

/// What a transaction that was carried out answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Of `Create`.
    Created {
        /// The real path, with the sequence number.
        path: ZnodePath,
        /// The new znode's stat.
        stat: Stat,
    },
    /// Of `Delete` and `DeleteOwn`.
    Deleted,
    /// Of `SetData`, `SetOwn`, `SetMembers` and `SetHealth`.
    DataSet {
        /// The stat after it.
        stat: Stat,
    },
    /// Of `SetAcl`.
    AclSet {
        /// The stat after it.
        stat: Stat,
    },
    /// Of `Check` and `CheckDue`, and of `SetMembers` and `SetHealth` when there was nothing to change.
    Checked,
    /// Of `Multi`: one per op, in order.
    Multi(#[serde(deserialize_with = "flat")] Vec<Reply>),
    /// Of `OpenSession` and `AttachSession`.
    Session {
        /// The session.
        session: SessionId,
        /// Its timeout.
        timeout_ms: u32,
    },
    /// Of `CloseSession`, `Expire` and `Reap`.
    Removed {
        /// How many znodes went.
        znodes: u32,
    },
    /// Of `Deregister`.
    Deregistered {
        /// The znodes that went, in the order of the candidates.
        paths: Vec<ZnodePath>,
    },
    /// Of `Expire` when the end of the session is put off.
    Held {
        /// For so long at most, ms of the cluster's clock.
        for_ms: u64,
    },
}

/// Why a transaction was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The reason.
    pub code: Code,
    /// Which op of a multi, from 0.
    pub multi_index: Option<u32>,
}

impl From<Code> for Failure {
    fn from(code: Code) -> Failure {
        Failure { code, multi_index: None }
    }
}

/// What applying one transaction did. A refused one changes nothing but takes a zxid too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the order of all transactions. For a transaction whose idempotency key was seen before: the zxid of
    /// the first.
    pub zxid: Zxid,
    /// The client's answer.
    pub result: Result<Reply, Failure>,
    /// What watchers have to hear, in order.
    pub events: Vec<Event>,
}

/// What the tree did with a transaction of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Took it up, as carried out or as refused.
    Applied(Applied),
    /// Ignored it: this origin's sequence is past it, or the origin has since restarted.
    Duplicate,
    /// Ignored it: this origin's next transaction is `expected`. The origin has to resend from there.
    Gap {
        /// The seq that would have been taken.
        expected: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::Op;
    use crate::codec::{decode, encode};

    #[test]
    fn a_multi_decodes_again_after_one_that_nests_deeper_than_any_stack_was_refused() {
        // Any encoding of a multi of one begins with the tag of the variant and the length of the list.
        let one_level = &encode(&Op::Multi(vec![Op::Multi(Vec::new())]))[..12];
        let bytes = one_level.repeat(400_000);
        assert!(decode::<Op>(&bytes, bytes.len()).unwrap_err().contains("multi inside a multi"));
        let flat = Op::Multi(vec![Op::Reap { paths: Vec::new() }]);
        assert_eq!(decode::<Op>(&encode(&flat), 1000), Ok(flat));
    }
}
