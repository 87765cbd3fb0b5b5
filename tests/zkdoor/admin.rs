use std::collections::BTreeSet;

use roost::jute::{Ops, Request};
use roost::zk::Options;
use serde_json::{Value, json};

use crate::client::{Client, children, cluster, create, get, open_door, options, set};
use crate::words::ask;

/// Each command of ZooKeeper's AdminServer with its other names, and the fields of its answer as 3.8.0 has them.
const COMMANDS: [(&[&str], &[&str]); 23] = [
    (
        &["configuration", "conf", "config"],
        &[
            "client_port",
            "data_dir",
            "data_log_dir",
            "tick_time",
            "max_client_cnxns",
            "min_session_timeout",
            "max_session_timeout",
            "server_id",
            "client_port_listen_backlog",
        ],
    ),
    (&["connection_stat_reset", "crst"], &[]),
    (&["connections", "cons"], &["connections", "secure_connections"]),
    (&["dirs"], &["datadir_size", "logdir_size"]),
    (&["dump"], &["expiry_time_to_session_ids", "session_id_to_ephemeral_paths"]),
    (
        &["environment", "env", "envi"],
        &["zookeeper.version", "host.name", "os.name", "os.arch", "os.version", "user.dir"],
    ),
    (&["hash"], &["digests"]),
    (&["initial_configuration", "icfg"], &["initial_configuration"]),
    (&["is_read_only", "isro"], &["read_only"]),
    (&["last_snapshot", "lsnp"], &["zxid", "timestamp"]),
    (&["leader", "lead"], &["is_leader", "leader_id", "leader_ip"]),
    (&["observers", "obsr"], &["synced_observers", "observers"]),
    (&["ruok"], &[]),
    (
        &["server_stats", "srvr"],
        &[
            "version",
            "read_only",
            "server_stats",
            "client_response",
            "proposal_stats",
            "node_count",
        ],
    ),
    (&["stat_reset", "srst"], &[]),
    (
        &["stats", "stat"],
        &[
            "version",
            "read_only",
            "server_stats",
            "client_response",
            "proposal_stats",
            "node_count",
            "connections",
            "secure_connections",
        ],
    ),
    (
        &["system_properties", "sysp"],
        &["zookeeper.version", "host.name", "os.name", "os.arch", "os.version", "user.dir"],
    ),
    (&["voting_view"], &["current_config"]),
    (&["watch_summary", "wchs"], &["num_connections", "num_paths", "num_total_watches"]),
    (&["watches", "wchc"], &["session_id_to_watched_paths"]),
    (&["watches_by_path", "wchp"], &["path_to_session_ids"]),
    (
        &["zabstate"],
        &[
            "myid",
            "is_leader",
            "quorum_address",
            "election_address",
            "client_address",
            "voting",
            "last_zxid",
            "zab_epoch",
            "zab_counter",
            "zabstate",
        ],
    ),
    // Its fields are those of `mntr`, which another test has.
    (&["monitor", "mntr"], &[]),
];

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_answered_by_each_of_its_names_with_the_fields_of_zookeeper() {
    let (cluster, _) = cluster(3).await;
    let leader = cluster.leader().await;
    // Which words are answered on the clients' port does not matter here.
    let (_, door) = open_door(&cluster, leader, Options { words: vec![], ..options() }).await;
    for (names, fields) in COMMANDS {
        for name in names {
            let answer = door.command(name, &[]);
            assert_eq!((&answer["command"], &answer["error"]), (&json!(names[0]), &Value::Null));
            if names[0] != "monitor" {
                let expected = fields.iter().copied().chain(["command", "error"]).collect();
                assert_eq!(keys(&answer), expected, "{name}");
            }
        }
    }
    let all = door.command("", &[]);
    let named: BTreeSet<&str> =
        all["commands"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(named, COMMANDS.iter().map(|(names, _)| names[0]).collect());
    for unknown in ["nonsense", "CONF", "gtmk"] {
        let expected =
            json!({ "command": unknown, "error": format!("Unknown command: {unknown}") });
        assert_eq!(door.command(unknown, &[]), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_tell_what_is_there() {
    let (cluster, _) = cluster(3).await;
    let leader = cluster.leader().await;
    let (address, door) = open_door(&cluster, leader, options()).await;
    let mut client = Client::new(address).await;
    client.ask(create("/w", 1)).await.unwrap();
    client.ask(get("/w", true)).await.unwrap();
    client.ask(children("/", true)).await.unwrap();
    let session = client.session.0;

    assert_eq!(door.command("conf", &[])["client_port"], address.port());
    let icfg = door.command("icfg", &[]);
    let text = icfg["initial_configuration"].as_str().unwrap();
    assert!(text.contains(&format!("clientPort={}\n", address.port())), "{text}");

    let connections = door.command("cons", &[]);
    let one = &connections["connections"][0];
    assert_eq!((&one["session_id"], &one["last_operation"]), (&json!(session), &json!("GETC")));
    assert_eq!((&one["last_cxid"], &one["packets_received"]), (&json!(3), &json!(3)));
    assert_eq!(one["last_zxid"], json!(cluster.node(leader).local().zxid().0));
    assert_eq!(one["session_timeout"], json!(client.timeout_ms));

    let dump = door.command("dump", &[]);
    assert_eq!(dump["session_id_to_ephemeral_paths"], json!({ session.to_string(): ["/w"] }));
    let due: Vec<&Value> =
        dump["expiry_time_to_session_ids"].as_object().unwrap().values().collect();
    assert_eq!(due, [&json!([session])]);

    let watches = door.command("wchc", &[]);
    assert_eq!(watches["session_id_to_watched_paths"], json!({ session.to_string(): ["/", "/w"] }));
    let watches = door.command("wchp", &[]);
    assert_eq!(watches["path_to_session_ids"], json!({ "/": [session], "/w": [session] }));
    assert_eq!(door.command("wchs", &[])["num_total_watches"], 2);

    let stats = door.command("srvr", &[]);
    assert_eq!(stats["server_stats"]["server_state"], "leader");
    assert!(stats["client_response"]["max_buffer_size"].as_i64() > Some(16), "{stats}");
    assert!(stats["proposal_stats"]["last_buffer_size"].as_i64() > Some(0), "{stats}");
    let view = door.command("voting_view", &[]);
    assert_eq!(keys(&view["current_config"]), BTreeSet::from(["1", "2", "3"]));
    let state = door.command("zabstate", &[]);
    assert_eq!((&state["zabstate"], &state["is_leader"]), (&json!("broadcast"), &json!(true)));
    assert_eq!(door.command("lead", &[])["leader_id"], leader);
    assert_eq!(door.command("mntr", &[])["znode_count"], door.command("srvr", &[])["node_count"]);
    let none_yet = json!({ "zxid": "ffffffffffffffff", "timestamp": -1 });
    assert_eq!(door.command("lsnp", &[])["zxid"], none_yet["zxid"]);

    door.command("crst", &[]);
    assert_eq!(door.command("cons", &[])["connections"][0]["packets_received"], 0);
    assert!(door.command("srvr", &[])["server_stats"]["packets_received"].as_u64() >= Some(3));
    client.ask(set("/w", "x")).await.unwrap();
    door.command("srst", &[]);
    assert_eq!(door.command("srvr", &[])["server_stats"]["packets_received"], 0);
    assert_eq!(door.command("cons", &[])["connections"][0]["packets_received"], 1);
    client.ask(Request::CloseSession).await.unwrap();
}

/// What Grafana's dashboard 10465 and the alerts in ZooKeeper's own manual ask Prometheus for, as far as it does not concern
/// a Java machine; and what people alert on beside.
const ON_DASHBOARDS: [&str; 61] = [
    "approximate_data_size",
    "auth_failed_count",
    "avg_latency",
    "bytes_received_count",
    "connection_drop_count",
    "connection_drop_probability",
    "connection_rejected",
    "election_time_count",
    "election_time_sum",
    "ephemerals_count",
    "fsynctime_count",
    "fsynctime_sum",
    "global_sessions",
    "last_client_response_size",
    "last_proposal_size",
    "leader_unavailable_time_count",
    "leader_unavailable_time_sum",
    "leader_uptime",
    "learners",
    "local_sessions",
    "looking_count",
    "max_client_response_size",
    "max_file_descriptor_count",
    "max_latency",
    "max_proposal_size",
    "min_client_response_size",
    "min_latency",
    "min_proposal_size",
    "node_changed_watch_count_sum",
    "node_children_watch_count_sum",
    "node_created_watch_count_sum",
    "node_deleted_watch_count_sum",
    "non_mtls_local_conn_count",
    "non_mtls_remote_conn_count",
    "num_alive_connections",
    "open_file_descriptor_count",
    "outstanding_requests",
    "outstanding_tls_handshake",
    "packets_received",
    "packets_sent",
    "pending_syncs",
    "proposal_count",
    "proposal_latency_count",
    "proposal_latency_sum",
    "quorum_size",
    "readlatency_count",
    "readlatency_sum",
    "sessionless_connections_expired",
    "snapshottime_count",
    "snapshottime_sum",
    "stale_sessions_expired",
    "synced_followers",
    "synced_non_voting_followers",
    "synced_observers",
    "unrecoverable_error_count",
    "updatelatency_count",
    "updatelatency_sum",
    "uptime",
    "watch_count",
    "watched_paths",
    "znode_count",
];

#[tokio::test(flavor = "multi_thread")]
async fn measures_have_the_names_that_dashboards_and_alerts_ask_for() {
    let (cluster, _) = cluster(3).await;
    let leader = cluster.leader().await;
    let (address, door) = open_door(&cluster, leader, options()).await;
    let mut client = Client::new(address).await;
    client.ask(create("/m", 0)).await.unwrap();
    client.ask(get("/m", true)).await.unwrap();
    client.ask(set("/m", "x")).await.unwrap();
    let gauges = door.gauges();
    let value = |name: &str| {
        let found: Vec<f64> =
            gauges.iter().filter(|gauge| gauge.0 == name).map(|gauge| gauge.2).collect();
        assert_eq!(found.len(), 1, "{name} stands once");
        found[0]
    };
    ON_DASHBOARDS.iter().for_each(|name| assert!(value(name).is_finite()));
    for (name, least) in [
        ("readlatency_count", 1.0),
        ("updatelatency_count", 2.0),
        ("fsynctime_count", 2.0),
        ("election_time_count", 1.0),
        ("proposal_latency_count", 2.0),
        ("last_proposal_size", 1.0),
        ("last_client_response_size", 16.0),
        ("node_changed_watch_count_sum", 1.0),
        ("non_mtls_local_conn_count", 1.0),
        ("bytes_received_count", 24.0),
    ] {
        assert!(value(name) >= least, "{name}: {}", value(name));
    }
    let mntr = ask(address, "mntr").await;
    let shown: BTreeSet<&str> = mntr
        .lines()
        .filter_map(|line| line.strip_prefix("zk_")?.split_once('\t'))
        .map(|(name, _)| name)
        .collect();
    for name in ON_DASHBOARDS {
        // There summaries are named by what they tell.
        let name = match (
            name.strip_suffix("_sum"),
            name.strip_suffix("time_count"),
            name.strip_suffix("latency_count"),
        ) {
            (Some(of), ..) => format!("sum_{of}"),
            (_, Some(of), _) => format!("cnt_{of}time"),
            (.., Some(of)) => format!("cnt_{of}latency"),
            _ => name.to_owned(),
        };
        assert!(shown.contains(name.as_str()), "{name} in {mntr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_list_is_that_of_any_request_for_names() {
    let (cluster, _) = cluster(1).await;
    let (address, door) = open_door(&cluster, 1, options()).await;
    let mut client = Client::new(address).await;
    let longest = || {
        let gauges = door.gauges();
        gauges.iter().find(|gauge| gauge.0 == "max_list_response_size").unwrap().2 as usize
    };
    client.ask(get("/", false)).await.unwrap();
    assert_eq!(longest(), 0, "data is no list");
    let Request::Read(list) = children("/", false) else { unreachable!("it reads") };
    for count in [1, 10, 100] {
        let several = Request::MultiRead(Ops(vec![list.clone(); count]));
        client.ask(several).await.unwrap();
        assert!(longest() > count * "zookeeper".len(), "{count} lists: {}", longest());
    }
}
