//! What one connection has been asked and not answered yet, and in which order it answers. Knows no socket: frames are
//! put in, bytes are taken out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Door;
use super::events::{append_missed, append_notice};
use super::intake::{known, task};
use super::meters::{Tally, TookBy};
use super::pending::{Pending, Task, bytes_of};
use super::plan::{Plan, plan};
use super::reads::{self, Asker};
use super::reconfig;
use super::writes::{self, Shape};
use crate::jute::{
    Jute, Reader, Reconfig, ReplyHeader, Request, RequestHeader, Response, Writer, append_frame,
    append_reply, errors, xids,
};
use crate::limits::{ZK_OUTPUT_BYTES_MAX, ZK_PENDING_BYTES_MAX, ZK_PENDING_MAX};
use crate::node::{Answer, Ended, Inbox, Line};
use crate::tree::Tree;
use crate::types::{Code, Error, Zxid};

/// How it goes on after something that was put in or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// As before.
    On,
    /// The connection has to be closed once the output is written.
    Close(&'static str),
}

/// Something that a conversation waits for and cannot do itself.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    /// That everything committed so far is applied here: for so many syncs.
    Barrier(usize),
    /// A change of the members.
    Reconfig(Box<Reconfig>),
}

/// One connection's requests, replies and events.
pub(super) struct Conversation {
    door: Door,
    line: Line,
    /// In the order of the requests. At the front is never what could be answered at once, except while there is too
    /// much output.
    pending: VecDeque<Pending>,
    /// The memory that they take, bytes.
    pending_bytes: usize,
    /// How many at the front hold no write that is still to be submitted.
    submitted: usize,
    inbox: Inbox,
    /// Everything up to here has been said: no zxid in a reply is greater, no event that follows smaller.
    told: Zxid,
    /// What is to be sent.
    output: Vec<u8>,
    /// At the last look there was no room for anything.
    was_full: bool,
    /// No more requests are taken.
    is_closing: bool,
    pub(super) tally: Arc<Tally>,
}

impl Conversation {
    /// Begins the conversation of a session that owns its line.
    pub(super) fn new(door: Door, line: Line, tally: Arc<Tally>, told: Zxid) -> Conversation {
        Conversation {
            door,
            line,
            pending: VecDeque::new(),
            pending_bytes: 0,
            submitted: 0,
            inbox: Inbox::default(),
            told,
            output: Vec::new(),
            was_full: false,
            is_closing: false,
            tally,
        }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Returns whether another request may be put in.
    pub(super) fn takes_requests(&self) -> bool {
        !self.is_closing
            && self.pending.len() < ZK_PENDING_MAX
            && self.pending_bytes < ZK_PENDING_BYTES_MAX
            && self.has_room()
    }

    /// Returns whether writes wait for a place in the node's queue.
    pub(super) fn is_held_up(&self) -> bool {
        self.pending.get(self.submitted).is_some_and(|one| one.task.is_held())
    }

    /// Returns whether there is room in the output.
    pub(super) fn has_room(&self) -> bool {
        self.output.len() < ZK_OUTPUT_BYTES_MAX
    }

    /// Returns whether something was left for want of room in the output, and there is some now: nobody else says so.
    pub(super) fn has_room_again(&self) -> bool {
        self.was_full && self.has_room()
    }

    /// Returns the bytes to send.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Returns what has to be awaited elsewhere before it can go on, if anything.
    pub(super) fn errand(&self) -> Option<Errand> {
        if let Some(Task::Reconfig { wanted, outcome: None }) =
            self.pending.front().map(|one| &one.task)
        {
            return Some(Errand::Reconfig(wanted.clone()));
        }
        let syncs = self.pending.iter();
        let waits = |one: &&Pending| matches!(one.task, Task::Sync { is_passed: false, .. });
        let count = syncs.filter(waits).count();
        (count > 0).then_some(Errand::Barrier(count))
    }

    /// Hears what became of a change of the members.
    pub(super) fn reconfigured(&mut self, result: Result<(), i32>) {
        if let Some(Task::Reconfig { outcome, .. }) =
            self.pending.front_mut().map(|one| &mut one.task)
        {
            *outcome = Some(result);
        }
    }

    /// Hears that everything committed before a barrier is applied here, which concerns the first so many syncs.
    pub(super) fn pass_syncs(&mut self, count: usize) {
        let waiting = self.pending.iter_mut().filter_map(|one| match &mut one.task {
            Task::Sync { is_passed, .. } if !*is_passed => Some(is_passed),
            _ => None,
        });
        waiting.take(count).for_each(|is_passed| *is_passed = true);
    }

    /// Takes up the body of one frame, which arrived at this time, µs.
    pub(super) fn take(&mut self, frame: &[u8], now_us: u64) -> Next {
        let mut reader = Reader::new(frame);
        let Ok(RequestHeader { xid, opcode }) = reader.read() else {
            return Next::Close("a frame without a header");
        };
        let request = Request::decode(opcode, reader.rest());
        self.tally.received(xid, opcode);
        self.door.meters().received_bytes.fetch_add(frame.len() as u64, Relaxed);
        if let Ok(Request::Ping) = request {
            let (before, zxid) = (self.output.len(), self.told.0 as i64);
            let header = ReplyHeader { xid, zxid, err: errors::OK };
            append_reply(&mut self.output, &header, &Response::Empty);
            self.tally.ping();
            self.tally.replied(zxid, now_us, 0);
            self.note_size(before);
            return Next::On;
        }
        let bytes = request.as_ref().map_or(size_of::<Pending>(), |one| bytes_of(one, frame.len()));
        let task = match request {
            Ok(request) => task(&self.door, &mut self.line, request),
            Err(error) => match error.code() {
                Code::Unimplemented => Task::Last(Code::Unimplemented.number()),
                code => known(&self.door, Err(code.number())),
            },
        };
        self.is_closing = matches!(task, Task::Last(_) | Task::Write { shape: Shape::Close, .. });
        self.pending_bytes += bytes;
        self.pending.push_back(Pending { xid, bytes, began_us: now_us, task });
        Next::On
    }

    /// Submits the writes that may go now: those before the first read.
    fn submit(&mut self) -> Next {
        while let Some(one) = self.pending.get_mut(self.submitted) {
            if one.task.is_read() {
                break;
            }
            if let Task::Write { op, shape } = &mut one.task
                && let Some(wanted) = op.take()
            {
                match self.line.submit(wanted) {
                    Ok(()) => {}
                    Err((Error::Invalid { multi_index, .. }, _)) => {
                        let refusal = writes::refusal(shape, Code::BadArguments, multi_index);
                        one.task = known(&self.door, refusal);
                    }
                    Err((Error::Forbidden { multi_index, .. }, _)) => {
                        let refusal = writes::refusal(shape, Code::NoAuth, multi_index);
                        one.task = known(&self.door, refusal);
                    }
                    Err((Error::TooLarge { .. }, _)) => {
                        one.task = known(&self.door, Err(Code::BadArguments.number()));
                    }
                    Err((Error::Stopping | Error::NotInitialized, _)) => {
                        return Next::Close("this node does not serve");
                    }
                    // No leader, or a full queue: it is tried again.
                    Err((_, wanted)) => {
                        *op = Some(wanted);
                        break;
                    }
                }
            }
            self.submitted += 1;
        }
        Next::On
    }

    /// Does all that can be done now without waiting, and leaves the replies in the output.
    pub(super) fn advance(&mut self, now_us: u64) -> Next {
        loop {
            if let Next::Close(why) = self.submit() {
                return Next::Close(why);
            }
            match self.step(now_us) {
                Ok(has_moved) if has_moved && !self.pending.is_empty() => {}
                Ok(_) => return self.submit(),
                Err(why) => return Next::Close(why),
            }
        }
    }

    /// Looks once, and answers what can be answered with what is seen. Returns whether that was anything; the error says
    /// why the connection has to be closed.
    fn step(&mut self, now_us: u64) -> Result<bool, &'static str> {
        let wants_notices = self.has_room();
        self.was_full = !wants_notices;
        let room = ZK_OUTPUT_BYTES_MAX.saturating_sub(self.output.len());
        let Conversation { line, pending, inbox, .. } = self;
        let ((root, plan), has_all) =
            line.look(inbox, wants_notices, |root, inbox, mut watches| {
                let asker = Asker { session: line.session(), authority: line.authority() };
                // Notices are missing of these: nothing may be said that a client takes for all it has to know.
                let is_broken = matches!(inbox.ended, Some(Ended::Skipped | Ended::Overrun));
                let plan = match wants_notices && !is_broken {
                    true => plan(pending, inbox, root, asker, &mut watches, room),
                    false => Plan::default(),
                };
                let shows = mutant!(M41, false, plan.has_moved);
                ((root.clone(), plan), shows)
            });
        let mut took = TookBy::default();
        for _ in 0..plan.ready {
            let Some(one) = self.pending.pop_front() else { break };
            self.submitted = self.submitted.saturating_sub(1);
            self.pending_bytes = self.pending_bytes.saturating_sub(one.bytes);
            let took_us = now_us.saturating_sub(one.began_us);
            match one.task {
                Task::Write { .. } | Task::Reconfig { .. } => took.updates.note(took_us),
                _ => took.reads.note(took_us),
            }
            let before = self.output.len();
            let next = self.reply(one, &root);
            if self.output.len() > before {
                self.tally.replied(self.told.0 as i64, now_us, took_us);
            }
            if let Next::Close(why) = next {
                return Err(why);
            }
        }
        self.door.meters().took(&self.tally, took);
        // While notices are held back nothing may say how far the state is.
        let is_broken = matches!(self.inbox.ended, Some(Ended::Skipped | Ended::Overrun));
        if has_all && !is_broken {
            self.tell(root.zxid());
            self.tally.sent(plan.missed.len());
            for (event, path) in plan.missed {
                append_missed(&mut self.output, event, path);
            }
        }
        match self.inbox.ended {
            Some(Ended::Closed) => Err("its session has ended"),
            Some(Ended::Moved) => Err("its session has moved"),
            Some(Ended::Overrun) => Err("it does not take its events"),
            Some(Ended::Skipped) => Err("this node took over a snapshot of the state"),
            None => Ok(plan.has_moved),
        }
    }

    /// Sends the notices up to here.
    fn tell(&mut self, upto: Zxid) {
        while self.inbox.notices.front().is_some_and(|notice| notice.zxid <= upto) {
            let Some(notice) = self.inbox.notices.pop_front() else { break };
            self.door.meters().fired(notice.kind);
            append_notice(&mut self.output, &notice);
            self.tally.sent(1);
        }
        self.told = self.told.max(upto);
    }

    /// Writes one reply. `root` is what reads see.
    fn reply(&mut self, one: Pending, root: &Tree) -> Next {
        let Pending { xid, task, .. } = one;
        self.tally.sent(1);
        let outcome = match task {
            Task::Write { shape, .. } => return self.reply_to_write(xid, &shape),
            Task::Read(request) => {
                self.tell(root.zxid());
                let asker =
                    Asker { session: self.line.session(), authority: self.line.authority() };
                reads::answer(root, asker, &request)
            }
            Task::Rearm(_) => {
                self.tell(root.zxid());
                Ok(reads::Answer::Response(Response::Empty))
            }
            Task::Sync { path, .. } => {
                self.tell(root.zxid());
                Ok(reads::Answer::Response(Response::Path(path)))
            }
            Task::Reconfig { outcome, .. } => {
                self.tell(root.zxid());
                outcome.unwrap_or(Err(errors::SYSTEM_ERROR)).and_then(|()| {
                    let asker =
                        Asker { session: self.line.session(), authority: self.line.authority() };
                    reads::answer(root, asker, &reads::get_data(reconfig::CONFIG))
                })
            }
            Task::Known { outcome, at } => {
                self.tell(at);
                outcome.map(reads::Answer::Response)
            }
            Task::Last(err) => {
                let zxid = if xid == xids::AUTH { 0 } else { -1 };
                let before = self.output.len();
                append_reply(&mut self.output, &ReplyHeader { xid, zxid, err }, &Response::Empty);
                self.note_size(before);
                return Next::Close("it asked for what there is not");
            }
        };
        // Credentials are no transaction's business.
        let zxid = if xid == xids::AUTH { 0 } else { self.told.0 as i64 };
        let before = self.output.len();
        let is_list = outcome.as_ref().is_ok_and(reads::Answer::is_list);
        append_frame(&mut self.output, |writer: &mut Writer<'_>| {
            let err = outcome.as_ref().err().copied().unwrap_or(errors::OK);
            ReplyHeader { xid, zxid, err }.write(writer);
            if let Ok(answer) = outcome {
                answer.encode(writer);
            }
        });
        if is_list {
            let bytes = (self.output.len() - before) as u64;
            self.door.meters().longest_list.fetch_max(bytes, Relaxed);
        }
        self.note_size(before);
        Next::On
    }

    /// Notes the size of the reply that begins here in the output.
    fn note_size(&self, from: usize) {
        self.door.meters().response((self.output.len() - from).saturating_sub(size_of::<i32>()));
    }

    fn reply_to_write(&mut self, xid: i32, shape: &Shape) -> Next {
        let Some(Some(Answer { zxid, result })) = self.inbox.answers.pop_front() else {
            return Next::Close("the outcome of a write is unknown");
        };
        if let Err(failure) = &result
            && matches!(failure.code, Code::SessionMoved | Code::SessionExpired)
        {
            return Next::Close("its session has moved or ended");
        }
        self.tell(zxid);
        let (err, response) = match writes::reply(shape, result) {
            Ok(response) => (errors::OK, response),
            Err(err) => (err, Response::Empty),
        };
        let before = self.output.len();
        append_reply(&mut self.output, &ReplyHeader { xid, zxid: zxid.0 as i64, err }, &response);
        self.note_size(before);
        match shape {
            Shape::Close => Next::Close("the client has closed its session"),
            _ => Next::On,
        }
    }
}

#[cfg(test)]
#[path = "conversation_test.rs"]
mod conversation_test;
