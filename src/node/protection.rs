//! The leader's part in removal protection: it sees which of the sessions whose end is put off are heard of again, and for
//! which there is room by now. What is decided is decided by the tree, when it applies what is proposed here.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Node;
use super::expirer::{leading_term, propose_as_super};
use super::probing::Probing;
use crate::codec;
use crate::limits::{
    PEER_PAYLOAD_BYTES_MAX, SUSPECT_EPHEMERALS_PER_LOOK_MAX, SUSPECTS_PER_LOOK_MAX,
};
use crate::peer::Kind;
use crate::tree::Fate;
use crate::types::{Error, Op, Owner, SessionId, Silence, ZnodePath};

/// Sessions of which the log says in one tick what becomes of them; `GET /v1/protection` has all that are held.
const REPORTED_PER_TICK_MAX: usize = 100;

/// How long the leader may take to say who is silent.
const ASK_PATIENCE: Duration = Duration::from_secs(1);

/// What a leader knows of sessions whose end is put off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillSilent {
    /// Those that were not heard of since.
    pub sessions: Vec<SessionId>,
    /// Its term: what it says holds for that.
    pub term: u64,
}

impl Node {
    /// Asks the leader which of these sessions, whose end is put off, were not heard of since: their notes go only when it
    /// looks at them again. Error: `NoLeader` when none answers.
    pub async fn still_silent(&self, sessions: &[SessionId]) -> Result<StillSilent, Error> {
        let leader = self.leadership().leader.ok_or(Error::NoLeader)?;
        let silent = if leader == self.id() {
            silent_here(self, sessions)
        } else {
            let payload = codec::encode(&sessions).into();
            let asked = self.inner.peers.call(leader, Kind::Silent, payload, ASK_PATIENCE);
            let answer = asked.await.map_err(|_| Error::NoLeader)?;
            codec::decode(&answer, PEER_PAYLOAD_BYTES_MAX).map_err(Error::Io)?
        };
        silent.ok_or(Error::NoLeader)
    }
}

/// Answers a peer that asks who is still silent.
pub(super) fn serve_silent(node: &Node, payload: &[u8]) -> Result<Bytes, String> {
    let sessions: Vec<SessionId> = codec::decode(payload, PEER_PAYLOAD_BYTES_MAX)?;
    Ok(codec::encode(&silent_here(node, &sessions)).into())
}

/// Returns which of these sessions are still silent; `None` when this node does not lead.
fn silent_here(node: &Node, sessions: &[SessionId]) -> Option<StillSilent> {
    let term = leading_term(node, node.leadership())?;
    let expiry = node.inner.stage.expiry.lock();
    let is_silent = |id: &&SessionId| expiry.is_held(**id) || expiry.is_closing(**id);
    let sessions = sessions.iter().filter(is_silent).copied().collect();
    Some(StillSilent { sessions, term })
}

/// How far the leader has looked.
#[derive(Default)]
pub(super) struct Look {
    /// The note that was looked at last; empty to begin with the first.
    after: String,
}

impl Look {
    /// Looks at the next of the sessions whose end is put off: takes the notes of those that were heard of, and makes those
    /// due for which there is room.
    pub(super) fn go_on(&mut self, node: &Node, probing: &Probing, now_ms: u64) {
        let root = node.inner.stage.root();
        if root.suspect_count() == 0 {
            return;
        }
        let notes = root.suspects_after(&self.after).take(SUSPECTS_PER_LOOK_MAX);
        // What a session owns is read, and this runs between two ticks: one that comes late begins all deadlines anew.
        let mut seen = 0;
        let within = notes.take_while(|(_, session)| {
            let is_within = seen < SUSPECT_EPHEMERALS_PER_LOOK_MAX;
            seen += root.session(*session).map_or(0, |record| record.num_ephemerals());
            is_within
        });
        let notes: Vec<(ZnodePath, SessionId)> =
            within.map(|(note, session)| (note.clone(), session)).collect();
        let is_end = notes
            .last()
            .is_none_or(|(last, _)| root.suspects_after(last.as_str()).next().is_none());
        self.after =
            notes.last().filter(|_| !is_end).map_or_else(String::new, |(note, _)| note.to_string());
        let cluster_ms = node.inner.cluster_time.now().cluster_ms;
        for (note, session) in notes {
            // Exactly this note: one that is made later, of another silence, is not meant.
            let forget = |note: ZnodePath| {
                let czxid = root.get(note.as_str()).map(|znode| znode.stat().czxid);
                let candidates = czxid.map(|czxid| (note, czxid)).into_iter().collect();
                propose_as_super(node, Op::Deregister { candidates });
            };
            if root.session(session).is_none() {
                forget(note);
                continue;
            }
            let (is_held, is_closing) = {
                let expiry = node.inner.stage.expiry.lock();
                (expiry.is_held(session), expiry.is_closing(session))
            };
            if !is_held && !is_closing {
                tracing::info!(%session, "a session whose end was put off is heard of again");
                forget(note);
                continue;
            }
            if probing.is_asking(session) {
                continue;
            }
            // That it answered counts for as long as it can be asked whether it still does.
            let answers = root.suspect(session).is_some_and(|suspect| suspect.answers)
                && probing.may_ask(&root, session);
            let why = if answers { Silence::Answers } else { Silence::Silent };
            if matches!(root.fate(session, why, cluster_ms), Fate::Held(_)) {
                probing.again(node, &root, session, answers, now_ms);
            } else {
                node.inner.stage.expiry.lock().release(session, now_ms);
            }
        }
    }
}

/// Says in the log what becomes of sessions that are silent, where that is out of the ordinary.
pub(super) fn report(node: &Node, silent: &[(SessionId, Option<Owner>, Silence)]) {
    let silent = &silent[..silent.len().min(REPORTED_PER_TICK_MAX)];
    let root = node.inner.stage.root();
    let cluster_ms = node.inner.cluster_time.now().cluster_ms;
    for (session, _, why) in silent {
        match root.fate(*session, *why, cluster_ms) {
            Fate::Ends => {}
            Fate::EndsObserved(service) => tracing::warn!(
                %session, %service,
                "a silent session ends; its service has lost more by that than a policy that observes would let it"
            ),
            Fate::Held(suspect) if root.suspect(*session).is_none() => tracing::warn!(
                %session,
                services = ?suspect.services,
                policy = suspect.policy,
                answers = suspect.answers,
                "the end of a silent session is put off"
            ),
            Fate::Held(_) => {}
        }
    }
}
