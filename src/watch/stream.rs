use super::Message;
use crate::types::Zxid;

/// Where a client wants its stream to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// With a snapshot of the present state.
    Now,
    /// After what it has seen: an `upto` of this or of another node.
    After(Zxid),
}

/// How a stream begins, or begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It continues where the client stopped: `take` gives what it missed, then what comes.
    Resumed,
    /// It needs a snapshot: the subscriber is lost until [`Hub::restart`](super::Hub::restart).
    Reset,
    /// The client has seen more than this node has applied. Nothing is told until the node is past that
    /// point, and then exactly what follows it. A caller that does not want to wait for a zxid that may be
    /// made up sends a snapshot and calls [`Hub::restart`](super::Hub::restart).
    Ahead,
}

/// What a subscriber is given.
#[derive(Debug)]
pub struct Taken {
    /// What it had not been told, in the order of zxids.
    pub messages: Vec<Message>,
    /// It cannot be told what it missed: there are no messages until it has sent a snapshot and called
    /// [`Hub::restart`](super::Hub::restart).
    pub lost: bool,
    /// There is more to take at once; it is not woken for it.
    pub more: bool,
    /// With these messages it has been told everything up to here, so a client may resume from here even if
    /// no change that concerns it has this zxid. Never goes back, except by a restart from an older snapshot.
    pub upto: Zxid,
}
