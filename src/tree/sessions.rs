use super::Tree;
use super::path_set::PathSet;
use crate::types::{Code, Event, NodeId, Owner, Password, Reply, SessionId, ZnodePath};

/// Bits of a session id that count; the byte above them names the node.
const COUNTER_BITS: u32 = 56;
/// The greatest counter.
pub(super) const SESSIONS_OPENED_MAX: u64 = (1 << COUNTER_BITS) - 1;

/// A live session, as far as it is replicated: when it was last heard from is not.
#[derive(Clone, Debug)]
pub struct Session {
    pub(super) timeout_ms: u32,
    pub(super) password: Password,
    pub(super) owner: Option<Owner>,
    pub(super) ephemerals: PathSet,
}

impl Session {
    /// Returns the negotiated timeout.
    pub fn timeout_ms(&self) -> u32 {
        self.timeout_ms
    }

    /// Returns the secret that proves the session is one's own.
    pub fn password(&self) -> &Password {
        &self.password
    }

    /// Returns the connection that may write for the session; `None` when any may.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Yields the paths of the znodes that end with the session, in path order.
    pub fn ephemerals(&self) -> impl Iterator<Item = &ZnodePath> {
        self.ephemerals.iter()
    }

    /// Returns how many those are.
    pub fn num_ephemerals(&self) -> usize {
        self.ephemerals.len()
    }
}

impl Tree {
    /// Checks that a transaction may speak for its session: the session lives, and if a connection owns it
    /// then it is this one.
    pub(super) fn check_session(&self, id: SessionId, owner: Option<Owner>) -> Result<(), Code> {
        if id.is_none() {
            return Ok(());
        }
        let session = self.sessions.get(&id).ok_or(Code::SessionExpired)?;
        match session.owner {
            Some(_) if session.owner != owner => Err(Code::SessionMoved),
            _ => Ok(()),
        }
    }

    pub(super) fn open_session(
        &mut self,
        node: NodeId,
        timeout_ms: u32,
        password: Password,
        owner: Option<Owner>,
    ) -> Result<Reply, Code> {
        if self.sessions.len() >= self.sessions_max || self.sessions_opened >= SESSIONS_OPENED_MAX {
            return Err(Code::QuotaExceeded);
        }
        self.sessions_opened += 1;
        let session = SessionId(high_byte(node) << COUNTER_BITS | self.sessions_opened);
        let ephemerals = PathSet::default();
        self.put_session(session, Session { timeout_ms, password, owner, ephemerals });
        Ok(Reply::Session { session, timeout_ms })
    }

    pub(super) fn attach_session(
        &mut self,
        session: SessionId,
        password: &Password,
        owner: Option<Owner>,
        timeout_ms: u32,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        let known = self.sessions.get(&session).ok_or(Code::SessionExpired)?;
        // Every byte is looked at: how long it takes tells nothing about where they differ.
        let difference = known.password.iter().zip(password).fold(0, |sum, (a, b)| sum | (a ^ b));
        if difference != 0 {
            return Err(Code::SessionExpired);
        }
        self.update_session(session, |session| {
            session.owner = owner;
            session.timeout_ms = timeout_ms;
        });
        self.forget_suspect(session, events);
        Ok(Reply::Session { session, timeout_ms })
    }

    /// Ends a session and deletes its ephemerals in path order, all with one zxid.
    pub(super) fn close_session(
        &mut self,
        id: SessionId,
        unless_moved_from: Option<Option<Owner>>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        let session = self.sessions.get(&id).ok_or(Code::SessionExpired)?;
        if unless_moved_from.is_some_and(|seen| seen != session.owner) {
            return Err(Code::SessionMoved);
        }
        let doomed: Vec<ZnodePath> = session.ephemerals().cloned().collect();
        let kept: usize = mutant!(M22, 1, 0);
        let gone = doomed.iter().skip(kept);
        events.extend(gone.filter_map(|path| self.unlink(path)));
        self.remove_session(id);
        self.forget_suspect(id, events);
        Ok(Reply::Removed { znodes: doomed.len() as u32 })
    }
}

/// Returns the high byte of the ids that a node hands out. ZooKeeper reserves 0x80 and 0xff in
/// `ephemeralOwner`, and 0 could make an id look like "no session"; these nodes borrow a neighbour's byte,
/// as the counter alone makes ids unique.
fn high_byte(node: NodeId) -> u64 {
    match node as u8 {
        0 => 1,
        0x80 => 0x7f,
        0xff => 0xfe,
        byte => u64::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::high_byte;
    use crate::tree::Tree;
    use crate::types::{Code, Reply};

    #[test]
    fn so_many_sessions_are_open_at_once_and_no_more() {
        let mut tree = Tree::with_room_for(2);
        let mut open = || tree.open_session(1, 1_000, [0; 16], None);
        let Ok(Reply::Session { session, .. }) = open() else { panic!("there is room") };
        assert!(open().is_ok());
        assert_eq!(open(), Err(Code::QuotaExceeded));
        tree.close_session(session, None, &mut Vec::new()).unwrap();
        assert!(tree.open_session(1, 1_000, [0; 16], None).is_ok(), "one has gone");
    }

    #[test]
    fn no_node_hands_out_a_reserved_high_byte() {
        for node in 0..=1000 {
            assert!(!matches!(high_byte(node), 0 | 0x80 | 0xff));
            assert!(high_byte(node) <= 0xff);
        }
    }
}
