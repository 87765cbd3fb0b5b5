use roost::jute::{
    Create, CreateTtl, OpResult, Ops, PathVersion, ReadOp, Request, Response, WriteOp, errors,
};
use roost::types::{Code, Data};

use crate::client::{
    Client, Message, children, cluster, create, data, delete, everyone, exists, get, set,
};

fn znode(path: &str, flags: i32) -> Create {
    Create { path: path.to_owned(), data: Some(Data::new(b"")), acl: everyone(), flags }
}

fn check(path: &str, version: i32) -> WriteOp {
    WriteOp::Check(PathVersion { path: path.to_owned(), version })
}

fn write(request: Request) -> WriteOp {
    match request {
        Request::Write(op) => op,
        other => panic!("no write: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_kinds_that_mean_something_are_created() {
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    let bad = Err(Code::BadArguments.number());
    for flags in -1..=7 {
        for ttl_ms in [-1, 0, 1, (1 << 40) - 1, 1 << 40] {
            let path = format!("/k{flags}-{ttl_ms}-");
            let create = znode(&(path.clone() + "ttl"), flags);
            let made =
                client.ask(Request::Write(WriteOp::CreateTtl(CreateTtl { create, ttl_ms }))).await;
            let is_meant = matches!(flags, 5 | 6) && (1..1 << 40).contains(&ttl_ms);
            assert_eq!(made.is_ok(), is_meant, "flags {flags}, {ttl_ms} ms: {made:?}");
            if !is_meant {
                assert_eq!(made, bad);
            }
            let plain = client.ask(create_with(&path, flags)).await;
            assert_eq!(plain.is_ok(), (0..=3).contains(&flags), "flags {flags}: {plain:?}");
            let container = znode(&(path + "container"), flags);
            let made = client.ask(Request::Write(WriteOp::CreateContainer(container))).await;
            assert_eq!(made.is_ok(), flags == 4, "a container with flags {flags}: {made:?}");
        }
    }
}

/// A multi keeps to the same matrix, names the op that is wrong, and leaves nothing of the others.
#[tokio::test(flavor = "multi_thread")]
async fn only_kinds_that_mean_something_are_created_in_a_multi() {
    let (cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    let failed = Response::Results(Ops([0, -8, -2].map(OpResult::Failed).to_vec()));
    for flags in -1..=7 {
        let path = |kind: &str| format!("/m{flags}-{kind}");
        let mut asked = vec![
            (WriteOp::Create(znode(&path("create"), flags)), (0..=3).contains(&flags)),
            (WriteOp::Create2(znode(&path("create2"), flags)), (0..=3).contains(&flags)),
            (WriteOp::CreateContainer(znode(&path("container"), flags)), flags == 4),
        ];
        for ttl_ms in [i64::MIN, -1, 0, 1 << 40, 1, (1 << 40) - 1] {
            let create = znode(&path(&format!("ttl{ttl_ms}")), flags);
            let is_meant = matches!(flags, 5 | 6) && (1..1 << 40).contains(&ttl_ms);
            asked.push((WriteOp::CreateTtl(CreateTtl { create, ttl_ms }), is_meant));
        }
        for (op, is_meant) in asked {
            let ops = vec![write(create("/before", 0)), op.clone(), write(delete("/before"))];
            let Ok(made) = client.ask(Request::Multi(Ops(ops))).await else { panic!("{op:?}") };
            assert_eq!(made != failed, is_meant, "{op:?}: {made:?}");
            if is_meant {
                let Response::Results(Ops(results)) = made else { panic!("results") };
                let is_made = matches!(&results[1], OpResult::Created(_) | OpResult::Created2(_));
                assert!(is_made, "{op:?}: {results:?}");
            }
            assert!(cluster.node(1).local().get("/before").is_none(), "{op:?}");
        }
    }
}

fn create_with(path: &str, flags: i32) -> Request {
    Request::Write(WriteOp::Create2(znode(path, flags)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multi_is_done_or_says_which_op_was_wrong() {
    let (cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    let ops = vec![
        write(create("/m", 0)),
        WriteOp::Create2(znode("/m/s-", 2)),
        write(set("/m", "x")),
        check("/m", 1),
        write(delete("/m/s-0000000000")),
    ];
    let Ok(Response::Results(Ops(results))) = client.ask(Request::Multi(Ops(ops))).await else {
        panic!("results")
    };
    assert_eq!(results[0], OpResult::Created("/m".to_owned()));
    assert!(matches!(&results[1], OpResult::Created2(made) if made.path == "/m/s-0000000000"));
    assert!(matches!(&results[2], OpResult::DataSet(stat) if stat.version == 1));
    assert_eq!(results[3..], [OpResult::Checked, OpResult::Deleted]);
    assert_eq!(client.ask(Request::Multi(Ops(vec![]))).await, Ok(Response::Results(Ops(vec![]))));

    let before = cluster.node(1).local().digest();
    for (ops, codes) in [
        (vec![write(create("/n", 0)), check("/m", 9), write(delete("/m"))], [0, -103, -2]),
        (vec![write(delete("/none")), check("/m", 1), write(delete("/m"))], [-101, -2, -2]),
        (vec![write(create("/n", 0)), write(create("/bad/", 0)), check("/m", 1)], [0, -8, -2]),
        (vec![write(create("/n", 0)), write(create("/n2", 9)), check("/m", 1)], [0, -8, -2]),
    ] {
        let failed = Response::Results(Ops(codes.map(OpResult::Failed).to_vec()));
        assert_eq!(client.ask(Request::Multi(Ops(ops))).await, Ok(failed));
    }
    assert!(cluster.node(1).local().get("/n").is_none());
    assert_ne!(cluster.node(1).local().digest(), before, "refused transactions count");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_reads_are_of_one_state_and_fail_each_for_itself() {
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    client.ask(create("/r", 0)).await.unwrap();
    client.ask(create("/r/c", 1)).await.unwrap();
    let read = |request| match request {
        Request::Read(op) => op,
        other => panic!("no read: {other:?}"),
    };
    let ops: Vec<ReadOp> =
        vec![read(get("/r", false)), read(get("/none", false)), read(children("/r", false))];
    let Ok(Response::Results(Ops(results))) = client.ask(Request::MultiRead(Ops(ops))).await else {
        panic!("results")
    };
    assert!(matches!(&results[0], OpResult::Data(read) if read.stat.num_children == 1));
    assert_eq!(results[1], OpResult::Failed(-101));
    assert_eq!(results[2], OpResult::Children(vec!["c".to_owned()]));

    let number = client.ask(Request::GetAllChildrenNumber("/".to_owned())).await;
    assert_eq!(number, Ok(Response::Number(5)));
    let own = client.ask(Request::GetEphemerals("/r".to_owned())).await;
    assert_eq!(own, Ok(Response::Names(vec!["/r/c".to_owned()])));
    let Ok(Response::Identities(known)) = client.ask(Request::WhoAmI).await else {
        panic!("identities")
    };
    assert_eq!((known[0].scheme.as_str(), known[0].user.as_str()), ("ip", "127.0.0.1"));
    let Ok(Response::Acl(open)) = client.ask(Request::GetAcl("/r".to_owned())).await else {
        panic!("a list")
    };
    assert_eq!(open.acl, everyone());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_answered_and_then_the_connection_is_closed() {
    let (_cluster, doors) = cluster(1).await;
    let unimplemented = Code::Unimplemented.number();
    for request in [
        Request::Write(check("/", -1)),
        Request::DeleteContainer("/".to_owned()),
        Request::Sasl(None),
    ] {
        let mut client = Client::new(doors[0]).await;
        client.send(&[exists("/", false), request.clone(), exists("/", false)]).await;
        let rest = client.rest().await;
        assert_eq!(rest.len(), 2, "{request:?}: {rest:?}");
        let refused = Message::Reply { xid: 2, zxid: -1, result: Err(unimplemented) };
        assert_eq!(rest[1], refused, "{request:?}");
    }
    let mut client = Client::new(doors[0]).await;
    let wrong = roost::jute::Auth { kind: 0, scheme: "none".to_owned(), auth: None };
    assert_eq!(client.ask(Request::Auth(wrong)).await, Err(Code::AuthFailed.number()));
    assert_eq!(client.rest().await, []);
    let mut client = Client::new(doors[0]).await;
    let reconfig = roost::jute::Reconfig {
        joining: None,
        leaving: Some("1".to_owned()),
        new_members: None,
        config_id: -1,
    };
    let disabled = Err(errors::RECONFIG_DISABLED);
    assert_eq!(client.ask(Request::Reconfig(reconfig)).await, disabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_here_is_read_everywhere_with_the_same_stat() {
    let (cluster, doors) = cluster(3).await;
    let mut client = Client::new(doors[0]).await;
    client.ask(create("/everywhere", 0)).await.unwrap();
    let (_, here) = data(client.ask(get("/everywhere", false)).await);
    let tree = cluster.settled().await;
    assert_eq!(tree.get("/everywhere").unwrap().stat(), here);
}
