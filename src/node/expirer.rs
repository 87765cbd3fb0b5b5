//! The leader's housekeeping: ends sessions whose time is up, deletes container and TTL znodes that are due, keeps
//! `/zookeeper/config` in step with the membership, and reports quotas that are exceeded.
//!
//! Every node runs this loop; [`ExpiryGate`] lets only a leader with a quorum act, and makes it start all timeouts over when
//! the deadlines cannot be trusted (a new leadership, a pause of the process, a quorum that was lost and came back).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::outbox::Waiter;
use super::probing::Probing;
use super::{Node, Request, drain, effects, ensemble, protection};
use crate::blocking;
use crate::limits::{CLOCK_UNWRITTEN_MS_MAX, CLOSES_PER_TICK_MAX, REAPS_PER_TICK_MAX};
use crate::raft::{Consensus, Leadership};
use crate::session::{Decision, ExpiryGate, Observation};
use crate::tree::Quota;
use crate::types::{AclId, Op, SessionId, Silence, ZnodePath, Zxid};

/// Time between two looks at the sessions whose end is put off, ms.
const SUSPECTS_INTERVAL_MS: u64 = 500;

/// Time between two looks at what overrides have to show elsewhere, at least.
const EFFECTS_INTERVAL: Duration = Duration::from_millis(500);
/// So many times as long as a look takes nobody looks again, so that the largest cluster costs a tenth of a core.
const EFFECTS_REST: u32 = 10;

/// What is observed of overrides, as the audit says it.
const OVERRIDE: &str = "override";

/// Granularity of housekeeping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Time between two looks at the queue, and the most by which a session ends late.
    pub(super) tick: Duration,
    /// Time between two looks for container and TTL znodes that are due, the most by which one goes late, but for a tick;
    /// and for members that `/zookeeper/config` does not show.
    pub(super) check_interval: Duration,
    /// The oldest acknowledgement by a quorum with which a leader still trusts its deadlines.
    pub(super) quorum_ack_age_ms_max: u64,
}

/// Runs until the node stops.
pub(super) async fn run(
    node: Node,
    consensus: Consensus,
    pace: Pace,
    probing: Probing,
    stop: CancellationToken,
) {
    let tick_ms = pace.tick.as_millis() as u64;
    // A tick that comes a whole tick late means that this process stood still.
    let mut gate = ExpiryGate::new(2 * tick_ms, pace.quorum_ack_age_ms_max);
    let leadership = consensus.leadership();
    let check_interval_ms = pace.check_interval.as_millis() as u64;
    let (mut next_check_ms, mut next_suspects_ms) = (0, 0);
    let mut over_quota = BTreeSet::new();
    let mut suspects = protection::Look::default();
    // Deadlines are multiples of the tick, so the queue is looked at just when they fall.
    let next_tick = || Duration::from_millis(tick_ms - node.inner.stage.clock.now_ms() % tick_ms);
    while stop.run_until_cancelled(tokio::time::sleep(next_tick())).await.is_some() {
        let now_ms = node.inner.stage.clock.now_ms();
        let seen = Observation {
            now_ms,
            leading_term: mutant!(
                M17,
                Some(leadership.borrow().term),
                leading_term(&node, *leadership.borrow())
            ),
            quorum_ack_age_ms: mutant!(M17, Some(0), consensus.quorum_ack_age_ms()),
        };
        match gate.tick(seen) {
            Decision::Hold => {}
            Decision::Restart => {
                // Only who leads is told to.
                let Some(term) = seen.leading_term else { continue };
                tracing::info!(term, "every session has its full timeout again");
                node.inner.stage.expiry.lock().restart_all(now_ms, term);
                node.inner.stage.restarts.fetch_add(1, Ordering::Relaxed);
                probing.clear();
            }
            Decision::Expire => {
                close_expired(&node, &probing, now_ms, seen.leading_term);
                if now_ms >= next_check_ms {
                    next_check_ms = now_ms + check_interval_ms;
                    reap(&node);
                    show_members(&node, &consensus);
                }
                report_quotas(&node, &mut over_quota);
                if now_ms >= next_suspects_ms {
                    next_suspects_ms = now_ms + SUSPECTS_INTERVAL_MS;
                    suspects.go_on(&node, &probing, now_ms);
                }
            }
        }
    }
}

/// Returns the term in which this node leads, once it has applied everything of earlier terms: only then are its sessions
/// the cluster's.
pub(super) fn leading_term(node: &Node, leadership: Leadership) -> Option<u64> {
    (leadership.leader == Some(node.inner.stage.node)
        && node.consensus().applied_term() == Some(leadership.term))
    .then_some(leadership.term)
}

fn close_expired(node: &Node, probing: &Probing, now_ms: u64, leading_term: Option<u64>) {
    let Some(term) = leading_term else { return };
    let expired = node.inner.stage.expiry.lock().expired(now_ms, CLOSES_PER_TICK_MAX);
    if expired.is_empty() {
        return;
    }
    tracing::info!(sessions = expired.len(), "sessions were not heard from");
    let root = node.inner.stage.root();
    let mut ending = Vec::new();
    for session in expired {
        let Some(record) = root.session(session) else {
            node.inner.stage.expiry.lock().remove(session);
            continue;
        };
        let is_held = node.inner.stage.expiry.lock().is_held(session);
        let found = probing.take(session, is_held);
        if found.is_none() && probing.begin(node, &root, session, now_ms) {
            continue;
        }
        ending.push((session, record.owner(), found.unwrap_or(Silence::Silent)));
    }
    protection::report(node, &ending);
    for (session, unless_moved_from, why) in ending {
        // The owner is named so that a session which re-attaches elsewhere before this is applied stays; the term so that
        // what is left over from it does not close a session that the next leader has renewed.
        propose(node, Op::Expire { session, unless_moved_from, why, term: Some(term) });
    }
}

/// Deletes what is due. While something will be, it also writes the cluster's clock to the log now and then, without which
/// the next leader would go on from the last write, however long ago that was.
fn reap(node: &Node) {
    let root = node.inner.stage.root();
    let cluster_ms = node.inner.cluster_time.now().cluster_ms;
    let due = root.reapable(cluster_ms, REAPS_PER_TICK_MAX);
    let (drained, paths) = drain::ends(&root, due);
    for op in drained {
        propose_as_super(node, op);
    }
    let unwritten_ms = cluster_ms.saturating_sub(root.cluster_ms());
    let needs_clock = root.next_due_ms().is_some() || root.suspect_count() > 0;
    let is_behind = needs_clock && unwritten_ms >= CLOCK_UNWRITTEN_MS_MAX;
    if !paths.is_empty() || is_behind {
        propose(node, Op::Reap { paths });
    }
}

/// Keeps what overrides do in step with them until the node stops, while it leads and a quorum has acknowledged it within this
/// time, ms; looks only when something has changed since the last look. Notes once what those would do that only observe.
///
/// A look at a large cluster takes longer than a tick, so it has a thread of its own: between two ticks it would make the next
/// one late, and a late one begins all deadlines anew.
pub(super) async fn show_overrides(
    node: Node,
    consensus: Consensus,
    quorum_ack_age_ms_max: u64,
    stop: CancellationToken,
) {
    let leadership = consensus.leadership();
    let (mut seen, mut observed) = (Zxid(0), BTreeSet::new());
    let (clock, mut pause) = (node.inner.stage.clock.clone(), EFFECTS_INTERVAL);
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = EFFECTS_INTERVAL;
        let is_heard = consensus.quorum_ack_age_ms().is_some_and(|it| it <= quorum_ack_age_ms_max);
        let term = leading_term(&node, *leadership.borrow()).filter(|_| is_heard);
        let root = node.inner.stage.root();
        if term.is_none() || root.zxid() == seen || !effects::is_needed(&root) {
            continue;
        }
        seen = root.zxid();
        let (of, begun_us) = (root.clone(), clock.now_micros());
        let looking = blocking::run(move || (effects::observed(&of), effects::plan(&of)));
        let Some(Ok((now_observed, ops))) = stop.run_until_cancelled(looking).await else { return };
        let took = Duration::from_micros(clock.now_micros().saturating_sub(begun_us));
        pause = pause.max(took * EFFECTS_REST);
        if leading_term(&node, *leadership.borrow()) != term {
            // Whoever leads now looks for itself.
            continue;
        }
        for one in now_observed.difference(&observed) {
            let did = (OVERRIDE, one.path.as_str());
            let why = "it would change what this instance shows".to_owned();
            node.note_observed(&root, SessionId::NONE, did, &one.policy, why);
        }
        observed = now_observed;
        for op in ops {
            // Those who may set overrides need not be permitted to write what other frameworks read.
            propose_as_super(&node, op);
        }
    }
}

/// Keeps `/zookeeper/config` in step with the membership: however it came to differ, it is set again.
fn show_members(node: &Node, consensus: &Consensus) {
    let lines = ensemble::lines(&consensus.status().members);
    if !node.inner.stage.root().shows_members(&lines) {
        propose(node, Op::SetMembers { lines });
    }
}

/// Logs each path that has come to hold more than a quota allows without being enforced.
fn report_quotas(node: &Node, known: &mut BTreeSet<ZnodePath>) {
    let root = node.inner.stage.root();
    known.retain(|path| root.quota(path).is_some_and(Quota::is_exceeded));
    for (path, quota) in root.quotas().filter(|(_, quota)| quota.is_exceeded()) {
        if known.insert(path.clone()) {
            let Quota { znodes, bytes, limits } = quota;
            tracing::warn!(%path, znodes, bytes, ?limits, "a quota is exceeded");
        }
    }
}

/// Proposes without waiting: what is lost or refused is found again at a later tick.
fn propose(node: &Node, op: Op) {
    propose_as(node, Vec::new(), op);
}

/// As [`propose`], whatever access control lists say.
pub(super) fn propose_as_super(node: &Node, op: Op) {
    propose_as(node, vec![AclId { scheme: "super".to_owned(), id: String::new() }], op);
}

fn propose_as(node: &Node, authority: Vec<AclId>, op: Op) {
    let mut request =
        Request { session: SessionId::NONE, owner: None, authority, idempotency_key: None, op };
    let (nobody, _) = tokio::sync::oneshot::channel();
    if let Err(err) = node.enqueue(&mut request, Waiter::Once(nobody)) {
        tracing::debug!(%err, "housekeeping has to wait");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing::create;
    use crate::policy::{Kind, path_of};
    use crate::types::Reply;

    async fn done(node: &Node, op: Op) -> Reply {
        let authority = vec![AclId { scheme: "super".to_owned(), id: String::new() }];
        let request =
            Request { session: SessionId::NONE, owner: None, authority, idempotency_key: None, op };
        node.submit(request).await.unwrap().result.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sessions_end_on_time_however_long_the_leader_looks_after_overrides() {
        let node = Node::in_memory().await;
        let instance = r#"{"host":"10.0.0.5","port":80}"#;
        // All are looked at, and none is meant.
        let overriding =
            r#"{"set_by":"a","reason":"b","pattern":"/i/*","weight":0,"ip":"10.0.0.9"}"#;
        let folders = ["/i", "/roost", "/roost/policies", "/roost/policies/overrides"];
        let mut ops: Vec<Op> = folders.map(|path| create(path, "")).into();
        ops.extend((0..2_000).map(|n| create(&format!("/i/{n}"), instance)));
        let overrides = (0..40).map(|n| path_of(Kind::Overrides, &format!("o{n}")));
        ops.extend(overrides.map(|path| create(&path, overriding)));
        for ops in ops.chunks(500) {
            done(&node, Op::Multi(ops.to_vec())).await;
        }
        let open = Op::OpenSession { timeout_ms: 1_000, password: [0; 16], owner: None };
        let Reply::Session { session, .. } = done(&node, open).await else { panic!() };
        // Each write makes the leader look again.
        let ending = async {
            while node.local().session(session).is_some() {
                let path = ZnodePath::parse("/i").unwrap();
                done(&node, Op::SetData { path, data: None, version: None }).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ending).await.expect("it ends");
        node.stop().await;
    }
}
