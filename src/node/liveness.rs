//! Which sessions live: nodes report to the leader whom they heard from, the leader closes those that nobody heard from.
//!
//! None of this is in the log except its result, a `CloseSession`. A report that is lost costs nothing but that report: the
//! next one follows within half a tick, and after a leader change every session has its full timeout again.
//!
//! A *touch* is fire and forget; a *renewal* is answered once the leader has noted it, so that a client which got the answer
//! knows that its session lives for another timeout from the moment it asked. For that the leader lets a majority confirm it
//! *after* it has noted the report: a later leader then begins with full timeouts after that moment. A node that only takes
//! itself for the leader cannot promise anything, and the report is kept for the real one.
//!
//! That a client has *ended* its connection is reported too, where a policy gives that a meaning, and if this node was well.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::Node;
use super::peers::Peers;
use super::stage::Stage;
use crate::codec;
use crate::limits::{
    LOST_CONNECTIONS_MAX, PEER_PAYLOAD_BYTES_MAX, RENEWALS_MAX, TOUCHES_PER_REPORT_MAX,
};
use crate::peer::Kind;
use crate::raft::Consensus;
use crate::session::Steadiness;
use crate::types::{Error, NodeId, Owner, SessionId};

/// How long one report may take.
const ATTEMPT: Duration = Duration::from_millis(500);

/// A node that does nothing for this long, ms, stood still: its clients may have left it for that.
const STALL_MS: u64 = 1_000;

/// Whether the leader knows a session that it was told about.
pub(super) type Known = bool;

#[derive(Default)]
struct Heard {
    touched: BTreeSet<SessionId>,
    renewals: Vec<(SessionId, oneshot::Sender<Known>)>,
}

/// A session whose client has ended its connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Lost {
    pub(super) session: SessionId,
    /// The connection, which the session belongs to unless it has moved.
    pub(super) owner: Owner,
    /// How long it may live on from when the leader hears of it.
    pub(super) grace_ms: u32,
}

/// What this node has heard since its last report.
pub(super) struct Reports {
    heard: Mutex<Heard>,
    urgent: Notify,
    lost: Mutex<Vec<Lost>>,
    steadiness: Mutex<Steadiness>,
}

impl Default for Reports {
    fn default() -> Reports {
        Reports {
            heard: Mutex::default(),
            urgent: Notify::new(),
            lost: Mutex::default(),
            steadiness: Mutex::new(Steadiness::new(STALL_MS)),
        }
    }
}

impl Reports {
    /// Notes that a session was heard from.
    pub(super) fn touch(&self, session: SessionId) {
        self.heard.lock().touched.insert(session);
    }

    /// Notes that a client has ended its connection. Beyond the bound it is forgotten: the session has its full timeout then.
    pub(super) fn lose(&self, lost: Lost) {
        let mut all = self.lost.lock();
        if all.len() < LOST_CONNECTIONS_MAX {
            all.push(lost);
            self.urgent.notify_one();
        }
    }

    /// Returns for how long, ms, this node has been well.
    pub(super) fn steady_ms(&self, now_ms: u64) -> u64 {
        self.steadiness.lock().steady_ms(now_ms)
    }

    /// Returns how many renewals wait for an answer.
    pub(super) fn renewals_waiting(&self) -> usize {
        self.heard.lock().renewals.len()
    }

    /// Takes back what could not be reported. Returns whether a client waits for it.
    fn put_back(
        &self,
        touched: BTreeSet<SessionId>,
        renewals: Vec<(SessionId, oneshot::Sender<Known>)>,
    ) -> bool {
        let mut heard = self.heard.lock();
        heard.touched.extend(touched);
        heard.renewals.extend(renewals.into_iter().filter(|(_, waiter)| !waiter.is_closed()));
        !heard.renewals.is_empty()
    }

    /// Reports a session at once and returns whether the leader knows it. Waits for as long as there is no leader; the caller
    /// bounds the time.
    pub(super) async fn renew(&self, session: SessionId) -> Result<Known, Error> {
        let (waiter, known) = oneshot::channel();
        {
            let mut heard = self.heard.lock();
            if heard.renewals.len() >= RENEWALS_MAX {
                return Err(Error::Busy {
                    what: "the node's queue of renewals",
                    retry_after_ms: 100,
                });
            }
            heard.renewals.push((session, waiter));
        }
        self.urgent.notify_one();
        known.await.map_err(|_| Error::Stopping)
    }
}

/// Takes a report on the leader: gives each session its full timeout from now. Returns those it does not know, or whose
/// end is under way: a renewal must not be promised what a `CloseSession` in the log takes back.
fn take_report(stage: &Stage, sessions: &[SessionId]) -> Vec<SessionId> {
    let now_ms = stage.clock.now_ms();
    let root = stage.root();
    let mut expiry = stage.expiry.lock();
    let mut unknown = Vec::new();
    for session in sessions {
        let timeout_ms = root.session(*session).map(|record| record.timeout_ms());
        let lives = !expiry.is_closing(*session)
            && timeout_ms.is_some_and(|timeout_ms| expiry.touch(*session, timeout_ms, now_ms));
        if !lives {
            unknown.push(*session);
        }
    }
    unknown
}

/// Sends reports until the node stops: every `interval`, and at once when somebody waits for a renewal. There is one report on
/// its way at a time, so renewals that come meanwhile share the next.
pub(super) async fn report(
    stage: Arc<Stage>,
    reports: Arc<Reports>,
    peers: Arc<Peers>,
    consensus: Consensus,
    interval: Duration,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = reports.urgent.notified() => {}
            () = tokio::time::sleep(interval) => {}
        }
        let leader = consensus.leadership().borrow().leader;
        // With pre-vote a node does not forget a leader that it no longer hears.
        let hears_leader = consensus.age_ms().is_some_and(|age_ms| age_ms <= STALL_MS);
        reports.steadiness.lock().note(stage.clock.now_ms(), leader.is_some() && hears_leader);
        let lost = std::mem::take(&mut *reports.lost.lock());
        let Heard { touched, renewals } = std::mem::take(&mut *reports.heard.lock());
        let mut sessions = touched.clone();
        sessions.extend(renewals.iter().map(|(session, _)| *session));
        if sessions.is_empty() {
            tell_lost(&stage, &peers, leader, &lost).await;
            continue;
        }
        let sessions: Vec<SessionId> = sessions.into_iter().collect();
        match deliver(&stage, &peers, &consensus, &sessions).await {
            Some(unknown) => {
                for (session, waiter) in renewals {
                    // A client that has gone away does not want its answer.
                    let _ = waiter.send(unknown.binary_search(&session).is_err());
                }
                // After what was heard of them before.
                tell_lost(&stage, &peers, leader, &lost).await;
            }
            None => {
                let somebody_waits = reports.put_back(touched, renewals);
                if somebody_waits {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    reports.urgent.notify_one();
                }
            }
        }
    }
}

/// Tells the leader; returns the sessions that it does not know, sorted, or `None` if it could not be told.
async fn deliver(
    stage: &Stage,
    peers: &Peers,
    consensus: &Consensus,
    sessions: &[SessionId],
) -> Option<Vec<SessionId>> {
    let leader = consensus.leadership().borrow().leader?;
    if leader == stage.node {
        return take_confirmed(stage, consensus, sessions).await.ok();
    }
    let mut unknown = Vec::new();
    for part in sessions.chunks(TOUCHES_PER_REPORT_MAX) {
        let payload: Bytes = codec::encode(&part).into();
        let answer = peers.call(leader, Kind::Touch, payload, ATTEMPT).await.ok()?;
        unknown.extend(codec::decode::<Vec<SessionId>>(&answer, PEER_PAYLOAD_BYTES_MAX).ok()?);
    }
    Some(unknown)
}

/// Tells the leader whose clients have gone. What cannot be told at once is forgotten: the longer it takes, the less it
/// means, and the session's timeout ends it anyway.
async fn tell_lost(stage: &Stage, peers: &Peers, leader: Option<NodeId>, lost: &[Lost]) {
    let Some(leader) = leader.filter(|_| !lost.is_empty()) else { return };
    if leader == stage.node {
        take_lost(stage, lost);
        return;
    }
    let payload: Bytes = codec::encode(&lost).into();
    if let Err(why) = peers.call(leader, Kind::Lost, payload, ATTEMPT).await {
        tracing::debug!(%why, "the leader was not told of connections that have ended");
    }
}

/// Takes on the leader that clients have ended their connections: the sessions that still belong to them have their grace.
fn take_lost(stage: &Stage, lost: &[Lost]) {
    let now_ms = stage.clock.now_ms();
    let root = stage.root();
    let mut expiry = stage.expiry.lock();
    for Lost { session, owner, grace_ms } in lost {
        let is_its_own = root.session(*session).is_some_and(|it| it.owner() == Some(*owner));
        if is_its_own && expiry.hasten(*session, *grace_ms, now_ms) {
            tracing::debug!(%session, grace_ms, "its client has ended its connection");
        }
    }
}

/// The peer's side of [`tell_lost`].
pub(super) fn serve_lost(node: &Node, payload: &[u8]) -> Result<Bytes, String> {
    let lost: Vec<Lost> = codec::decode(payload, PEER_PAYLOAD_BYTES_MAX)?;
    take_lost(&node.inner.stage, &lost);
    Ok(Bytes::new())
}

/// The peer's side of [`deliver`]: decodes a report, takes it, and encodes the answer.
pub(super) async fn serve_report(node: &Node, payload: &[u8]) -> Result<Bytes, String> {
    let sessions: Vec<SessionId> = codec::decode(payload, PEER_PAYLOAD_BYTES_MAX)?;
    let unknown = take_confirmed(&node.inner.stage, node.consensus(), &sessions).await?;
    Ok(codec::encode(&unknown).into())
}

/// Takes a report, and then makes sure that this node led when it did.
async fn take_confirmed(
    stage: &Stage,
    consensus: &Consensus,
    sessions: &[SessionId],
) -> Result<Vec<SessionId>, String> {
    let unknown = take_report(stage, sessions);
    let confirming = async {
        let index = consensus.read_index().await.map_err(|refused| refused.to_string())?;
        let mut progress = stage.progress();
        let waiting = progress.wait_for(|now| now.index >= Some(index));
        waiting.await.map_err(|_| Error::Stopping.to_string())
    };
    match tokio::time::timeout(ATTEMPT, confirming).await {
        Ok(confirmed) => confirmed?,
        Err(_) => return Err("no majority confirms that this node leads".into()),
    }
    // An earlier term's leader may have ended some of them, which a new one had not applied yet when it took the report.
    let root = stage.root();
    let is_gone = |session: &SessionId| {
        unknown.binary_search(session).is_ok() || root.session(*session).is_none()
    };
    Ok(sessions.iter().copied().filter(is_gone).collect())
}
