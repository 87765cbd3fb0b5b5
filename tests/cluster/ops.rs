//! Requests in few words, and a client that sends many in order.

use std::collections::VecDeque;
use std::task::Poll;

use futures::future::{BoxFuture, FutureExt};
use roost::node::{Answer, Node, Request};
use roost::types::{
    Code, CreateMode, Data, Error, Failure, Op, Reply, SessionId, Stat, ZnodePath, Zxid,
};

/// Returns a path known to be valid.
pub(crate) fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

/// Returns a request without a session.
pub(crate) fn request(op: Op) -> Request {
    by(SessionId::NONE, op)
}

/// Returns a request of a session that belongs to no connection.
pub(crate) fn by(session: SessionId, op: Op) -> Request {
    Request { session, owner: None, authority: Vec::new(), idempotency_key: None, op }
}

fn create_as(text: &str, data: &[u8], mode: CreateMode) -> Op {
    let (parent, name) = ZnodePath::parse_sequential(text).unwrap();
    Op::Create { parent, name, data: Some(Data::new(data)), acl: Vec::new(), mode }
}

pub(crate) fn create(text: &str, data: &[u8]) -> Op {
    create_as(text, data, CreateMode::Persistent)
}

pub(crate) fn create_sequential(text: &str, data: &[u8]) -> Op {
    create_as(text, data, CreateMode::PersistentSequential)
}

pub(crate) fn create_ephemeral(text: &str) -> Op {
    create_as(text, b"", CreateMode::Ephemeral)
}

pub(crate) fn set(text: &str, data: &[u8], version: Option<i32>) -> Op {
    Op::SetData { path: path(text), data: Some(Data::new(data)), version }
}

pub(crate) fn delete(text: &str) -> Op {
    Op::Delete { path: path(text), version: None }
}

/// Carries out a write that must succeed.
pub(crate) async fn done(node: &Node, request: Request) -> (Zxid, Reply) {
    let what = format!("{:?}", request.op);
    let answer = node.submit(request).await.unwrap_or_else(|err| panic!("{what}: {err}"));
    let reply = answer.result.unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
    (answer.zxid, reply)
}

/// Carries out a write that the tree must refuse.
pub(crate) async fn refused(node: &Node, request: Request) -> Code {
    match node.submit(request).await.unwrap().result {
        Err(Failure { code, .. }) => code,
        Ok(reply) => panic!("not refused: {reply:?}"),
    }
}

/// Opens a session that belongs to no connection.
pub(crate) async fn open_session(node: &Node, timeout_ms: u32) -> SessionId {
    let password = node.new_password();
    match done(node, request(Op::OpenSession { timeout_ms, password, owner: None })).await {
        (_, Reply::Session { session, .. }) => session,
        other => panic!("{other:?}"),
    }
}

/// Returns the stat in an answer to a set.
pub(crate) fn stat_of(reply: &Reply) -> Stat {
    match reply {
        Reply::DataSet { stat } | Reply::Created { stat, .. } => *stat,
        other => panic!("{other:?} has no stat"),
    }
}

type Submitted<T> = (T, BoxFuture<'static, Result<Answer, Error>>);

/// Writes through one node, submitted in order and many at a time; `T` is what the client notes of each.
pub(crate) struct Pipeline<T> {
    node: Node,
    waiting: VecDeque<Submitted<T>>,
}

impl<T> Pipeline<T> {
    pub(crate) fn new(node: Node) -> Pipeline<T> {
        Pipeline { node, waiting: VecDeque::new() }
    }

    /// Returns how many are on their way.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Submits. Returns the error if the node refuses it at once, and then does not note it. One that the node took up and
    /// lost at once, because it was just stopping, is no refusal.
    pub(crate) fn submit(&mut self, note: T, request: Request) -> Result<(), Error> {
        let node = self.node.clone();
        let mut submitted = async move { node.submit(request).await }.boxed();
        // The node takes it up when it is polled first, which is now and hence in order.
        let waker = futures::task::noop_waker();
        match submitted.poll_unpin(&mut std::task::Context::from_waker(&waker)) {
            Poll::Ready(Err(err)) if err != Error::OutcomeUnknown => return Err(err),
            Poll::Ready(outcome) => {
                self.waiting.push_back((note, futures::future::ready(outcome).boxed()));
            }
            Poll::Pending => self.waiting.push_back((note, submitted)),
        }
        Ok(())
    }

    /// Waits for the answer to the oldest one. `None` when there is none.
    pub(crate) async fn next(&mut self) -> Option<(T, Result<Answer, Error>)> {
        let (note, submitted) = self.waiting.pop_front()?;
        Some((note, submitted.await))
    }
}
