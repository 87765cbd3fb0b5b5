//! How a connection gets its session: a new one, or one that it comes back to.

use std::net::IpAddr;
use std::time::Duration;

use super::Door;
use crate::identity::of_address;
use crate::jute::{ConnectRequest, ConnectResponse, Jute, append_frame};
use crate::node::{Answer, Consistency, Inbox, Line};
use crate::types::{Code, Data, Error, Op, Password, Reply, SessionId, Zxid};

/// How long a session may take to be opened or attached. A client gives up earlier.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a request that the node could not take is handed to it again.
const RETRY: Duration = Duration::from_millis(20);

/// How a handshake ends.
pub(super) enum Greeting {
    /// With a session of so many ms, the first reply, and the transaction that made or moved it.
    Welcome { line: Line, timeout_ms: u32, reply: Vec<u8>, told: Zxid },
    /// With this reply, and nothing more.
    Expired(Vec<u8>),
    /// Without a word: the client tries another server.
    Closed(&'static str),
}

/// Carries out the first request of a client at this address.
pub(super) async fn greet(door: &Door, address: IpAddr, request: ConnectRequest) -> Greeting {
    match tokio::time::timeout(PATIENCE, attach(door, address, &request)).await {
        Ok(greeting) => greeting,
        Err(_) => Greeting::Closed("its session could not be opened in time"),
    }
}

async fn attach(door: &Door, address: IpAddr, request: &ConnectRequest) -> Greeting {
    let node = door.node();
    let seen = Zxid(u64::try_from(request.last_zxid_seen).unwrap_or(0));
    // It has seen more than there is here. If this node only lags, it waits; if the cluster was never there, this is
    // another cluster than the client takes it for.
    if mutant!(M36, false, seen > node.local().zxid()) {
        match node.read(Consistency::Linearizable, Zxid(0)).await {
            Ok(view) if view.tree.zxid() >= seen => {}
            Ok(_) => return Greeting::Closed("it has seen what this cluster has not reached"),
            Err(_) => return Greeting::Closed("no leader can say whether it has seen too much"),
        }
    }
    let Ok(mut line) = node.open_line(vec![of_address(address)]) else {
        return Greeting::Closed("there are too many connections");
    };
    let timeout_ms = node.negotiate_timeout_ms(u32::try_from(request.timeout_ms).unwrap_or(0));
    let known = Password::try_from(request.password.as_deref().unwrap_or_default());
    let (op, password) = if mutant!(M23, true, request.session.is_none()) {
        let password = node.new_password();
        (Op::OpenSession { timeout_ms, password, owner: Some(line.owner()) }, password)
    } else {
        let (session, owner) = (request.session, Some(line.owner()));
        // A password of another length is wrong like any other.
        let password = known.unwrap_or_default();
        (Op::AttachSession { session, password, owner, timeout_ms }, password)
    };
    match submit(&mut line, Box::new(op)).await {
        Ok(Answer { zxid, result: Ok(Reply::Session { session, timeout_ms }) }) => {
            line.bind(session);
            let reply = welcome(request, session, timeout_ms, &password);
            Greeting::Welcome { line, timeout_ms, reply, told: zxid }
        }
        Ok(Answer { result: Err(failure), .. }) if failure.code == Code::SessionExpired => {
            Greeting::Expired(encode(&ConnectResponse::expired(request)))
        }
        Ok(_) => Greeting::Closed("there are too many sessions"),
        Err(why) => Greeting::Closed(why),
    }
}

/// Submits an op, as soon as the node takes it, and waits for its answer.
async fn submit(line: &mut Line, mut op: Box<Op>) -> Result<Answer, &'static str> {
    loop {
        match line.submit(op) {
            Ok(()) => break,
            Err((Error::Busy { .. } | Error::NoLeader, again)) => op = again,
            Err(_) => return Err("this node does not serve"),
        }
        tokio::time::sleep(RETRY).await;
    }
    let mut inbox = Inbox::default();
    loop {
        line.rung().await;
        line.look(&mut inbox, true, |_, _, _| ((), true));
        if let Some(answer) = inbox.answers.pop_front() {
            return answer.ok_or("the outcome of its handshake is unknown");
        }
        if inbox.ended.is_some() {
            return Err("this node took over a snapshot of the state");
        }
    }
}

fn welcome(
    request: &ConnectRequest,
    session: SessionId,
    timeout_ms: u32,
    password: &Password,
) -> Vec<u8> {
    encode(&ConnectResponse {
        protocol_version: 0,
        timeout_ms: timeout_ms as i32,
        session,
        password: Some(Data::new(password)),
        read_only: request.read_only.map(|_| false),
    })
}

fn encode(response: &ConnectResponse) -> Vec<u8> {
    let mut out = Vec::new();
    append_frame(&mut out, |writer| response.write(writer));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Node;

    #[tokio::test]
    async fn beyond_as_many_sessions_as_there_may_be_a_client_is_sent_elsewhere_until_one_ends() {
        let door = Door::of(Node::with_room_for(1).await);
        let hello = || ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: 5_000,
            session: SessionId::NONE,
            password: None,
            read_only: None,
        };
        let come = async || greet(&door, IpAddr::from([127, 0, 0, 1]), hello()).await;
        let Greeting::Welcome { mut line, .. } = come().await else { panic!("there is room") };
        assert!(matches!(come().await, Greeting::Closed("there are too many sessions")));
        let end = Op::CloseSession { session: line.session(), unless_moved_from: None };
        assert!(submit(&mut line, Box::new(end)).await.unwrap().result.is_ok());
        assert!(matches!(come().await, Greeting::Welcome { .. }), "one has gone");
    }
}
