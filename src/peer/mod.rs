//! Node to node: framed, authenticated connections, and on them calls and streams of bytes.
//!
//! ```text
//! Peer::call ─┐                                   ┌─ Handler::call
//!             ├─ Message ─ frame ─ Net ─ frame ─ Message
//! open_stream ┘        (handshake first)          └─ Handler::stream
//! ```
//!
//! A connection is made through the seam [`Net`]: TCP in a process of its own, memory in tests and
//! simulations. It opens with a handshake in which both sides prove that they know the cluster's secret
//! without showing it, agree on the protocol version, and make sure that the right nodes of the right cluster
//! have met; the acceptor's [`Admission`] has the last word, and a refusal carries its reason to the other
//! side. After that a connection is used for one [`Purpose`]: many multiplexed calls, or one stream of frames
//! each way.
//!
//! Invariants:
//! - Whatever arrives is checked and refused, never asserted on. Nothing is allocated ahead of the bytes that
//!   have arrived, beyond one read buffer. Somebody without the secret can make a node hold one handshake
//!   frame per connection and for no longer than the handshake may take.
//! - One connection is one task, which owns the socket. When it ends, for whatever reason, every call that
//!   waits on it fails at once. There is no path on which a call waits for more than its own timeout.
//! - Both sides always talk: a side with nothing to say sends a ping each second, so that a connection
//!   through a network that swallows packets is noticed and replaced, instead of waiting for TCP's own
//!   patience (minutes). Pings are sent by the connection itself and do not wait for handlers.
//! - Every queue is bounded (`limits.rs`) and a full one makes the sender wait, over the socket to the far
//!   side too.
//! - Time is tokio's alone, so that a paused clock drives all of it.
//!
//! What it does not know: openraft, the tree, what a payload means. What it does not do: retry (the caller
//! knows whether a repetition is safe; a call that failed may have been done), encrypt, or authenticate
//! single frames: the checksum guards against damage, the handshake against strangers and mistaken
//! configuration, and only a private network against somebody who can change packets in flight.

mod client;
mod error;
mod frame;
mod handshake;
mod memory;
mod message;
mod net;
mod outbox;
mod server;
mod stream;
#[cfg(test)]
mod tests;

pub use client::Peer;
pub use error::PeerError;
pub use handshake::{Admission, Hello, Identity, PROTOCOL_VERSION, Purpose, Secret};
pub use memory::{MemoryLinks, MemoryNet};
pub use message::Kind;
pub use net::{Acceptor, Duplex, Net, TcpNet};
pub use server::{Handler, serve};
pub use stream::{StreamReceiver, StreamSender};
