use tokio::io::AsyncWriteExt;

use crate::limits::PEER_HANDSHAKE_BYTES_MAX;
use crate::peer::frame::{FrameReader, frame_header};
use crate::peer::handshake::{HelloFrame, hello_body};

use super::*;

async fn refusal(peer: &Peer) -> String {
    match echo(peer, b"").await {
        Err(PeerError::Refused(reason)) => reason,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let node = Node::tcp().await;
    let stranger = Identity::new(1, CLUSTER, Secret::new(b"guess"));
    let peer = node.peer_as(stranger, 2);
    assert_eq!(refusal(&peer).await, "the caller does not know the cluster's secret");
    let stream = peer.open_stream(Kind::Submit).await;
    assert!(matches!(stream, Err(PeerError::Refused(_))));
    node.stop().await;
}

#[tokio::test]
async fn the_admission_refuses_another_cluster_with_a_reason_of_one_line() {
    let node = Node::tcp().await;
    let peer = node.peer_as(Identity::new(1, 8, secret()), 2);
    assert_eq!(refusal(&peer).await, "cluster 8 is not this one");
    node.stop().await;
}

#[tokio::test]
async fn a_caller_that_joins_a_cluster_is_let_in_from_then_on() {
    let node = Node::tcp().await;
    let joiner = Identity::new(1, 0, secret());
    let peer = node.peer_as(joiner.clone(), 2);
    assert_eq!(refusal(&peer).await, "cluster 0 is not this one");
    joiner.set_cluster(CLUSTER);
    let peer = node.peer_as(joiner, 2);
    assert!(echo(&peer, b"").await.is_ok());
    node.stop().await;
}

/// Admits everybody until it knows which cluster's nodes it wants.
#[derive(Default)]
struct Undecided(parking_lot::Mutex<Option<u128>>);

impl Admission for Undecided {
    fn admit(&self, hello: &Hello) -> Result<(), String> {
        match *self.0.lock() {
            Some(own) if own != hello.cluster => Err(format!("cluster {own} is here")),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn who_was_let_in_before_a_node_joined_a_cluster_is_judged_again_once_it_has() {
    let admission = Arc::new(Undecided::default());
    let newcomer = Identity::new(2, 0, secret());
    let node = Node::admitting(&TcpNet, "127.0.0.1:0", newcomer.clone(), admission.clone()).await;
    let joiner = Identity::new(3, 0, secret());
    let (member, joiner_peer, foreign) = (
        node.peer(),
        node.peer_as(joiner.clone(), 2),
        node.peer_as(Identity::new(1, 8, secret()), 2),
    );
    for peer in [&member, &joiner_peer, &foreign] {
        assert!(echo(peer, b"").await.is_ok());
    }
    *admission.0.lock() = Some(CLUSTER);
    [newcomer, joiner].iter().for_each(|identity| identity.set_cluster(CLUSTER));
    assert!(echo(&member, b"").await.is_ok(), "a member's connection goes on");
    // The connection on which it was let in ends unanswered; the next attempt is told why.
    assert!(matches!(echo(&foreign, b"").await, Err(PeerError::Unreachable(_))));
    assert_eq!(refusal(&foreign).await, "cluster 7 is here");
    assert!(matches!(echo(&joiner_peer, b"").await, Err(PeerError::Unreachable(_))));
    assert!(echo(&joiner_peer, b"").await.is_ok(), "it says by now where it belongs");
    node.stop().await;
}

#[tokio::test]
async fn a_connection_that_reached_another_node_is_refused() {
    let node = Node::tcp().await;
    let peer = node.peer_as(identity(1), 3);
    assert_eq!(refusal(&peer).await, "this is node 2, not node 3");
    let whoever = node.peer_as(identity(1), 0);
    assert!(echo(&whoever, b"").await.is_ok());
    node.stop().await;
}

/// Admits everybody and sees who it was.
#[derive(Default)]
struct Seen(parking_lot::Mutex<Vec<Hello>>);

impl Admission for Seen {
    fn admit(&self, hello: &Hello) -> Result<(), String> {
        self.0.lock().push(hello.clone());
        Ok(())
    }
}

#[tokio::test]
async fn the_admission_sees_cluster_node_and_purpose() {
    let (near, far) = tokio::io::duplex(4096);
    let (us, them, seen) = (identity(1), identity(2), Seen::default());
    let purpose = Purpose::Stream(Kind::Snapshot);
    let (out, taken) = tokio::join!(
        handshake::call_out(Box::new(near), &us, 2, purpose),
        handshake::take_in(Box::new(far), &them, &seen)
    );
    out.map(drop).unwrap();
    let expected = Hello { cluster: CLUSTER, from: 1, purpose };
    assert_eq!(taken.map(|(hello, _)| hello).unwrap(), expected);
    assert_eq!(*seen.0.lock(), [expected]);
}

#[tokio::test]
async fn a_caller_refuses_an_acceptor_of_another_cluster() {
    let (near, far) = tokio::io::duplex(4096);
    let (us, them, seen) = (identity(1), Identity::new(2, 9, secret()), Seen::default());
    let (out, _) = tokio::join!(
        handshake::call_out(Box::new(near), &us, 2, Purpose::Calls),
        handshake::take_in(Box::new(far), &them, &seen)
    );
    let reason = PeerError::Refused("node 2 belongs to another cluster".to_owned());
    assert_eq!(out.map(drop), Err(reason));
}

#[tokio::test]
async fn a_caller_refuses_an_acceptor_that_does_not_know_the_secret() {
    let (near, mut far) = tokio::io::duplex(4096);
    let us = identity(1);
    let impostor = async move {
        let challenge = [&[1u8][..], &[5; 32]].concat();
        // Cluster, node and a made-up proof.
        let said = [&CLUSTER.to_le_bytes()[..], &2u64.to_le_bytes(), &[6; 32]].concat();
        for body in [challenge, [&[1], &said[..]].concat()] {
            far.write_all(&frame(&body)).await.unwrap();
        }
        far
    };
    let (out, _far) =
        tokio::join!(handshake::call_out(Box::new(near), &us, 2, Purpose::Calls), impostor);
    let reason = "the node that answered does not know the cluster's secret";
    assert_eq!(out.map(drop), Err(PeerError::Refused(reason.to_owned())));
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&frame_header([body, &[]])[..], body].concat()
}

/// Sends a hello of some version to an acceptor and returns the body of its answer.
async fn answer_to(version: u16, hello: &HelloFrame) -> Bytes {
    let (mut near, far) = tokio::io::duplex(4096);
    let them = identity(2);
    near.write_all(&frame(&hello_body(version, hello))).await.unwrap();
    let mut reader = FrameReader::new(near, PEER_HANDSHAKE_BYTES_MAX);
    tokio::select! {
        body = reader.next() => body.unwrap(),
        _ = async {
            drop(handshake::take_in(Box::new(far), &them, &Members).await);
            std::future::pending::<()>().await
        } => unreachable!("it waits for ever"),
    }
}

#[tokio::test]
async fn other_versions_are_refused_with_a_reason() {
    let hello = || HelloFrame { cluster: CLUSTER, from: 1, to: 2, purpose: 0, nonce: [0; 32] };
    for version in [0, PROTOCOL_VERSION + 1, u16::MAX] {
        let expected = format!("\0node 2 speaks version 1 of the protocol, not {version}");
        assert_eq!(answer_to(version, &hello()).await, expected);
    }
    assert_eq!(answer_to(PROTOCOL_VERSION, &hello()).await[0], 1, "its own version is challenged");
}

#[tokio::test(start_paused = true)]
async fn somebody_who_says_nothing_is_not_waited_for() {
    let them = identity(2);
    let (_near, far) = tokio::io::duplex(4096);
    let taken = handshake::take_in(Box::new(far), &them, &Members).await;
    assert!(matches!(taken, Err(PeerError::Unreachable(_))));
    let (near, _far) = tokio::io::duplex(4096);
    let out = handshake::call_out(Box::new(near), &them, 1, Purpose::Calls).await;
    assert!(matches!(out, Err(PeerError::Unreachable(_))));
}

#[test]
fn a_secret_is_not_printed() {
    assert_eq!(format!("{:?}", secret()), "Secret");
    assert!(!format!("{:?}", identity(1)).contains("horse"));
}

#[test]
fn kinds_have_the_numbers_from_one_without_gap() {
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(kind.number()), at + 1);
        assert_eq!(Kind::from_number(kind.number()), Some(kind));
    }
    assert_eq!(Kind::from_number(0), None);
    assert_eq!(Kind::from_number(Kind::ALL.len() as u8 + 1), None);
}
