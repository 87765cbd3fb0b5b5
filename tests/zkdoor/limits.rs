use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use roost::jute::{Auth, NamesStat, Ops, PathWatch, ReadOp, Request, Response, errors};
use roost::limits::{
    ZK_IDENTITIES_MAX, ZK_OUTPUT_BYTES_MAX, ZK_PENDING_BYTES_MAX, ZK_READS_AT_ONCE,
};
use roost::types::{Code, Data};
use roost::watch::Bounds;
use roost::zk::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{
    Client, Message, add_watch, cluster, create, delete, everyone, exists, fresh, open, options,
    set,
};
use crate::harness::{Cluster, Setup, in_time};

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_a_length_that_is_not_taken_closes_the_connection() {
    let (cluster, _) = cluster(1).await;
    let door = open(&cluster, 1, Options { frame_bytes_max: 10_000, ..options() }).await;
    for length in [-1, i32::MIN, 10_001, i32::MAX] {
        let mut client = Client::new(door).await;
        client.send(&[exists("/", false)]).await;
        client.raw(&length.to_be_bytes()).await;
        assert_eq!(client.rest().await.len(), 1, "what came before is answered: {length}");
    }
    let mut client = Client::new(door).await;
    let data = Some(Data::new(&[7; 9_900]));
    let whole = roost::jute::Create { path: "/l".to_owned(), data, acl: everyone(), flags: 0 };
    let request = Request::Write(roost::jute::WriteOp::Create(whole));
    assert_eq!(client.ask(request).await, Ok(Response::Path("/l".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_from_one_address_are_bounded_and_places_come_back() {
    let (cluster, _) = cluster(1).await;
    let few = Options { connections_per_address_max: 3, ..options() };
    let door = open(&cluster, 1, few).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::new(door).await);
    }
    assert!(Client::connect(door, fresh(10_000)).await.is_none());
    let mut last = clients.pop().unwrap();
    last.ask(Request::CloseSession).await.unwrap();
    assert_eq!(last.rest().await, []);
    crate::harness::eventually("its place is free", async || {
        Client::connect(door, fresh(10_000)).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_beyond_those_of_a_connection_and_of_the_node_are_refused_and_the_connection_goes_on()
 {
    let watch_bounds = Bounds { watches_max: 5, watches_per_line_max: 3, ..Bounds::default() };
    let cluster = Cluster::start(1, Setup { watch_bounds, ..Setup::default() }).await;
    let door = open(&cluster, 1, options()).await;
    let (mut one, mut other) = (Client::new(door).await, Client::new(door).await);
    let (absent, full) = (Err(Code::NoNode.number()), Err(errors::SYSTEM_ERROR));
    for path in ["/a", "/b", "/c"] {
        assert_eq!(one.ask(exists(path, true)).await, absent);
    }
    assert_eq!(one.ask(exists("/d", true)).await, full, "its own bound");
    assert_eq!(one.ask(exists("/d", false)).await, absent);
    for path in ["/a", "/b"] {
        assert_eq!(other.ask(exists(path, true)).await, absent);
    }
    assert_eq!(other.ask(exists("/c", true)).await, full, "the bound of the node");
    assert_eq!(other.ask(add_watch("/c", 0)).await, full);
    // A watch that has fired makes room.
    other.ask(create("/a", 0)).await.unwrap();
    assert_eq!(other.ask(exists("/c", true)).await, absent);
    assert_eq!(one.ask(exists("/d", true)).await, absent);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_bound_of_0_connections_from_one_address_are_not_counted() {
    let (cluster, _) = cluster(1).await;
    let door = open(&cluster, 1, Options { connections_per_address_max: 0, ..options() }).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::new(door).await);
    }
    for client in &mut clients {
        assert!(client.ask(exists("/", false)).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_100_000_names_is_sent_and_its_size_is_measured() {
    const COUNT: usize = 100_000;
    const AT_ONCE: usize = 1_000;
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    client.ask(create("/big", 0)).await.unwrap();
    for from in (0..COUNT).step_by(AT_ONCE) {
        let ops = (from..from + AT_ONCE).map(|n| match create(&format!("/big/{n:010}"), 0) {
            Request::Write(op) => op,
            other => panic!("{other:?}"),
        });
        client.ask(Request::Multi(roost::jute::Ops(ops.collect()))).await.unwrap();
    }
    let list = Request::GetChildren2(PathWatch { path: "/big".to_owned(), watch: true });
    let Ok(Response::NamesStat(NamesStat { names, stat })) = client.ask(list).await else {
        panic!("names")
    };
    assert_eq!((names.len(), stat.num_children as usize), (COUNT, COUNT));
    client.ask(delete("/big/0000000000")).await.unwrap();
    assert_eq!(client.events.len(), 1);
    let mntr = crate::words::ask(doors[0], "mntr").await;
    let longest = mntr.lines().find_map(|line| line.strip_prefix("zk_max_list_response_size\t"));
    assert!(longest.unwrap().parse::<usize>().unwrap() > COUNT * 14, "{mntr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_not_read_and_loses_nothing() {
    const ROUNDS: usize = 2_000;
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    client.ask(create("/slow", 0)).await.unwrap();
    let data = Data::new(&[1; 20_000]);
    let filled = roost::jute::SetData { path: "/slow".to_owned(), data: Some(data), version: -1 };
    client.ask(Request::Write(roost::jute::WriteOp::SetData(filled))).await.unwrap();
    // 40 MB of replies, which neither socket nor server keeps.
    client.send(&vec![crate::client::get("/slow", false); ROUNDS]).await;
    let mut other = Client::new(doors[0]).await;
    for n in 0..50 {
        other.ask(set("/slow", &n.to_string())).await.unwrap();
    }
    for _ in 0..ROUNDS {
        assert!(client.reply().await.1.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_was_no_room_for_follows_as_soon_as_there_is_some() {
    /// By itself a connection looks again after a quarter of its session's timeout, 5 s at most: so often that takes too long.
    const TIMES: usize = 15;
    const DATA_BYTES: usize = ZK_OUTPUT_BYTES_MAX / ZK_READS_AT_ONCE;
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::connect(doors[0], fresh(60_000)).await.unwrap();
    client.ask(create("/some", 0)).await.unwrap();
    client.ask(set("/some", &"x".repeat(DATA_BYTES))).await.unwrap();
    // Some more than have room at once, and no request behind them.
    let reads = vec![crate::client::get("/some", false); ZK_READS_AT_ONCE + 50];
    let asking = async {
        for _ in 0..TIMES {
            client.send(&reads).await;
            for _ in &reads {
                client.reply().await.1.unwrap();
            }
        }
    };
    in_time("all is answered", asking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_of_what_it_asked_for_is_not_heard_of() {
    let (_cluster, doors) = cluster(1).await;
    let mut other = Client::new(doors[0]).await;
    other.ask(create("/large", 0)).await.unwrap();
    other.ask(set("/large", &"x".repeat(100_000))).await.unwrap();
    let mut stuck = Client::connect(doors[0], fresh(500)).await.unwrap();
    stuck.ask(create("/lock", 1)).await.unwrap();
    // 60 MB of replies, which neither socket nor server keeps.
    stuck.send(&vec![crate::client::get("/large", false); 600]).await;
    crate::harness::eventually("its lock is free", async || {
        other.ask(exists("/lock", false)).await.err()
    })
    .await;
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_that_have_to_wait_are_not_gathered_without_end_and_all_are_answered() {
    const BYTES: usize = 1_000_000;
    const COUNT: usize = 32;
    /// A node that takes more is seen to do so within this many answers to somebody else.
    const ROUNDS: usize = 200;
    let (cluster, doors) = cluster(3).await;
    let leader = cluster.leader().await;
    let cut_off = (1..=3).find(|id| *id != leader).unwrap();
    let door = doors[cut_off as usize - 1];
    let mut client = Client::connect(door, fresh(60_000)).await.unwrap();
    let mut other = Client::connect(door, fresh(60_000)).await.unwrap();
    client.ask(create("/large", 0)).await.unwrap();
    cluster.isolate(cut_off);
    let data = Some(Data::new(&[7; BYTES]));
    let large = roost::jute::SetData { path: "/large".to_owned(), data, version: -1 };
    let requests = vec![Request::Write(roost::jute::WriteOp::SetData(large)); COUNT];
    let sending = tokio::spawn(async move {
        client.send(&requests).await;
        client
    });
    let (mut taken, mut rounds) = (0, 0);
    while rounds < ROUNDS {
        assert!(other.ask(exists("/", false)).await.is_ok());
        let now = cluster.node(cut_off).writes_waiting();
        rounds = if taken == now && now > 0 { rounds + 1 } else { 0 };
        taken = now;
    }
    assert!((taken - 1) * BYTES < ZK_PENDING_BYTES_MAX, "{taken} were taken");
    assert!(!sending.is_finished(), "the rest is still to be sent");
    cluster.rejoin(cut_off);
    let mut client = sending.await.unwrap();
    for _ in 0..COUNT {
        assert!(client.reply().await.1.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_ever_more_identities_is_refused() {
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    let user = |n: usize| {
        let auth = Some(Data::new(format!("u{n}:p").as_bytes()));
        Request::Auth(Auth { kind: 0, scheme: "digest".to_owned(), auth })
    };
    // One is its address.
    for n in 1..ZK_IDENTITIES_MAX {
        assert_eq!(client.ask(user(n)).await, Ok(Response::Empty));
    }
    assert_eq!(client.ask(user(ZK_IDENTITIES_MAX)).await, Err(Code::AuthFailed.number()));
    assert_eq!(client.rest().await, []);
}

/// How a request is refused that is none.
const REFUSED: [Code; 3] = [Code::MarshallingError, Code::Unimplemented, Code::BadArguments];

/// Whatever comes, the node lives, and nothing of it that is refused reaches the log.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_are_refused() {
    let seed = std::env::var("ROOST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    println!("ROOST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (cluster, doors) = cluster(1).await;
    let mut good = Client::new(doors[0]).await;
    good.ask(create("/good", 0)).await.unwrap();
    let state = || {
        let node = cluster.node(1);
        (node.local().zxid(), node.local_status().last_log)
    };
    let mut refused = 0;
    for _ in 0..300 {
        let mut bytes = vec![0; random.random_range(0..200)];
        random.fill_bytes(&mut bytes);
        if random.random_bool(0.5) {
            let before = state();
            let mut stream = TcpStream::connect(doors[0]).await.unwrap();
            let length = random.random_range(0..60_i32);
            stream.write_all(&length.to_be_bytes()).await.unwrap();
            // It may have been closed already.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = in_time("it is closed", stream.read_to_end(&mut answer)).await;
            assert_eq!(state(), before, "what is no hello opens nothing");
            continue;
        }
        let mut client = Client::connect(doors[0], fresh(60_000)).await.unwrap();
        let opcode = match random.random_bool(0.5) {
            true => random.random_range(-20..110_i32),
            false => {
                // A request that changes something, cut off anywhere.
                let mut whole = Vec::new();
                let request = set("/good", "x".repeat(bytes.len()).as_str());
                roost::jute::append_request(&mut whole, 1, &request);
                bytes = whole[12..random.random_range(12..whole.len())].to_vec();
                request.opcode()
            }
        };
        let mut frame = (bytes.len() as i32 + 8).to_be_bytes().to_vec();
        frame.extend_from_slice(&1_i32.to_be_bytes());
        frame.extend_from_slice(&opcode.to_be_bytes());
        frame.extend_from_slice(&bytes);
        let before = state();
        client.raw(&frame).await;
        if let Some(bytes) = client.raw_frame().await {
            assert!(bytes.len() >= 16, "a reply has a header");
            let err = i32::from_be_bytes(bytes[12..16].try_into().unwrap());
            if REFUSED.map(Code::number).contains(&err) {
                refused += 1;
                assert_eq!(state(), before, "opcode {opcode} with {frame:?}");
            }
        }
        // The frame may have been a close of the session, which ends the connection too.
        client.send(&[Request::CloseSession]).await;
        while let Some(bytes) = client.raw_frame().await {
            assert!(bytes.len() >= 16, "a reply has a header");
        }
    }
    assert!(refused > 50, "only {refused} were refused");
    assert!(good.ask(exists("/good", false)).await.is_ok());
    let tree = cluster.node(1).local();
    assert_eq!(tree.digest(), tree.recomputed_digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_parse_is_refused_and_the_connection_stays() {
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    // A getData whose path is longer than its frame.
    let mut frame = 16_i32.to_be_bytes().to_vec();
    for word in [1, 4, 1_000, 0] {
        frame.extend_from_slice(&i32::to_be_bytes(word));
    }
    client.expect(4);
    client.raw(&frame).await;
    let Some(Message::Reply { result, .. }) = client.next().await else { panic!("a reply") };
    assert_eq!(result, Err(Code::MarshallingError.number()));
    assert!(client.ask(exists("/", false)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multi_read_that_would_find_too_much_is_refused_and_the_connection_goes_on() {
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    let data = Some(Data::new(&[7; 900_000]));
    let large = roost::jute::Create { path: "/large".to_owned(), data, acl: everyone(), flags: 0 };
    client.ask(Request::Write(roost::jute::WriteOp::Create(large))).await.unwrap();
    let reads = |count| {
        let read = || ReadOp::GetData(PathWatch { path: "/large".to_owned(), watch: false });
        Request::MultiRead(Ops((0..count).map(|_| read()).collect()))
    };
    assert!(client.ask(reads(5)).await.is_ok());
    assert_eq!(client.ask(reads(30)).await, Err(Code::BadArguments.number()));
    assert!(client.ask(exists("/large", false)).await.is_ok());
}
