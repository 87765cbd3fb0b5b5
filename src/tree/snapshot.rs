//! The tree as bytes.
//!
//! Layout: the eight bytes `roost-t` and a format number, then records, each its length as a little-endian
//! u32 and its bytes: the clock; origins, sessions and kept results, each kind in ascending order; znodes
//! from the root, parents first and siblings by name; the end, which carries the digest. The same state
//! always gives the same bytes.

use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Tree, Znode};
use crate::codec;
use crate::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use crate::types::{
    Digest, Failure, NodeId, Owner, Password, Reply, SessionId, TxnTime, ZnodePath, Zxid,
};

/// What a snapshot begins with; the last byte is the number of the format.
pub(super) const MAGIC: [u8; 8] = *b"roost-t\x01";

/// One record of a snapshot. The order of the variants is the order in which they come.
#[derive(Serialize, Deserialize)]
pub(super) enum Record {
    Clock { zxid: Zxid, time: TxnTime, sessions_opened: u64 },
    Origin { node: NodeId, incarnation: u64, seq: u64 },
    Session { id: SessionId, timeout_ms: u32, password: Password, owner: Option<Owner> },
    Kept { zxid: Zxid, session: SessionId, key: Arc<str>, result: Arc<Result<Reply, Failure>> },
    Znode { path: ZnodePath, znode: Znode },
    End { digest: Digest, znodes: u64, sessions: u64 },
}

/// Where a writer stands: the last thing it wrote, from which the next one is looked up.
enum Position {
    Start,
    Clock,
    Origin(NodeId),
    Session(SessionId),
    Kept(Zxid),
    Znode(ZnodePath),
    End,
}

/// Writes a tree in chunks, so that whoever drives it can pause in between.
pub struct SnapshotWriter {
    tree: Tree,
    position: Position,
    /// What is left of the record that did not fit into the last chunk.
    pending: Vec<u8>,
}

impl SnapshotWriter {
    /// Starts to write a tree: give it a clone.
    pub fn new(tree: Tree) -> SnapshotWriter {
        SnapshotWriter { tree, position: Position::Start, pending: Vec::new() }
    }

    /// Returns the next chunk, at most [`SNAPSHOT_CHUNK_BYTES_MAX`] bytes, or `None` after the last. Chunks
    /// end between records, unless a record is larger than a chunk. Cost: some hundred znodes.
    pub fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let mut chunk = Vec::with_capacity(SNAPSHOT_CHUNK_BYTES_MAX);
        loop {
            if self.pending.is_empty() {
                match self.next_record() {
                    Some(record) => self.pending = record,
                    None => break,
                }
            }
            if chunk.len() + self.pending.len() <= SNAPSHOT_CHUNK_BYTES_MAX {
                chunk.append(&mut self.pending);
            } else if chunk.is_empty() {
                let rest = self.pending.split_off(SNAPSHOT_CHUNK_BYTES_MAX);
                return Some(std::mem::replace(&mut self.pending, rest));
            } else {
                break;
            }
        }
        (!chunk.is_empty()).then_some(chunk)
    }

    fn next_record(&mut self) -> Option<Vec<u8>> {
        let mut framed = match self.position {
            Position::Start => MAGIC.to_vec(),
            _ => Vec::new(),
        };
        let (record, position) = match self.position {
            Position::Start => {
                let Tree { zxid, time, sessions_opened, .. } = self.tree;
                (Record::Clock { zxid, time, sessions_opened }, Position::Clock)
            }
            Position::Clock => self.after_origin(0),
            Position::Origin(node) => self.after_origin(node),
            Position::Session(id) => self.after_session(id),
            Position::Kept(zxid) => self.after_kept(zxid),
            Position::Znode(ref path) => {
                let next = self.tree.next_in_preorder(&ZnodePath::root(), path);
                self.znode_or_end(next)
            }
            Position::End => return None,
        };
        self.position = position;
        let record = codec::encode(&record);
        framed.extend_from_slice(&(record.len() as u32).to_le_bytes());
        framed.extend_from_slice(&record);
        Some(framed)
    }

    fn after_origin(&self, node: NodeId) -> (Record, Position) {
        match self.tree.origins.range((Bound::Excluded(node), Bound::Unbounded)).next() {
            Some((&node, &(incarnation, seq))) => {
                (Record::Origin { node, incarnation, seq }, Position::Origin(node))
            }
            None => self.after_session(SessionId::NONE),
        }
    }

    fn after_session(&self, id: SessionId) -> (Record, Position) {
        let next = self.tree.sessions.range((Bound::Excluded(id), Bound::Unbounded)).next();
        match mutant!(M11, None, next) {
            Some((&id, session)) => {
                let (timeout_ms, password, owner) =
                    (session.timeout_ms, session.password, session.owner);
                (Record::Session { id, timeout_ms, password, owner }, Position::Session(id))
            }
            None => self.after_kept(Zxid(0)),
        }
    }

    fn after_kept(&self, zxid: Zxid) -> (Record, Position) {
        match self.tree.results.iter_after(zxid).next() {
            Some((&zxid, kept)) => {
                let (key, result) = (Arc::clone(&kept.key), Arc::clone(&kept.result));
                (Record::Kept { zxid, session: kept.session, key, result }, Position::Kept(zxid))
            }
            None => self.znode_or_end(Some(&ZnodePath::root())),
        }
    }

    fn znode_or_end(&self, path: Option<&ZnodePath>) -> (Record, Position) {
        match path.and_then(|path| self.tree.nodes.get_key_value(path.as_str())) {
            Some((path, znode)) => (
                Record::Znode { path: path.clone(), znode: Znode::clone(znode) },
                Position::Znode(path.clone()),
            ),
            None => (
                Record::End {
                    digest: self.tree.digest(),
                    znodes: self.tree.znode_count() as u64,
                    sessions: self.tree.session_count() as u64,
                },
                Position::End,
            ),
        }
    }
}
