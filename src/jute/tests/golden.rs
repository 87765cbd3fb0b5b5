//! `golden.txt` was printed by the generated classes of ZooKeeper 3.8.0 (`zookeeper-jute.jar`), a record per
//! line.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::super::opcodes as op;
use super::super::*;
use super::{bytes, decoded, encoded};
use crate::types::{Acl, AclId, Code, Data, Perms, SessionId, Stat, Zxid};

fn golden() -> BTreeMap<&'static str, Vec<u8>> {
    let line = |line: &'static str| {
        let (name, hex) = line.split_once(' ').expect("a name and bytes");
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
        (name, (0..hex.len()).step_by(2).map(byte).collect())
    };
    include_str!("golden.txt").lines().map(line).collect()
}

/// Checks both directions of a record.
fn same<T: Jute + PartialEq + Debug>(name: &str, value: &T) {
    let golden = &golden()[name];
    assert_eq!(&encoded(value), golden, "{name}");
    assert_eq!(decoded::<T>(golden).as_ref(), Ok(value), "{name}");
}

fn data() -> Option<Data> {
    Some(Data::new(&[1, 2, 3]))
}

fn rule(perms: u32, scheme: &str, id: &str) -> Acl {
    Acl { perms: Perms(perms), id: AclId { scheme: scheme.into(), id: id.into() } }
}

fn open() -> Vec<Acl> {
    vec![rule(31, "world", "anyone")]
}

fn two() -> Vec<Acl> {
    vec![rule(1, "digest", "u:h"), rule(17, "ip", "10.0.0.0/8")]
}

fn stat() -> Stat {
    Stat {
        czxid: Zxid(1),
        mzxid: Zxid(2),
        ctime_ms: 3,
        mtime_ms: 4,
        version: 5,
        cversion: -6,
        aversion: 7,
        ephemeral_owner: SessionId(0x0100_0000_0000_0008),
        data_length: 9,
        num_children: 10,
        pzxid: Zxid(11),
    }
}

fn create(path: &str, data: Option<Data>, acl: Vec<Acl>, flags: i32) -> Create {
    Create { path: path.into(), data, acl, flags }
}

fn watch(watch: bool) -> PathWatch {
    PathWatch { path: "/a".into(), watch }
}

fn version(path: &str, version: i32) -> PathVersion {
    PathVersion { path: path.into(), version }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}

fn set_watches(child: Vec<String>, exist: Vec<String>) -> SetWatches {
    SetWatches { relative_zxid: 9, data: texts(["/d"]), exist, child }
}

fn writes() -> Vec<(&'static str, WriteOp)> {
    let set = SetData { path: "/a".into(), data: data(), version: 4 };
    let ttl = CreateTtl { create: create("/a", data(), open(), 5), ttl_ms: 86_400_000 };
    vec![
        ("create", WriteOp::Create(create("/a", data(), open(), 2))),
        ("create_null", WriteOp::Create2(create("/a", None, two(), 0))),
        ("create_empty", WriteOp::CreateContainer(create("/a", Some(Data::new(&[])), open(), 0))),
        ("create_ttl", WriteOp::CreateTtl(ttl)),
        ("delete", WriteOp::Delete(version("/a", -1))),
        ("set_data", WriteOp::SetData(set)),
        ("check", WriteOp::Check(version("/a", 3))),
    ]
}

fn multi() -> Ops<WriteOp> {
    let set = SetData { path: "/b".into(), data: data(), version: -1 };
    Ops(vec![
        WriteOp::Create(create("/a", data(), open(), 0)),
        WriteOp::CreateContainer(create("/b", None, open(), 4)),
        WriteOp::CreateTtl(CreateTtl { create: create("/c", data(), open(), 5), ttl_ms: 5 }),
        WriteOp::Delete(version("/a", 1)),
        WriteOp::SetData(set),
        WriteOp::Check(version("/c", 0)),
    ])
}

fn requests() -> Vec<(&'static str, Request)> {
    let kind = |kind| WatcherKind { path: "/a".into(), kind };
    let children = PathWatch { path: "/b".into(), watch: false };
    let reads = Ops(vec![ReadOp::GetData(watch(false)), ReadOp::GetChildren(children)]);
    let reconfig = Reconfig {
        joining: Some("server.4=h:1:2;3".into()),
        leaving: None,
        new_members: None,
        config_id: -1,
    };
    let two = SetWatches2 {
        one_shot: set_watches(texts(["/c"]), Vec::new()),
        persistent: texts(["/p"]),
        persistent_recursive: texts(["/r"]),
    };
    let auth = Auth { kind: 0, scheme: "digest".into(), auth: Some(Data::new(b"u:p")) };
    let mut all = vec![
        ("exists", Request::Exists(watch(true))),
        ("get_data", Request::Read(ReadOp::GetData(watch(false)))),
        ("get_children", Request::Read(ReadOp::GetChildren(watch(true)))),
        ("get_children2", Request::GetChildren2(watch(true))),
        ("get_acl", Request::GetAcl("/a".into())),
        ("set_acl", Request::SetAcl(SetAcl { path: "/a".into(), acl: self::two(), version: 1 })),
        ("sync", Request::Sync("/a".into())),
        ("reconfig", Request::Reconfig(reconfig)),
        ("check_watches", Request::CheckWatches(kind(3))),
        ("remove_watches", Request::RemoveWatches(kind(1))),
        ("auth", Request::Auth(auth)),
        ("set_watches", Request::SetWatches(set_watches(Vec::new(), texts(["/e", "/f"])))),
        ("set_watches2", Request::SetWatches2(two)),
        ("sasl", Request::Sasl(data())),
        ("get_ephemerals", Request::GetEphemerals("/a".into())),
        ("get_all", Request::GetAllChildrenNumber("/a".into())),
        ("add_watch", Request::AddWatch(AddWatch { path: "/a".into(), mode: 1 })),
        ("multi", Request::Multi(multi())),
        ("multi_read", Request::MultiRead(reads)),
    ];
    all.extend(writes().into_iter().map(|(name, op)| (name, Request::Write(op))));
    all
}

#[test]
fn requests_are_the_bytes_that_zookeeper_s_classes_write() {
    for (name, request) in requests() {
        let golden = &golden()[name];
        assert_eq!(&bytes(|writer| request.encode(writer)), golden, "{name}");
        assert_eq!(Request::decode(request.opcode(), golden), Ok(request), "{name}");
    }
}

fn responses() -> Vec<(&'static str, i32, Response)> {
    let done = vec![
        OpResult::Created("/a".into()),
        OpResult::Created2(PathStat { path: "/b".into(), stat: stat() }),
        OpResult::Deleted,
        OpResult::DataSet(stat()),
        OpResult::Checked,
    ];
    let read = vec![
        OpResult::Data(DataStat { data: data(), stat: stat() }),
        OpResult::Failed(Code::NoNode.number()),
        OpResult::Children(texts(["b", "c"])),
    ];
    let created = PathStat { path: "/a".into(), stat: stat() };
    let children = NamesStat { names: texts(["b"]), stat: stat() };
    let info = |scheme: &str, user: &str| ClientInfo { scheme: scheme.into(), user: user.into() };
    let who = vec![info("ip", "127.0.0.1"), info("digest", "u")];
    vec![
        ("create_response", op::CREATE, Response::Path("/a0000000001".into())),
        ("create2_response", op::CREATE_TTL, Response::Created(created)),
        ("stat_response", op::SET_ACL, Response::Stat(stat())),
        (
            "get_data_response",
            op::GET_DATA,
            Response::Data(DataStat { data: data(), stat: stat() }),
        ),
        ("get_acl_response", op::GET_ACL, Response::Acl(AclStat { acl: two(), stat: stat() })),
        ("get_children_response", op::GET_CHILDREN, Response::Names(texts(["b", "c"]))),
        ("get_children2_response", op::GET_CHILDREN2, Response::NamesStat(children)),
        ("error_response", op::ADD_WATCH, Response::Number(0)),
        ("count_response", op::GET_ALL_CHILDREN_NUMBER, Response::Number(12)),
        ("sasl", op::SASL, Response::Token(data())),
        ("who_response", op::WHO_AM_I, Response::Identities(who)),
        ("multi_ok", op::MULTI, Response::Results(Ops(done))),
        ("multi_read_ok", op::MULTI_READ, Response::Results(Ops(read))),
        ("multi_failed", op::MULTI, Response::failed_multi(3, 1, Code::NoNode)),
    ]
}

#[test]
fn replies_are_the_bytes_that_zookeeper_s_classes_write() {
    for (name, opcode, response) in responses() {
        let golden = &golden()[name];
        assert_eq!(&bytes(|writer| response.encode(writer)), golden, "{name}");
        assert_eq!(Response::decode(opcode, golden), Ok(response), "{name}");
    }
}

#[test]
fn headers_and_events_are_the_bytes_that_zookeeper_s_classes_write() {
    same("request_header", &RequestHeader { xid: 7, opcode: op::CREATE2 });
    same("reply_header", &ReplyHeader { xid: 7, zxid: 0x1_0000_0002, err: Code::NoNode.number() });
    let event = EventType::NodeChildrenChanged;
    same("event", &WatcherEvent { event, state: KEEPER_STATE_CONNECTED, path: "/a".into() });
}

#[test]
fn the_handshake_has_the_byte_that_old_clients_leave_out_only_if_they_did_not() {
    let mut request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0x1_2345_6789,
        timeout_ms: 30_000,
        session: SessionId(0x0102_0304_0506_0708),
        password: Some(Data::new(&[0; 16])),
        read_only: None,
    };
    same("connect_request", &request);
    let password: Vec<u8> = (0..16).collect();
    let mut response = ConnectResponse {
        protocol_version: 0,
        timeout_ms: 30_000,
        session: SessionId(0x0102_0304_0506_0708),
        password: Some(Data::new(&password)),
        read_only: None,
    };
    same("connect_response", &response);
    assert_eq!(encoded(&ConnectResponse::expired(&request)).len(), 36);

    (request.read_only, response.read_only) = (Some(true), Some(false));
    let with_byte = |name, byte| [&golden()[name][..], &[byte]].concat();
    assert_eq!(encoded(&request), with_byte("connect_request", 1));
    assert_eq!(decoded(&with_byte("connect_request", 1)), Ok(request.clone()));
    assert_eq!(encoded(&response), with_byte("connect_response", 0));
    assert_eq!(encoded(&ConnectResponse::expired(&request)).len(), 37);
}

#[test]
fn an_identity_that_java_writes_in_its_own_way_is_the_same_identity() {
    let acl: Acl = decoded(&golden()["emoji_acl"]).unwrap();
    assert_eq!(acl.id.id, "\u{1f600}:h");
}
