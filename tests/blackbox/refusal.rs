//! A node that cannot start says why in one line, and harms nothing. Neither does a stranger that it meets.

use std::net::TcpListener;

use roost::client::model::Create;

use crate::harness::{Cluster, Node, Ports, roost};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_the_configuration_is_named_in_one_line() {
    let (ports, dir) = (Ports::reserve(), tempfile::tempdir().unwrap());
    let node = Node::new(1, dir.path(), &ports);
    let good = node.config();
    for (from, to, texts) in [
        ("[http]", "colour = 1\n[http]", &["node.toml", "line 4", "colour"][..]),
        ("[cluster]", "[colour]\n[cluster]", &["colour"]),
        ("id = 1", "id = ", &["line 2"]),
        ("id = 1", "id = 256", &["node.id", "255"]),
        ("id = 1", "id = \"one\"", &["line 2"]),
        ("[peer]", "[pear]", &["pear"]),
        ("listen = \"127.0.0.1", "listen = \"nowhere", &["line 5"]),
        ("a secret of the tests", "short", &["cluster.secret", "16"]),
        ("[cluster]", "[raft]\nheartbeat_ms = 1\n[cluster]", &["raft.heartbeat_ms"]),
    ] {
        let config = good.replacen(from, to, 1);
        assert_ne!(config, good);
        node.refuses(&config).await.fails_in_one_line(1, texts);
        assert!(!node.data_dir().exists(), "{to}");
    }
    let nothing = dir.path().join("nothing.toml").display().to_string();
    roost("", &["serve", "--config", &nothing]).await.fails_in_one_line(1, &["nothing.toml"]);
    let log = "[log]\nfilter = \"=,=\"\n[cluster]";
    node.refuses(&good.replace("[cluster]", log)).await.fails_in_one_line(1, &["log.filter"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named_and_the_data_directory_untouched() {
    let (ports, dir) = (Ports::reserve(), tempfile::tempdir().unwrap());
    let node = Node::new(1, dir.path(), &ports);
    let zk = ports.get(2);
    let config = node.config() + &format!("[zk]\nlisten = \"127.0.0.1:{zk}\"\n");
    for (key, port) in [("http.listen", node.http), ("peer.listen", node.peer), ("zk.listen", zk)] {
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let ran = node.refuses(&config).await;
        ran.fails_in_one_line(1, &[key, &port.to_string(), "in use"]);
        assert!(!node.data_dir().exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_by_name_and_change_nothing() {
    let mut ours = Cluster::start(1).await;
    let theirs = Cluster::of(2..=2).await;
    for cluster in [&ours, &theirs] {
        let create = Create { path: "/kept".into(), ..Create::default() };
        cluster.client_from(0).create(&create).await.unwrap();
    }
    let before = [ours.agree().await, theirs.agree().await].map(|state| state.digest);

    // A node of another cluster.
    let (peer, http) = (theirs.nodes[0].peer, theirs.nodes[0].endpoint());
    let join = join(2, peer, &http);
    let args: Vec<&str> = join.iter().map(String::as_str).collect();
    let ran = roost(&ours.endpoints(), &args).await;
    ran.fails_in_one_line(1, &["node 2", "belongs to cluster", "correct the address"]);

    // Our own configuration with another secret.
    let mut wrong = Node::new(3, ours.dir.path(), &ours.ports);
    wrong.secret = "another secret altogether".into();
    wrong.spawn();
    wrong.up().await;
    let join = self::join(3, wrong.peer, &wrong.endpoint());
    let args: Vec<&str> = join.iter().map(String::as_str).collect();
    let ran = roost(&ours.endpoints(), &args).await;
    ran.fails_in_one_line(1, &["secret"]);
    assert_eq!(wrong.client().cluster().await.unwrap().cluster_id, None);

    // A data directory, and an address, under another id.
    let other = ours.nodes[0].config().replacen("id = 1", "id = 2", 1);
    ours.nodes[0].stop().await;
    let ran = ours.nodes[0].refuses(&other).await;
    ran.fails_in_one_line(1, &["node 1", "node 2", "node.data_dir"]);
    ours.nodes[0].spawn();
    ours.all_ready().await;

    // One data directory, two nodes.
    let second = Node::new(5, ours.dir.path(), &ours.ports);
    let data_dir = format!("{:?}", ours.nodes[0].data_dir());
    let config = second.config().replace("id = 5", "id = 1");
    let config = config.replace(&format!("{:?}", second.data_dir()), &data_dir);
    let ran = second.refuses(&config).await;
    ran.fails_in_one_line(1, &["in use by another process"]);

    for (cluster, before) in [(&ours, &before[0]), (&theirs, &before[1])] {
        let members = cluster.client_from(0).cluster().await.unwrap().members;
        assert_eq!(members.len(), 1, "{members:?}");
        cluster.client_from(0).get("/kept", Default::default()).await.unwrap();
        assert_eq!(&cluster.agree().await.digest, before);
        let create = Create { path: "/more".into(), ..Create::default() };
        cluster.client_from(0).create(&create).await.expect("it goes on");
    }
}

fn join(node: u64, peer: u16, http: &str) -> Vec<String> {
    [
        "join",
        "--learner",
        &format!("--node={node}"),
        &format!("--peer=127.0.0.1:{peer}"),
        "--http",
        http,
    ]
    .map(str::to_owned)
    .into()
}
