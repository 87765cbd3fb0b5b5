//! What the door measures, under the names that dashboards and alerts know from ZooKeeper.
//!
//! A name stands only where roost has what it means there. What roost has no counterpart of is left out, and listed in
//! docs/ZOOKEEPER.md, so that an alert on it says that there are no data instead of that all is well.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::Door;
use super::meters::Latency;
use super::report::{VERSION, mean, mode};
use crate::node::Tasks;

/// A measure: its name without prefix, what it means, its value.
pub(super) type Gauge = (&'static str, &'static str, f64);

/// What many values of one kind were. The names are those for Prometheus, and those of `mntr`.
struct Summary {
    for_prometheus: [&'static str; 2],
    for_mntr: [&'static str; 5],
    help: &'static str,
    sum: f64,
    /// `None` where only the sum is known.
    count: Option<u64>,
    /// The smallest and the largest, where they are known.
    bounds: Option<(f64, f64)>,
}

macro_rules! summary {
    ($name:literal, $help:literal, $sum:expr, $count:expr, $bounds:expr) => {
        Summary {
            for_prometheus: [concat!($name, "_sum"), concat!($name, "_count")],
            for_mntr: [
                concat!("sum_", $name),
                concat!("cnt_", $name),
                concat!("avg_", $name),
                concat!("min_", $name),
                concat!("max_", $name),
            ],
            help: $help,
            sum: $sum,
            count: $count,
            bounds: $bounds,
        }
    };
}

impl Summary {
    fn gauges_for_prometheus(&self) -> impl Iterator<Item = Gauge> {
        let [sum, count] = self.for_prometheus;
        let count = self.count.map(|value| (count, self.help, value as f64));
        [(sum, self.help, self.sum)].into_iter().chain(count)
    }

    fn gauges_for_mntr(&self) -> impl Iterator<Item = Gauge> {
        let [sum, count, avg, min, max] = self.for_mntr;
        let mean = |count: u64| if count == 0 { 0.0 } else { rounded(self.sum / count as f64) };
        let counted = self.count.into_iter().flat_map(move |value| {
            [(avg, self.help, mean(value)), (count, self.help, value as f64)]
        });
        let bounds = self
            .bounds
            .into_iter()
            .flat_map(move |(least, most)| [(min, self.help, least), (max, self.help, most)]);
        counted.chain(bounds).chain([(sum, self.help, self.sum.round())])
    }
}

/// Returns a mean as ZooKeeper rounds it.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn ms(tasks: Tasks) -> f64 {
    tasks.us as f64 / 1e3
}

fn summaries(door: &Door) -> Vec<Summary> {
    let (meters, measures) = (door.meters(), door.node().measures());
    let of = |latency: &Latency| {
        let (min, _, max) = latency.ms();
        let (seconds, count) = latency.total();
        (seconds * 1e3, Some(count), Some((min as f64, max as f64)))
    };
    let (reads, updates) = (of(&meters.reads), of(&meters.updates));
    let (commits, snapshots) = (measures.log_commits, measures.snapshots);
    let (elections, proposals) = (measures.elections, measures.proposals);
    let [created, deleted, changed, children] = meters.all_fired().map(|count| count as f64);
    vec![
        summary!(
            "readlatency",
            "Time from a request that reads to its reply, ms",
            reads.0,
            reads.1,
            reads.2
        ),
        summary!(
            "updatelatency",
            "Time from a request that writes to its reply, ms",
            updates.0,
            updates.1,
            updates.2
        ),
        summary!(
            "fsynctime",
            "Time of durable commits of the log, ms",
            ms(commits),
            Some(commits.count),
            None
        ),
        summary!(
            "snapshottime",
            "Time of writing snapshots, ms",
            ms(snapshots),
            Some(snapshots.count),
            None
        ),
        summary!(
            "election_time",
            "Time without a known leader before each that this node came to know, ms",
            ms(elections),
            Some(elections.count),
            None
        ),
        summary!(
            "leader_unavailable_time",
            "As election_time: roost serves when it has elected, without a phase in between",
            ms(elections),
            Some(elections.count),
            None
        ),
        summary!(
            "proposal_latency",
            "Time from proposing an entry to its being applied on the leader, ms",
            ms(proposals),
            Some(proposals.count),
            None
        ),
        summary!("node_created_watch_count", "Events sent of znodes created", created, None, None),
        summary!("node_deleted_watch_count", "Events sent of znodes deleted", deleted, None, None),
        summary!("node_changed_watch_count", "Events sent of data set", changed, None, None),
        summary!(
            "node_children_watch_count",
            "Events sent of children that came or went",
            children,
            None,
            None
        ),
    ]
}

/// Returns all measures of the door for Prometheus.
pub(super) fn for_prometheus(door: &Door) -> Vec<Gauge> {
    let mut all = gauges(door);
    summaries(door).iter().for_each(|summary| all.extend(summary.gauges_for_prometheus()));
    all
}

/// Returns all measures of the door under the names of `mntr`, without its prefix.
pub(super) fn for_mntr(door: &Door) -> Vec<Gauge> {
    let mut all = gauges(door);
    summaries(door).iter().for_each(|summary| all.extend(summary.gauges_for_mntr()));
    all
}

fn gauges(door: &Door) -> Vec<Gauge> {
    let tree = door.node().local();
    let meters = door.meters();
    let (min, avg, max) = meters.latency.ms();
    let (received, sent) = meters.packets();
    let (_, paths, watches) = door.node().watch_counts();
    let (from_here, from_elsewhere) = door.connections_by_origin();
    let responses = meters.responses.get();
    let response =
        |of: fn((u64, u64, u64)) -> u64| responses.map_or(-1.0, |sizes| of(sizes) as f64);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed) as f64;
    let mut gauges = vec![
        ("avg_latency", "Mean time from request to reply, ms", rounded(avg)),
        ("min_latency", "Shortest, ms", min as f64),
        ("max_latency", "Longest, ms", max as f64),
        ("packets_received", "Requests of ZooKeeper clients", received as f64),
        ("packets_sent", "Replies and events to ZooKeeper clients", sent as f64),
        ("bytes_received_count", "Bytes of those requests", count(&meters.received_bytes)),
        (
            "last_client_response_size",
            "Bytes of the last reply, -1 before there is one",
            response(|sizes| sizes.0),
        ),
        ("min_client_response_size", "Bytes of the smallest", response(|sizes| sizes.1)),
        ("max_client_response_size", "Bytes of the largest", response(|sizes| sizes.2)),
        ("num_alive_connections", "ZooKeeper connections", (from_here + from_elsewhere) as f64),
        (
            "non_mtls_local_conn_count",
            "Those from this machine, none of which has TLS",
            from_here as f64,
        ),
        ("non_mtls_remote_conn_count", "The others, none of which has TLS", from_elsewhere as f64),
        ("outstanding_tls_handshake", "TLS handshakes under way, of which there are none", 0.0),
        ("outstanding_requests", "Writes not applied yet", door.node().writes_waiting() as f64),
        ("znode_count", "Znodes", tree.znode_count() as f64),
        ("watch_count", "Watches of ZooKeeper clients", watches as f64),
        ("watched_paths", "Paths that they watch", paths as f64),
        ("ephemerals_count", "Ephemeral znodes", tree.ephemeral_count() as f64),
        ("approximate_data_size", "Bytes of all paths and data", tree.data_bytes() as f64),
        ("global_sessions", "Live sessions", tree.session_count() as f64),
        ("local_sessions", "Sessions of one node alone, of which there are none", 0.0),
        ("connection_rejected", "Connections refused at accept", count(&meters.rejected)),
        ("connection_drop_count", "Connections closed", count(&meters.dropped)),
        (
            "connection_drop_probability",
            "Chance that a connection is dropped to spare the node, which roost does not do",
            0.0,
        ),
        (
            "sessionless_connections_expired",
            "Connections closed without ever having had a session",
            count(&meters.sessionless),
        ),
        ("auth_failed_count", "Credentials refused", count(&meters.auth_failed)),
        (
            "max_list_response_size",
            "Bytes of the longest list of names that was sent: some clients take no more than 1 MiB",
            count(&meters.longest_list),
        ),
        ("uptime", "Time since the door opened, ms", door.uptime_ms() as f64),
        (
            "unrecoverable_error_count",
            "1 once the node's store or consensus has failed for good, shortly before it ends",
            f64::from(u8::from(door.node().fatal().is_some())),
        ),
    ];
    gauges.extend(of_the_cluster(door));
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauges.push(("open_file_descriptor_count", "Open files and sockets", open.count() as f64));
    }
    if let Some(max) = open_files_max() {
        gauges.push(("max_file_descriptor_count", "How many there may be", max));
    }
    gauges
}

fn of_the_cluster(door: &Door) -> Vec<Gauge> {
    let (status, measures) = (door.node().local_status(), door.node().measures());
    let voters = status.members.iter().filter(|member| member.voter).count();
    let mut gauges = vec![
        ("quorum_size", "Voters", voters as f64),
        (
            "looking_count",
            "Times that this node came to know another leader",
            measures.elections.count as f64,
        ),
        (
            "stale_sessions_expired",
            "Sessions that this node ended as the leader, since nobody had heard of them",
            measures.expired as f64,
        ),
        (
            "proposal_count",
            "Entries that this node proposed as the leader and that were applied",
            measures.proposals.count as f64,
        ),
    ];
    let Some((last, min, max)) = measures.leading_proposal_bytes() else { return gauges };
    let caught_up = |voter| {
        let members = status.members.iter();
        let others = members.filter(|member| member.member.node != status.node);
        others
            .filter(|member| member.voter == voter && member.lag.is_some_and(|lag| lag < 1_000))
            .count()
    };
    let others = status.members.len().saturating_sub(1);
    gauges.extend([
        ("learners", "Members that follow this leader", others as f64),
        ("synced_followers", "Voters that keep up with it", caught_up(true) as f64),
        ("synced_observers", "Learners that keep up with it", caught_up(false) as f64),
        ("synced_non_voting_followers", "Followers without a vote: roost's are observers", 0.0),
        (
            "pending_syncs",
            "Linearizable reads that wait for a read index",
            measures.reads_waiting as f64,
        ),
        (
            "leader_uptime",
            "Time since this node leads, ms",
            measures.leading_ms.unwrap_or(0) as f64,
        ),
        (
            "last_proposal_size",
            "Bytes of the last entry proposed, -1 before there is one",
            last as f64,
        ),
        ("min_proposal_size", "Bytes of the smallest", min as f64),
        ("max_proposal_size", "Bytes of the largest", max as f64),
    ]);
    gauges
}

fn open_files_max() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

pub(super) fn mntr(door: &Door) -> String {
    let mode = mode(door);
    let mut text = format!("zk_version\t{VERSION}\nzk_server_state\t{mode}\n");
    let peer_state = match mode {
        "leader" => "leading - broadcast",
        "follower" => "following - broadcast",
        "observer" => "observing - broadcast",
        _ => "",
    };
    if !peer_state.is_empty() {
        let _ = writeln!(text, "zk_peer_state\t{peer_state}");
    }
    for (name, _, value) in for_mntr(door) {
        let value = if name.starts_with("avg_") { mean(value) } else { format!("{value}") };
        let _ = writeln!(text, "zk_{name}\t{value}");
    }
    text
}
