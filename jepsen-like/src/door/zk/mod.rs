//! ZooKeeper's protocol, for ZooKeeper itself and for roost's door of that name.
//!
//! A door keeps one connection with a session of its own for what needs none, and one connection for each session that
//! it is asked to use; to use a session that is attached elsewhere is to attach it here, as a client library does that
//! goes from server to server. A connection that fails once is given up.
//!
//! A linearizable read is `sync` and the read on one connection, as ZooKeeper's documents recommend; that this is less
//! than linearizable there, since `sync` asks no quorum, is for the checkers to find.
//!
//! What it deliberately lacks: retries, watches that fire once, and authentication.

mod connection;
mod door;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use roost::jute::{
    AddWatch, Create, DataStat, OpResult, Ops, PathVersion, PathWatch, ReadOp, Request, Response,
    SetData, WriteOp,
};
use roost::types::{Acl, AclId, Data, Perms, Stat};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};

use super::{News, Reply, Session, State, Trouble, number};
use crate::history::kv::{KvAnswer, KvCall, Refusal, Seen};
use connection::{Answer, Connection, refusal};

/// The flags of a create.
const EPHEMERAL: i32 = 1;
const SEQUENTIAL: i32 = 2;
/// Mode of a watch: the path and all below it, until further notice.
const RECURSIVE: i32 = 1;
/// Timeout of the session of a connection that needs none, ms.
const OWN_TIMEOUT_MS: u64 = 6_000;
/// How often a subscription says that it is there.
const PING_EVERY: Duration = Duration::from_secs(1);
/// Events that come so soon after each other are answered by one look.
const SETTLE: Duration = Duration::from_millis(2);
/// Znodes read at once: a request and its answer stay far below any server's bound.
const READ_MAX: usize = 500;
/// Attempts to read children and their data from one state.
const LOOKS: u32 = 20;

/// The connections of a door: its own, with the newest zxid that it showed, and those of sessions.
#[derive(Default)]
struct Connections {
    own: Option<Arc<Connection>>,
    own_zxid: u64,
    attached: BTreeMap<String, Arc<Connection>>,
}

/// A client of one server.
pub struct ZkDoor {
    node: u8,
    addr: String,
    patience: Duration,
    connections: Mutex<Connections>,
    /// Parents that are known to be there.
    ensured: std::sync::Mutex<std::collections::BTreeSet<String>>,
}

impl ZkDoor {
    /// Returns a client of the server at an address. Connects to nothing yet.
    pub fn new(node: u8, addr: &str, patience: Duration) -> ZkDoor {
        let (addr, connections) = (addr.to_owned(), Mutex::default());
        ZkDoor { node, addr, patience, connections, ensured: std::sync::Mutex::default() }
    }

    /// Returns the connection for what needs no session, to a server that is not behind this zxid.
    async fn own(&self, seen_zxid: u64) -> Reply<Arc<Connection>> {
        let mut connections = self.connections.lock().await;
        if let Some(own) = connections.own.as_ref().filter(|own| own.is_open())
            && connections.own_zxid >= seen_zxid
        {
            return Ok(Arc::clone(own));
        }
        connections.own = None;
        let opened = Connection::open(&self.addr, self.patience, Err(OWN_TIMEOUT_MS), seen_zxid);
        // Of the request for which it is opened nothing is sent yet.
        let failed = |trouble: Trouble| Trouble::Failed(trouble.to_string());
        let (opened, _) = opened.await.map_err(failed)?;
        let opened = Arc::new(opened);
        (connections.own, connections.own_zxid) = (Some(Arc::clone(&opened)), seen_zxid);
        Ok(opened)
    }

    async fn saw(&self, zxid: u64) {
        let mut connections = self.connections.lock().await;
        connections.own_zxid = connections.own_zxid.max(zxid);
    }

    /// Returns the connection of a session, and whether it was attached just now.
    async fn attached(&self, session: &Session) -> Reply<(Arc<Connection>, bool)> {
        let mut connections = self.connections.lock().await;
        if let Some(there) = connections.attached.get(&session.id).filter(|there| there.is_open()) {
            return Ok((Arc::clone(there), false));
        }
        connections.attached.remove(&session.id);
        let opened = Connection::open(&self.addr, self.patience, Ok(session), 0).await;
        let failed = |trouble| match trouble {
            Trouble::Unknown(why) => Trouble::Failed(why),
            other => other,
        };
        let opened = Arc::new(opened.map_err(failed)?.0);
        connections.attached.insert(session.id.clone(), Arc::clone(&opened));
        Ok((opened, true))
    }

    async fn write(&self, op: WriteOp) -> Reply<Answer> {
        let answer = self.own(0).await?.ask(&Request::Write(op), true).await?;
        self.saw(answer.0).await;
        Ok(answer)
    }

    /// Asks, after a `sync` of what is asked for if the answer has to be the newest.
    async fn read(&self, path: &str, request: Request, is_newest: bool) -> Reply<Answer> {
        let own = self.own(0).await?;
        let answer = match is_newest {
            true => own.ask_in_a_row(&[Request::Sync(path.to_owned()), request]).await?,
            false => own.ask(&request, false).await?,
        };
        self.saw(answer.0).await;
        Ok(answer)
    }

    async fn carry_out(&self, call: &KvCall, seen_zxid: u64) -> Reply<KvAnswer> {
        match call {
            KvCall::Read { key } => read_one(self.read(key, get(key), true).await?),
            KvCall::ReadStale { key } => {
                self.own(seen_zxid).await?;
                read_one(self.read(key, get(key), false).await?)
            }
            KvCall::Create { key, value } => {
                let create = WriteOp::Create2(create(key, text(*value), 0));
                match self.write(create).await? {
                    (zxid, Response::Created(made)) => done(zxid, Some(made.stat.version)),
                    other => Err(unexpected(&other)),
                }
            }
            KvCall::Set { key, value } => self.set(key, *value, -1).await,
            KvCall::Cas { key, version, to, .. } => self.set(key, *to, *version).await,
            KvCall::Delete { key } => {
                let delete = WriteOp::Delete(PathVersion { path: key.clone(), version: -1 });
                done(self.write(delete).await?.0, None)
            }
            KvCall::SetAll { writes } => {
                let set = |(path, value): &(String, u64)| set_data(path, *value, -1);
                let request = Request::Multi(Ops(writes.iter().map(set).collect()));
                set_all(self.own(0).await?.ask(&request, true).await?)
            }
            KvCall::ReadAll { keys } => {
                let first = keys.first().map_or("/", String::as_str);
                let gets = keys.iter().map(|key| read_op(key)).collect();
                read_all(self.read(first, Request::MultiRead(Ops(gets)), true).await?)
            }
        }
    }

    async fn set(&self, key: &str, value: u64, version: i32) -> Reply<KvAnswer> {
        match self.write(set_data(key, value, version)).await? {
            (zxid, Response::Stat(stat)) => done(zxid, Some(stat.version)),
            other => Err(unexpected(&other)),
        }
    }

    async fn make_parents(&self, path: &str) -> Reply<()> {
        let known =
            |path: &str| self.ensured.lock().unwrap_or_else(PoisonError::into_inner).contains(path);
        if known(path) {
            return Ok(());
        }
        for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
            match self.write(WriteOp::Create(create(&path[..end], Vec::new(), 0))).await {
                Ok(_) | Err(Trouble::Refused(Refusal::NodeExists)) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        self.ensured.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        Ok(())
    }

    async fn create_ephemeral(&self, session: &Session, path: &str, data: Vec<u8>) -> Reply<u64> {
        let (connection, _) = self.attached(session).await?;
        let create = WriteOp::Create2(create(path, data, EPHEMERAL));
        Ok(connection.ask(&Request::Write(create), true).await?.0)
    }
}

fn text(value: u64) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn create(path: &str, data: Vec<u8>, flags: i32) -> Create {
    let id = AclId { scheme: "world".into(), id: "anyone".into() };
    let acl = vec![Acl { perms: Perms::ALL, id }];
    Create { path: path.to_owned(), data: Some(Data::new(&data)), acl, flags }
}

fn set_data(path: &str, value: u64, version: i32) -> WriteOp {
    let data = Some(Data::new(&text(value)));
    WriteOp::SetData(SetData { path: path.to_owned(), data, version })
}

fn read_op(path: &str) -> ReadOp {
    ReadOp::GetData(PathWatch { path: path.to_owned(), watch: false })
}

fn get(path: &str) -> Request {
    Request::Read(read_op(path))
}

fn done(zxid: u64, version: Option<i32>) -> Reply<KvAnswer> {
    Ok(KvAnswer::Done { zxid, version })
}

fn unexpected(answer: &Answer) -> Trouble {
    Trouble::Unknown(format!("an answer of another kind: {answer:?}"))
}

fn seen(data: Option<&[u8]>, stat: &Stat) -> Seen {
    let (czxid, mzxid) = (stat.czxid.0, stat.mzxid.0);
    Seen { value: number(data.unwrap_or_default()), version: stat.version, czxid, mzxid }
}

fn read_one(answer: Answer) -> Reply<KvAnswer> {
    match answer {
        (zxid, Response::Data(DataStat { data, stat })) => {
            Ok(KvAnswer::Read { zxid, seen: Some(seen(data.as_deref(), &stat)) })
        }
        other => Err(unexpected(&other)),
    }
}

fn set_all((zxid, response): Answer) -> Reply<KvAnswer> {
    let Response::Results(Ops(results)) = response else {
        return Err(unexpected(&(zxid, response)));
    };
    let mut versions = results.iter().map(|result| match result {
        OpResult::DataSet(stat) => Ok(stat.version),
        OpResult::Failed(err) => Err(*err),
        _ => Err(0),
    });
    // The one that was refused is the first with a number of its own.
    if let Some(Err(err)) = versions.clone().find(|one| one.is_err_and(|err| err != 0)) {
        return Err(refusal(err, roost::jute::opcodes::MULTI));
    }
    // Znodes that are always set together have the same version.
    let first = versions.next().and_then(Result::ok);
    let is_same = versions.all(|version| version.ok() == first);
    done(zxid, first.filter(|_| is_same))
}

fn read_all((zxid, response): Answer) -> Reply<KvAnswer> {
    let Response::Results(Ops(results)) = response else {
        return Err(unexpected(&(zxid, response)));
    };
    let seen = results.iter().map(|result| match result {
        OpResult::Data(read) => Some(seen(read.data.as_deref(), &read.stat)),
        _ => None,
    });
    Ok(KvAnswer::ReadAll { zxid, seen: seen.collect() })
}

/// Reads the children of a znode and their data, of one state.
async fn look(connection: &Connection, parent: &str) -> Reply<State> {
    let list = || ReadOp::GetChildren(PathWatch { path: parent.to_owned(), watch: false });
    for _ in 0..LOOKS {
        let (_, answer) = connection.ask(&Request::Read(list()), false).await?;
        let Response::Names(names) = answer else { continue };
        let mut state = State { zxid: 0, children: BTreeMap::new() };
        // With the list once more in front: if that is the same, it is of the state of the data behind it.
        let mut is_one = true;
        for part in names.chunks(READ_MAX).chain(names.is_empty().then_some(&[][..])) {
            let gets = part.iter().map(|name| read_op(&format!("{parent}/{name}")));
            let ops = std::iter::once(list()).chain(gets).collect();
            let (zxid, answer) = connection.ask(&Request::MultiRead(Ops(ops)), false).await?;
            let Response::Results(Ops(results)) = answer else { continue };
            is_one &= matches!(results.first(), Some(OpResult::Children(now)) if same(now, &names));
            for (name, result) in part.iter().zip(results.iter().skip(1)) {
                match result {
                    OpResult::Data(read) => {
                        let data = read.data.as_deref().unwrap_or_default().to_vec();
                        state.children.insert(name.clone(), data);
                    }
                    _ => is_one = false,
                }
            }
            state.zxid = zxid;
        }
        if is_one {
            return Ok(state);
        }
    }
    Err(Trouble::Failed(format!("{parent} changes all the time")))
}

fn same(a: &[String], b: &[String]) -> bool {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    sorted(a) == sorted(b)
}

/// Reads the children whenever something happens below a path, until the connection breaks.
async fn follow(
    addr: String,
    patience: Duration,
    parent: String,
    sender: mpsc::Sender<Reply<News>>,
) -> Trouble {
    let opened = Connection::open(&addr, patience, Err(OWN_TIMEOUT_MS), 0).await;
    let (connection, mut events) = match opened {
        Ok(opened) => opened,
        Err(trouble) => return Trouble::Failed(trouble.to_string()),
    };
    let watch = Request::AddWatch(AddWatch { path: parent.clone(), mode: RECURSIVE });
    if let Err(trouble) = connection.ask(&watch, false).await {
        return trouble;
    }
    loop {
        let state = match look(&connection, &parent).await {
            Ok(state) => state,
            // Nobody has provided the service yet: nobody is there.
            Err(Trouble::Refused(Refusal::NoNode)) => State { zxid: 0, children: BTreeMap::new() },
            Err(trouble) => return trouble,
        };
        if sender.send(Ok(News::Snapshot(state))).await.is_err() {
            return Trouble::Failed("nobody listens".into());
        }
        loop {
            match timeout(PING_EVERY, events.recv()).await {
                Ok(Some(())) => break,
                Ok(None) => return Trouble::Failed("the connection broke".into()),
                Err(_) => {
                    if let Err(trouble) = connection.ask(&Request::Ping, false).await {
                        return trouble;
                    }
                }
            }
        }
        sleep(SETTLE).await;
        while events.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use roost::jute::{OpResult, Ops, Response, opcodes};
    use roost::types::Stat;

    use super::{read_all, refusal, set_all};
    use crate::door::Trouble;
    use crate::history::kv::{KvAnswer, Refusal};

    fn results(all: Vec<OpResult>) -> (u64, Response) {
        (9, Response::Results(Ops(all)))
    }

    fn set(version: i32) -> OpResult {
        OpResult::DataSet(Stat { version, ..Stat::default() })
    }

    #[test]
    fn a_multi_that_was_refused_is_no_success() {
        let refused =
            results(vec![OpResult::Failed(0), OpResult::Failed(-101), OpResult::Failed(-2)]);
        assert_eq!(set_all(refused), Err(Trouble::Refused(Refusal::NoNode)));
        let done = |version| Ok(KvAnswer::Done { zxid: 9, version });
        assert_eq!(set_all(results(vec![set(4), set(4)])), done(Some(4)));
        assert_eq!(
            set_all(results(vec![set(4), set(5)])),
            done(None),
            "which of them is not known"
        );
    }

    #[test]
    fn what_is_not_there_is_part_of_what_is_read() {
        let answer = read_all(results(vec![OpResult::Failed(-101)]));
        assert_eq!(answer, Ok(KvAnswer::ReadAll { zxid: 9, seen: vec![None] }));
    }

    #[test]
    fn only_what_was_certainly_not_done_has_failed() {
        let of_write = |err| refusal(err, opcodes::SET_DATA);
        assert_eq!(of_write(-103), Trouble::Refused(Refusal::BadVersion));
        assert_eq!(of_write(-112), Trouble::Expired);
        assert!(matches!(of_write(-118), Trouble::Denied(_)), "the session was moved");
        assert!(matches!(of_write(-4), Trouble::Unknown(_)), "the server lost the others");
        assert!(
            matches!(refusal(-4, opcodes::GET_DATA), Trouble::Failed(_)),
            "a read does nothing"
        );
    }
}
