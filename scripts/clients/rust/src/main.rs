//! Runs the crate `zookeeper-client` against the ensemble that the environment names. The last line is
//! `N passed, N failed`.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use zookeeper_client::{
    Acls, AddWatchMode, Client, CreateMode, CreateOptions, Error, EventType, LockPrefix,
    MultiReadResult, MultiWriteError, MultiWriteResult, SessionState,
};

/// How long anything may take before a test calls it lost. Nothing is expected to take this long.
const PATIENCE: Duration = Duration::from_secs(30);
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

fn servers() -> String {
    std::env::var("ROOST_ZK").expect("ROOST_ZK names the servers")
}

async fn connect(servers: &str) -> Client {
    let connector = Client::connector().with_session_timeout(SESSION_TIMEOUT);
    connector.connect(servers).await.expect("a connection")
}

/// Returns a client of all servers whose root is a new znode.
async fn client() -> Client {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let root = format!("/rust-{}-{number}", std::process::id());
    let client = connect(&servers()).await;
    client.create(&root, b"", &PERSISTENT).await.expect("the root");
    client.chroot(root).unwrap_or_else(|_| panic!("a path"))
}

/// Returns another session's client with the root of this one.
async fn beside(client: &Client) -> Client {
    let other = connect(&servers()).await;
    other.sync("/").await.unwrap();
    other.chroot(client.path().to_owned()).unwrap_or_else(|_| panic!("a path"))
}

async fn control(request: &str) -> String {
    let address = std::env::var("ROOST_CONTROL").expect("ROOST_CONTROL controls the servers");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let text = format!("{request} HTTP/1.0\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 200 "), "{request}: {answer}");
    answer.rsplit("\r\n").next().unwrap_or_default().trim().to_owned()
}

async fn znodes() {
    let client = client().await;
    let (stat, _) = client.create("/a", b"one", &PERSISTENT).await.unwrap();
    assert_eq!((stat.version, stat.data_length, stat.ephemeral_owner), (0, 3, 0));
    let (data, read) = client.get_data("/a").await.unwrap();
    assert_eq!((data.as_slice(), read), (&b"one"[..], stat));
    let changed = client.set_data("/a", b"two", Some(0)).await.unwrap();
    assert_eq!((changed.version, changed.czxid), (1, stat.czxid));
    assert_eq!(client.set_data("/a", b"", Some(0)).await.unwrap_err(), Error::BadVersion);
    assert_eq!(client.create("/a", b"", &PERSISTENT).await.unwrap_err(), Error::NodeExists);
    assert_eq!(client.create("/no/b", b"", &PERSISTENT).await.unwrap_err(), Error::NoNode);
    let sequential = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    let (_, sequence) = client.create("/s-", b"", &sequential).await.unwrap();
    assert_eq!(sequence.to_string(), "0000000001");
    client.mkdir("/x/y/z", &PERSISTENT).await.unwrap();
    assert_eq!(client.delete("/x", None).await.unwrap_err(), Error::NotEmpty);
    let (mut names, stat) = client.get_children("/").await.unwrap();
    names.sort();
    assert_eq!(names, ["a", "s-0000000001", "x"]);
    assert_eq!((stat.num_children, stat.cversion), (3, 3));
    assert_eq!(client.count_descendants_number("/").await.unwrap(), 5);
    client.delete("/a", Some(1)).await.unwrap();
    assert_eq!(client.check_stat("/a").await.unwrap(), None);
}

async fn kinds() {
    let client = client().await;
    client.create("/e", b"", &EPHEMERAL).await.unwrap();
    assert_eq!(client.list_ephemerals("/").await.unwrap(), ["/e"]);
    assert_eq!(
        client.create("/e/c", b"", &PERSISTENT).await.unwrap_err(),
        Error::NoChildrenForEphemerals
    );
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    client.create("/box", b"", &container).await.unwrap();
    let short = PERSISTENT.with_ttl(Duration::from_millis(500));
    client.create("/short", b"", &short).await.unwrap();
    let (found, watcher) = client.check_and_watch_stat("/short").await.unwrap();
    if found.is_some() {
        assert_eq!(watcher.changed().await.event_type, EventType::NodeDeleted);
    }
    assert_eq!(client.check_stat("/short").await.unwrap(), None);
}

async fn watches() {
    let client = client().await;
    let other = beside(&client).await;
    let (_, created) = client.check_and_watch_stat("/w").await.unwrap();
    let (_, children) = client.list_and_watch_children("/").await.unwrap();
    other.create("/w", b"0", &PERSISTENT).await.unwrap();
    let event = created.changed().await;
    assert_eq!((event.event_type, event.path.as_str()), (EventType::NodeCreated, "/w"));
    assert_eq!(children.changed().await.event_type, EventType::NodeChildrenChanged);
    let mut whole = client.watch("/w", AddWatchMode::PersistentRecursive).await.unwrap();
    other.create("/w/c", b"", &PERSISTENT).await.unwrap();
    other.set_data("/w", b"1", None).await.unwrap();
    other.delete("/w/c", None).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = whole.changed().await;
        seen.push((event.event_type, event.path));
    }
    let expected = [
        (EventType::NodeCreated, "/w/c"),
        (EventType::NodeDataChanged, "/w"),
        (EventType::NodeDeleted, "/w/c"),
    ];
    assert_eq!(seen, expected.map(|(kind, path)| (kind, path.to_owned())));
    drop(whole);
}

async fn multis() {
    let client = client().await;
    let mut writer = client.new_multi_writer();
    writer.add_create("/m", b"0", &PERSISTENT).unwrap();
    writer.add_check_version("/m", 0).unwrap();
    writer.add_set_data("/m", b"1", Some(0)).unwrap();
    writer.add_create("/m/c", b"", &PERSISTENT).unwrap();
    let results = writer.commit().await.unwrap();
    assert!(matches!(&results[0], MultiWriteResult::Create { path, .. } if path == "/m"));
    assert!(matches!(&results[2], MultiWriteResult::SetData { stat } if stat.version == 1));
    let mut writer = client.new_multi_writer();
    writer.add_set_data("/m", b"2", None).unwrap();
    writer.add_delete("/missing", None).unwrap();
    assert_eq!(
        writer.commit().await.unwrap_err(),
        MultiWriteError::OperationFailed { index: 1, source: Error::NoNode }
    );
    let mut reader = client.new_multi_reader();
    reader.add_get_data("/m").unwrap();
    reader.add_get_children("/m").unwrap();
    reader.add_get_data("/missing").unwrap();
    let results = reader.commit().await.unwrap();
    assert!(matches!(&results[0], MultiReadResult::Data { data, .. } if data == b"1"));
    assert!(matches!(&results[1], MultiReadResult::Children { children } if children == &["c"]));
    assert!(matches!(&results[2], MultiReadResult::Error { err: Error::NoNode }));
}

async fn access_control() {
    let client = client().await;
    let other = beside(&client).await;
    client.auth("digest", b"me:mine").await.unwrap();
    let private = CreateMode::Persistent.with_acls(Acls::creator_all());
    client.create("/mine", b"x", &private).await.unwrap();
    other.sync("/").await.unwrap();
    assert_eq!(other.get_data("/mine").await.unwrap_err(), Error::NoAuth);
    let (acl, _) = client.get_acl("/mine").await.unwrap();
    assert_eq!(acl[0].scheme(), "digest");
    let users = client.list_auth_users().await.unwrap();
    assert!(users.iter().any(|user| (user.scheme(), user.user()) == ("digest", "me")));
    client.set_acl("/mine", &Acls::anyone_all(), Some(0)).await.unwrap();
    other.sync("/").await.unwrap();
    assert_eq!(other.get_data("/mine").await.unwrap().0, b"x");
}

async fn locks() {
    let client = client().await;
    let other = beside(&client).await;
    client.create("/locks", b"", &PERSISTENT).await.unwrap();
    let prefix = || LockPrefix::new_curator("/locks", "lock-").unwrap();
    let held = client.lock(prefix(), b"", Acls::anyone_all()).await.unwrap();
    {
        let mut waiting = std::pin::pin!(other.lock(prefix(), b"", Acls::anyone_all()));
        let early = timeout(Duration::from_millis(100), &mut waiting).await;
        assert!(early.is_err(), "the lock is held");
        // A lock that is dropped is given back.
        drop(held);
        waiting.await.unwrap();
    }
}

async fn pipelining() {
    let client = client().await;
    client.create("/p", b"", &PERSISTENT).await.unwrap();
    // Each call sends its request at once; the answers are awaited afterwards.
    let pending: Vec<_> = (0..1_000).map(|_| client.set_data("/p", b"x", None)).collect();
    for (n, answer) in pending.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap().version, n as i32 + 1);
    }
}

async fn sessions() {
    let client = client().await;
    let other = beside(&client).await;
    client.create("/e", b"", &EPHEMERAL).await.unwrap();
    other.sync("/").await.unwrap();
    let (_, _, watcher) = other.get_and_watch_data("/e").await.unwrap();
    drop(client);
    assert_eq!(watcher.changed().await.event_type, EventType::NodeDeleted);
    assert_eq!(other.check_stat("/e").await.unwrap(), None);
}

async fn killed() {
    let client = client().await;
    let all = servers();
    // It begins with the first server of its list.
    let survivor = connect(all.split_once(',').unwrap().1).await;
    let survivor = survivor.chroot(client.path().to_owned()).unwrap_or_else(|_| panic!("a path"));
    client.create("/e", b"0", &EPHEMERAL).await.unwrap();
    let (_, _, watcher) = client.get_and_watch_data("/e").await.unwrap();
    let session = client.session_id();
    let leader = control("GET /leader").await;
    control(&format!("POST /kill?server={leader}")).await;
    let began = Instant::now();
    while survivor.set_data("/e", b"1", None).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "writes go on without the old leader");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(watcher.changed().await.event_type, EventType::NodeDataChanged);
    while client.get_data("/e").await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the client goes on");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.session_id(), session);
    assert_ne!(client.state(), SessionState::Expired);
    control(&format!("POST /start?server={leader}")).await;
}

/// Runs one test, which fails by a panic or by taking too long.
async fn passes(name: &str, test: impl Future<Output = ()> + Send + 'static) -> bool {
    let outcome = timeout(2 * PATIENCE, tokio::spawn(test)).await;
    let passed = matches!(outcome, Ok(Ok(())));
    println!("{} {name}", if passed { "ok" } else { "FAILED" });
    passed
}

#[tokio::main]
async fn main() {
    let outcomes = [
        passes("znodes are created, read, set and deleted by version", znodes()).await,
        passes("every kind of znode ends as its kind does", kinds()).await,
        passes("each change fires the watches that it concerns", watches()).await,
        passes("a multi does all or nothing and says which op failed", multis()).await,
        passes("a digest opens what its list allows and no more", access_control()).await,
        passes("a lock passes from its holder to the next", locks()).await,
        passes("a thousand requests under way are answered in their order", pipelining()).await,
        passes("ephemerals go with their session", sessions()).await,
        passes(
            "a client goes on with its session and its watches when the leader is killed",
            killed(),
        )
        .await,
    ];
    let passed = outcomes.iter().filter(|passed| **passed).count();
    println!("{passed} passed, {} failed", outcomes.len() - passed);
    std::process::exit(i32::from(passed < outcomes.len()));
}
