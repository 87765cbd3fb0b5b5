//! The transactions that entered through this node and are not applied here yet, in the order of their sequence numbers.
//!
//! The queue is the node's promise to its clients: what is in it is sent to whoever leads, again and again in order, until
//! this node's own apply has seen it. The tree takes each sequence number once and without gaps, so resending is safe.
//!
//! Invariants: sequence numbers in the queue are contiguous; `cursor` (the next one to send) never lies before the queue's
//! front nor past its end; a slot leaves only from the front, when its transaction is applied.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Answer;
use super::lines::Lines;
use crate::batch;
use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_TXNS_MAX};
use crate::types::{Error, Op, SessionId, Txn};
use crate::watch::WatcherId;

struct Slot {
    encoded: Bytes,
    waiter: Waiter,
}

/// Where an answer goes.
pub(super) enum Waiter {
    /// To somebody who waits for this one.
    Once(oneshot::Sender<Answer>),
    /// To a connection that waits for all of its answers, in order.
    Line(WatcherId),
}

impl Waiter {
    /// Gives it the answer, `None` when nobody will ever know.
    fn give(self, answer: Option<Answer>, lines: &mut Lines) {
        match (self, answer) {
            // A client that has gone away does not want its answer; the write stands all the same.
            (Waiter::Once(waiter), Some(answer)) => drop(waiter.send(answer)),
            // A sender that is dropped tells the same.
            (Waiter::Once(_), None) => {}
            (Waiter::Line(line), answer) => lines.answer(line, answer),
        }
    }
}

/// The queue. Not thread-safe by itself: its owner holds it in a mutex.
pub(super) struct Outbox {
    slots: VecDeque<Slot>,
    front_seq: u64,
    cursor: u64,
    /// Sequence numbers below this were sent before the last [`Outbox::rewind`]: late news of their gaps is stale.
    sent_before_rewind: u64,
    bytes: usize,
}

impl Outbox {
    /// Returns an empty queue whose first transaction will have sequence number 1.
    pub(super) fn new() -> Outbox {
        Outbox { slots: VecDeque::new(), front_seq: 1, cursor: 1, sent_before_rewind: 0, bytes: 0 }
    }

    /// Takes an encoded transaction (with any sequence number), gives it the next one, and keeps where its answer shall
    /// go. Refused with `Busy` when the queue is full.
    pub(super) fn push(&mut self, mut encoded: Vec<u8>, waiter: Waiter) -> Result<(), Error> {
        if self.slots.len() >= OUTBOX_TXNS_MAX || self.bytes + encoded.len() > OUTBOX_BYTES_MAX {
            return Err(Error::Busy { what: "the node's queue of writes", retry_after_ms: 100 });
        }
        batch::set_seq(&mut encoded, self.front_seq + self.slots.len() as u64);
        self.bytes += encoded.len();
        self.slots.push_back(Slot { encoded: encoded.into(), waiter });
        Ok(())
    }

    /// Returns the next unsent transactions, up to a count and a size (at least one if there is any), and moves the cursor
    /// behind them.
    pub(super) fn take_unsent(&mut self, txns_max: usize, bytes_max: usize) -> Vec<Bytes> {
        let from = (self.cursor - self.front_seq) as usize;
        let mut bytes = 0;
        let unsent = self.slots.range(from..).take(txns_max).take_while(|slot| {
            let fits = bytes == 0 || bytes + slot.encoded.len() <= bytes_max;
            bytes += slot.encoded.len();
            fits
        });
        let taken: Vec<Bytes> = unsent.map(|slot| slot.encoded.clone()).collect();
        self.cursor += taken.len() as u64;
        taken
    }

    /// Starts over: everything that is not applied will be sent again.
    pub(super) fn rewind(&mut self) {
        self.sent_before_rewind = self.cursor;
        self.cursor = self.front_seq;
    }

    /// Hears that the tree met this sequence number when it expected an earlier one. Returns whether that is news, in
    /// which case the queue is rewound; reports about what was sent before the last rewind are not.
    pub(super) fn gap(&mut self, seq: u64) -> bool {
        let is_news = seq >= self.sent_before_rewind;
        if is_news {
            self.rewind();
        }
        is_news
    }

    /// Hears that a transaction was applied, and gives its client the answer.
    pub(super) fn applied(&mut self, seq: u64, answer: Answer, lines: &mut Lines) {
        assert_eq!(seq, self.front_seq, "the tree applies an origin's transactions in order");
        if let Some(slot) = self.pop() {
            slot.waiter.give(Some(answer), lines);
        }
    }

    /// Hears that the state was replaced by one in which everything up to `last_seq` is applied. The answers were in the
    /// skipped log: whoever gave an idempotency key gets the one that the state keeps for it, the others learn that the
    /// outcome is unknown. What is behind `last_seq` is sent again.
    pub(super) fn skipped_to(
        &mut self,
        last_seq: u64,
        kept: impl Fn(SessionId, &str) -> Option<Answer>,
        lines: &mut Lines,
    ) {
        while self.front_seq <= last_seq {
            let Some(slot) = self.pop() else { break };
            let txn = batch::decode_txn(&slot.encoded).ok();
            let answer = txn.and_then(|txn| kept(txn.session, &txn.idempotency_key?));
            slot.waiter.give(answer, lines);
        }
        self.rewind();
    }

    fn pop(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_front()?;
        self.bytes -= slot.encoded.len();
        self.front_seq += 1;
        self.cursor = self.cursor.max(self.front_seq);
        Some(slot)
    }

    /// Returns how many transactions wait.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Forgets everything; the waiting clients learn that the outcome is unknown.
    pub(super) fn clear(&mut self, lines: &mut Lines) {
        while let Some(slot) = self.pop() {
            slot.waiter.give(None, lines);
        }
    }
}

/// Encodes a transaction for the queue, refusing what no node could decode: in the log that would stop all of them.
pub(super) fn encode(txn: &Txn) -> Result<Vec<u8>, Error> {
    let is_multi = |op: &Op| matches!(op, Op::Multi(_));
    if let Op::Multi(ops) = &txn.op
        && let Some(at) = ops.iter().position(is_multi)
    {
        let why = "a multi inside a multi".to_owned();
        return Err(Error::Invalid { why, multi_index: Some(at as u32) });
    }
    let encoded = batch::encode_txn(txn);
    if encoded.len() > crate::limits::TXN_BYTES_MAX {
        return Err(Error::TooLarge {
            what: "the write (bytes)",
            limit: crate::limits::TXN_BYTES_MAX as u64,
        });
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Origin, Reply, ZnodePath, Zxid};
    use crate::watch::Bounds;

    /// Pushes a transaction and returns where its answer comes.
    fn push(outbox: &mut Outbox) -> Result<oneshot::Receiver<Answer>, Error> {
        let (waiter, answer) = oneshot::channel();
        outbox.push(encoded(), Waiter::Once(waiter)).map(|()| answer)
    }

    fn txn(op: Op) -> Txn {
        Txn {
            origin: Origin { node: 1, incarnation: 1, seq: 0 },
            session: SessionId::NONE,
            owner: None,
            authority: vec![],
            idempotency_key: None,
            op,
        }
    }

    fn check() -> Op {
        Op::Check { path: ZnodePath::root(), version: None }
    }

    fn encoded() -> Vec<u8> {
        encode(&txn(check())).unwrap()
    }

    #[test]
    fn what_no_node_could_decode_is_refused_before_the_queue() {
        let multi = Op::Multi(vec![check(), check()]);
        assert!(batch::decode_txn(&encode(&txn(multi.clone())).unwrap()).is_ok());
        let nested = txn(Op::Multi(vec![check(), multi]));
        assert!(batch::decode_txn(&batch::encode_txn(&nested)).is_err());
        assert!(matches!(encode(&nested), Err(Error::Invalid { multi_index: Some(1), .. })));
        let data = Some(crate::types::Data::new(&vec![0; crate::limits::TXN_BYTES_MAX]));
        let large = Op::SetData { path: ZnodePath::root(), data, version: None };
        assert!(matches!(encode(&txn(large)), Err(Error::TooLarge { .. })));
    }

    fn seqs(taken: &[Bytes]) -> Vec<u64> {
        taken.iter().map(|txn| batch::origin_of(txn).unwrap().seq).collect()
    }

    fn answer(zxid: u64) -> Answer {
        Answer { zxid: Zxid(zxid), result: Ok(Reply::Checked) }
    }

    #[test]
    fn numbers_are_contiguous_and_sent_once_in_order() {
        let mut outbox = Outbox::new();
        let _answers: Vec<_> = (0..5).map(|_| push(&mut outbox).unwrap()).collect();
        assert_eq!(seqs(&outbox.take_unsent(2, usize::MAX)), [1, 2]);
        assert_eq!(
            seqs(&outbox.take_unsent(9, 1)),
            [3],
            "one goes even when it is larger than the bound"
        );
        assert_eq!(seqs(&outbox.take_unsent(9, usize::MAX)), [4, 5]);
        assert!(outbox.take_unsent(9, usize::MAX).is_empty());
    }

    #[test]
    fn a_rewind_resends_all_that_is_not_applied() {
        let mut outbox = Outbox::new();
        let mut answers: Vec<_> = (0..4).map(|_| push(&mut outbox).unwrap()).collect();
        outbox.take_unsent(9, usize::MAX);
        outbox.applied(1, answer(10), &mut Lines::new(Bounds::default()));
        outbox.rewind();
        assert_eq!(seqs(&outbox.take_unsent(9, usize::MAX)), [2, 3, 4]);
        assert_eq!(answers[0].try_recv().unwrap().zxid, Zxid(10));
        assert!(answers[1].try_recv().is_err());
    }

    #[test]
    fn each_gap_is_acted_on_once() {
        let mut outbox = Outbox::new();
        let _answers: Vec<_> = (0..4).map(|_| push(&mut outbox).unwrap()).collect();
        outbox.take_unsent(9, usize::MAX);
        assert!(outbox.gap(3));
        outbox.take_unsent(9, usize::MAX);
        assert!(!outbox.gap(4), "4 was sent before the rewind that 3 caused");
        let _later = push(&mut outbox).unwrap();
        outbox.take_unsent(9, usize::MAX);
        assert!(outbox.gap(5));
    }

    #[test]
    fn a_skipped_answer_is_the_kept_one_or_an_unknown_outcome_and_the_rest_is_sent_again() {
        let mut outbox = Outbox::new();
        let (waiter, mut keyed) = oneshot::channel();
        let with_key = Txn { idempotency_key: Some("k".into()), ..txn(check()) };
        outbox.push(encode(&with_key).unwrap(), Waiter::Once(waiter)).unwrap();
        let mut without = push(&mut outbox).unwrap();
        let mut behind = push(&mut outbox).unwrap();
        outbox.take_unsent(9, usize::MAX);
        let kept =
            |session: SessionId, key: &str| (session.is_none() && key == "k").then(|| answer(7));
        outbox.skipped_to(2, kept, &mut Lines::new(Bounds::default()));
        assert_eq!(keyed.try_recv().unwrap().zxid, Zxid(7));
        assert!(matches!(without.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(behind.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        assert_eq!(seqs(&outbox.take_unsent(9, usize::MAX)), [3]);
    }

    #[test]
    fn a_full_queue_refuses_and_keeps_what_it_has() {
        let mut outbox = Outbox::new();
        let answers: Vec<_> = (0..OUTBOX_TXNS_MAX).map(|_| push(&mut outbox).unwrap()).collect();
        assert!(matches!(push(&mut outbox), Err(Error::Busy { .. })));
        assert_eq!(outbox.len(), answers.len());
    }
}
