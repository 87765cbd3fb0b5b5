//! A line: how a door that answers in order speaks with the node. One connection has one line.
//!
//! Requests are submitted without waiting; apply leaves answers and notices at the line's near end and rings once per
//! entry; the connection then [looks](Line::look) and finds a root, and with it everything up to that root. Whoever reads
//! that root and sets watches while looking has read and set at one point of history.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use super::admit::reach_of_watch;
use super::lines::{self, Inbox};
use super::outbox::Waiter;
use super::stage::Audience;
use super::{Node, Request};
use crate::limits::{OUTBOX_TXNS_MAX, RENEWALS_MAX, WATCHES_REMOVED_AT_ONCE};
use crate::tree::Tree;
use crate::types::{AclId, Error, Op, Owner, SessionId};
use crate::watch::{WatchMode, WatcherId, Watches, WatchesFull};

/// One connection's line. Dropping it forgets its watches; its session lives on.
pub struct Line {
    node: Node,
    id: WatcherId,
    owner: Owner,
    session: SessionId,
    authority: Vec<AclId>,
    bell: Arc<Notify>,
}

/// The watches of the line that looks.
pub struct OwnWatches<'a> {
    watches: &'a mut Watches,
    id: WatcherId,
}

impl OwnWatches<'_> {
    /// Sets a watch. Error: the node has as many as it may.
    pub fn add(
        &mut self,
        path: &crate::types::ZnodePath,
        mode: WatchMode,
    ) -> Result<(), WatchesFull> {
        self.watches.add(self.id, path, mode)
    }

    /// Takes a watch back. Returns whether it was set.
    pub fn remove(&mut self, path: &str, mode: WatchMode) -> bool {
        self.watches.remove(self.id, path, mode)
    }

    /// Returns whether a watch is set.
    pub fn has(&self, path: &str, mode: WatchMode) -> bool {
        self.watches.has(self.id, path, mode)
    }
}

impl Node {
    /// Opens a line for a connection whose client has proved to be these. Error: `Busy` with 2^30 connections.
    pub fn open_line(&self, authority: Vec<AclId>) -> Result<Line, Error> {
        let stage = &self.inner.stage;
        let connection = stage.connections.fetch_add(1, Ordering::Relaxed);
        let owner = lines::owner(stage.node, stage.incarnation, connection);
        let bell = Arc::new(Notify::new());
        let shared: Arc<[AclId]> = authority.clone().into();
        let id = stage.audience.lock().lines.open(owner, shared, bell.clone())?;
        Ok(Line { node: self.clone(), id, owner, session: SessionId::NONE, authority, bell })
    }

    /// Returns how many writes entered through this node and are not applied here yet.
    pub fn writes_waiting(&self) -> usize {
        self.inner.stage.outbox.lock().len()
    }

    /// Returns how full the node's queues are, in thousandths: those of writes and of renewals.
    pub fn pressure(&self) -> u32 {
        let share = |waiting: usize, max: usize| (waiting.min(max) * 1_000 / max) as u32;
        let writes = share(self.writes_waiting(), OUTBOX_TXNS_MAX);
        writes.max(share(self.inner.reports.renewals_waiting(), RENEWALS_MAX))
    }

    /// Returns for how long this node has been without a leader: zero while it follows one.
    pub fn leaderless_ms(&self) -> u64 {
        self.leaderless_for().as_millis() as u64
    }

    /// Returns the watches of each line that has a session: the session and the paths, each once. Cost: O(all watches).
    pub fn watched_paths(&self) -> Vec<(SessionId, Vec<String>)> {
        let audience = self.inner.stage.audience.lock();
        let lines = &audience.lines;
        let paths = |id| lines.watches.paths_of(id).iter().map(ToString::to_string).collect();
        lines.sessions().map(|(id, session)| (session, paths(id))).collect()
    }

    /// Returns the connections that watch something, the paths watched, and the watches.
    pub fn watch_counts(&self) -> (usize, usize, usize) {
        let audience = self.inner.stage.audience.lock();
        let watches = &audience.lines.watches;
        (watches.watching(), watches.paths(), watches.len())
    }
}

impl Line {
    /// Returns the owner that stands for this connection.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Returns the session that speaks through this line; [`SessionId::NONE`] before there is one.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Returns whom the client has proved to be.
    pub fn authority(&self) -> &[AclId] {
        &self.authority
    }

    /// Adds to whom the client has proved to be; what it says twice counts once.
    pub fn prove(&mut self, who: AclId) {
        if !self.authority.contains(&who) {
            self.authority.push(who);
            let shared: Arc<[AclId]> = self.authority.clone().into();
            self.node.inner.stage.audience.lock().lines.set_authority(self.id, shared);
        }
    }

    /// Lets a session speak through this line from now on. If it has ended or moved meanwhile, the next look says so.
    pub fn bind(&mut self, session: SessionId) {
        self.session = session;
        let stage = &self.node.inner.stage;
        let ringing = {
            let mut audience = stage.audience.lock();
            let root = stage.root();
            audience.lines.bind(self.id, session, &root);
            audience.lines.take_ringing()
        };
        ringing.iter().for_each(|bell| bell.notify_one());
    }

    /// Submits a write without waiting for it: its answer comes to the inbox, after those of the writes before it. The
    /// errors mean that nothing was done, and give the op back.
    pub fn submit(&mut self, op: Box<Op>) -> Result<(), (Error, Box<Op>)> {
        if let Err(error) = self.node.admit_writes() {
            return Err((error, op));
        }
        if let Err(error) = self.node.admit(self.session, &self.authority, &op) {
            return Err((error, op));
        }
        let mut request = Request {
            session: self.session,
            owner: (!self.session.is_none()).then_some(self.owner),
            authority: std::mem::take(&mut self.authority),
            idempotency_key: None,
            op: *op,
        };
        let outcome = self.node.enqueue(&mut request, Waiter::Line(self.id));
        self.authority = request.authority;
        outcome.map_err(|error| (error, Box::new(request.op)))
    }

    /// Returns whether the client may watch a path in this way, and notes it when a policy speaks against it. Error:
    /// `Forbidden`.
    pub fn admit_watch(&self, path: &str, mode: WatchMode) -> Result<(), Error> {
        let reach = reach_of_watch(mode);
        self.node.admit_subscription(self.session, &self.authority, path, reach)
    }

    /// Waits until there is something to look at. Cancelling loses nothing.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Takes the answers that came since the last look, and calls `act` with the root to which they belong: none after its
    /// zxid is among them. Then it takes the notices up to that zxid, if they are wanted; those that are held back only if
    /// `act` says that what will be told could show the state. Returns what `act` does, and whether all notices up to the
    /// root's zxid have been given. `act` runs under the lock that apply needs: it sets watches and looks up a few znodes,
    /// nothing more.
    pub fn look<R>(
        &self,
        inbox: &mut Inbox,
        wants_notices: bool,
        act: impl FnOnce(&Arc<Tree>, &Inbox, OwnWatches<'_>) -> (R, bool),
    ) -> (R, bool) {
        let stage = &self.node.inner.stage;
        let mut audience = stage.audience.lock();
        let root = stage.root();
        let Audience { lines, ahead, .. } = &mut *audience;
        lines.look(self.id, inbox);
        let (done, shows) =
            act(&root, inbox, OwnWatches { watches: &mut lines.watches, id: self.id });
        let at = || ahead.moment(stage.clock.now_ms());
        let has_all = wants_notices && lines.take(self.id, shows, at, inbox);
        (done, has_all)
    }
}

#[cfg(test)]
impl Line {
    /// Ends it, as apply does.
    pub(crate) fn end(&self, why: lines::Ended) {
        self.node.inner.stage.audience.lock().lines.end(self.id, why);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let stage = &self.node.inner.stage;
        stage.audience.lock().lines.close(self.id);
        // In pieces, so that apply never waits for a connection that watched a million paths.
        while !stage.audience.lock().lines.watches.leave(self.id, WATCHES_REMOVED_AT_ONCE) {}
    }
}
