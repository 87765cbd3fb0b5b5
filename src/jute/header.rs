//! What stands in front of requests and replies.

use super::wire::record;

record! {
    /// In front of each request.
    pub struct RequestHeader {
        /// The client's number for it, which its reply repeats; see [`xids`] for those with a meaning.
        pub xid: i32,
        /// Which request follows; see [`opcodes`](super::opcodes).
        pub opcode: i32,
    }

    /// In front of each reply and each event.
    pub struct ReplyHeader {
        /// The number of the request that this answers, or [`xids::EVENT`].
        pub xid: i32,
        /// Where the server's state stands: events of all transactions up to here were sent before.
        pub zxid: i64,
        /// 0, or why the request was refused; then no body follows. A [`Code`](crate::types::Code)'s number
        /// or one of [`errors`](super::errors).
        pub err: i32,
    }
}

/// The values of `xid` that are no ordinary request's.
pub mod xids {
    /// An event.
    pub const EVENT: i32 = -1;
    /// A ping and its reply.
    pub const PING: i32 = -2;
    /// Credentials and their reply.
    pub const AUTH: i32 = -4;
    /// The watches of a client that has re-attached, and the reply.
    pub const SET_WATCHES: i32 = -8;
}
