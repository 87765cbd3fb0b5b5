//! A history taken on both sides, step by step.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::net::SocketAddr;

use roost::jute::{Auth, PathWatch, ReadOp, Request, Response, SetWatches2, opcodes, xids};
use roost::types::Data;

use super::allowed::{Deviation, NEVER_ASKED};
use super::compare::{Comparison, Difference, Owed};
use super::connection::{Answer, Ask, Connection, Ticket};
use super::generate::{Generator, Step};
use super::servers::Server;

/// Sessions that act at a time.
const SLOTS: usize = 5;
/// The timeout that they ask for, ms: longer than any of them is silent.
const TIMEOUT_MS: i32 = 300_000;
/// Steps that are shown when there is a difference.
const SHOWN_MAX: usize = 25;
/// What is shown of each.
const NOTE_BYTES_MAX: usize = 800;

/// One session on one side.
struct Side {
    connection: Option<Connection>,
    ticket: Ticket,
    /// Where the side stood when the connection was made: since when watches are restored in its midst.
    mark: i64,
}

/// One session on both sides, ours first.
struct Slot {
    sides: [Side; 2],
    xid: i32,
    owed: Owed,
}

/// The two systems, and what has happened to them.
pub(crate) struct History {
    generator: Generator,
    addresses: [Vec<SocketAddr>; 2],
    slots: Vec<Slot>,
    comparison: Comparison,
    asked: u64,
    attached: usize,
    recent: VecDeque<String>,
    deviations: BTreeMap<&'static str, (u64, &'static str)>,
    errors: BTreeMap<i32, u64>,
    events: u64,
    differences: Vec<String>,
    differences_max: usize,
}

impl History {
    /// Opens the sessions. So many differences end the history.
    pub(crate) fn new(
        seed: u64,
        ours: &Server,
        theirs: &Server,
        differences_max: usize,
    ) -> History {
        let side = || Side { connection: None, ticket: Ticket::none(), mark: 0 };
        let slot = |_| Slot { sides: [side(), side()], xid: 0, owed: Owed::default() };
        let mut history = History {
            generator: Generator::new(seed),
            addresses: [ours.addresses.clone(), theirs.addresses.clone()],
            slots: (0..SLOTS).map(slot).collect(),
            comparison: Comparison::default(),
            asked: 0,
            attached: 0,
            recent: VecDeque::new(),
            deviations: BTreeMap::new(),
            errors: BTreeMap::new(),
            events: 0,
            differences: Vec::new(),
            differences_max,
        };
        (0..SLOTS).for_each(|slot| history.connect(slot));
        history
    }

    /// Takes steps until so many requests have been compared, and then compares all that there is.
    pub(crate) fn run(&mut self, requests: u64) {
        while self.asked < requests {
            let connected: Vec<bool> =
                self.slots.iter().map(|slot| slot.sides[0].connection.is_some()).collect();
            let step = self.generator.step(&connected);
            self.take(step);
        }
        for slot in 0..SLOTS {
            if self.slots[slot].sides[0].connection.is_none() {
                self.connect(slot);
            }
            self.walk(slot);
        }
        if !self.differences.is_empty() {
            self.differs("that is all");
        }
    }

    /// Says what was compared.
    pub(crate) fn summary(&self) -> String {
        let mut text =
            format!("{} requests, {} events; answers by error:", self.asked, self.events);
        for (err, count) in &self.errors {
            write!(text, " {err}: {count}").unwrap();
        }
        for (name, (count, why)) in &self.deviations {
            write!(text, "\nallowed {count} times: {name}: {why}").unwrap();
        }
        for (what, why) in NEVER_ASKED {
            write!(text, "\nnever asked: {what}: {why}").unwrap();
        }
        text
    }

    fn take(&mut self, step: Step) {
        if let Step::AskNothing(slot, _)
        | Step::AuthWrongly(slot)
        | Step::Break(slot)
        | Step::Attach(slot, _) = step
            && self.slots[slot].sides[0].connection.is_some()
        {
            // What a client has seen of the state when it loses its connection decides what it is told later.
            // Only the answer to a read says exactly where the state is.
            let watch = PathWatch { path: "/".into(), watch: false };
            self.ask(slot, &[Request::Exists(watch)]);
        }
        match step {
            Step::Ask(slot, requests) => self.ask(slot, &requests),
            Step::AskNothing(slot, opcode) => {
                self.ask_raw(slot, Ask { xid: 7, opcode, body: Vec::new() });
                self.is_cut_off(slot);
            }
            Step::AskHalf(slot, request) => {
                let mut ask = Ask::new(7, &request);
                ask.body.pop();
                self.ask_raw(slot, ask);
            }
            Step::AskMixed(slot, items, opcode) => {
                self.ask_raw(slot, Ask { opcode, ..Ask::new(7, &items) });
            }
            Step::AuthWrongly(slot) => {
                let auth = Auth { kind: 0, scheme: "nobody".into(), auth: Some(Data::new(b"x")) };
                self.ask(slot, &[Request::Auth(auth)]);
                self.is_cut_off(slot);
            }
            Step::Close(slot) => self.close(slot),
            Step::Break(slot) => {
                self.note(format!("{slot} breaks"));
                self.slots[slot].sides.iter_mut().for_each(Side::break_off);
            }
            Step::Attach(slot, watches) => self.attach(slot, watches),
            Step::Impersonate(slot) => self.impersonate(slot),
        }
    }

    fn note(&mut self, text: String) {
        if self.recent.len() == SHOWN_MAX {
            self.recent.pop_front();
        }
        let mut end = text.len().min(NOTE_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.recent.push_back(text[..end].to_owned());
    }

    /// Takes note of a difference after which both sides still go on.
    fn differs_here(&mut self, what: &str) {
        let step = self.recent.back().cloned().unwrap_or_default();
        self.differences.push(format!("after {} requests: {what}\n{step}", self.asked));
        if self.differences.len() >= self.differences_max {
            self.differs("too many differences");
        }
    }

    fn differs(&self, what: &str) -> ! {
        let recent: Vec<&str> = self.recent.iter().map(String::as_str).collect();
        let found = self.differences.join("\n\n");
        panic!(
            "the latest steps:\n{}\ndifferences:\n{found}\nafter {} requests: {what}",
            recent.join("\n"),
            self.asked
        );
    }

    /// Opens the connections of a slot with its tickets.
    fn connect(&mut self, slot: usize) {
        self.attached += 1;
        let attached = self.attached;
        let opened = [0, 1].map(|side| {
            let addresses = &self.addresses[side];
            let address = addresses[attached % addresses.len()];
            Connection::open(address, &self.slots[slot].sides[side].ticket, TIMEOUT_MS)
        });
        let [ours, theirs] = opened.map(|opened| match opened {
            Ok(Ok((connection, timeout))) => Ok((connection, timeout)),
            Ok(Err(answer)) => Err(format!("{answer:?}")),
            Err(err) => Err(format!("{err}")),
        });
        let ((ours, our_timeout), (theirs, their_timeout)) = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (ours, theirs) => {
                let [ours, theirs] = [ours, theirs].map(Result::err);
                self.differs(&format!("{slot} cannot connect: {ours:?} here, {theirs:?} there"));
            }
        };
        self.note(format!("{slot} connects as {:?}", ours.ticket.session));
        if our_timeout != their_timeout {
            self.differs(&format!("a timeout of {our_timeout} here, {their_timeout} there"));
        }
        self.comparison.same_session(ours.ticket.session, theirs.ticket.session);
        self.slots[slot].owed = Owed::default();
        for (side, connection) in self.slots[slot].sides.iter_mut().zip([ours, theirs]) {
            side.mark = connection.ticket.last_zxid;
            let older = side.connection.replace(connection);
            older.into_iter().for_each(|mut older| older.ends());
        }
    }

    /// Sends requests and compares their answers.
    fn ask(&mut self, slot: usize, requests: &[Request]) {
        self.barrier(slot);
        self.ask_now(slot, requests);
    }

    fn ask_now(&mut self, slot: usize, requests: &[Request]) {
        let xids: Vec<i32> =
            requests.iter().map(|request| self.slots[slot].xid_of(request)).collect();
        let sides = &mut self.slots[slot].sides;
        let [ours, theirs] = sides.each_mut().map(|side| {
            let asks = requests.iter().zip(&xids).map(|(request, xid)| side.ask_of(*xid, request));
            let asks: Vec<Ask> = asks.collect();
            side.connection().ask(&asks)
        });
        for (at, request) in requests.iter().enumerate() {
            let (Some(ours), Some(theirs)) = (ours.get(at), theirs.get(at)) else {
                let closed = [ours.len(), theirs.len()];
                self.differs(&format!("{slot}: {request:?}: closed after answers: {closed:?}"));
            };
            self.compare(slot, request, ours, theirs);
        }
    }

    fn compare(&mut self, slot: usize, request: &Request, ours: &Answer, theirs: &Answer) {
        self.asked += 1;
        self.note(format!("{slot}: {request:?}\n    {ours:?}"));
        let owed = &mut self.slots[slot].owed;
        if let Err(what) = self.comparison.check(owed, request, ours, theirs) {
            let allowed = match what {
                Difference::Events => {
                    *owed = Owed::default();
                    None
                }
                Difference::Answer(_) => Deviation::of(request, ours, theirs),
            };
            match allowed {
                Some(Deviation { name, why, .. }) => {
                    self.deviations.entry(name).or_insert((0, why)).0 += 1;
                }
                None => self.differs_here(&format!("{what}\n    {theirs:?} there")),
            }
        }
        *self.errors.entry(theirs.header.err).or_default() += 1;
        self.events += theirs.events.len() as u64;
        let learnt = match &ours.body {
            Some(Response::Path(path)) if matches!(request, Request::Write(_)) => path,
            Some(Response::Created(created)) => &created.path,
            _ => return,
        };
        self.generator.learn(learnt);
    }

    /// With several nodes: waits until the slot's node has all that was done through others, as it would by
    /// itself with one.
    fn barrier(&mut self, slot: usize) {
        if self.addresses[0].len() == 1 {
            return;
        }
        let request = Request::Sync("/".into());
        let xid = self.slots[slot].xid_of(&request);
        let sides = &mut self.slots[slot].sides;
        let [ours, theirs] =
            sides.each_mut().map(|side| side.connection().ask(&[Ask::new(xid, &request)]));
        match (&ours[..], &theirs[..]) {
            ([ours], [theirs]) => self.compare(slot, &request, ours, theirs),
            _ => self.differs(&format!("{slot}: closed instead of an answer to {request:?}")),
        }
    }

    /// Sends bytes that are no request and compares what is answered.
    fn ask_raw(&mut self, slot: usize, ask: Ask) {
        self.barrier(slot);
        self.note(format!("{slot}: {ask:?}"));
        let sides = &mut self.slots[slot].sides;
        let [ours, theirs] =
            sides.each_mut().map(|side| side.connection().ask(std::slice::from_ref(&ask)));
        match (&ours[..], &theirs[..]) {
            // For the comparison it is like a request that answers nothing.
            ([ours], [theirs]) => self.compare(slot, &Request::Ping, ours, theirs),
            _ => self.differs(&format!("{ours:?} here, {theirs:?} there")),
        }
    }

    /// Waits until both servers have closed the connection of a slot.
    fn is_cut_off(&mut self, slot: usize) {
        for side in &mut self.slots[slot].sides {
            side.connection().ends();
            side.break_off();
        }
    }

    fn close(&mut self, slot: usize) {
        self.barrier(slot);
        self.slots.iter_mut().for_each(|slot| slot.owed.unordered = true);
        self.ask_now(slot, &[Request::CloseSession]);
        self.is_cut_off(slot);
        if self.attached.is_multiple_of(2) {
            self.expired(slot);
        }
        for side in &mut self.slots[slot].sides {
            side.ticket = Ticket { last_zxid: side.ticket.last_zxid, ..Ticket::none() };
        }
        self.connect(slot);
    }

    /// Checks that the tickets of a slot are good for nothing.
    fn expired(&mut self, slot: usize) {
        let opened = [0, 1].map(|side| {
            let ticket = &self.slots[slot].sides[side].ticket;
            match Connection::open(self.addresses[side][0], ticket, TIMEOUT_MS) {
                Ok(Ok(_)) => "taken".to_owned(),
                Ok(Err(answer)) => format!("{answer:?}"),
                Err(err) => err.to_string(),
            }
        });
        if opened[0] != opened[1] || opened[0] == "taken" {
            self.differs(&format!("a bad ticket of {slot}: {opened:?}"));
        }
    }

    fn impersonate(&mut self, slot: usize) {
        self.note(format!("{slot} is impersonated"));
        let passwords = self.slots[slot].sides.each_mut().map(|side| {
            side.remember();
            side.ticket.password.replace(Data::new(&[9; 16]))
        });
        self.expired(slot);
        for (side, password) in self.slots[slot].sides.iter_mut().zip(passwords) {
            side.ticket.password = password;
        }
    }

    fn attach(&mut self, slot: usize, watches: SetWatches2) {
        self.slots[slot].sides.iter_mut().for_each(Side::remember);
        self.connect(slot);
        self.ask(slot, &[Request::SetWatches2(watches)]);
    }

    /// Compares all that a session can see.
    fn walk(&mut self, slot: usize) {
        let mut open = vec!["/".to_owned()];
        while let Some(path) = open.pop() {
            let watch = PathWatch { path: path.clone(), watch: false };
            let requests = [
                Request::GetChildren2(watch.clone()),
                Request::Read(ReadOp::GetData(watch)),
                Request::GetAcl(path.clone()),
            ];
            self.ask(slot, &requests);
            open.extend(self.children(slot, &path));
        }
    }

    fn children(&mut self, slot: usize, path: &str) -> Vec<String> {
        let watch = PathWatch { path: path.to_owned(), watch: false };
        let ask = Ask::new(7, &Request::Read(ReadOp::GetChildren(watch)));
        let answers = self.slots[slot].sides[0].connection().ask(&[ask]);
        let Some(Response::Names(names)) = &answers[0].body else { return Vec::new() };
        let parent = if path == "/" { "" } else { path };
        // What the members of the cluster are is another matter on each side.
        let paths = names.iter().map(|name| format!("{parent}/{name}"));
        paths.filter(|path| path != "/zookeeper/config").collect()
    }
}

impl Slot {
    fn xid_of(&mut self, request: &Request) -> i32 {
        match request.opcode() {
            opcodes::PING => xids::PING,
            opcodes::AUTH => xids::AUTH,
            opcodes::SET_WATCHES | opcodes::SET_WATCHES2 => xids::SET_WATCHES,
            _ => {
                self.xid += 1;
                self.xid
            }
        }
    }
}

impl Side {
    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("the slot is connected")
    }

    /// Takes over what the connection knows.
    fn remember(&mut self) {
        if let Some(connection) = &self.connection {
            self.ticket = connection.ticket.clone();
        }
    }

    fn break_off(&mut self) {
        self.remember();
        self.connection = None;
    }

    fn ask_of(&self, xid: i32, request: &Request) -> Ask {
        let mut request = request.clone();
        if let Request::SetWatches2(watches) = &mut request {
            watches.one_shot.relative_zxid = self.mark;
        }
        Ask::new(xid, &request)
    }
}
