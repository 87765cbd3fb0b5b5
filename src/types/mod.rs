//! The vocabulary: every value that crosses a border between modules.
//!
//! A request travels as `bytes → Op → Txn → Batch → Applied → bytes`. The types of that chain live here and nowhere
//! else; they hold no rules beyond their own well-formedness (a [`ZnodePath`] is always a valid path), do no I/O, and
//! know neither clock nor thread.
//!
//! Two families of failure are kept apart. A [`Code`] is part of the replicated truth: every node computes the same one
//! for the same transaction and the client gets it as an answer. An [`Error`] is operational: this attempt did not
//! work, and it says whether to retry, to give up, or that the outcome is unknown.

mod acl;
mod address;
mod code;
mod error;
mod event;
mod ids;
mod member;
mod op;
mod path;
mod stat;

pub use acl::{Acl, AclId, AclList, Perms};
pub use address::{normal_host, parse_address, says_ip};
pub use code::Code;
pub use error::Error;
pub use event::{Event, EventKind};
pub use ids::{Digest, NodeId, Origin, Owner, SessionId, Zxid};
pub use member::{ClusterId, ClusterStatus, Member, MemberStatus};
pub use op::{
    Applied, CreateMode, Data, Failure, Op, Outcome, Password, Reply, Silence, Txn, TxnTime,
};
pub use path::{PathError, ZnodePath};
pub use stat::Stat;
