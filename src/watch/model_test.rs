//! Random histories on two nodes, and clients that subscribe, resume on either node, are slow, get lost and
//! restart, and are held back. Whatever happens, a client has been told exactly what its filters match up to its bookmark, and a
//! state built from what it was told is the state of that moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::hub::tests::event;
use super::{Bounds, Filter, Hub, Moment, Pace, Since, Start, SubscriberId, WatchKind, Waves};
use crate::types::{Data, Event, EventKind, ZnodePath, Zxid};

const PATHS: [&str; 7] = ["/", "/a", "/a/b", "/a/b/c", "/a/d", "/ab", "/e"];
const KINDS: [WatchKind; 4] =
    [WatchKind::Data, WatchKind::Children, WatchKind::ChildrenData, WatchKind::Subtree];

const BOUNDS: Bounds = Bounds {
    ring_txns_max: 6,
    ring_bytes_max: usize::MAX,
    mailbox_messages_max: 2,
    mailbox_messages_total_max: 5,
    filters_per_subscription_max: 3,
    filters_max: 100,
    subscriptions_max: 3,
    resume_events_per_step: 3,
    watches_max: 0,
    watches_per_line_max: 0,
};

/// The waves in which some of the changes are told.
const WAVES: Waves = Waves { count: 3, interval_ms: 10 };

/// Returns whether the event of this index is told in waves, in a transaction that is applied with this window.
fn is_spread(window_ms: u64, event: usize) -> bool {
    window_ms == 5 && event != 1
}

/// Data by path.
type State = BTreeMap<ZnodePath, Option<Data>>;

#[derive(Clone, Debug)]
enum Step {
    /// The cluster commits a transaction: for each path, create it, delete it or set its data, where that is
    /// possible.
    Commit(Vec<(EventKind, usize)>),
    /// A node applies so many committed transactions, each with this window.
    Apply(usize, usize, u64),
    /// So many ms pass, and both nodes wake those whose time has come.
    Wait(u64),
    /// A node installs a snapshot of so many transactions later.
    Install(usize, usize),
    /// A client, wherever it was, subscribes on a node anew.
    Subscribe(usize, usize, Vec<Filter>),
    /// A client resumes on a node with its bookmark.
    Resume(usize, usize),
    /// A client takes at most so many messages.
    Take(usize, usize),
    /// A lost client takes a snapshot, which is so many transactions old.
    Restart(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, client, path) = (0..2usize, 0..3usize, 0..PATHS.len());
    let kind = prop::sample::select(vec![
        EventKind::Created,
        EventKind::Created,
        EventKind::Deleted,
        EventKind::DataChanged,
    ]);
    let filter = (path.clone(), prop::sample::select(KINDS.to_vec()))
        .prop_map(|(path, kind)| super::hub::tests::filter(kind, PATHS[path]));
    let filters = prop::collection::vec(filter, 1..4);
    prop_oneof![
        8 => prop::collection::vec((kind, path), 0..4).prop_map(Step::Commit),
        8 => (node.clone(), 1..4usize, prop::sample::select(vec![0, 5, 5, 5, 50]))
            .prop_map(|(n, count, window_ms)| Step::Apply(n, count, window_ms)),
        4 => (0..20u64).prop_map(Step::Wait),
        1 => (node.clone(), 1..4usize).prop_map(|(n, count)| Step::Install(n, count)),
        2 => (client.clone(), node.clone(), filters).prop_map(|(c, n, f)| Step::Subscribe(c, n, f)),
        3 => (client.clone(), node).prop_map(|(c, n)| Step::Resume(c, n)),
        6 => (client.clone(), 1..4usize).prop_map(|(c, max)| Step::Take(c, max)),
        6 => (client, 0..4usize).prop_map(|(c, age)| Step::Restart(c, age)),
    ]
}

/// What a watch means, said a second time and without any table.
fn sees(filter: &Filter, event: &Event) -> bool {
    let is_self = filter.path == event.path;
    let is_child = event.path.parent().as_ref() == Some(&filter.path);
    let is_data = event.kind == EventKind::DataChanged;
    match filter.kind {
        WatchKind::Data => is_self,
        WatchKind::Children => (is_self || is_child) && !is_data,
        WatchKind::ChildrenData => is_child || (is_self && !is_data),
        WatchKind::Subtree => filter.path.contains(event.path.as_str()),
    }
}

/// The part of a state that a filter speaks of, with the data only where the filter tells it.
fn view(filter: &Filter, state: &State) -> State {
    let part = state.iter().filter_map(|(path, data)| {
        let is_self = *path == filter.path;
        let is_child = path.parent().as_ref() == Some(&filter.path);
        let shows_data = match filter.kind {
            WatchKind::Data if is_self => true,
            WatchKind::Children if is_self || is_child => false,
            WatchKind::ChildrenData if is_self || is_child => is_child,
            WatchKind::Subtree if filter.path.contains(path.as_str()) => true,
            _ => return None,
        };
        Some((path.clone(), data.clone().filter(|_| shows_data)))
    });
    part.collect()
}

fn apply(state: &mut State, event: &Event) {
    match event.kind {
        EventKind::Created | EventKind::DataChanged => {
            state.insert(event.path.clone(), event.data.clone());
        }
        EventKind::Deleted => {
            state.remove(&event.path);
        }
    }
}

struct Node {
    hub: Hub,
    /// How many transactions of the history its state is made of.
    applied: usize,
}

struct Client {
    node: usize,
    id: SubscriberId,
    filters: Vec<Filter>,
    upto: Zxid,
    /// What it knows per filter.
    views: Vec<State>,
    woken: Arc<AtomicBool>,
    is_lost: bool,
}

impl Client {
    fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct World {
    state: State,
    /// The events of each transaction and the state after it. Zxids are twice the position, so that there are
    /// gaps.
    history: Vec<(Vec<Event>, State)>,
    now_ms: u64,
    nodes: Vec<Node>,
    clients: [Option<Client>; 3],
}

fn zxid(transactions: usize) -> Zxid {
    Zxid(2 * transactions as u64)
}

impl World {
    fn new() -> World {
        let node = || Node { hub: Hub::new(Zxid(0), BOUNDS), applied: 0 };
        World { nodes: vec![node(), node()], ..World::default() }
    }

    fn state_at(&self, zxid: Zxid) -> &State {
        static EMPTY: State = State::new();
        let transactions = (zxid.0 / 2) as usize;
        if transactions == 0 { &EMPTY } else { &self.history[transactions - 1].1 }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Commit(ops) => self.commit(ops),
            Step::Apply(node, count, window_ms) => {
                (0..*count).for_each(|_| self.apply_next(*node, *window_ms));
            }
            Step::Wait(ms) => self.wait(*ms),
            Step::Install(node, count) => {
                let node = &mut self.nodes[*node];
                let applied = (node.applied + count).min(self.history.len());
                if applied > node.applied {
                    node.applied = applied;
                    node.hub.reset_all(zxid(applied));
                }
            }
            Step::Subscribe(client, node, filters) => {
                self.subscribe(*client, *node, filters.clone(), None);
            }
            Step::Resume(client, node) => {
                if let Some(Client { filters, upto, views, is_lost: false, .. }) =
                    &self.clients[*client]
                {
                    let (filters, known) = (filters.clone(), (*upto, views.clone()));
                    self.subscribe(*client, *node, filters, Some(known));
                }
            }
            Step::Take(client, max) => self.take(*client, *max),
            Step::Restart(client, age) => self.restart(*client, *age),
        }
        self.check_wakers();
    }

    fn commit(&mut self, ops: &[(EventKind, usize)]) {
        let mut events = Vec::new();
        for (kind, path) in ops {
            let mut event = event(*kind, PATHS[*path]);
            let exists = self.state.contains_key(&event.path);
            if exists == (*kind == EventKind::Created) {
                continue;
            }
            let content = format!("{}.{}", self.history.len(), events.len());
            event.data = Some(Data::new(content.as_bytes()));
            apply(&mut self.state, &event);
            events.push(event);
        }
        self.history.push((events, self.state.clone()));
    }

    fn at(&self) -> Moment {
        Moment { now_ms: self.now_ms, cluster_ms: self.now_ms }
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        let at = self.at();
        for node in &mut self.nodes {
            node.hub.release_until(self.now_ms, at);
            assert!(node.hub.next_due_ms().is_none_or(|due_ms| due_ms > self.now_ms));
        }
    }

    fn apply_next(&mut self, node: usize, window_ms: u64) {
        let waves = (0..4).map(|event| is_spread(window_ms, event).then_some(WAVES));
        let waves: Vec<_> = waves.collect();
        let pace =
            Pace { at: self.at(), window_ms, waves: if window_ms == 5 { &waves } else { &[] } };
        let told = &mut self.nodes[node];
        let Some((events, _)) = self.history.get(told.applied) else { return };
        told.applied += 1;
        let asleep: Vec<bool> =
            self.clients.iter().map(|it| it.as_ref().is_some_and(|it| !it.is_woken())).collect();
        told.hub.publish(zxid(told.applied), events.clone(), &pace);
        // Whom this has woken did not have to wait for its wave: however much waits for it, and though it is lost.
        let wave = self.now_ms / WAVES.interval_ms % WAVES.count;
        for (index, client) in self.clients.iter().enumerate() {
            let Some(client) = client.as_ref().filter(|it| asleep[index] && it.is_woken()) else {
                continue;
            };
            let sees = |event: &Event| client.filters.iter().any(|filter| sees(filter, event));
            let mut seen = (0..).zip(events).filter(|(_, event)| sees(event));
            let is_urgent = seen.any(|(at, _)| !is_spread(window_ms, at));
            assert!(is_urgent || index as u64 % WAVES.count == wave, "{index} out of turn");
        }
    }

    fn subscribe(
        &mut self,
        client: usize,
        node: usize,
        filters: Vec<Filter>,
        known: Option<(Zxid, Vec<State>)>,
    ) {
        if let Some(old) = self.clients[client].take() {
            self.nodes[old.node].hub.unsubscribe(old.id);
        }
        let woken = Arc::new(AtomicBool::new(false));
        let flag = woken.clone();
        let wake = Box::new(move || {
            assert!(!flag.swap(true, Ordering::Relaxed), "woken although it has not taken all");
        });
        let hub = &mut self.nodes[node].hub;
        let since = known.as_ref().map_or(Since::Now, |(upto, _)| Since::After(*upto));
        let (id, start) = hub.subscribe(filters.clone(), since, client as u64, wake).unwrap();
        woken.store(start != Start::Ahead, Ordering::Relaxed);
        let (upto, views) = known.unwrap_or((hub.last_zxid(), vec![State::new(); filters.len()]));
        let is_lost = start == Start::Reset;
        self.clients[client] = Some(Client { node, id, filters, upto, views, woken, is_lost });
        if !is_lost && start == Start::Resumed {
            self.take(client, 1);
        }
    }

    fn take(&mut self, index: usize, max: usize) {
        let Some(mut client) = self.clients[index].take() else { return };
        let hub = &mut self.nodes[client.node].hub;
        let taken = hub.take(client.id, max).unwrap();
        let last = hub.last_zxid();
        assert!(!client.is_lost || taken.lost, "lost until the restart");
        client.is_lost = taken.lost;
        if taken.lost {
            assert!(taken.messages.is_empty() && taken.upto <= last);
            // It knows now, though it may have looked while it was held back: nobody wakes it for that again.
            client.woken.store(true, Ordering::Relaxed);
        } else {
            assert!(taken.messages.len() <= max && taken.upto >= client.upto);
            assert!(taken.more || taken.upto == last.max(client.upto), "drained, so told all");
            client.woken.store(taken.more, Ordering::Relaxed);
            let mut told = Vec::new();
            for message in &taken.messages {
                for (_, event) in message.events() {
                    told.push((message.change.zxid(), event.clone()));
                }
            }
            assert_eq!(told, self.expected(&client.filters, client.upto, taken.upto));
            client.upto = taken.upto;
            self.rebuild(&mut client, told.iter().map(|(_, event)| event));
        }
        self.clients[index] = Some(client);
    }

    /// Applies to each of a client's views the events that its filter tells of, and compares it with the
    /// truth.
    fn rebuild<'a>(&self, client: &mut Client, told: impl Iterator<Item = &'a Event> + Clone) {
        for (filter, known) in client.filters.iter().zip(&mut client.views) {
            told.clone().filter(|event| sees(filter, event)).for_each(|event| apply(known, event));
            *known = view(filter, known);
            assert_eq!(*known, view(filter, self.state_at(client.upto)), "{filter:?}");
        }
    }

    /// What the filters match of the transactions after `from` up to `to`.
    fn expected(&self, filters: &[Filter], from: Zxid, to: Zxid) -> Vec<(Zxid, Event)> {
        let all = (1..).zip(&self.history).map(|(at, (events, _))| (zxid(at), events));
        let between = all.filter(|(zxid, _)| *zxid > from && *zxid <= to);
        let matching = between.flat_map(|(zxid, events)| {
            let seen = events.iter().filter(|event| filters.iter().any(|f| sees(f, event)));
            seen.map(move |event| (zxid, event.clone())).collect::<Vec<_>>()
        });
        matching.collect()
    }

    fn restart(&mut self, index: usize, age: usize) {
        let Some(mut client) = self.clients[index].take() else { return };
        if client.is_lost {
            let node = &mut self.nodes[client.node];
            let at = zxid(node.applied.saturating_sub(age)).max(client.upto);
            let start = node.hub.restart(client.id, at).unwrap();
            assert_eq!(start == Start::Reset, at < node.hub.ring().floor());
            client.is_lost = start == Start::Reset;
            client.woken.store(true, Ordering::Relaxed);
            client.upto = at;
            client.views = client.filters.iter().map(|f| view(f, self.state_at(at))).collect();
        }
        self.clients[index] = Some(client);
        self.take(index, 1);
    }

    /// A client that has neither been woken nor is held back misses nothing and is not lost.
    fn check_wakers(&mut self) {
        let misses = |world: &World, client: &&Client| {
            let last = world.nodes[client.node].hub.last_zxid();
            !client.is_woken() && !world.expected(&client.filters, client.upto, last).is_empty()
        };
        for (at, node) in self.nodes.iter().enumerate() {
            let own = self.clients.iter().flatten().filter(|client| client.node == at);
            let held = own.filter(|client| misses(self, client)).count();
            assert_eq!(held, node.hub.counters().held, "as many as miss something are held back");
        }
    }

    /// In the end both nodes apply everything, and every client hears everything.
    fn settle(&mut self) {
        for node in 0..self.nodes.len() {
            while self.nodes[node].applied < self.history.len() {
                self.apply_next(node, 50);
            }
        }
        self.wait(50);
        self.check_wakers();
        assert!(self.nodes.iter().all(|node| node.hub.counters().held == 0));
        for index in 0..self.clients.len() {
            for _ in 0..20 {
                self.take(index, 2);
                self.restart(index, 0);
            }
            let Some(client) = &self.clients[index] else { continue };
            assert_eq!((client.upto, client.is_lost), (zxid(self.history.len()), false));
        }
        for node in &self.nodes {
            assert_eq!(node.hub.counters().pending, 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn in_every_history_a_client_is_told_all_it_watches_once_and_in_order(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.settle();
    }
}
