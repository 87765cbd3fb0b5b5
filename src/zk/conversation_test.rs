use super::*;
use crate::jute::{Ops, PathWatch, ReadOp, SetData, WriteOp, append_request};
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
    Request::Read(ReadOp::GetData(wanted()))
}

fn wanted() -> PathWatch {
    PathWatch { path: "/".to_owned(), watch: false }
}

fn set(bytes: usize) -> Request {
    let set = SetData { path: "/".to_owned(), data: Some(Data::new(&vec![7; bytes])), version: -1 };
    Request::Write(WriteOp::SetData(set))
}

#[tokio::test]
async fn however_many_reads_of_much_are_pending_not_much_more_is_gathered_than_there_is_room_for() {
    const BYTES: usize = 300_000;
    const READS: usize = 40;
    let mut conversation = conversation().await;
    take(&mut conversation, &set(BYTES));
    assert_eq!(conversation.advance(0), Next::On);
    conversation.line().rung().await;
    assert_eq!(conversation.advance(0), Next::On);
    conversation.output().clear();
    let several = Request::MultiRead(Ops(vec![ReadOp::GetData(wanted()); 3]));
    for _ in 0..READS {
        take(&mut conversation, &get());
        take(&mut conversation, &several);
    }
    let mut all = 0;
    while all < READS * 4 * BYTES {
        assert_eq!(conversation.advance(0), Next::On);
        let gathered = std::mem::take(conversation.output()).len();
        assert!((1..ZK_OUTPUT_BYTES_MAX + 5 * BYTES).contains(&gathered), "{gathered}");
        all += gathered;
    }
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
        take(&mut writing, &set(1));
        assert_eq!(writing.advance(0), Next::On);
        writing.line().rung().await;
        writing.line().end(why);
        assert!(matches!(writing.advance(0), Next::Close(_)), "{why:?}");
        assert!(writing.output().is_empty(), "the answer to a write: {why:?}");
    }
}
