use std::net::SocketAddr;

use roost::jute::Request;
use roost::zk::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, cluster, create, get, open, options};
use crate::harness::in_time;

/// Asks a word and returns the answer.
pub(crate) async fn ask(door: SocketAddr, word: &str) -> String {
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream.write_all(word.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time("the word is answered", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_answered_as_monitors_read_them() {
    let (cluster, doors) = cluster(3).await;
    let leader = cluster.leader().await;
    let mut client = Client::new(doors[leader as usize - 1]).await;
    client.ask(create("/w", 1)).await.unwrap();
    client.ask(get("/w", true)).await.unwrap();
    let door = doors[leader as usize - 1];
    let session = format!("0x{:x}", client.session.0);
    assert_eq!(ask(door, "ruok").await, "imok");
    assert_eq!(ask(door, "isro").await, "rw");
    let srvr = ask(door, "srvr").await;
    assert!(srvr.starts_with("Zookeeper version: 3.9."), "{srvr}");
    assert!(srvr.contains("\nMode: leader\nNode count: 5\nProposal sizes "), "{srvr}");
    let stat = ask(door, "stat").await;
    assert!(stat.contains("Clients:\n /127.0.0.1:") && stat.contains("\n\nLatency min/"), "{stat}");
    let mntr = ask(door, "mntr").await;
    for line in ["zk_server_state\tleader", "zk_znode_count\t5", "zk_watch_count\t1"] {
        assert!(mntr.lines().any(|shown| shown == line), "{line} in {mntr}");
    }
    assert!(mntr.lines().all(|line| line.starts_with("zk_") && line.contains('\t')), "{mntr}");
    let cons = ask(door, "cons").await;
    assert!(cons.contains(&format!("sid={session},lop=GETD")), "{cons}");
    let zxid = cluster.node(leader).local().zxid().0;
    assert!(cons.contains(&format!(",lcxid=0x2,lzxid=0x{zxid:x},lresp=")), "{cons}");
    assert!(ask(door, "dump").await.contains(&format!("{session}:\n\t/w\n")));
    assert_eq!(ask(door, "wchs").await, "1 connections watching 1 paths\nTotal watches:1\n");
    assert_eq!(ask(door, "wchc").await, format!("{session}\n\t/w\n\n"));
    assert_eq!(ask(door, "wchp").await, format!("/w\n\t{session}\n\n"));
    let conf = ask(door, "conf").await;
    assert!(conf.contains(&format!("clientPort={}\n", door.port())), "{conf}");
    let hash = |node| {
        let tree = cluster.node(node).local();
        format!("{:x}: {}\n", tree.zxid().0, tree.digest().0)
    };
    assert_eq!(ask(door, "hash").await, hash(leader));
    assert!(ask(door, "dirs").await.starts_with("datadir_size: "));
    assert!(ask(door, "envi").await.starts_with("Environment:\nzookeeper.version=3.9."));
    assert_eq!(ask(door, "crst").await, "Connection stats reset.\n");
    let line = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
        line.unwrap_or_else(|| panic!("{key} in {text}")).parse::<u64>().unwrap()
    };
    assert!(line(&ask(door, "srvr").await, "Received: ") >= 2, "those of the server stay");
    assert!(ask(door, "cons").await.contains("recved=0,sent=0,sid="));
    assert_eq!(ask(door, "srst").await, "Server stats reset.\n");
    assert_eq!(line(&ask(door, "srvr").await, "Received: "), 0);
    let proposals = ask(door, "srvr").await;
    assert!(proposals.contains("\nProposal sizes last/min/max: "), "{proposals}");
    client.ask(Request::CloseSession).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_not_on_the_list_says_so_and_a_node_without_a_leader_too() {
    let (cluster, doors) = cluster(3).await;
    let words = roost::zk::parse_words(&["ruok".to_owned()]).unwrap();
    let door = open(&cluster, 1, Options { words, ..options() }).await;
    assert_eq!(ask(door, "ruok").await, "imok");
    let refused = "stat is not executed because it is not in the whitelist.\n";
    assert_eq!(ask(door, "stat").await, refused);
    cluster.crash(2, 0).await;
    cluster.crash(3, 0).await;
    crate::harness::eventually("the node knows that it has no leader", async || {
        let answer = ask(doors[0], "srvr").await;
        (answer == "This ZooKeeper instance is not currently serving requests\n").then_some(())
    })
    .await;
    assert_eq!(ask(doors[0], "isro").await, "null");
}
