//! The language of ZooKeeper's client port: bytes to requests and replies to bytes, and the way back.
//!
//! ```text
//! frame   := int length, then so many bytes
//! hello   := ConnectRequest                              answered by ConnectResponse, neither has a header
//! request := RequestHeader, body by opcode               [`Request`]
//! reply   := ReplyHeader, body if its `err` is 0         [`Response`], laid out by the opcode asked for
//! event   := ReplyHeader with `xid` -1, WatcherEvent
//! ```
//!
//! ZooKeeper generates its records from a file in a language named jute: fields one after the other,
//! big-endian, without tags. Here each record is declared once, with `record!`, and both
//! directions follow from the declaration; the two tables of ops, with `ops!`, likewise. So the
//! client's half, which tests and the load generator need, costs nothing and cannot disagree with the
//! server's.
//!
//! What holds:
//!
//! 1. No bytes make a decoder panic, recurse, or take memory beyond a constant factor of the bytes that it was
//!    given: a length is believed only once as many bytes are there.
//! 2. What was decoded encodes to exactly the bytes that were consumed, with two liberties that ZooKeeper
//!    takes as well: a null string or list is taken for an empty one where the difference means nothing, and
//!    any byte but 0 is true.
//! 3. Bytes behind a record are ignored, as ZooKeeper does: a newer client may have more to say.
//! 4. Decoded values own their bytes. Data of a znode outlives its request by years and would otherwise hold
//!    the whole buffer that it came in.
//!
//! What is deliberately absent: sockets and buffers (a door has them), the meaning of what was decoded
//! (flags, modes, versions and paths are plain numbers and texts here: whether they make sense is the door's
//! and the tree's to say), four-letter words, and the internal records that only ZooKeeper's servers
//! exchange.

mod acl;
mod error;
mod event;
mod frame;
mod handshake;
mod header;
mod ops;
mod request;
mod response;
mod stat;
mod wire;

#[cfg(test)]
mod tests;

pub use error::{DecodeError, errors};
pub use event::{EventType, KEEPER_STATE_CONNECTED, WatcherEvent};
pub use frame::{append_event, append_frame, append_reply, append_request, split_frame};
pub use handshake::{ConnectRequest, ConnectResponse};
pub use header::{ReplyHeader, RequestHeader, xids};
pub use ops::Ops;
pub use request::{
    AddWatch, Auth, Create, CreateTtl, PathVersion, PathWatch, ReadOp, Reconfig, Request, SetAcl,
    SetData, SetWatches, SetWatches2, WatcherKind, WriteOp, opcodes,
};
pub use response::{AclStat, ClientInfo, DataStat, NamesStat, OpResult, PathStat, Response};
pub use wire::{Jute, Reader, Writer};
