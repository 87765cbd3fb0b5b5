//! Random histories of lines that hold notices back, beside lines that do not: each is told the same, never late to who
//! could see more, and never later than its window.

use proptest::prelude::*;

use super::*;
use crate::types::{EventKind, Stat};
use crate::watch::WatchMode;

const PATHS: [&str; 4] = ["/", "/a", "/a/b", "/c"];
const WINDOWS_MS: [u64; 4] = [0, 0, 10, 40];
const LINES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A line reads something and watches it.
    Read(usize, usize, WatchMode),
    /// It looks, and has nothing to say that could show the state.
    Ping(usize),
    /// A transaction with these events is applied, with this window.
    Apply(Vec<(EventKind, usize)>, u64),
    /// So many ms pass.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop::sample::select(crate::watch::WATCH_MODES.to_vec());
    let kind = prop::sample::select(vec![
        EventKind::Created,
        EventKind::Deleted,
        EventKind::DataChanged,
        EventKind::DataChanged,
    ]);
    let window_ms = prop::sample::select(WINDOWS_MS.to_vec());
    let events = prop::collection::vec((kind, 0..PATHS.len()), 1..3);
    prop_oneof![
        4 => (0..LINES, 0..PATHS.len(), mode).prop_map(|(who, at, mode)| Step::Read(who, at, mode)),
        3 => (0..LINES).prop_map(Step::Ping),
        6 => (events, window_ms).prop_map(|(events, window_ms)| Step::Apply(events, window_ms)),
        3 => (0..15u64).prop_map(Step::Wait),
    ]
}

fn event(kind: EventKind, path: &str) -> Event {
    Event {
        kind,
        path: ZnodePath::parse(path).unwrap(),
        data: None,
        stat: Stat::default(),
        acl: Arc::from([]),
        parent_acl: Arc::from([]),
    }
}

/// One connection: what it was told, and what it would have been told without any window.
#[derive(Default)]
struct Client {
    id: Option<WatcherId>,
    bell: Arc<Notify>,
    inbox: Inbox,
    expected: Vec<Notice>,
    is_rung: bool,
    /// When the oldest of what it has not been told happened, ms.
    waits_since_ms: Option<u64>,
}

struct World {
    paced: Lines,
    plain: Lines,
    clients: Vec<Client>,
    zxid: u64,
    now_ms: u64,
}

impl World {
    fn new() -> World {
        let (mut paced, mut plain) = (Lines::new(Bounds::default()), Lines::new(Bounds::default()));
        let open = |lines: &mut Lines, bell: &Arc<Notify>, at: usize| {
            lines.open(owner(1, 1, at as u64), Arc::from([]), bell.clone()).unwrap()
        };
        let clients = (0..LINES).map(|at| {
            let bell = Arc::new(Notify::new());
            let id = open(&mut paced, &bell, at);
            assert_eq!(open(&mut plain, &Arc::new(Notify::new()), at), id);
            Client { id: Some(id), bell, ..Client::default() }
        });
        let clients = clients.collect();
        World { paced, plain, clients, zxid: 0, now_ms: 0 }
    }

    fn at(&self) -> Moment {
        Moment { now_ms: self.now_ms, cluster_ms: 0 }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Read(who, at, mode) => {
                assert!(self.look(who, true), "what it is told could show the state");
                let client = &self.clients[who];
                assert_eq!(Vec::from(client.inbox.notices.clone()), client.expected);
                let (id, path) = (client.id.unwrap(), ZnodePath::parse(PATHS[at]).unwrap());
                self.paced.watches.add(id, &path, mode).unwrap();
                self.plain.watches.add(id, &path, mode).unwrap();
            }
            Step::Ping(who) => drop(self.look(who, false)),
            Step::Apply(events, window_ms) => self.apply(&events, window_ms),
            Step::Wait(ms) => {
                self.now_ms += ms;
                self.paced.release_until(self.now_ms);
            }
        }
        self.check();
    }

    /// Returns whether it has all there is.
    fn look(&mut self, who: usize, shows: bool) -> bool {
        let at = self.at();
        let client = &mut self.clients[who];
        let id = client.id.unwrap();
        client.is_rung = false;
        self.paced.look(id, &mut client.inbox);
        let has_all = self.paced.take(id, shows, || at, &mut client.inbox);
        let told = Vec::from(client.inbox.notices.clone());
        assert_eq!(has_all, told == client.expected);
        assert!(client.expected.starts_with(&told), "in order");
        if has_all {
            client.waits_since_ms = None;
        }
        has_all
    }

    fn apply(&mut self, events: &[(EventKind, usize)], window_ms: u64) {
        self.zxid += 1;
        let events: Vec<Event> = events.iter().map(|(kind, at)| event(*kind, PATHS[*at])).collect();
        let pace = Pace { at: self.at(), window_ms, ..Pace::default() };
        let count = self.paced.fire(Zxid(self.zxid), &events, &pace);
        assert_eq!(self.plain.fire(Zxid(self.zxid), &events, &Pace::default()), count);
        self.plain.take_ringing();
        for client in &mut self.clients {
            let (id, mut inbox) = (client.id.unwrap(), Inbox::default());
            self.plain.look(id, &mut inbox);
            assert!(
                self.plain.take(id, false, Moment::default, &mut inbox),
                "without a window none is held"
            );
            if !inbox.notices.is_empty() {
                client.waits_since_ms.get_or_insert(self.now_ms);
            }
            client.expected.extend(inbox.notices);
        }
    }

    /// Who has not been told everything has been rung, or will be before the longest window is over.
    fn check(&mut self) {
        for bell in self.paced.take_ringing() {
            let rung = self.clients.iter_mut().find(|client| Arc::ptr_eq(&client.bell, &bell));
            let client = rung.expect("a bell of a line");
            assert!(!client.is_rung, "rung although it has not looked");
            client.is_rung = true;
        }
        let waiting = self.clients.iter().filter_map(|client| {
            let since_ms = client.waits_since_ms?;
            assert!(client.is_rung || since_ms + WINDOWS_MS[3] > self.now_ms, "held for too long");
            Some(usize::from(!client.is_rung))
        });
        assert_eq!(waiting.sum::<usize>(), self.paced.counts().2, "held back");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn who_is_held_back_is_told_all_in_order_before_it_could_see_more_and_within_its_window(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.run(Step::Wait(WINDOWS_MS[3]));
        for who in 0..LINES {
            prop_assert!(world.look(who, false), "nobody is held back any more");
            let id = world.clients[who].id.unwrap();
            world.paced.close(id);
        }
        prop_assert_eq!(world.paced.counts(), (0, 0, 0));
    }
}
