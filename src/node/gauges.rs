//! What a node measures about itself, for `/metrics`.

use std::sync::atomic::Ordering;

use super::{Node, spread};
use crate::storage::StorageStats;
use crate::types::Silence;

type Gauge = (&'static str, &'static str, f64);

impl Node {
    /// Returns what the node measures about itself: name, what it means, value.
    pub fn gauges(&self) -> Vec<(&'static str, &'static str, f64)> {
        read(self)
    }
}

/// Returns the present values.
fn read(node: &Node) -> Vec<Gauge> {
    let tree = node.local();
    let status = node.inner.consensus.status();
    let now_ms = node.inner.stage.clock.now_ms();
    let (watches, (lines, notices, lines_held), window_ms, events_per_s) = {
        let mut audience = node.inner.stage.audience.lock();
        let window_ms = audience.pacer.note(now_ms, 0);
        let events_per_s = audience.events.note(now_ms, 0);
        (audience.hub.counters(), audience.lines.counts(), window_ms, events_per_s)
    };
    let expiring = node.inner.stage.expiry.lock().len();
    let outbox = node.writes_waiting();
    let (audited, unaudited) = node.inner.stage.audit.counts();
    let is_leader = status.leader == Some(node.id());
    let mut gauges = vec![
        ("roost_zxid", "Last transaction in this node's state", tree.zxid().0 as f64),
        ("roost_znodes", "Znodes, the built-in ones included", tree.znode_count() as f64),
        ("roost_ephemerals", "Ephemeral znodes", tree.ephemeral_count() as f64),
        ("roost_sessions", "Live sessions", tree.session_count() as f64),
        (
            "roost_suspect_sessions",
            "Silent sessions whose end is put off, lest services lose too many providers at once",
            tree.suspect_count() as f64,
        ),
        (
            "roost_unhealthy_instances",
            "Instances of which the probes fail that the leader makes all the time",
            tree.unhealthy().count() as f64,
        ),
        ("roost_data_bytes", "Bytes of all paths and data", tree.data_bytes() as f64),
        ("roost_quotas", "Paths with a quota", tree.quotas().count() as f64),
        (
            "roost_quotas_exceeded",
            "Paths with more znodes or bytes than a quota that is only reported allows",
            tree.quotas().filter(|(_, quota)| quota.is_exceeded()).count() as f64,
        ),
        ("roost_raft_term", "Raft term", status.term as f64),
        ("roost_raft_is_leader", "Whether this node leads", f64::from(u8::from(is_leader))),
        (
            "roost_raft_has_leader",
            "Whether a leader is known",
            f64::from(u8::from(status.leader.is_some())),
        ),
        ("roost_raft_last_log_index", "Last index in the log", status.last_log.unwrap_or(0) as f64),
        (
            "roost_raft_committed_index",
            "Last index known to be committed",
            status.committed.unwrap_or(0) as f64,
        ),
        ("roost_raft_applied_index", "Last index in the state", status.applied.unwrap_or(0) as f64),
        (
            "roost_raft_snapshot_index",
            "Last index in the newest snapshot",
            status.snapshot.unwrap_or(0) as f64,
        ),
        (
            "roost_snapshot_building",
            "Whether a snapshot is being written",
            f64::from(u8::from(node.inner.snapshots.is_building())),
        ),
        (
            "roost_start_seconds",
            "Time from the start of this node to its state being rebuilt from its disk",
            node.inner.start_ms as f64 / 1e3,
        ),
        (
            "roost_writes_waiting",
            "Writes that entered here and are not applied here",
            outbox as f64,
        ),
        (
            "roost_session_restarts",
            "Times that this node, leading, gave every session its full timeout again, since the start",
            node.inner.stage.restarts.load(Ordering::Relaxed) as f64,
        ),
        ("roost_sessions_tracked", "Sessions in the expiry queue", expiring as f64),
        ("roost_subscriptions", "Watch subscriptions", watches.subscriptions as f64),
        ("roost_lines", "Connections that answer in order", lines as f64),
        ("roost_line_notices", "Notices that wait in them", notices as f64),
        (
            "roost_notify_window_seconds",
            "How far apart one listener is told things, by load",
            window_ms as f64 / 1e3,
        ),
        (
            "roost_notify_deferred",
            "Connections and subscriptions that are held back",
            (lines_held + watches.held) as f64,
        ),
        (
            "roost_notify_active",
            "Policies that spread news at present",
            spread::active(tree.policies(), events_per_s) as f64,
        ),
        (
            "roost_watch_changes",
            "Transactions with events, since the start",
            watches.published as f64,
        ),
        (
            "roost_watch_messages",
            "Messages taken by subscribers, since the start",
            watches.delivered as f64,
        ),
        (
            "roost_watch_overflows",
            "Subscribers that were too slow, since the start",
            watches.overflows as f64,
        ),
        ("roost_audit_lines", "Lines of the audit, since the start", audited as f64),
        (
            "roost_audit_dropped",
            "Lines of the audit that were dropped or not written, since the start",
            unaudited as f64,
        ),
        (
            "roost_policy_denied",
            "Writes and subscriptions that policies have denied here, since the start",
            node.inner.stage.counters.denied.load(Ordering::Relaxed) as f64,
        ),
        (
            "roost_policy_observed",
            "What policies that observe would have denied or done here, since the start",
            node.inner.stage.counters.observed.load(Ordering::Relaxed) as f64,
        ),
        ("roost_watch_ring_bytes", "Bytes of changes kept for resuming", watches.ring_bytes as f64),
    ];
    gauges.extend(expired(node));
    gauges.extend(storage(&node.inner.wal.stats()));
    gauges
}

/// Returns how many sessions this node has seen end by silence since its start, by what was known of that.
fn expired(node: &Node) -> [Gauge; 3] {
    let count = |why: Silence| node.inner.stage.expired[why as usize].load(Ordering::Relaxed);
    // Why a session was held before it ended does not make its silence another.
    let silent = count(Silence::Silent) + count(Silence::Answers);
    [
        (
            "roost_sessions_expired_silent",
            "Sessions that ended because nobody heard of them, since the start",
            silent as f64,
        ),
        (
            "roost_sessions_expired_refused",
            "Sessions that ended because their address refused a probe too, since the start",
            count(Silence::Refused) as f64,
        ),
        (
            "roost_sessions_expired_confirmed",
            "Silent sessions whose end somebody has confirmed, since the start",
            count(Silence::Confirmed) as f64,
        ),
    ]
}

fn storage(stats: &StorageStats) -> [Gauge; 5] {
    [
        ("roost_log_commits", "Durable commits of the log, since the start", stats.commits as f64),
        ("roost_log_entries", "Entries appended to the log, since the start", stats.entries as f64),
        ("roost_log_entry_bytes", "Bytes of those entries", stats.entry_bytes as f64),
        ("roost_log_written_bytes", "Bytes handed to the store", stats.written_bytes as f64),
        (
            "roost_log_commit_seconds",
            "Time spent in durable commits",
            stats.commit_micros_sum as f64 / 1e6,
        ),
    ]
}
