//! The commands of ZooKeeper's AdminServer: what the four-letter words say, as JSON with the names of its fields.
//!
//! As there, the list of words that are answered on the clients' port does not hold here.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};

use super::Door;
use super::measures;
use super::meters::Tally;
use super::report;
use crate::tree::Tree;
use crate::types::{AclId, MemberStatus, SessionId, ZnodePath};

/// The commands that are answered, each with its other names.
pub(super) const COMMANDS: [&[&str]; 23] = [
    &["configuration", "conf", "config"],
    &["connection_stat_reset", "crst"],
    &["connections", "cons"],
    &["dirs"],
    &["dump"],
    &["environment", "env", "envi"],
    &["hash"],
    &["initial_configuration", "icfg"],
    &["is_read_only", "isro"],
    &["last_snapshot", "lsnp"],
    &["leader", "lead"],
    &["monitor", "mntr"],
    &["observers", "obsr"],
    &["ruok"],
    &["server_stats", "srvr"],
    &["stat_reset", "srst"],
    &["stats", "stat"],
    &["system_properties", "sysp"],
    &["voting_view"],
    &["watch_summary", "wchs"],
    &["watches", "wchc"],
    &["watches_by_path", "wchp"],
    &["zabstate"],
];

/// Returns the answer to a command, by any of its names, for somebody with this authority. An unknown one is an answer too, as
/// in ZooKeeper.
pub(super) fn answer(door: &Door, name: &str, authority: &[AclId]) -> Value {
    let command = COMMANDS.iter().find(|names| names.contains(&name)).map(|names| names[0]);
    let mut answer = match command.map(|command| fields(door, command, authority)) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let error = command.is_none().then(|| format!("Unknown command: {name}"));
    answer.insert("command".to_owned(), json!(command.unwrap_or(name)));
    answer.insert("error".to_owned(), json!(error));
    Value::Object(answer)
}

fn fields(door: &Door, command: &str, authority: &[AclId]) -> Value {
    match command {
        "configuration" => configuration(door),
        "initial_configuration" => json!({ "initial_configuration": report::settings(door) }),
        // Of a Java program these are more; here they are the same.
        "environment" | "system_properties" => pairs(&report::envi()),
        "connection_stat_reset" => {
            door.meters().reset_connections();
            json!({})
        }
        "stat_reset" => {
            door.meters().reset();
            json!({})
        }
        "connections" => {
            let all: Vec<Value> =
                door.meters().tallies().iter().map(|tally| connection(door, tally)).collect();
            json!({ "connections": all, "secure_connections": [] })
        }
        "stats" => {
            let mut stats = server_stats(door);
            let all: Vec<Value> =
                door.meters().tallies().iter().map(|tally| short(tally)).collect();
            stats["connections"] = json!(all);
            stats["secure_connections"] = json!([]);
            stats
        }
        "server_stats" => server_stats(door),
        "dirs" => {
            let (snapshots, log) = report::dir_bytes(door);
            json!({ "datadir_size": snapshots, "logdir_size": log })
        }
        "dump" => dump(door, authority),
        "hash" => {
            let tree = door.node().local();
            json!({ "digests": [{ "zxid": tree.zxid().0, "digest": tree.digest().0 }] })
        }
        "is_read_only" => json!({ "read_only": false }),
        "last_snapshot" => {
            let newest = door.node().measures().last_snapshot;
            let (zxid, at_s) =
                newest.map_or((-1, -1), |(zxid, at_ms)| (zxid.0 as i64, at_ms as i64 / 1_000));
            json!({ "zxid": format!("{zxid:x}"), "timestamp": at_s })
        }
        "leader" => leader(door),
        "monitor" => monitor(door),
        "observers" => observers(door),
        "voting_view" => voting_view(door),
        "watch_summary" => {
            let (connections, paths, watches) = door.node().watch_counts();
            json!({
                "num_connections": connections,
                "num_paths": paths,
                "num_total_watches": watches,
            })
        }
        "watches" => {
            let tree = door.node().local();
            let shown = door.node().watched_paths().into_iter().map(|(session, mut paths)| {
                paths.retain(|path| is_found(&tree, path, authority));
                (session.0.to_string(), paths)
            });
            let by_session: BTreeMap<String, Vec<String>> =
                shown.filter(|(_, paths)| !paths.is_empty()).collect();
            json!({ "session_id_to_watched_paths": by_session })
        }
        "watches_by_path" => {
            let tree = door.node().local();
            let by_path: BTreeMap<String, Vec<u64>> = report::watchers(door)
                .into_iter()
                .filter(|(path, _)| is_found(&tree, path, authority))
                .map(|(path, sessions)| (path, numbers(&sessions)))
                .collect();
            json!({ "path_to_session_ids": by_path })
        }
        "zabstate" => zabstate(door),
        _ => json!({}),
    }
}

/// Returns whether somebody could find what is watched, or the place where it is awaited.
fn is_found(tree: &Tree, path: &str, authority: &[AclId]) -> bool {
    ZnodePath::parse(path).is_ok_and(|path| tree.is_found(&path, authority))
}

fn numbers(sessions: &[SessionId]) -> Vec<u64> {
    sessions.iter().map(|session| session.0).collect()
}

/// Returns a measure as a whole number where it is one.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as i64) } else { json!(value) }
}

/// Returns the lines `key=value` of a text as an object.
fn pairs(text: &str) -> Value {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    Value::Object(lines.map(|(key, value)| (key.to_owned(), json!(value))).collect())
}

fn configuration(door: &Door) -> Value {
    let options = door.options();
    json!({
        "client_port": door.address().port(),
        "data_dir": options.data_dir,
        "data_log_dir": options.data_dir,
        "tick_time": options.tick_ms,
        "max_client_cnxns": options.connections_per_address_max,
        "min_session_timeout": options.timeouts_ms.0,
        "max_session_timeout": options.timeouts_ms.1,
        "server_id": door.node().id(),
        "client_port_listen_backlog": -1,
    })
}

/// Returns what is said of a connection beside the server's own figures.
fn short(tally: &Tally) -> Value {
    let (received, sent) = tally.packets();
    json!({
        "remote_socket_address": tally.peer.to_string(),
        "interest_ops": 1,
        "outstanding_requests": tally.queued(),
        "packets_received": received,
        "packets_sent": sent,
    })
}

fn connection(door: &Door, tally: &Tally) -> Value {
    let mut all = short(tally);
    if !tally.session().is_none() {
        let (min, avg, max) = tally.latency.ms();
        all["session_id"] = json!(tally.session().0);
        all["last_operation"] = json!(report::op(tally.last_op.load(Relaxed)));
        all["established"] = json!(tally.since_ms.load(Relaxed));
        all["session_timeout"] = json!(tally.timeout_ms.load(Relaxed));
        all["last_cxid"] = json!(tally.last_xid.load(Relaxed));
        all["last_zxid"] = json!(tally.last_zxid.load(Relaxed));
        all["last_response_time"] = json!(report::last_reply_ms(door, tally));
        all["last_latency"] = json!(tally.last_latency_us.load(Relaxed) / 1_000);
        all["min_latency"] = json!(min);
        all["avg_latency"] = json!(avg.round() as u64);
        all["max_latency"] = json!(max);
    }
    all
}

/// Returns sizes as ZooKeeper names them, -1 each where there is none.
fn sizes(sizes: Option<(i64, i64, i64)>) -> Value {
    let (last, min, max) = sizes.unwrap_or((-1, -1, -1));
    json!({ "last_buffer_size": last, "min_buffer_size": min, "max_buffer_size": max })
}

fn server_stats(door: &Door) -> Value {
    let tree = door.node().local();
    let (received, sent) = door.meters().packets();
    let (min, avg, max) = door.meters().latency.ms();
    let (snapshot_bytes, log_bytes) = report::dir_bytes(door);
    let (from_here, from_elsewhere) = door.connections_by_origin();
    let responses = door.meters().responses.get();
    let responses = sizes(responses.map(|(a, b, c)| (a as i64, b as i64, c as i64)));
    let mut stats = json!({
        "version": report::VERSION,
        "read_only": false,
        "server_stats": {
            "packets_sent": sent,
            "packets_received": received,
            "min_latency": min,
            "avg_latency": avg,
            "max_latency": max,
            "client_response_stats": responses.clone(),
            "data_dir_size": snapshot_bytes,
            "log_dir_size": log_bytes,
            "provider_null": false,
            "num_alive_client_connections": from_here + from_elsewhere,
            "outstanding_requests": door.node().writes_waiting(),
            "server_state": report::mode(door),
            "last_processed_zxid": tree.zxid().0,
            "auth_failed_count": door.meters().auth_failed.load(Relaxed),
            "non_mtlsremote_conn_count": from_elsewhere,
            "non_mtlslocal_conn_count": from_here,
            "uptime": door.uptime_ms(),
        },
        "client_response": responses,
        "node_count": tree.znode_count(),
    });
    if let Some(proposals) = door.node().measures().leading_proposal_bytes() {
        stats["proposal_stats"] = sizes(Some(proposals));
    }
    stats
}

fn dump(door: &Door, authority: &[AclId]) -> Value {
    let tree = door.node().local();
    let shown = tree.sessions().map(|(id, session)| {
        let paths = session.ephemerals().filter(|path| tree.is_found(path, authority));
        (id.0.to_string(), paths.map(ToString::to_string).collect::<Vec<String>>())
    });
    let paths: BTreeMap<String, Vec<String>> =
        shown.filter(|(_, paths)| !paths.is_empty()).collect();
    let deadlines: BTreeMap<String, Vec<u64>> = door
        .node()
        .deadlines()
        .into_iter()
        .map(|(due_ms, sessions)| (due_ms.to_string(), numbers(&sessions)))
        .collect();
    json!({ "expiry_time_to_session_ids": deadlines, "session_id_to_ephemeral_paths": paths })
}

fn leader(door: &Door) -> Value {
    let status = door.node().local_status();
    let members = status.members.iter();
    let leader = members.map(|one| &one.member).find(|one| Some(one.node) == status.leader);
    let host = leader.and_then(|one| one.peer_addr.rsplit_once(':'));
    json!({
        "is_leader": status.leader == Some(status.node),
        "leader_id": status.leader,
        "leader_ip": host.map(|(host, _)| host),
    })
}

fn monitor(door: &Door) -> Value {
    let mut all = Map::new();
    all.insert("version".to_owned(), json!(report::VERSION));
    all.insert("server_state".to_owned(), json!(report::mode(door)));
    let gauges = measures::for_mntr(door).into_iter();
    all.extend(gauges.map(|(name, _, value)| (name.to_owned(), number(value))));
    Value::Object(all)
}

/// Returns the members without a vote, as the leader sees them; elsewhere none.
fn observers(door: &Door) -> Value {
    let status = door.node().local_status();
    let is_leader = status.leader == Some(status.node);
    let learners: Vec<Value> = status
        .members
        .iter()
        .filter(|one| is_leader && !one.voter)
        .map(|one| json!({ "sid": one.member.node, "remote_socket_address": one.member.peer_addr }))
        .collect();
    json!({ "synced_observers": learners.len(), "observers": learners })
}

/// Returns the voters. The second address of a member, which in ZooKeeper serves elections, is that of its HTTP door.
fn voting_view(door: &Door) -> Value {
    let status = door.node().local_status();
    let one = |one: &MemberStatus| {
        let member = &one.member;
        let view = json!({
            "server_addresses": [member.peer_addr],
            "election_addresses": [member.http_addr],
            "client_address": member.zk_addr.as_deref().unwrap_or_default(),
            "learner_type": "participant",
        });
        (member.node.to_string(), view)
    };
    let voters = status.members.iter().filter(|one| one.voter).map(one);
    json!({ "current_config": voters.collect::<Map<_, _>>() })
}

fn zabstate(door: &Door) -> Value {
    let (status, zxid) = (door.node().local_status(), door.node().local().zxid().0);
    let own = status.members.iter().find(|one| one.member.node == status.node);
    let addresses = |address: &str| json!({ "all_addresses": [address], "one": address });
    let state = match status.leader {
        Some(_) if door.node().readiness().is_ok() => "broadcast",
        _ => "election",
    };
    json!({
        "myid": status.node,
        "is_leader": status.leader == Some(status.node),
        "quorum_address": own.map(|one| addresses(&one.member.peer_addr)),
        "election_address": own.map(|one| addresses(&one.member.http_addr)),
        "client_address": own.and_then(|one| one.member.zk_addr.clone()).unwrap_or_default(),
        "voting": own.is_some_and(|one| one.voter),
        "last_zxid": format!("0x{zxid:x}"),
        "zab_epoch": zxid >> 32,
        "zab_counter": zxid & 0xffff_ffff,
        "zabstate": state,
    })
}
