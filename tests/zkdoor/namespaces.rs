//! Namespaces through this door. Whoever is not let into one cannot list or watch what is in it, nor learn how much that is, by
//! any op that there is: the ops are those that the language has, so that a new one fails here until it is thought of.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use roost::identity::digest_of;
use roost::jute::{
    AddWatch, Auth, ClientInfo, Create, CreateTtl, DecodeError, OpResult, Ops, PathVersion,
    PathWatch, ReadOp, Reconfig, Request, Response, SetAcl, SetData, SetWatches, SetWatches2,
    WatcherKind, WriteOp, errors, opcodes,
};
use roost::types::{Acl, AclId, Code, Data, Perms};
use roost::zk::{Options, WORDS_DEFAULT, parse_words};

use crate::client::{
    Client, children, cluster, create, delete, get, open, open_door, options, set,
};
use crate::harness::Cluster;
use crate::words::ask;

const NO_AUTH: i32 = -102;
const UNIMPLEMENTED: i32 = -6;
/// What nobody outside of namespace b is to hear.
const SECRETS: [&str; 4] = ["hidden-service", "hidden-instance", "hidden-data", "/ns/b/"];
const SERVICE: &str = "/ns/b/services/hidden-service";
const LIST: &str = "/ns/b/services/hidden-service/providers";
const INSTANCE: &str = "/ns/b/services/hidden-service/providers/hidden-instance";
/// The ops after which the connection is closed.
const LAST: [i32; 4] =
    [opcodes::CHECK, opcodes::DELETE_CONTAINER, opcodes::SASL, opcodes::CLOSE_SESSION];

fn proof(name: &str) -> Request {
    let auth = Some(Data::new(format!("{name}:{name}").as_bytes()));
    Request::Auth(Auth { kind: 0, scheme: "digest".to_owned(), auth })
}

/// Connects as whom the namespace of this name lets in.
async fn member(door: SocketAddr, name: &str) -> Client {
    let mut client = Client::new(door).await;
    client.ask(proof(name)).await.unwrap();
    client
}

/// Only for whoever makes it.
fn own() -> Vec<Acl> {
    let id = AclId { scheme: "auth".to_owned(), id: String::new() };
    vec![Acl { perms: Perms::ALL, id }]
}

fn made(path: &str, flags: i32) -> Create {
    let (path, data) = (path.to_owned(), Some(Data::new(b"hidden-data")));
    Create { path, data, acl: own(), flags }
}

fn closed(path: &str, flags: i32) -> Request {
    Request::Write(WriteOp::Create(made(path, flags)))
}

/// Two namespaces, each closed to all but one client, with a service that has an instance.
async fn two() -> (Arc<Cluster>, SocketAddr, Client, Client) {
    let (cluster, doors) = cluster(1).await;
    let (mut a, mut b) = (member(doors[0], "a").await, member(doors[0], "b").await);
    a.ask(create("/ns", 0)).await.unwrap();
    for (client, name, service, instance) in
        [(&mut a, "a", "service", "instance"), (&mut b, "b", "hidden-service", "hidden-instance")]
    {
        let mut path = "/ns".to_owned();
        for part in [name, "services", service, "providers"] {
            path = format!("{path}/{part}");
            client.ask(closed(&path, 0)).await.unwrap();
        }
        client.ask(closed(&format!("{path}/{instance}"), 1)).await.unwrap();
    }
    (cluster, doors[0], a, b)
}

/// Every request that changes something of namespace b.
fn writes() -> Vec<WriteOp> {
    let new = format!("{LIST}/new");
    let version = |path: &str| PathVersion { path: path.to_owned(), version: -1 };
    let data = Some(Data::new(b"x"));
    vec![
        WriteOp::Create(made(&new, 0)),
        WriteOp::Create2(made(&new, 1)),
        WriteOp::CreateContainer(made(&new, 4)),
        WriteOp::CreateTtl(CreateTtl { create: made(&new, 5), ttl_ms: 1_000 }),
        WriteOp::Delete(version(INSTANCE)),
        WriteOp::SetData(SetData { path: INSTANCE.to_owned(), data, version: -1 }),
        WriteOp::Check(version(INSTANCE)),
    ]
}

/// Every request about namespace b, with what somebody else is answered.
fn asked() -> Vec<(Request, Result<Response, i32>)> {
    let no_auth = || Err(NO_AUTH);
    let wanted = |path: &str, watch| PathWatch { path: path.to_owned(), watch };
    let text = |path: &str| path.to_owned();
    let kind = |kind| WatcherKind { path: text(LIST), kind };
    let all = || vec![text(LIST), text(INSTANCE), text(SERVICE)];
    let one_shot = || SetWatches { relative_zxid: 0, data: all(), exist: all(), child: all() };
    let mut rows = Vec::new();
    for op in writes() {
        let refused = Response::failed_multi(1, 0, Code::NoAuth);
        rows.push((Request::Multi(Ops(vec![op.clone()])), Ok(refused)));
        let by_itself = match op {
            WriteOp::Check(_) => UNIMPLEMENTED,
            _ => NO_AUTH,
        };
        rows.push((Request::Write(op), Err(by_itself)));
    }
    for path in [LIST, INSTANCE, "/ns/b"] {
        for watch in [false, true] {
            rows.push((Request::Exists(wanted(path, watch)), no_auth()));
            rows.push((Request::GetChildren2(wanted(path, watch)), no_auth()));
            let reads = [ReadOp::GetData, ReadOp::GetChildren].map(|op| op(wanted(path, watch)));
            for read in reads {
                let failed = Response::Results(Ops(vec![OpResult::Failed(NO_AUTH)]));
                rows.push((Request::MultiRead(Ops(vec![read.clone()])), Ok(failed)));
                rows.push((Request::Read(read), no_auth()));
            }
        }
        rows.push((Request::GetAcl(text(path)), no_auth()));
        let acl = SetAcl { path: text(path), acl: own(), version: -1 };
        rows.push((Request::SetAcl(acl), no_auth()));
        rows.push((Request::GetAllChildrenNumber(text(path)), no_auth()));
        rows.push((Request::GetEphemerals(text(path)), Ok(Response::Names(Vec::new()))));
    }
    // Two namespaces and what is in that of a; beside them `/ns` and the three that there always are.
    rows.push((Request::GetAllChildrenNumber(text("/ns")), Ok(Response::Number(2 + 4))));
    rows.push((Request::GetAllChildrenNumber(text("/")), Ok(Response::Number(4 + 2 + 4))));
    let own = text("/ns/a/services/service/providers/instance");
    rows.push((Request::GetEphemerals(text("/")), Ok(Response::Names(vec![own]))));
    let names = vec![text("a"), text("b")];
    rows.push((
        Request::Read(ReadOp::GetChildren(wanted("/ns", false))),
        Ok(Response::Names(names)),
    ));
    for kind in [1, 2, 3, 4, 5].map(kind) {
        rows.push((Request::CheckWatches(kind.clone()), Err(errors::NO_WATCHER)));
        rows.push((Request::RemoveWatches(kind), Err(errors::NO_WATCHER)));
    }
    let lasting = || SetWatches2 {
        one_shot: one_shot(),
        persistent: all(),
        persistent_recursive: all().into_iter().chain([text("/")]).collect(),
    };
    rows.push((Request::SetWatches(one_shot()), Ok(Response::Empty)));
    rows.push((Request::SetWatches2(lasting()), Ok(Response::Empty)));
    for path in [LIST, INSTANCE, "/ns/b", "/ns"] {
        for mode in [0, 1] {
            let watch = AddWatch { path: text(path), mode };
            rows.push((Request::AddWatch(watch), Ok(Response::Number(errors::OK))));
        }
    }
    // What is asked for comes back, and nothing else.
    rows.push((Request::Sync(text(LIST)), Ok(Response::Path(text(LIST)))));
    rows.push((Request::Ping, Ok(Response::Empty)));
    rows.push((proof("a"), Ok(Response::Empty)));
    let who = |scheme: &str, user: &str| ClientInfo { scheme: text(scheme), user: text(user) };
    let known = vec![who("ip", "127.0.0.1"), who("digest", "a")];
    rows.push((Request::WhoAmI, Ok(Response::Identities(known))));
    let reconfig =
        Reconfig { joining: None, leaving: Some(text("9")), new_members: None, config_id: -1 };
    rows.push((Request::Reconfig(reconfig), Err(errors::RECONFIG_DISABLED)));
    rows.push((Request::DeleteContainer(text(LIST)), Err(UNIMPLEMENTED)));
    rows.push((Request::Sasl(None), Err(UNIMPLEMENTED)));
    rows.push((Request::CloseSession, Ok(Response::Empty)));
    rows
}

/// Returns the opcode of a request, and that of what is alone in a multi.
fn key(request: &Request) -> (i32, Option<i32>) {
    let inner = match request {
        Request::Multi(Ops(ops)) => ops.first().map(|op| Request::Write(op.clone()).opcode()),
        Request::MultiRead(Ops(ops)) => ops.first().map(|op| Request::Read(op.clone()).opcode()),
        _ => None,
    };
    (request.opcode(), inner)
}

/// Returns the opcodes that are read, and in the multis those of their items.
fn known_ops() -> BTreeSet<(i32, Option<i32>)> {
    let numbers = || -100..1_000;
    let is_known = |op: &i32| !matches!(Request::decode(*op, &[]), Err(DecodeError::UnknownOp(_)));
    let items = |multi: i32| {
        let has = move |op: &i32| {
            let header: Vec<u8> =
                op.to_be_bytes().into_iter().chain([0]).chain((-1i32).to_be_bytes()).collect();
            !matches!(Request::decode(multi, &header), Err(DecodeError::NotInMulti(_)))
        };
        numbers().filter(has).map(move |op| (multi, Some(op)))
    };
    let multis = [opcodes::MULTI, opcodes::MULTI_READ];
    let single = numbers().filter(is_known).filter(|op| !multis.contains(op));
    single.map(|op| (op, None)).chain(multis.into_iter().flat_map(items)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_op_tells_of_a_namespace_that_one_is_not_let_into() {
    let (_cluster, door, mut a, mut b) = two().await;
    assert_eq!(
        b.ask(children(LIST, true)).await,
        Ok(Response::Names(vec!["hidden-instance".into()]))
    );
    let rows = asked();
    let thought_of: BTreeSet<_> = rows.iter().map(|(request, _)| key(request)).collect();
    assert_eq!(known_ops(), thought_of, "each op there is has a row, and each row an op");
    for (request, expected) in rows {
        let what = format!("{request:?}");
        let answer = match LAST.contains(&request.opcode()) {
            true => member(door, "a").await.ask(request).await,
            false => a.ask(request).await,
        };
        assert_eq!(answer, expected, "{what}");
    }

    // Now it watches all that it asked for. What happens in b is for b alone.
    let other = format!("{LIST}/hidden-other");
    b.ask(set(INSTANCE, "hidden-data")).await.unwrap();
    b.ask(closed(&other, 0)).await.unwrap();
    b.ask(delete(&other)).await.unwrap();
    let mut visitor = member(door, "b").await;
    visitor.ask(closed(&other, 1)).await.unwrap();
    visitor.ask(Request::CloseSession).await.unwrap();
    b.ask(delete(INSTANCE)).await.unwrap();
    b.ask(closed("/ns/b/more", 0)).await.unwrap();
    assert!(b.events.iter().any(|(.., path)| path == LIST), "its watch is still its own");
    a.ask(set("/ns/a/services", "x")).await.unwrap();
    a.ask(Request::Sync("/".to_owned())).await.unwrap();
    let told: Vec<&str> = a.events.iter().map(|(.., path)| path.as_str()).collect();
    assert_eq!(told, ["/ns/a/services"], "by its watches of all that is below the root");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_words_nor_commands_name_what_is_in_a_namespace_to_who_is_not_let_in() {
    let (cluster, all_words, mut a, mut b) = two().await;
    let words = parse_words(&WORDS_DEFAULT.map(str::to_owned)).unwrap();
    let (default_words, door) = open_door(&cluster, 1, Options { words, ..options() }).await;
    for client in [&mut a, &mut b] {
        client
            .ask(Request::AddWatch(AddWatch { path: INSTANCE.to_owned(), mode: 0 }))
            .await
            .unwrap();
    }
    b.ask(get(INSTANCE, true)).await.unwrap();
    let hidden = |text: &str| SECRETS.iter().any(|secret| text.contains(secret));
    let words = [
        "conf", "cons", "crst", "dirs", "dump", "envi", "hash", "isro", "mntr", "ruok", "srst",
        "srvr", "stat", "wchc", "wchp", "wchs",
    ];
    assert_eq!(words.len(), parse_words(&["*".to_owned()]).unwrap().len(), "all there are");
    for word in words {
        let told = ask(default_words, word).await;
        assert!(!hidden(&told), "{word}: {told}");
        // These name what clients have, and are answered where the operator says so.
        let names = ["dump", "wchc", "wchp"].contains(&word);
        assert_eq!(hidden(&ask(all_words, word).await), names, "{word}");
    }
    let id = |name: &str| {
        vec![AclId { scheme: "digest".to_owned(), id: digest_of(&format!("{name}:{name}")) }]
    };
    let commands = door.command("", &[])["commands"].as_array().unwrap().clone();
    for name in commands.iter().map(|name| name.as_str().unwrap()) {
        for who in [vec![], id("a")] {
            let told = door.command(name, &who).to_string();
            assert!(!hidden(&told), "{name}: {told}");
        }
        let names = ["dump", "watches", "watches_by_path"].contains(&name);
        assert_eq!(hidden(&door.command(name, &id("b")).to_string()), names, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_has_used_up_its_quota_leaves_the_others_theirs() {
    let (cluster, _, mut a, mut b) = two().await;
    let door = open(&cluster, 1, options()).await;
    let mut operator = Client::new(door).await;
    for path in ["/zookeeper/quota/ns", "/zookeeper/quota/ns/b"] {
        operator.ask(create(path, 0)).await.unwrap();
    }
    // The path itself and four below it are there, with 11 bytes each.
    let limits = "count=-1,bytes=-1=;byteHardLimit=80;countHardLimit=6";
    let path = "/zookeeper/quota/ns/b/zookeeper_limits";
    operator.ask(create(path, 0)).await.unwrap();
    operator.ask(set(path, limits)).await.unwrap();

    let quota_exceeded = Code::QuotaExceeded.number();
    assert_eq!(quota_exceeded, -125);
    assert!(b.ask(closed("/ns/b/sixth", 0)).await.is_ok());
    assert_eq!(b.ask(closed("/ns/b/seventh", 0)).await, Err(quota_exceeded));
    let multi = Request::Multi(Ops(vec![WriteOp::Create(made("/ns/b/seventh", 0))]));
    let refused = Response::failed_multi(1, 0, Code::QuotaExceeded);
    assert_eq!(b.ask(multi).await, Ok(refused));
    assert_eq!(b.ask(set("/ns/b/sixth", &"x".repeat(60))).await, Err(quota_exceeded));
    for n in 0..10 {
        assert!(a.ask(closed(&format!("/ns/a/{n}"), 0)).await.is_ok(), "{n}");
    }
    assert!(a.ask(set("/ns/a/0", &"x".repeat(1_000))).await.is_ok());
    assert!(b.ask(delete("/ns/b/sixth")).await.is_ok());
    assert!(b.ask(closed("/ns/b/seventh", 0)).await.is_ok(), "there is room again");
}
