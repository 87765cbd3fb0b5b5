//! Who is there: four frames before anything else travels.
//!
//! ```text
//! hello      caller → acceptor   magic, version, cluster, from, to, purpose, nonce
//! challenge  caller ← acceptor   nonce, or a refusal (version)
//! proof      caller → acceptor   HMAC(secret, "caller" hello challenge)
//! welcome    caller ← acceptor   cluster, node, HMAC(secret, "acceptor" hello challenge cluster node);
//!                                or a refusal
//! ```
//!
//! The caller proves itself first, so that a stranger who connects gets nothing that the secret went into.
//! Each proof covers both nonces and everything that was said, and names its side, so that none can be
//! replayed, altered or reflected. Magic and version stand first in a hello, and a refusal is 0 and a text,
//! in every version for ever.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::codec;
use crate::limits::{PEER_FRAME_BYTES_MAX, PEER_HANDSHAKE_BYTES_MAX, PEER_HANDSHAKE_MS_MAX};
use crate::types::NodeId;

use super::error::{PeerError, one_line};
use super::frame::FrameReader;
use super::message::Kind;
use super::net::Duplex;
use super::outbox::FrameWriter;

/// The version of everything that travels between nodes. Nodes of different versions refuse each other.
pub const PROTOCOL_VERSION: u16 = 1;

pub(super) const MAGIC: [u8; 8] = *b"ROOST\0PR";
const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;
const ANSWER_REFUSED: u8 = 0;
const ANSWER_ACCEPTED: u8 = 1;
const PURPOSE_CALLS: u8 = 0;

/// What all nodes of a cluster know and nobody else. Never printed, never sent.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Takes the secret's bytes: at least 16 random ones, or whoever sees a handshake can guess them. An
    /// empty secret lets in everybody who can connect.
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(Arc::from(bytes))
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        parts.iter().for_each(|part| mac.update(part));
        mac
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who this node is to others. Clones share the cluster, which is learnt once.
#[derive(Clone, Debug)]
pub struct Identity {
    node: NodeId,
    cluster: Arc<Mutex<u128>>,
    secret: Secret,
}

impl Identity {
    /// Makes the identity of a node. 0 stands for a node that has no id yet, or no cluster yet.
    pub fn new(node: NodeId, cluster: u128, secret: Secret) -> Identity {
        Identity { node, cluster: Arc::new(Mutex::new(cluster)), secret }
    }

    /// Returns this node's id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns the cluster that this node belongs to; 0 for none yet.
    pub fn cluster(&self) -> u128 {
        *self.cluster.lock()
    }

    /// Makes all handshakes from now on speak for this cluster.
    pub fn set_cluster(&self, cluster: u128) {
        *self.cluster.lock() = cluster;
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Multiplexed calls of any kind.
    Calls,
    /// One stream of this kind.
    Stream(Kind),
}

impl Purpose {
    fn number(self) -> u8 {
        match self {
            Purpose::Calls => PURPOSE_CALLS,
            Purpose::Stream(kind) => kind.number(),
        }
    }

    fn from_number(number: u8) -> Option<Purpose> {
        match number {
            PURPOSE_CALLS => Some(Purpose::Calls),
            _ => Kind::from_number(number).map(Purpose::Stream),
        }
    }
}

/// A caller that has proved to know the secret, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster it belongs to; 0 for none yet.
    pub cluster: u128,
    /// Its node id; 0 for none yet.
    pub from: NodeId,
    /// What it wants to do.
    pub purpose: Purpose,
}

/// Decides who may connect, after secret, version and addressed node have been found right.
pub trait Admission: Send + Sync + 'static {
    /// Lets the caller in, or says in one line why not; the caller gets to read it. Must not block.
    fn admit(&self, hello: &Hello) -> Result<(), String>;
}

/// The frames of a connection whose handshake is done.
pub(super) struct Opened {
    pub(super) reader: FrameReader<ReadHalf<Box<dyn Duplex>>>,
    pub(super) writer: FrameWriter<WriteHalf<Box<dyn Duplex>>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HelloFrame {
    pub(super) cluster: u128,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) purpose: u8,
    pub(super) nonce: [u8; NONCE_BYTES],
}

#[derive(Serialize, Deserialize)]
struct WelcomeFrame {
    cluster: u128,
    node: NodeId,
    proof: [u8; PROOF_BYTES],
}

/// Opens a connection from the caller's side. `to` is the node that must answer; 0 takes whichever does.
pub(super) async fn call_out(
    io: Box<dyn Duplex>,
    identity: &Identity,
    to: NodeId,
    purpose: Purpose,
) -> Result<Opened, PeerError> {
    bounded(async {
        let mut opened = Opened::new(io);
        opened.prove(identity, to, purpose).await?;
        opened.reader.set_limit(PEER_FRAME_BYTES_MAX);
        Ok(opened)
    })
    .await
}

/// Opens a connection from the acceptor's side and returns who called.
pub(super) async fn take_in(
    io: Box<dyn Duplex>,
    identity: &Identity,
    admission: &dyn Admission,
) -> Result<(Hello, Opened), PeerError> {
    bounded(async {
        let mut opened = Opened::new(io);
        match opened.examine(identity, admission).await {
            Ok(hello) => {
                opened.reader.set_limit(PEER_FRAME_BYTES_MAX);
                Ok((hello, opened))
            }
            Err(PeerError::Refused(reason)) => {
                let reason = one_line(&reason);
                opened.writer.write_body(&[&[ANSWER_REFUSED], reason.as_bytes()].concat()).await?;
                opened.writer.shutdown().await?;
                Err(PeerError::Refused(reason))
            }
            Err(err) => Err(err),
        }
    })
    .await
}

async fn bounded<T>(handshake: impl Future<Output = Result<T, PeerError>>) -> Result<T, PeerError> {
    let patience = Duration::from_millis(PEER_HANDSHAKE_MS_MAX);
    timeout(patience, handshake)
        .await
        .unwrap_or_else(|_| Err(PeerError::Unreachable("the handshake took too long".to_owned())))
}

fn refused<T>(reason: impl Into<String>) -> Result<T, PeerError> {
    Err(PeerError::Refused(reason.into()))
}

fn malformed<E>(_: E) -> PeerError {
    PeerError::Unreachable("the other side does not speak the protocol of roost nodes".to_owned())
}

/// Returns the body of a hello.
pub(super) fn hello_body(version: u16, hello: &HelloFrame) -> Vec<u8> {
    [&MAGIC[..], &version.to_le_bytes(), &codec::encode(hello)].concat()
}

fn welcome_said(cluster: u128, node: NodeId) -> [u8; 24] {
    let mut said = [0; 24];
    said[..16].copy_from_slice(&cluster.to_le_bytes());
    said[16..].copy_from_slice(&node.to_le_bytes());
    said
}

impl Opened {
    fn new(io: Box<dyn Duplex>) -> Opened {
        let (reader, writer) = tokio::io::split(io);
        let reader = FrameReader::new(reader, PEER_HANDSHAKE_BYTES_MAX);
        Opened { reader, writer: FrameWriter::new(writer) }
    }

    /// The caller's half of the handshake.
    async fn prove(
        &mut self,
        identity: &Identity,
        to: NodeId,
        purpose: Purpose,
    ) -> Result<(), PeerError> {
        let (cluster, from) = (identity.cluster(), identity.node);
        let hello =
            HelloFrame { cluster, from, to, purpose: purpose.number(), nonce: rand::random() };
        let hello = hello_body(PROTOCOL_VERSION, &hello);
        self.writer.write_body(&hello).await?;
        let challenge = self.answer().await?;
        let proof = identity.secret.mac(&[b"caller", &hello, &challenge]).finalize().into_bytes();
        self.writer.write_body(&proof).await?;
        let welcome = self.answer().await?;
        let welcome: WelcomeFrame =
            codec::decode(&welcome, PEER_HANDSHAKE_BYTES_MAX).map_err(malformed)?;
        let said = welcome_said(welcome.cluster, welcome.node);
        let expected = identity.secret.mac(&[b"acceptor", &hello, &challenge, &said]);
        if expected.verify_slice(&welcome.proof).is_err() {
            return refused("the node that answered does not know the cluster's secret");
        }
        if to != 0 && welcome.node != to {
            return refused(format!("node {} answered instead of node {to}", welcome.node));
        }
        if cluster != 0 && welcome.cluster != 0 && welcome.cluster != cluster {
            return refused(format!("node {} belongs to another cluster", welcome.node));
        }
        Ok(())
    }

    /// Reads an answer of the acceptor and returns what follows its tag, or the refusal.
    async fn answer(&mut self) -> Result<Vec<u8>, PeerError> {
        let body = self.reader.next().await?;
        match body.split_first() {
            Some((&ANSWER_ACCEPTED, rest)) => Ok(rest.to_vec()),
            Some((&ANSWER_REFUSED, reason)) => refused(one_line(&String::from_utf8_lossy(reason))),
            _ => Err(malformed(())),
        }
    }

    /// The acceptor's half of the handshake, up to but without sending a refusal.
    async fn examine(
        &mut self,
        identity: &Identity,
        admission: &dyn Admission,
    ) -> Result<Hello, PeerError> {
        let body = self.reader.next().await?;
        let rest = body.strip_prefix(&MAGIC).ok_or(()).map_err(malformed)?;
        let (version, rest) = rest.split_first_chunk().ok_or(()).map_err(malformed)?;
        let version = u16::from_le_bytes(*version);
        if version != PROTOCOL_VERSION {
            return refused(format!(
                "node {} speaks version {PROTOCOL_VERSION} of the protocol, not {version}",
                identity.node
            ));
        }
        let hello: HelloFrame = codec::decode(rest, PEER_HANDSHAKE_BYTES_MAX).map_err(malformed)?;
        let challenge: [u8; NONCE_BYTES] = rand::random();
        self.writer.write_body(&[&[ANSWER_ACCEPTED], &challenge[..]].concat()).await?;
        let proof = self.reader.next().await?;
        let expected = identity.secret.mac(&[b"caller", &body, &challenge]);
        if expected.verify_slice(&proof).is_err() {
            return refused("the caller does not know the cluster's secret");
        }
        if hello.to != 0 && hello.to != identity.node {
            return refused(format!("this is node {}, not node {}", identity.node, hello.to));
        }
        let Some(purpose) = Purpose::from_number(hello.purpose) else {
            return refused(format!("no stream of kind {} is known here", hello.purpose));
        };
        let caller = Hello { cluster: hello.cluster, from: hello.from, purpose };
        admission.admit(&caller).map_err(PeerError::Refused)?;
        // Only now: admitting the caller may have made its cluster this node's own.
        let (cluster, node) = (identity.cluster(), identity.node);
        let said = welcome_said(cluster, node);
        let proof = identity.secret.mac(&[b"acceptor", &body, &challenge, &said]);
        let welcome = WelcomeFrame { cluster, node, proof: proof.finalize().into_bytes().into() };
        self.writer
            .write_body(&[&[ANSWER_ACCEPTED], &codec::encode(&welcome)[..]].concat())
            .await?;
        Ok(caller)
    }
}
