//! Random values, and that they come back.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::*;
use super::bytes;
use crate::types::{Acl, AclId, Data, Perms, SessionId, Stat, Zxid};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "/[a-zé]{0,6}(/[a-z]{1,3}){0,3}", "\\PC{0,12}"]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..5)
}

fn data() -> impl Strategy<Value = Option<Data>> {
    option::of(vec(any::<u8>(), 0..40).prop_map(|bytes| Data::new(&bytes)))
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![-2..8i32, any::<i32>()]
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    let rule = (any::<u32>(), text(), text())
        .prop_map(|(perms, scheme, id)| Acl { perms: Perms(perms), id: AclId { scheme, id } });
    vec(rule, 0..4)
}

fn create() -> impl Strategy<Value = Create> {
    (text(), data(), acl(), number()).prop_map(|(path, data, acl, flags)| Create {
        path,
        data,
        acl,
        flags,
    })
}

fn version() -> impl Strategy<Value = PathVersion> {
    (text(), number()).prop_map(|(path, version)| PathVersion { path, version })
}

fn watch() -> impl Strategy<Value = PathWatch> {
    (text(), any::<bool>()).prop_map(|(path, watch)| PathWatch { path, watch })
}

fn kind() -> impl Strategy<Value = WatcherKind> {
    (text(), number()).prop_map(|(path, kind)| WatcherKind { path, kind })
}

fn set_watches() -> impl Strategy<Value = SetWatches> {
    (any::<i64>(), texts(), texts(), texts()).prop_map(|(relative_zxid, data, exist, child)| {
        SetWatches { relative_zxid, data, exist, child }
    })
}

fn write() -> impl Strategy<Value = WriteOp> {
    prop_oneof![
        create().prop_map(WriteOp::Create),
        create().prop_map(WriteOp::Create2),
        create().prop_map(WriteOp::CreateContainer),
        (create(), any::<i64>())
            .prop_map(|(create, ttl_ms)| WriteOp::CreateTtl(CreateTtl { create, ttl_ms })),
        version().prop_map(WriteOp::Delete),
        (text(), data(), number()).prop_map(|(path, data, version)| WriteOp::SetData(SetData {
            path,
            data,
            version
        })),
        version().prop_map(WriteOp::Check),
    ]
}

fn read() -> impl Strategy<Value = ReadOp> {
    prop_oneof![watch().prop_map(ReadOp::GetData), watch().prop_map(ReadOp::GetChildren)]
}

/// Any request.
pub(super) fn request() -> impl Strategy<Value = Request> {
    let reconfig = (option::of(text()), option::of(text()), option::of(text()), any::<i64>());
    prop_oneof![
        10 => write().prop_map(Request::Write),
        2 => read().prop_map(Request::Read),
        4 => vec(write(), 0..6).prop_map(|ops| Request::Multi(Ops(ops))),
        2 => vec(read(), 0..6).prop_map(|ops| Request::MultiRead(Ops(ops))),
        1 => watch().prop_map(Request::Exists),
        1 => watch().prop_map(Request::GetChildren2),
        1 => text().prop_map(Request::GetAcl),
        1 => (text(), acl(), number())
            .prop_map(|(path, acl, version)| Request::SetAcl(SetAcl { path, acl, version })),
        1 => text().prop_map(Request::Sync),
        1 => Just(Request::Ping),
        1 => reconfig.prop_map(|(joining, leaving, new_members, config_id)| {
            Request::Reconfig(Reconfig { joining, leaving, new_members, config_id })
        }),
        1 => kind().prop_map(Request::CheckWatches),
        1 => kind().prop_map(Request::RemoveWatches),
        1 => text().prop_map(Request::DeleteContainer),
        1 => (number(), text(), data())
            .prop_map(|(kind, scheme, auth)| Request::Auth(Auth { kind, scheme, auth })),
        1 => set_watches().prop_map(Request::SetWatches),
        1 => (set_watches(), texts(), texts()).prop_map(
            |(one_shot, persistent, persistent_recursive)| Request::SetWatches2(SetWatches2 {
                one_shot, persistent, persistent_recursive,
            })
        ),
        1 => data().prop_map(Request::Sasl),
        1 => text().prop_map(Request::GetEphemerals),
        1 => text().prop_map(Request::GetAllChildrenNumber),
        1 => (text(), number())
            .prop_map(|(path, mode)| Request::AddWatch(AddWatch { path, mode })),
        1 => Just(Request::WhoAmI),
        1 => Just(Request::CloseSession),
    ]
}

fn stat() -> impl Strategy<Value = Stat> {
    let longs = any::<[u64; 6]>();
    (longs, any::<[i32; 3]>(), any::<[u32; 2]>()).prop_map(
        |(
            [c, m, p, ctime_ms, mtime_ms, owner],
            [version, cversion, aversion],
            [length, children],
        )| {
            Stat {
                czxid: Zxid(c),
                mzxid: Zxid(m),
                ctime_ms,
                mtime_ms,
                version,
                cversion,
                aversion,
                ephemeral_owner: SessionId(owner),
                data_length: length,
                num_children: children,
                pzxid: Zxid(p),
            }
        },
    )
}

fn data_stat() -> impl Strategy<Value = DataStat> {
    (data(), stat()).prop_map(|(data, stat)| DataStat { data, stat })
}

fn path_stat() -> impl Strategy<Value = PathStat> {
    (text(), stat()).prop_map(|(path, stat)| PathStat { path, stat })
}

fn result() -> impl Strategy<Value = OpResult> {
    prop_oneof![
        text().prop_map(OpResult::Created),
        path_stat().prop_map(OpResult::Created2),
        Just(OpResult::Deleted),
        stat().prop_map(OpResult::DataSet),
        Just(OpResult::Checked),
        data_stat().prop_map(OpResult::Data),
        texts().prop_map(OpResult::Children),
        number().prop_map(OpResult::Failed),
    ]
}

/// Any answer, with the opcode of a request that it may answer.
pub(super) fn response() -> impl Strategy<Value = (i32, Response)> {
    use opcodes::*;
    let one_of = |all: &'static [i32]| proptest::sample::select(all);
    let identity = (text(), text()).prop_map(|(scheme, user)| ClientInfo { scheme, user });
    prop_oneof![
        (one_of(&[DELETE, PING, CLOSE_SESSION]), Just(Response::Empty)),
        (one_of(&[CREATE, SYNC]), text().prop_map(Response::Path)),
        (one_of(&[CREATE2, CREATE_CONTAINER]), path_stat().prop_map(Response::Created)),
        (one_of(&[EXISTS, SET_DATA, SET_ACL]), stat().prop_map(Response::Stat)),
        (one_of(&[GET_DATA, RECONFIG]), data_stat().prop_map(Response::Data)),
        (Just(GET_ACL), (acl(), stat()))
            .prop_map(|(op, (acl, stat))| (op, Response::Acl(AclStat { acl, stat }))),
        (one_of(&[GET_CHILDREN, GET_EPHEMERALS]), texts().prop_map(Response::Names)),
        (Just(GET_CHILDREN2), (texts(), stat())).prop_map(|(op, (names, stat))| {
            (op, Response::NamesStat(NamesStat { names, stat }))
        }),
        (one_of(&[MULTI, MULTI_READ]), vec(result(), 0..6))
            .prop_map(|(op, results)| (op, Response::Results(Ops(results)))),
        (one_of(&[GET_ALL_CHILDREN_NUMBER, ADD_WATCH]), number().prop_map(Response::Number)),
        (Just(SASL), data().prop_map(Response::Token)),
        (Just(WHO_AM_I), vec(identity, 0..4).prop_map(Response::Identities)),
    ]
}

proptest! {
    #[test]
    fn every_request_comes_back_as_it_was(request in request(), xid in any::<i32>()) {
        let mut out = vec![7];
        append_request(&mut out, xid, &request);
        let body = split_frame(&out[1..], out.len()).unwrap().unwrap();
        prop_assert_eq!(body.len() + 5, out.len());
        let mut reader = Reader::new(body);
        let header: RequestHeader = reader.read().unwrap();
        prop_assert_eq!(header.xid, xid);
        prop_assert_eq!(Request::decode(header.opcode, reader.rest()), Ok(request));
    }

    #[test]
    fn every_answer_comes_back_as_it_was((opcode, response) in response()) {
        let encoded = bytes(|writer| response.encode(writer));
        prop_assert_eq!(Response::decode(opcode, &encoded), Ok(response));
    }

    #[test]
    fn what_a_newer_client_says_behind_a_request_is_ignored(
        request in request(),
        more in vec(any::<u8>(), 1..20),
    ) {
        let mut encoded = bytes(|writer| request.encode(writer));
        encoded.extend(more);
        prop_assert_eq!(Request::decode(request.opcode(), &encoded), Ok(request));
    }

    #[test]
    fn a_request_that_ends_early_is_refused(request in request(), at in any::<prop::sample::Index>()) {
        let encoded = bytes(|writer| request.encode(writer));
        prop_assume!(!encoded.is_empty());
        let cut = &encoded[..at.index(encoded.len())];
        prop_assert_eq!(Request::decode(request.opcode(), cut), Err(DecodeError::Short));
    }
}
