//! The near ends of the lines: what apply leaves for each connection of a door that answers in order.
//!
//! Everything here is behind the one lock under which apply publishes the root. So a connection that looks under
//! that lock sees a root, all notices up to it, and the answers to all of its writes up to it: nothing has to be
//! ordered afterwards, and a watch that is set while looking misses nothing and fires for nothing that was seen.
//!
//! Notices may be held back for a while, so that many are told at once. A line that holds is not rung for them, and who
//! looks takes them only to say something that could show the state: a notice never comes after that.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use super::Answer;
use crate::identity::permits;
use crate::limits::{NOTICES_KEPT_MIN, NOTICES_PER_LINE_MAX, NOTICES_TOTAL_MAX};
use crate::tree::Tree;
use crate::types::{
    AclId, Error, Event, NodeId, Op, Owner, Perms, Reply, SessionId, ZnodePath, Zxid,
};
use crate::watch::{
    Agenda, Bounds, Hold, Moment, Notice, Pace, WatcherId, Watches, Whose, turn_of,
};

/// Why a connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its session was closed or has expired, and its ephemerals are gone.
    Closed,
    /// Its session belongs to another connection now.
    Moved,
    /// It did not take its notices, and they became too many.
    Overrun,
    /// This node took over a snapshot of the state: nobody knows which watches fired in between.
    Skipped,
}

/// One line as apply sees it.
pub(super) struct LineState {
    /// The session that speaks through it, once there is one.
    session: SessionId,
    /// What decides when it is its turn, where listeners are told in turns.
    turn: u64,
    owner: Owner,
    authority: Arc<[AclId]>,
    /// In the order in which the writes were submitted; `None` where the outcome is unknown.
    answers: VecDeque<Option<Answer>>,
    notices: VecDeque<Notice>,
    hold: Hold,
    ended: Option<Ended>,
    /// It has been rung and has not looked since.
    is_rung: bool,
    bell: Arc<Notify>,
}

/// What a connection finds when it looks. Reused from one look to the next.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The answers to its writes in their order; `None` where nobody knows the outcome.
    pub answers: VecDeque<Option<Answer>>,
    /// The watches that fired, by zxid.
    pub notices: VecDeque<Notice>,
    /// Set when the connection has to be closed, after what it has been given.
    pub ended: Option<Ended>,
}

/// All lines of a node.
pub(super) struct Lines {
    pub(super) watches: Watches,
    lines: BTreeMap<WatcherId, LineState>,
    by_session: BTreeMap<SessionId, WatcherId>,
    /// In all lines.
    notices: usize,
    agenda: Agenda<WatcherId>,
    /// To be rung when the lock is released: a connection then finds everything of an entry at once.
    ringing: Vec<Arc<Notify>>,
}

impl Lines {
    /// Returns none.
    pub(super) fn new(bounds: Bounds) -> Lines {
        Lines {
            watches: Watches::new(bounds),
            lines: BTreeMap::new(),
            by_session: BTreeMap::new(),
            notices: 0,
            agenda: Agenda::default(),
            ringing: Vec::new(),
        }
    }

    pub(super) fn open(
        &mut self,
        owner: Owner,
        authority: Arc<[AclId]>,
        bell: Arc<Notify>,
    ) -> Result<WatcherId, Error> {
        let busy = Error::Busy { what: "the table of connections", retry_after_ms: 1_000 };
        let id = self.watches.enter().ok_or(busy)?;
        let line = LineState {
            session: SessionId::NONE,
            turn: 0,
            owner,
            authority,
            answers: VecDeque::new(),
            notices: VecDeque::new(),
            hold: Hold::default(),
            ended: None,
            is_rung: false,
            bell,
        };
        self.lines.insert(id, line);
        Ok(id)
    }

    /// Forgets a line, but not its watches.
    pub(super) fn close(&mut self, id: WatcherId) {
        let Some(mut line) = self.lines.remove(&id) else { return };
        self.agenda.release(id, &mut line.hold);
        self.notices -= line.notices.len();
        if self.by_session.get(&line.session) == Some(&id) {
            self.by_session.remove(&line.session);
        }
    }

    /// Ties a session to a line. It ends at once when the session has ended or moved on meanwhile.
    pub(super) fn bind(&mut self, id: WatcherId, session: SessionId, tree: &Tree) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.session = session;
        line.turn = turn_of(&session.0.to_le_bytes());
        let owner = tree.session(session).map(|known| known.owner());
        let is_its_own = owner == Some(Some(line.owner));
        let before = self.by_session.insert(session, id);
        if let Some(before) = before.filter(|before| *before != id) {
            self.end(before, Ended::Moved);
        }
        if !is_its_own {
            self.end(id, if owner.is_none() { Ended::Closed } else { Ended::Moved });
        }
    }

    pub(super) fn set_authority(&mut self, id: WatcherId, authority: Arc<[AclId]>) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.authority = authority;
        }
    }

    /// Moves the answers that wait for a line into its inbox, and why it has ended if it has.
    pub(super) fn look(&mut self, id: WatcherId, inbox: &mut Inbox) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.is_rung = false;
        inbox.ended = line.ended;
        inbox.answers.append(&mut line.answers);
    }

    /// Moves the notices that wait for a line into its inbox, unless they are held back and nothing `shows` the state.
    /// Returns whether the inbox has all of them now.
    pub(super) fn take(
        &mut self,
        id: WatcherId,
        shows: bool,
        at: impl FnOnce() -> Moment,
        inbox: &mut Inbox,
    ) -> bool {
        let Some(line) = self.lines.get_mut(&id) else { return true };
        if line.hold.is_on() && !shows && line.ended.is_none() {
            return false;
        }
        if !line.notices.is_empty() {
            self.agenda.told(id, &mut line.hold, at());
            self.notices -= line.notices.len();
            inbox.notices.append(&mut line.notices);
        }
        true
    }

    /// Leaves an answer for a line that may be gone.
    pub(super) fn answer(&mut self, id: WatcherId, answer: Option<Answer>) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.answers.push_back(answer);
            ring(line, &mut self.ringing);
        }
    }

    /// Fires the watches of one applied transaction, for those who may read what it changed, and rings them or holds them
    /// back. Returns how many notices that were.
    pub(super) fn fire(&mut self, zxid: Zxid, events: &[Event], pace: &Pace<'_>) -> usize {
        if self.watches.is_empty() {
            return 0;
        }
        let mut count = 0;
        let Lines { watches, lines, notices, agenda, ringing, .. } = self;
        for (index, event) in events.iter().enumerate() {
            watches.fire(event, |id, kind, path, whose| {
                let Some(line) = lines.get_mut(&id).filter(|line| line.ended.is_none()) else {
                    return;
                };
                let acl = match whose {
                    Whose::Own => &event.acl,
                    Whose::Parents => &event.parent_acl,
                };
                if !permits(acl, &line.authority, Perms::READ) {
                    return;
                }
                count += 1;
                let is_let_go = !line.notices.is_empty() && !line.hold.is_on();
                let has_room = leave(line, notices, Notice { zxid, kind, path: path.clone() });
                let due_ms = match has_room {
                    true => pace.due_ms(&line.hold, line.turn, index),
                    false => pace.at.now_ms,
                };
                if is_let_go || !agenda.hold(id, &mut line.hold, due_ms, pace.at.now_ms) {
                    ring(line, ringing);
                }
            });
        }
        count
    }

    /// Rings those that are held back until then or earlier.
    pub(super) fn release_until(&mut self, until_ms: u64) {
        for id in self.agenda.due(until_ms) {
            let Some(line) = self.lines.get_mut(&id) else { continue };
            self.agenda.release(id, &mut line.hold);
            ring(line, &mut self.ringing);
        }
    }

    /// Rings those that are held back and have a notice of one of these paths. Cost: O(notices that are held back), unless
    /// there are no paths.
    pub(super) fn release_waiting(&mut self, paths: &HashSet<ZnodePath>) {
        if paths.is_empty() {
            return;
        }
        for id in self.agenda.due(u64::MAX) {
            let Some(line) = self.lines.get_mut(&id) else { continue };
            if line.notices.iter().any(|notice| paths.contains(&notice.path)) {
                self.agenda.release(id, &mut line.hold);
                ring(line, &mut self.ringing);
            }
        }
    }

    /// Returns when [`Lines::release_until`] has somebody to ring; `None` while nobody is held back.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.agenda.next_ms()
    }

    /// Returns the lines to which the latest transaction left a notice of a path that `is_meant`, or which have not taken an
    /// earlier one of a path that it `has_touched`. Cost: O(lines + notices that wait).
    pub(super) fn noticed(
        &self,
        zxid: Zxid,
        is_meant: impl Fn(&ZnodePath) -> bool,
        has_touched: impl Fn(&ZnodePath) -> bool,
    ) -> BTreeSet<WatcherId> {
        let left = |line: &LineState| {
            line.notices.iter().any(|notice| match notice.zxid == zxid {
                true => is_meant(&notice.path),
                false => has_touched(&notice.path),
            })
        };
        self.lines.iter().filter(|(_, line)| left(line)).map(|(id, _)| *id).collect()
    }

    /// Returns whether a line has taken its notices up to a transaction; `None` when it is closed or has to be.
    pub(super) fn has_taken(&self, id: WatcherId, zxid: Zxid) -> Option<bool> {
        let line = self.lines.get(&id).filter(|line| line.ended.is_none())?;
        Some(line.notices.front().is_none_or(|notice| notice.zxid > zxid))
    }

    /// Returns the sessions whose lines would hear of another child of a znode, and the oldest notice that waits in each.
    pub(super) fn following(&self, path: &str) -> Vec<(SessionId, Option<Zxid>)> {
        let lines = self.watches.following(path).into_iter().filter_map(|id| self.lines.get(&id));
        let live = lines.filter(|line| line.ended.is_none());
        live.map(|line| (line.session, line.notices.front().map(|notice| notice.zxid))).collect()
    }

    /// Follows the sessions: ends the line of one that was closed or has moved to another connection.
    pub(super) fn follow(&mut self, op: &Op, reply: &Reply) {
        let (session, owner) = match (op, reply) {
            (Op::AttachSession { session, owner, .. }, Reply::Session { .. }) => {
                (*session, Some(*owner))
            }
            (
                Op::CloseSession { session, .. } | Op::Expire { session, .. },
                Reply::Removed { .. },
            ) => (*session, None),
            _ => return,
        };
        let Some(id) = self.by_session.get(&session).copied() else { return };
        match owner {
            None => self.end(id, Ended::Closed),
            Some(owner) if self.lines.get(&id).is_some_and(|line| Some(line.owner) != owner) => {
                self.end(id, Ended::Moved);
            }
            Some(_) => {}
        }
    }

    /// Ends every line: the state was replaced, and with it what the watches would have said.
    pub(super) fn end_all(&mut self) {
        let all: Vec<WatcherId> = self.lines.keys().copied().collect();
        for id in all {
            self.end(id, Ended::Skipped);
        }
    }

    /// Ends a line: its connection is to be closed.
    pub(super) fn end(&mut self, id: WatcherId, why: Ended) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.ended.get_or_insert(why);
            self.agenda.release(id, &mut line.hold);
            ring(line, &mut self.ringing);
        }
    }

    /// Returns whom to wake, once the lock is released.
    pub(super) fn take_ringing(&mut self) -> Vec<Arc<Notify>> {
        std::mem::take(&mut self.ringing)
    }

    /// Returns the session of each line that has one, in the order of the lines.
    pub(super) fn sessions(&self) -> impl Iterator<Item = (WatcherId, SessionId)> {
        let bound = self.lines.iter().filter(|(_, line)| !line.session.is_none());
        bound.map(|(id, line)| (*id, line.session))
    }

    /// Returns the number of lines, of notices that wait in them, and of lines that are held back.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.lines.len(), self.notices, self.agenda.len())
    }
}

fn ring(line: &mut LineState, ringing: &mut Vec<Arc<Notify>>) {
    if !line.is_rung {
        line.is_rung = true;
        ringing.push(line.bell.clone());
    }
}

/// Leaves a notice for a line. One that has too many is ended instead: its client comes back and is told what it missed.
/// Returns whether there is room for as many again, so that they can be held back.
fn leave(line: &mut LineState, notices: &mut usize, notice: Notice) -> bool {
    let limit = match *notices < NOTICES_TOTAL_MAX {
        true => NOTICES_PER_LINE_MAX,
        false => NOTICES_KEPT_MIN,
    };
    if line.notices.len() >= limit {
        *notices -= line.notices.len();
        line.notices = VecDeque::new();
        line.ended.get_or_insert(Ended::Overrun);
        return false;
    }
    *notices += 1;
    line.notices.push_back(notice);
    line.notices.len() * 2 <= limit
}

/// Returns the owner that stands for a connection of this node.
pub(super) fn owner(node: NodeId, incarnation: u64, connection: u64) -> Owner {
    // Incarnations count starts and connections count within one: 2^40 of them take centuries.
    Owner { node, generation: incarnation << 40 | connection }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_connections_of_a_node_have_one_owner_not_even_over_its_starts() {
        let owners = [(1, 1), (1, 2), (2, 1), (2, 2)].map(|(start, at)| owner(3, start, at));
        for (at, one) in owners.iter().enumerate() {
            assert!(owners[at + 1..].iter().all(|other| other != one), "{one:?}");
        }
    }
}

#[cfg(test)]
#[path = "lines_test.rs"]
mod lines_test;
