use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a transaction was refused: deterministic, the same on every node, and the client's answer.
/// Source: ZooKeeper `KeeperException.Code`; [`Code::number`] gives its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Code {
    /// A later op of the same multi failed, or an earlier one did and this was not tried.
    RuntimeInconsistency,
    /// The request's bytes do not parse.
    MarshallingError,
    /// The op does not exist or is switched off.
    Unimplemented,
    /// An argument has no meaning here: a bad path, a bad TTL, deleting the root.
    BadArguments,
    /// The znode, or the parent of the one to create, does not exist.
    NoNode,
    /// The access control list forbids it.
    NoAuth,
    /// The expected version is not the present one.
    BadVersion,
    /// An ephemeral znode cannot have children.
    NoChildrenForEphemerals,
    /// The znode exists already.
    NodeExists,
    /// The znode to delete has children.
    NotEmpty,
    /// The session is unknown, closed or expired.
    SessionExpired,
    /// The access control list to set is not well formed.
    InvalidAcl,
    /// The credentials are wrong.
    AuthFailed,
    /// The session has been re-attached through another connection.
    SessionMoved,
    /// A quota forbids it.
    QuotaExceeded,
}

impl Code {
    /// Returns ZooKeeper's number, always negative.
    pub fn number(self) -> i32 {
        match self {
            Code::RuntimeInconsistency => -2,
            Code::MarshallingError => -5,
            Code::Unimplemented => -6,
            Code::BadArguments => -8,
            Code::NoNode => -101,
            Code::NoAuth => -102,
            Code::BadVersion => -103,
            Code::NoChildrenForEphemerals => -108,
            Code::NodeExists => -110,
            Code::NotEmpty => -111,
            Code::SessionExpired => -112,
            Code::InvalidAcl => -114,
            Code::AuthFailed => -115,
            Code::SessionMoved => -118,
            Code::QuotaExceeded => -125,
        }
    }

    /// Returns the stable name of the code in JSON answers, snake_case.
    pub fn name(self) -> &'static str {
        match self {
            Code::RuntimeInconsistency => "runtime_inconsistency",
            Code::MarshallingError => "marshalling_error",
            Code::Unimplemented => "unimplemented",
            Code::BadArguments => "bad_arguments",
            Code::NoNode => "no_node",
            Code::NoAuth => "no_auth",
            Code::BadVersion => "bad_version",
            Code::NoChildrenForEphemerals => "no_children_for_ephemerals",
            Code::NodeExists => "node_exists",
            Code::NotEmpty => "not_empty",
            Code::SessionExpired => "session_expired",
            Code::InvalidAcl => "invalid_acl",
            Code::AuthFailed => "auth_failed",
            Code::SessionMoved => "session_moved",
            Code::QuotaExceeded => "quota_exceeded",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Code::RuntimeInconsistency => "not done because another op of the same multi failed",
            Code::MarshallingError => "the request's bytes do not parse",
            Code::Unimplemented => "no such operation",
            Code::BadArguments => "bad arguments",
            Code::NoNode => "no such znode",
            Code::NoAuth => "not permitted by the access control list",
            Code::BadVersion => "the version is not the expected one",
            Code::NoChildrenForEphemerals => "an ephemeral znode cannot have children",
            Code::NodeExists => "the znode exists already",
            Code::NotEmpty => "the znode has children",
            Code::SessionExpired => "the session does not exist or has ended",
            Code::InvalidAcl => "the access control list is not well formed",
            Code::AuthFailed => "wrong credentials",
            Code::SessionMoved => "the session has moved to another connection",
            Code::QuotaExceeded => "a quota is exceeded",
        })
    }
}
