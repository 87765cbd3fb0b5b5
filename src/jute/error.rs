//! What can be wrong with bytes, and ZooKeeper's numbers for what can be wrong with a request.

use std::fmt;

use crate::types::Code;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end within a value.
    Short,
    /// A length is negative and not -1.
    Length(i32),
    /// The length of a frame is negative or beyond the bound.
    FrameLength(i32),
    /// A text is not UTF-8.
    NotText,
    /// No request has this opcode.
    UnknownOp(i32),
    /// This opcode has no place in a multi of this kind.
    NotInMulti(i32),
    /// No event has this number.
    UnknownEvent(i32),
}

impl DecodeError {
    /// Returns what a server answers to a request that does not decode for this reason. After
    /// [`Code::Unimplemented`] it closes the connection too, as ZooKeeper does.
    pub fn code(self) -> Code {
        match self {
            DecodeError::NotText => Code::BadArguments,
            DecodeError::UnknownOp(_) => Code::Unimplemented,
            DecodeError::Short
            | DecodeError::Length(_)
            | DecodeError::FrameLength(_)
            | DecodeError::NotInMulti(_)
            | DecodeError::UnknownEvent(_) => Code::MarshallingError,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Short => f.write_str("the bytes end within a value"),
            DecodeError::Length(length) => write!(f, "{length} is not a length"),
            DecodeError::FrameLength(length) => write!(f, "a frame of {length} bytes is not taken"),
            DecodeError::NotText => f.write_str("a text is not UTF-8"),
            DecodeError::UnknownOp(opcode) => write!(f, "no request has the opcode {opcode}"),
            DecodeError::NotInMulti(opcode) => {
                write!(f, "the opcode {opcode} has no place in this kind of multi")
            }
            DecodeError::UnknownEvent(number) => write!(f, "no event has the number {number}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Numbers in `err` of a reply that are not a [`Code`]: the tree never answers them, a door does. Source:
/// ZooKeeper `KeeperException.Code`. Java clients throw on a number that they do not know: send no other.
pub mod errors {
    /// All is well.
    pub const OK: i32 = 0;
    /// The server failed.
    pub const SYSTEM_ERROR: i32 = -1;
    /// The members to be would have no quorum.
    pub const NEW_CONFIG_NO_QUORUM: i32 = -13;
    /// Another change of the members is under way.
    pub const RECONFIG_IN_PROGRESS: i32 = -14;
    /// A server without a quorum does not write.
    pub const NOT_READ_ONLY: i32 = -119;
    /// There is no such watch.
    pub const NO_WATCHER: i32 = -121;
    /// Change of the members is switched off.
    pub const RECONFIG_DISABLED: i32 = -123;
    /// The server has too much to do for this request.
    pub const THROTTLED_OP: i32 = -127;
}
