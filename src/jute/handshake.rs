//! The first message of each side of a connection.

use super::wire::record;
use crate::types::{Data, SessionId};

record! {
    /// A client's first message. It has no header.
    pub struct ConnectRequest {
        /// Always 0.
        pub protocol_version: i32,
        /// The greatest zxid that the client has seen: a server that is not there yet must not serve it.
        pub last_zxid_seen: i64,
        /// The session timeout that it wishes, ms, of any sign.
        pub timeout_ms: i32,
        /// The session to attach to, or [`SessionId::NONE`] to open one.
        pub session: SessionId,
        /// The session's secret; null, empty or zeros for a new one.
        pub password: Option<Data>,
        /// Whether a server without a quorum will do; `None` from clients before 3.4, which do not say.
        pub read_only: Option<bool>,
    }

    /// The server's first message. It has no header.
    pub struct ConnectResponse {
        /// Always 0.
        pub protocol_version: i32,
        /// The session's timeout, ms; 0 when the session that the client named does not exist any more.
        pub timeout_ms: i32,
        /// The session; [`SessionId::NONE`] as above.
        pub session: SessionId,
        /// Its secret, 16 bytes; zeros as above.
        pub password: Option<Data>,
        /// Whether this server is without a quorum. `None` to clients that did not say: they would take the
        /// byte for the start of the next frame.
        pub read_only: Option<bool>,
    }
}

impl ConnectResponse {
    /// Returns the answer that a client takes for the end of its session. `request` is what it answers.
    pub fn expired(request: &ConnectRequest) -> ConnectResponse {
        ConnectResponse {
            protocol_version: 0,
            timeout_ms: 0,
            session: SessionId::NONE,
            password: Some(Data::new(&[0; 16])),
            read_only: request.read_only.map(|_| false),
        }
    }
}
