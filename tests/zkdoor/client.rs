//! A client that shows everything that comes over its connection, in order.

use std::net::SocketAddr;
use std::sync::Arc;

use roost::jute::{
    AddWatch, ConnectRequest, ConnectResponse, Create, EventType, Jute, PathVersion, PathWatch,
    ReadOp, Reader, ReplyHeader, Request, Response, SetData, WatcherEvent, WriteOp, append_frame,
    append_request, opcodes, split_frame, xids,
};
use roost::types::{Acl, AclId, Data, NodeId, Perms, SessionId, Stat};
use roost::zk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::harness::{Cluster, Setup, in_time};

/// What these doors allow unless a test says otherwise.
pub(crate) fn options() -> zk::Options {
    zk::Options {
        frame_bytes_max: 1 << 20,
        connections_per_address_max: 1_000,
        words: zk::parse_words(&["*".to_owned()]).unwrap(),
        reconfig: false,
        data_dir: "data".to_owned(),
        tick_ms: 50,
        timeouts_ms: (500, 60_000),
    }
}

/// Opens a door to a node, on the node's own runtime: it ends with the node.
pub(crate) async fn open(cluster: &Cluster, id: NodeId, options: zk::Options) -> SocketAddr {
    open_door(cluster, id, options).await.0
}

/// The same, and returns the door too.
pub(crate) async fn open_door(
    cluster: &Cluster,
    id: NodeId,
    options: zk::Options,
) -> (SocketAddr, zk::Door) {
    cluster
        .on(id, move |node| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let door = zk::Door::new(node, options, address);
            tokio::spawn(zk::serve(listener, door.clone(), CancellationToken::new()));
            (address, door)
        })
        .await
}

/// Starts a cluster with a door at each node, in the order of their ids.
pub(crate) async fn cluster(count: NodeId) -> (Arc<Cluster>, Vec<SocketAddr>) {
    cluster_with(count, Setup::default()).await
}

/// As [`cluster`], with another setup.
pub(crate) async fn cluster_with(count: NodeId, setup: Setup) -> (Arc<Cluster>, Vec<SocketAddr>) {
    let cluster = Cluster::start(count, setup).await;
    let mut doors = Vec::new();
    for id in 1..=count {
        doors.push(open(&cluster, id, options()).await);
    }
    (cluster, doors)
}

/// What came over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Event { zxid: i64, kind: EventType, path: String },
    Reply { xid: i32, zxid: i64, result: Result<Response, i32> },
}

pub(crate) struct Client {
    stream: TcpStream,
    arrived: Vec<u8>,
    xid: i32,
    /// The opcodes of the requests that are not answered, in order.
    asked: std::collections::VecDeque<(i32, i32)>,
    pub(crate) session: SessionId,
    pub(crate) password: Option<Data>,
    pub(crate) timeout_ms: i32,
    /// Everything that came and was not asked for by `ask`.
    pub(crate) events: Vec<(i64, EventType, String)>,
}

pub(crate) fn fresh(timeout_ms: i32) -> ConnectRequest {
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms,
        session: SessionId::NONE,
        password: None,
        read_only: Some(false),
    }
}

impl Client {
    /// Connects with a new session of 20 s.
    pub(crate) async fn new(door: SocketAddr) -> Client {
        Client::connect(door, fresh(20_000)).await.expect("a session is opened")
    }

    /// Says hello; `None` when the connection is closed without an answer.
    pub(crate) async fn connect(door: SocketAddr, hello: ConnectRequest) -> Option<Client> {
        let mut client = Client {
            stream: TcpStream::connect(door).await.unwrap(),
            arrived: Vec::new(),
            xid: 0,
            asked: Default::default(),
            session: SessionId::NONE,
            password: None,
            timeout_ms: 0,
            events: Vec::new(),
        };
        client.stream.set_nodelay(true).unwrap();
        let mut bytes = Vec::new();
        append_frame(&mut bytes, |writer| hello.write(writer));
        client.raw(&bytes).await;
        let frame = client.frame().await?;
        let answer: ConnectResponse = Reader::new(&frame).read().unwrap();
        client.session = answer.session;
        client.password = answer.password;
        client.timeout_ms = answer.timeout_ms;
        Some(client)
    }

    /// Returns the hello that comes back to this client's session.
    pub(crate) fn again(&self, last_zxid_seen: i64) -> ConnectRequest {
        let (session, password) = (self.session, self.password.clone());
        ConnectRequest { last_zxid_seen, session, password, ..fresh(self.timeout_ms) }
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        // A server that has closed is noticed when it is read.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends requests in one go, without waiting for their replies.
    pub(crate) async fn send(&mut self, requests: &[Request]) {
        let mut bytes = Vec::new();
        for request in requests {
            let xid = match request {
                Request::Ping => xids::PING,
                Request::Auth(_) => xids::AUTH,
                Request::SetWatches(_) | Request::SetWatches2(_) => xids::SET_WATCHES,
                _ => {
                    self.xid += 1;
                    self.xid
                }
            };
            append_request(&mut bytes, xid, request);
            match xid {
                xids::PING => {}
                _ => self.asked.push_back((xid, request.opcode())),
            }
        }
        self.raw(&bytes).await;
    }

    /// Returns the body of the next frame, `None` at the end of the connection.
    async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(body) = split_frame(&self.arrived, usize::MAX).unwrap() {
                let body = body.to_vec();
                self.arrived.drain(..4 + body.len());
                return Some(body);
            }
            // Not into an array: every test would carry it on its stack, once for each place where it waits.
            self.arrived.reserve(64 << 10);
            let reading = self.stream.read_buf(&mut self.arrived);
            match in_time("the server says something", reading).await {
                Ok(count) if count > 0 => {}
                _ => return None,
            }
        }
    }

    /// Returns whatever comes next, `None` at the end of the connection.
    pub(crate) async fn raw_frame(&mut self) -> Option<Vec<u8>> {
        self.frame().await
    }

    /// Expects a reply to a request with this opcode that was sent raw, with the next xid.
    pub(crate) fn expect(&mut self, opcode: i32) {
        self.xid += 1;
        self.asked.push_back((self.xid, opcode));
    }

    /// Returns the next message, `None` at the end of the connection. Replies must come in the order of the requests.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let frame = self.frame().await?;
        let mut reader = Reader::new(&frame);
        let ReplyHeader { xid, zxid, err } = reader.read().unwrap();
        if xid == xids::EVENT {
            let WatcherEvent { event, path, .. } = reader.read().unwrap();
            return Some(Message::Event { zxid, kind: event, path });
        }
        let opcode = match xid {
            xids::PING => opcodes::PING,
            _ => {
                let (expected, opcode) = self.asked.pop_front().expect("it was asked");
                assert_eq!(xid, expected, "replies come in the order of the requests");
                opcode
            }
        };
        let result = match err {
            0 => Ok(Response::decode(opcode, reader.rest()).unwrap()),
            err => Err(err),
        };
        Some(Message::Reply { xid, zxid, result })
    }

    /// Returns the next reply and its zxid; events on the way are kept.
    pub(crate) async fn reply(&mut self) -> (i64, Result<Response, i32>) {
        loop {
            match self.next().await.expect("the connection stays open") {
                Message::Event { zxid, kind, path } => self.events.push((zxid, kind, path)),
                Message::Reply { zxid, result, .. } => return (zxid, result),
            }
        }
    }

    pub(crate) async fn ask(&mut self, request: Request) -> Result<Response, i32> {
        self.send(&[request]).await;
        self.reply().await.1
    }

    /// Waits for an event.
    pub(crate) async fn event(&mut self) -> (i64, EventType, String) {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        match self.next().await {
            Some(Message::Event { zxid, kind, path }) => (zxid, kind, path),
            other => panic!("an event was expected: {other:?}"),
        }
    }

    /// Reads until the server closes the connection, and returns what came before.
    pub(crate) async fn rest(&mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        while let Some(message) = self.next().await {
            rest.push(message);
        }
        rest
    }
}

pub(crate) fn everyone() -> Vec<Acl> {
    let id = AclId { scheme: "world".to_owned(), id: "anyone".to_owned() };
    vec![Acl { perms: Perms::ALL, id }]
}

pub(crate) fn create(path: &str, flags: i32) -> Request {
    let (path, data) = (path.to_owned(), Some(Data::new(b"data")));
    Request::Write(WriteOp::Create(Create { path, data, acl: everyone(), flags }))
}

pub(crate) fn delete(path: &str) -> Request {
    Request::Write(WriteOp::Delete(PathVersion { path: path.to_owned(), version: -1 }))
}

pub(crate) fn set(path: &str, data: &str) -> Request {
    let data = Some(Data::new(data.as_bytes()));
    Request::Write(WriteOp::SetData(SetData { path: path.to_owned(), data, version: -1 }))
}

fn wanted(path: &str, watch: bool) -> PathWatch {
    PathWatch { path: path.to_owned(), watch }
}

pub(crate) fn get(path: &str, watch: bool) -> Request {
    Request::Read(ReadOp::GetData(wanted(path, watch)))
}

pub(crate) fn exists(path: &str, watch: bool) -> Request {
    Request::Exists(wanted(path, watch))
}

pub(crate) fn children(path: &str, watch: bool) -> Request {
    Request::Read(ReadOp::GetChildren(wanted(path, watch)))
}

pub(crate) fn add_watch(path: &str, mode: i32) -> Request {
    Request::AddWatch(AddWatch { path: path.to_owned(), mode })
}

/// Returns data as text, and the stat.
pub(crate) fn data(result: Result<Response, i32>) -> (String, Stat) {
    match result {
        Ok(Response::Data(read)) => {
            let bytes = read.data.as_deref().unwrap_or_default().to_vec();
            (String::from_utf8(bytes).unwrap(), read.stat)
        }
        other => panic!("data was expected: {other:?}"),
    }
}

pub(crate) fn stat(result: Result<Response, i32>) -> Stat {
    match result {
        Ok(Response::Stat(stat)) => stat,
        other => panic!("a stat was expected: {other:?}"),
    }
}
