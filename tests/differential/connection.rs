//! A client of the ZooKeeper port, blocking and without any cleverness: it sends bytes and tells what came
//! back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use roost::jute::{
    ConnectRequest, ConnectResponse, Jute, Reader, ReplyHeader, Request, Response, WatcherEvent,
    append_frame, split_frame, xids,
};
use roost::types::{Data, SessionId};

/// How long an answer may take; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same while a server is not known to be ready.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// The largest frame that a server sends here.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// What a session is known by.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) session: SessionId,
    pub(crate) password: Option<Data>,
    pub(crate) last_zxid: i64,
}

impl Ticket {
    pub(crate) fn none() -> Ticket {
        Ticket { session: SessionId::NONE, password: Some(Data::new(&[0; 16])), last_zxid: 0 }
    }
}

/// Something to send: a request as it should be, or bytes that are none.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) xid: i32,
    pub(crate) opcode: i32,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    pub(crate) fn new(xid: i32, request: &Request) -> Ask {
        let mut body = Vec::new();
        request.encode(&mut roost::jute::Writer::new(&mut body));
        Ask { xid, opcode: request.opcode(), body }
    }
}

/// What came back for one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// Since the answer before.
    pub(crate) events: Vec<WatcherEvent>,
    pub(crate) header: ReplyHeader,
    pub(crate) body: Option<Response>,
}

/// One connection, attached to a session.
pub(crate) struct Connection {
    socket: TcpStream,
    arrived: Vec<u8>,
    pub(crate) ticket: Ticket,
}

impl Connection {
    /// Connects with a ticket and returns the connection and the timeout that it was given, ms; or the answer
    /// that says that the session is gone. An error if the server does not talk.
    pub(crate) fn open(
        address: SocketAddr,
        ticket: &Ticket,
        timeout_ms: i32,
    ) -> std::io::Result<Result<(Connection, i32), ConnectResponse>> {
        Connection::open_within(PATIENCE, address, ticket, timeout_ms)
    }

    /// Returns whether a session can be opened without delay. A server that is starting may accept the
    /// connection and never answer.
    pub(crate) fn is_possible(address: SocketAddr) -> bool {
        matches!(
            Connection::open_within(PROBE_PATIENCE, address, &Ticket::none(), 4_000),
            Ok(Ok(_))
        )
    }

    fn open_within(
        patience: Duration,
        address: SocketAddr,
        ticket: &Ticket,
        timeout_ms: i32,
    ) -> std::io::Result<Result<(Connection, i32), ConnectResponse>> {
        let socket = TcpStream::connect_timeout(&address, patience)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(patience))?;
        let mut connection = Connection { socket, arrived: Vec::new(), ticket: ticket.clone() };
        let hello = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: ticket.last_zxid,
            timeout_ms,
            session: ticket.session,
            password: ticket.password.clone(),
            read_only: Some(false),
        };
        let mut out = Vec::new();
        append_frame(&mut out, |writer| hello.write(writer));
        connection.socket.write_all(&out)?;
        let frame = connection.frame()?.ok_or(ErrorKind::UnexpectedEof)?;
        let answer: ConnectResponse =
            Reader::new(&frame).read().expect("an answer to the handshake");
        if answer.timeout_ms <= 0 {
            return Ok(Err(answer));
        }
        connection.socket.set_read_timeout(Some(PATIENCE))?;
        connection.ticket.session = answer.session;
        connection.ticket.password = answer.password;
        Ok(Ok((connection, answer.timeout_ms)))
    }

    /// Returns the next frame, or `None` at the end of the connection.
    fn frame(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(body) = split_frame(&self.arrived, FRAME_BYTES_MAX).expect("a sane length")
            {
                let body = body.to_vec();
                self.arrived.drain(..4 + body.len());
                return Ok(Some(body));
            }
            let mut chunk = [0; 16 << 10];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => self.arrived.extend_from_slice(&chunk[..count]),
                Err(err) if err.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(err) => return Err(err),
            }
        }
    }

    /// Sends all of these at once and returns their answers, in order; fewer when the server closed the
    /// connection.
    pub(crate) fn ask(&mut self, asks: &[Ask]) -> Vec<Answer> {
        let mut out = Vec::new();
        for ask in asks {
            append_frame(&mut out, |writer| {
                ask.xid.write(writer);
                ask.opcode.write(writer);
                writer.raw(&ask.body);
            });
        }
        if self.socket.write_all(&out).is_err() {
            return Vec::new();
        }
        asks.iter().map_while(|ask| self.answer(ask)).collect()
    }

    fn answer(&mut self, ask: &Ask) -> Option<Answer> {
        let mut events = Vec::new();
        loop {
            let frame = self.frame().unwrap_or_else(|err| panic!("no answer to {ask:?}: {err}"))?;
            let mut reader = Reader::new(&frame);
            let header: ReplyHeader = reader.read().expect("a header");
            if header.xid == xids::EVENT {
                events.push(reader.read().expect("an event"));
                continue;
            }
            assert_eq!(header.xid, ask.xid, "answers come in the order of the requests");
            if header.zxid > 0 {
                assert!(header.zxid >= self.ticket.last_zxid, "a zxid went back: {header:?}");
                self.ticket.last_zxid = header.zxid;
            }
            let body = (header.err == 0).then(|| {
                Response::decode(ask.opcode, reader.rest())
                    .unwrap_or_else(|err| panic!("the answer to {ask:?}: {err}"))
            });
            return Some(Answer { events, header, body });
        }
    }

    /// Waits for the end of the connection; what still arrives is thrown away.
    pub(crate) fn ends(&mut self) {
        while self.frame().expect("the server closes the connection").is_some() {}
    }
}
