//! The leader's part in removal protection: it sees which of the sessions whose end is put off are heard of again, and for
//! which there is room by now. What is decided is decided by the tree, when it applies what is proposed here.

use super::Node;
use super::expirer::propose_as_super;
use super::probing::Probing;
use crate::limits::SUSPECTS_PER_LOOK_MAX;
use crate::tree::Fate;
use crate::types::{Op, Owner, SessionId, Silence, ZnodePath};

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
        let notes: Vec<(ZnodePath, SessionId)> =
            notes.map(|(note, session)| (note.clone(), session)).collect();
        let is_end = notes.len() < SUSPECTS_PER_LOOK_MAX;
        self.after =
            notes.last().filter(|_| !is_end).map_or_else(String::new, |(note, _)| note.to_string());
        let cluster_ms = node.inner.cluster_time.now().cluster_ms;
        for (note, session) in notes {
            if root.session(session).is_none() {
                continue;
            }
            let (is_held, is_closing) = {
                let expiry = node.inner.stage.expiry.lock();
                (expiry.is_held(session), expiry.is_closing(session))
            };
            if !is_held && !is_closing {
                tracing::info!(%session, "a session whose end was put off is heard of again");
                propose_as_super(node, Op::Delete { path: note, version: None });
                continue;
            }
            if probing.is_asking(session) {
                continue;
            }
            let answers = root.suspect(session).is_some_and(|suspect| suspect.answers);
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
