use super::path_set::PathSet;
use super::sessions::SESSIONS_OPENED_MAX;
use super::snapshot::{MAGIC, Record};
use super::{BUILT_IN, Lifetime, Session, Tree, Znode, idempotency, lists};
use crate::codec;
use crate::identity::fix_up;
use crate::limits::{
    DATA_BYTES_MAX, IDEMPOTENCY_BYTES_MAX, IDEMPOTENCY_RESULTS_MAX, NODE_ID_MAX, SESSIONS_MAX,
    TTL_MS_MAX,
};
use crate::types::{Digest, Failure, Reply, SessionId, ZnodePath, Zxid};

/// The longest record: a kept result may be as large as the whole allowance; the rest is for the fields
/// around it.
const RECORD_BYTES_MAX: usize = IDEMPOTENCY_BYTES_MAX + 4096;
/// Clients compare zxids as signed numbers, and each transaction must be able to add one.
const ZXID_MAX: u64 = (i64::MAX / 2) as u64;

/// Builds a tree from the chunks of a [`SnapshotWriter`](super::SnapshotWriter), cut anyhow. Trusts
/// nothing: whatever the bytes are, the result is a tree that keeps all invariants and has the digest that
/// the writer had, or an error that says what is wrong. Holds at most one record beside the tree.
pub struct Loader {
    tree: Tree,
    buffer: Vec<u8>,
    has_header: bool,
    /// The kind of the last record, in the order of [`Record`].
    stage: u8,
    /// From the root to the znode that was read last: their children are still to come.
    open: Vec<Open>,
    end: Option<(Digest, u64, u64)>,
}

/// A znode whose children are being collected.
struct Open {
    path: ZnodePath,
    znode: Znode,
    children: Vec<ZnodePath>,
}

impl Default for Loader {
    fn default() -> Loader {
        Loader::new()
    }
}

impl Loader {
    /// Returns a loader that has read nothing.
    pub fn new() -> Loader {
        Loader {
            tree: Tree::empty(),
            buffer: Vec::new(),
            has_header: false,
            stage: 0,
            open: Vec::new(),
            end: None,
        }
    }

    /// Takes the next bytes. Errors: a sentence that says what is wrong; the loader is of no use after it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        if !self.has_header {
            let Some(header) = self.buffer.first_chunk::<8>() else { return Ok(()) };
            if header[..7] != MAGIC[..7] {
                return Err(
                    "this is not a snapshot of a tree: its first bytes are others".to_owned()
                );
            }
            if header[7] != MAGIC[7] {
                return Err(format!(
                    "the snapshot has format {}, this program reads {}",
                    header[7], MAGIC[7]
                ));
            }
            self.has_header = true;
            at = MAGIC.len();
        }
        while let Some(prefix) = self.buffer[at..].first_chunk::<4>() {
            let len = u32::from_le_bytes(*prefix) as usize;
            if len > RECORD_BYTES_MAX {
                return Err(format!(
                    "a record claims {len} bytes, the limit is {RECORD_BYTES_MAX}"
                ));
            }
            let Some(record) = self.buffer[at + 4..].get(..len) else { break };
            let record = codec::decode(record, RECORD_BYTES_MAX)
                .map_err(|reason| format!("a record does not decode: {reason}"))?;
            self.take(record)?;
            at += 4 + len;
        }
        self.buffer.drain(..at);
        Ok(())
    }

    /// Returns the tree after the last bytes. Errors: the bytes were cut off, or the tree is not the one
    /// that was written.
    pub fn finish(self) -> Result<Tree, String> {
        let Some((digest, znodes, sessions)) = self.end else {
            return Err("the snapshot is cut off before its end".to_owned());
        };
        if !self.buffer.is_empty() {
            return Err(format!("{} bytes follow the end of the snapshot", self.buffer.len()));
        }
        let mut tree = self.tree;
        for path in BUILT_IN {
            if tree.get(path).is_none_or(|znode| znode.lifetime != Lifetime::Persistent) {
                return Err(format!("the snapshot lacks the built-in znode {path}"));
            }
        }
        let (got_znodes, got_sessions) = (tree.znode_count() as u64, tree.session_count() as u64);
        if (got_znodes, got_sessions) != (znodes, sessions) {
            return Err(format!(
                "the snapshot holds {got_znodes} znodes and {got_sessions} sessions, but says {znodes} \
                 and {sessions}"
            ));
        }
        if tree.digest() != digest {
            return Err(format!(
                "the snapshot has the digest {}, but says {digest}",
                tree.digest()
            ));
        }
        tree.find_quotas();
        tree.find_policies();
        tree.find_providers();
        tree.services = tree.found_services();
        Ok(tree)
    }

    fn take(&mut self, record: Record) -> Result<(), String> {
        let stage = match &record {
            Record::Clock { .. } => 1,
            Record::Origin { .. } => 2,
            Record::Session { .. } => 3,
            Record::Kept { .. } => 4,
            Record::Znode { .. } => 5,
            Record::End { .. } => 6,
        };
        let is_in_order = match self.stage {
            0 => stage == 1,
            1..=5 => stage >= self.stage && stage > 1,
            _ => false,
        };
        if !is_in_order {
            return Err(format!("a record of kind {stage} follows one of kind {}", self.stage));
        }
        self.stage = stage;
        match record {
            Record::Clock { zxid, time, sessions_opened } => {
                if zxid.0 > ZXID_MAX || sessions_opened > SESSIONS_OPENED_MAX {
                    return Err(format!(
                        "the counters {zxid} and {sessions_opened} are out of range"
                    ));
                }
                self.tree.zxid = zxid;
                self.tree.time = time;
                self.tree.sessions_opened = sessions_opened;
            }
            Record::Origin { node, incarnation, seq } => {
                let is_next = self.tree.origins.get_max().is_none_or(|(last, _)| *last < node);
                if node == 0 || node > NODE_ID_MAX || !is_next {
                    return Err(format!("the origin {node} is out of range or out of order"));
                }
                self.tree.set_origin(node, (incarnation, seq));
            }
            Record::Session { id, timeout_ms, password, owner } => {
                self.take_session(
                    id,
                    Session { timeout_ms, password, owner, ephemerals: PathSet::default() },
                )?;
            }
            Record::Kept { zxid, session, key, result } => {
                self.take_kept(zxid, session, &key, &result)?
            }
            Record::Znode { path, znode } => self.take_znode(path, znode)?,
            Record::End { digest, znodes, sessions } => {
                while self.close_one() {}
                self.end = Some((digest, znodes, sessions));
            }
        }
        Ok(())
    }

    fn take_session(&mut self, id: SessionId, session: Session) -> Result<(), String> {
        let is_next = self.tree.sessions.get_max().is_none_or(|(last, _)| *last < id);
        let counter = id.0 & SESSIONS_OPENED_MAX;
        if id.is_none() || counter > self.tree.sessions_opened || !is_next {
            return Err(format!("the session {id} is out of range or out of order"));
        }
        if self.tree.session_count() >= SESSIONS_MAX {
            return Err(format!("there are more than {SESSIONS_MAX} sessions"));
        }
        self.tree.put_session(id, session);
        Ok(())
    }

    fn take_kept(
        &mut self,
        zxid: Zxid,
        session: SessionId,
        key: &str,
        result: &Result<Reply, Failure>,
    ) -> Result<(), String> {
        let results = &self.tree.results;
        let is_next = results.last_zxid().is_none_or(|last| last < zxid);
        if zxid.0 == 0 || zxid > self.tree.zxid || !is_next || results.get(session, key).is_some() {
            return Err(format!(
                "the kept result of zxid {zxid} is out of range, out of order or repeated"
            ));
        }
        if !idempotency::is_valid(Some(key)) || results.len() >= IDEMPOTENCY_RESULTS_MAX {
            return Err(format!("the kept result of zxid {zxid} exceeds a limit"));
        }
        self.tree.keep_result(zxid, session, key, result);
        Ok(())
    }

    fn take_znode(&mut self, path: ZnodePath, mut znode: Znode) -> Result<(), String> {
        self.check_znode(&path, &znode)?;
        if let Some(parent) = path.parent_str() {
            while self.open.last().is_some_and(|open| open.path.as_str() != parent) {
                self.close_one();
            }
            let Some(open) = self.open.last_mut() else {
                return Err(format!("the znode {path} does not follow its parent"));
            };
            if open.znode.ephemeral_owner().is_some() {
                return Err(format!("the znode {path} has an ephemeral parent"));
            }
            if open.children.last().is_some_and(|last| *last >= path) {
                return Err(format!("the znode {path} is out of order"));
            }
            open.children.push(path.clone());
        } else if !self.open.is_empty() || self.tree.znode_count() > 0 {
            return Err("the root comes twice".to_owned());
        }
        znode.acl = lists::intern(&mut self.tree.acls, znode.acl.to_vec());
        self.open.push(Open { path, znode, children: Vec::new() });
        Ok(())
    }

    fn check_znode(&self, path: &ZnodePath, znode: &Znode) -> Result<(), String> {
        if znode.data().is_some_and(|data| data.len() > DATA_BYTES_MAX) {
            return Err(format!("the data of {path} exceeds {DATA_BYTES_MAX} bytes"));
        }
        if fix_up(&znode.acl, &[]).as_deref() != Ok(&znode.acl) {
            return Err(format!("the access control list of {path} is not well formed"));
        }
        match znode.lifetime {
            Lifetime::Ephemeral(owner) if !self.tree.sessions.contains_key(&owner) => {
                Err(format!("the ephemeral {path} belongs to {owner}, which is no session"))
            }
            Lifetime::Ttl { ttl_ms, .. } if !(1..=TTL_MS_MAX).contains(&ttl_ms) => {
                Err(format!("the TTL of {path} is out of range"))
            }
            _ => Ok(()),
        }
    }

    /// Enters the deepest open znode into the tree, its children being complete. Returns whether there was
    /// one.
    fn close_one(&mut self) -> bool {
        let Some(Open { path, mut znode, children }) = self.open.pop() else { return false };
        znode.children = PathSet::from_sorted(children);
        if let Some(owner) = znode.ephemeral_owner() {
            self.tree.update_session(owner, |session| session.ephemerals.insert(path.clone()));
        }
        self.tree.put(path, znode);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{MAGIC, Record};
    use super::{Lifetime, Loader, Tree, Znode};
    use crate::codec;
    use crate::limits::{DATA_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX};
    use crate::tree::SnapshotWriter;
    use crate::types::{Acl, AclId, Data, Perms, SessionId, TxnTime, ZnodePath, Zxid};

    fn frame(records: &[Record]) -> Vec<u8> {
        let frames = records
            .iter()
            .map(codec::encode)
            .flat_map(|record| [(record.len() as u32).to_le_bytes().to_vec(), record].concat());
        MAGIC.into_iter().chain(frames).collect()
    }

    fn load(bytes: &[u8]) -> Result<Tree, String> {
        let mut loader = Loader::new();
        loader.push(bytes)?;
        loader.finish()
    }

    fn clock(zxid: u64) -> Record {
        Record::Clock { zxid: Zxid(zxid), time: TxnTime::default(), sessions_opened: 3 }
    }

    fn znode(path: &str) -> Record {
        Record::Znode { path: ZnodePath::parse(path).unwrap(), znode: Znode::default() }
    }

    fn with(path: &str, znode: Znode) -> Record {
        Record::Znode { path: ZnodePath::parse(path).unwrap(), znode }
    }

    #[test]
    fn chunks_are_bounded_and_large_data_survives_being_cut() {
        let mut tree = Tree::new();
        for n in 0..2000usize {
            let len = if n % 700 == 0 { DATA_BYTES_MAX } else { n };
            let path = ZnodePath::parse(&format!("/{n:05}")).unwrap();
            tree.link(
                &path,
                Znode { data: Some(Data::new(&vec![n as u8; len])), ..Znode::default() },
                true,
            );
        }
        let mut writer = SnapshotWriter::new(tree.clone());
        let chunks: Vec<_> = std::iter::from_fn(|| writer.next_chunk()).collect();
        assert!(chunks.iter().all(|chunk| (1..=SNAPSHOT_CHUNK_BYTES_MAX).contains(&chunk.len())));
        let mut loader = Loader::new();
        chunks.iter().for_each(|chunk| loader.push(chunk).unwrap());
        let loaded = loader.finish().unwrap();
        assert_eq!(loaded.recomputed_digest(), tree.digest());
        assert!(
            loaded
                .get("/00700")
                .unwrap()
                .data()
                .unwrap()
                .iter()
                .all(|byte| *byte == 700usize as u8)
        );
        let mut again = SnapshotWriter::new(loaded);
        assert!(std::iter::from_fn(|| again.next_chunk()).eq(chunks));
    }

    #[test]
    fn a_snapshot_that_is_none_or_of_another_format_is_named_so() {
        assert!(load(b"").unwrap_err().contains("cut off"));
        assert!(load(b"PNG\0\0\0\0\0").unwrap_err().contains("not a snapshot"));
        assert!(load(b"roost-t\x02").unwrap_err().contains("format 2"));
        assert!(load(&[&MAGIC[..], &[0xff; 4]].concat()).unwrap_err().contains("limit"));
        let mut whole: Vec<u8> = Vec::new();
        let mut writer = SnapshotWriter::new(Tree::new());
        whole.extend(std::iter::from_fn(|| writer.next_chunk()).flatten());
        assert!(load(&whole).is_ok());
        assert!(load(&[&whole[..], &[0]].concat()).unwrap_err().contains("follow the end"));
    }

    #[test]
    fn records_that_would_break_an_invariant_are_refused() {
        let session = |id| Record::Session {
            id: SessionId(id),
            timeout_ms: 1,
            password: [0; 16],
            owner: None,
        };
        let origin = |node| Record::Origin { node, incarnation: 1, seq: 1 };
        let ephemeral =
            || Znode { lifetime: Lifetime::Ephemeral(SessionId(1)), ..Znode::default() };
        let ttl =
            Znode { lifetime: Lifetime::Ttl { ttl_ms: 0, renewed_ms: 0 }, ..Znode::default() };
        let rule = Acl {
            perms: Perms(99),
            id: AclId { scheme: "world".to_owned(), id: "anyone".to_owned() },
        };
        let listed = Znode { acl: [rule].into(), ..Znode::default() };
        let large =
            Znode { data: Some(Data::new(&vec![0; DATA_BYTES_MAX + 1])), ..Znode::default() };
        for (records, reason) in [
            (vec![znode("/")], "kind 5 follows one of kind 0"),
            (vec![clock(1), clock(1)], "kind 1 follows one of kind 1"),
            (vec![clock(1), znode("/"), session(1)], "kind 3 follows one of kind 5"),
            (vec![clock(u64::MAX)], "out of range"),
            (vec![clock(1), origin(256)], "origin 256"),
            (vec![clock(1), origin(2), origin(2)], "out of order"),
            (vec![clock(1), session(0)], "out of range"),
            (vec![clock(1), session(9)], "out of range"),
            (vec![clock(1), session(2), session(1)], "out of order"),
            (vec![clock(1), znode("/"), znode("/")], "twice"),
            (vec![clock(1), znode("/a")], "does not follow its parent"),
            (vec![clock(1), znode("/"), znode("/b"), znode("/a")], "out of order"),
            (
                vec![clock(1), znode("/"), znode("/a"), znode("/b"), znode("/a/b")],
                "does not follow its parent",
            ),
            (vec![clock(1), znode("/"), with("/e", ephemeral())], "is no session"),
            (
                vec![clock(1), session(1), znode("/"), with("/e", ephemeral()), znode("/e/a")],
                "ephemeral parent",
            ),
            (vec![clock(1), znode("/"), with("/t", ttl)], "TTL"),
            (vec![clock(1), znode("/"), with("/l", listed)], "not well formed"),
            (vec![clock(1), znode("/"), with("/d", large)], "exceeds"),
        ] {
            let error = load(&frame(&records)).expect_err(reason);
            assert!(error.contains(reason), "expected {reason:?}, got {error:?}");
        }
    }
}
