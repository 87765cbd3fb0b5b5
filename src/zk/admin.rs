//! The commands of ZooKeeper's AdminServer: what the four-letter words say, as JSON.

use serde_json::{Map, Value, json};

use super::Door;
use super::report;

/// The commands that are answered, each with its other names.
pub(super) const COMMANDS: [&[&str]; 15] = [
    &["configuration", "conf", "config"],
    &["connection_stat_reset", "crst"],
    &["connections", "cons"],
    &["dirs"],
    &["dump"],
    &["environment", "env", "envi"],
    &["hash"],
    &["is_read_only", "isro"],
    &["leader", "lead"],
    &["monitor", "mntr"],
    &["ruok"],
    &["server_stats", "srvr"],
    &["stat_reset", "srst"],
    &["stats", "stat"],
    &["watch_summary", "wchs"],
];

/// Returns the answer to a command, by any of its names. An unknown one is an answer too, as in ZooKeeper.
pub(super) fn answer(door: &Door, name: &str) -> Value {
    let command = COMMANDS.iter().find(|names| names.contains(&name)).map(|names| names[0]);
    let mut answer = match command {
        Some(command) => fields(door, command),
        None => Map::new(),
    };
    let error = command.is_none().then(|| format!("Unknown command: {name}"));
    answer.insert("command".to_owned(), json!(command.unwrap_or(name)));
    answer.insert("error".to_owned(), json!(error));
    Value::Object(answer)
}

fn fields(door: &Door, command: &str) -> Map<String, Value> {
    let value = match command {
        "configuration" => pairs(&report::conf(door)),
        "environment" => pairs(&report::envi()),
        "connection_stat_reset" => {
            door.meters().reset_connections();
            json!({})
        }
        "stat_reset" => {
            door.meters().reset();
            json!({})
        }
        "connections" => json!({ "connections": connections(door), "secure_connections": [] }),
        "stats" => {
            let mut stats = server_stats(door);
            stats["connections"] = json!(connections(door));
            stats
        }
        "server_stats" => server_stats(door),
        "dirs" => {
            let (snapshots, log) = report::dir_bytes(door);
            json!({ "datadir_size": snapshots, "logdir_size": log })
        }
        "dump" => dump(door),
        "hash" => {
            let tree = door.node().local();
            json!({ "digests": [{ "zxid": tree.zxid().0, "digest": tree.digest().0 }] })
        }
        "is_read_only" => json!({ "read_only": false }),
        "leader" => {
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
        "monitor" => {
            let mut all = Map::new();
            all.insert("version".to_owned(), json!(report::VERSION));
            all.insert("server_state".to_owned(), json!(report::mode(door)));
            let gauges = report::gauges(door).into_iter();
            all.extend(gauges.map(|(name, _, value)| (name.to_owned(), number(value))));
            Value::Object(all)
        }
        "watch_summary" => {
            let (connections, paths, watches) = door.node().watch_counts();
            json!({
                "num_connections": connections,
                "num_paths": paths,
                "num_total_watches": watches,
            })
        }
        _ => json!({}),
    };
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Returns a measure as a whole number where it is one.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as i64) } else { json!(value) }
}

/// Returns the lines `key=value` of a text as an object.
fn pairs(text: &str) -> Value {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let number =
        |text: &str| text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number));
    let pair = |(key, value): (&str, &str)| (key.replace('.', "_"), number(value));
    Value::Object(lines.map(pair).collect())
}

fn connections(door: &Door) -> Vec<Value> {
    let tallies = door.meters().tallies();
    let one = |tally: &std::sync::Arc<super::meters::Tally>| {
        let (received, sent) = tally.packets();
        let (min, avg, max) = tally.latency.ms();
        json!({
            "remote_socket_address": tally.peer.to_string(),
            "packets_received": received,
            "packets_sent": sent,
            "session_id": report::hex(tally.session()),
            "min_latency": min,
            "avg_latency": avg,
            "max_latency": max,
        })
    };
    tallies.iter().map(one).collect()
}

fn server_stats(door: &Door) -> Value {
    let tree = door.node().local();
    let (received, sent) = door.meters().packets();
    let (min, avg, max) = door.meters().latency.ms();
    json!({
        "version": report::VERSION,
        "read_only": false,
        "server_stats": {
            "packets_sent": sent,
            "packets_received": received,
            "min_latency": min,
            "avg_latency": avg,
            "max_latency": max,
            "num_alive_client_connections": door.meters().tallies().len(),
            "outstanding_requests": door.node().writes_waiting(),
            "server_state": report::mode(door),
            "last_processed_zxid": tree.zxid().0,
        },
        "node_count": tree.znode_count(),
    })
}

fn dump(door: &Door) -> Value {
    let tree = door.node().local();
    let mut paths = Map::new();
    for (id, session) in tree.sessions().filter(|(_, session)| session.num_ephemerals() > 0) {
        let own: Vec<String> = session.ephemerals().map(ToString::to_string).collect();
        paths.insert(report::hex(id), json!(own));
    }
    let sessions: Vec<String> = tree.sessions().map(|(id, _)| report::hex(id)).collect();
    json!({ "sessions": sessions, "session_id_to_ephemeral_paths": paths })
}
