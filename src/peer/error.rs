use std::fmt;

use crate::limits::{PEER_PAYLOAD_BYTES_MAX, PEER_REASON_CHARS_MAX};

use super::frame::FrameError;

/// Why a call or a stream did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// No connection, or it was lost before the answer: what was sent may or may not have been done. The text
    /// says why.
    Unreachable(String),
    /// The handshake was refused, by either side, for this reason: waiting does not help, somebody has to
    /// change something.
    Refused(String),
    /// The remote's handler answered with this error, or does not know the kind.
    Failed(String),
    /// No answer within the time given: it may or may not have been done.
    Timeout,
    /// The payload of this many bytes exceeds `PEER_PAYLOAD_BYTES_MAX`; nothing was sent.
    TooLarge(usize),
    /// This side is shutting down.
    Stopping,
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerError::Unreachable(why) => write!(f, "unreachable: {why}"),
            PeerError::Refused(why) => write!(f, "refused: {why}"),
            PeerError::Failed(why) => write!(f, "failed on the remote node: {why}"),
            PeerError::Timeout => f.write_str("no answer in time"),
            PeerError::TooLarge(bytes) => {
                write!(
                    f,
                    "a payload of {bytes} bytes exceeds the limit of {PEER_PAYLOAD_BYTES_MAX}"
                )
            }
            PeerError::Stopping => f.write_str("this node is stopping"),
        }
    }
}

impl std::error::Error for PeerError {}

impl From<FrameError> for PeerError {
    fn from(err: FrameError) -> PeerError {
        PeerError::Unreachable(err.to_string())
    }
}

impl From<std::io::Error> for PeerError {
    fn from(err: std::io::Error) -> PeerError {
        PeerError::Unreachable(err.to_string())
    }
}

/// Returns the text as one line of bounded length, fit for a log whoever wrote it.
pub(super) fn one_line(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(PEER_REASON_CHARS_MAX).map(printable).collect()
}
