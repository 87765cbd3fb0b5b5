use super::*;
use crate::jute::{PathWatch, ReadOp, SetData, WriteOp, append_request};
use crate::limits::ZK_CONNECTIONS_MAX;
use crate::node::Node;
use crate::types::Data;

/// Returns a conversation with a node that leads a cluster of one.
async fn conversation() -> Conversation {
    let node = Node::in_memory().await;
    let door = Door::of(node.clone());
    let place = door.meters().enter(door.address(), ZK_CONNECTIONS_MAX, 0).unwrap();
    let line = node.open_line(Vec::new()).unwrap();
    let told = node.local().zxid();
    Conversation::new(door, line, place.tally.clone(), told)
}

fn take(conversation: &mut Conversation, request: &Request) {
    let mut frame = Vec::new();
    append_request(&mut frame, 1, request);
    assert_eq!(conversation.take(&frame[4..], 0), Next::On);
}

fn get() -> Request {
    Request::Read(ReadOp::GetData(PathWatch { path: "/".to_owned(), watch: false }))
}

#[tokio::test]
async fn who_has_missed_notices_is_answered_nothing_more() {
    for why in [Ended::Skipped, Ended::Overrun] {
        let mut reading = conversation().await;
        take(&mut reading, &get());
        assert_eq!(reading.advance(0), Next::On);
        assert!(!std::mem::take(reading.output()).is_empty(), "before it has missed any");
        take(&mut reading, &get());
        reading.line().end(why);
        assert!(matches!(reading.advance(0), Next::Close(_)), "{why:?}");
        assert!(reading.output().is_empty(), "a read of what it has not heard of: {why:?}");

        let mut writing = conversation().await;
        let set = SetData { path: "/".to_owned(), data: Some(Data::new(b"x")), version: -1 };
        take(&mut writing, &Request::Write(WriteOp::SetData(set)));
        assert_eq!(writing.advance(0), Next::On);
        writing.line().rung().await;
        writing.line().end(why);
        assert!(matches!(writing.advance(0), Next::Close(_)), "{why:?}");
        assert!(writing.output().is_empty(), "the answer to a write: {why:?}");
    }
}
