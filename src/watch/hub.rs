use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::subscriber::{Mailbox, State, Subscriber, from_mailbox};
use super::table::Table;
use super::{
    Agenda, Bounds, Change, Counters, Filter, Message, Moment, Pace, Ring, Selection, Since, Start,
    SubscriberId, Taken, Wait, Wake,
};
use crate::limits;
use crate::types::{Error, Event, Zxid};

/// Advice to a client that meets a full hub, ms.
const RETRY_AFTER_MS: u64 = 1_000;

/// The subscribers of one node and what waits for them. See the module's introduction.
pub struct Hub {
    bounds: Bounds,
    ring: Ring,
    table: Table,
    subscribers: BTreeMap<SubscriberId, Subscriber>,
    agenda: Agenda<SubscriberId>,
    last_id: u64,
    counters: Counters,
}

impl Hub {
    /// Returns a hub without subscribers for a node whose state is that of `last`.
    pub fn new(last: Zxid, bounds: Bounds) -> Hub {
        Hub {
            ring: Ring::new(last, bounds.ring_txns_max, bounds.ring_bytes_max),
            bounds,
            table: Table::default(),
            subscribers: BTreeMap::new(),
            agenda: Agenda::default(),
            last_id: 0,
            counters: Counters::default(),
        }
    }

    /// Returns the zxid of the latest transaction that was published, whether it had events or not.
    pub fn last_zxid(&self) -> Zxid {
        self.ring.last()
    }

    /// Returns the recent changes.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Returns the counters.
    pub fn counters(&self) -> Counters {
        Counters {
            subscriptions: self.subscribers.len(),
            held: self.agenda.len(),
            ring_changes: self.ring.len(),
            ring_bytes: self.ring.bytes(),
            ..self.counters
        }
    }

    /// Enters a subscriber with its turn. The caller goes on with [`Hub::take`], without waiting to be woken. Errors:
    /// `Refused` for no filters or too many; `Busy` when the node has too many subscribers or filters. Cost:
    /// O(filters).
    pub fn subscribe(
        &mut self,
        mut filters: Vec<Filter>,
        since: Since,
        turn: u64,
        wake: Wake,
    ) -> Result<(SubscriberId, Start), Error> {
        self.admit(filters.len())?;
        filters.sort_unstable();
        filters.dedup();
        self.last_id += 1;
        let id = SubscriberId(self.last_id);
        self.table.insert(id, &filters);
        self.counters.filters += filters.len();
        let (told, (state, start)) = match since {
            Since::Now => (self.ring.last(), (State::Lost, Start::Reset)),
            Since::After(zxid) => {
                let after = mutant!(M27, Zxid(zxid.0.saturating_sub(3)), zxid);
                (after, self.place(after))
            }
        };
        self.subscribers.insert(id, Subscriber::new(id, filters, turn, told, state, wake));
        Ok((id, start))
    }

    /// Continues a subscriber, lost or not, behind a snapshot of the state at `at`: what waited for it is
    /// dropped, and everything after `at` comes, exactly. `Reset` when the snapshot is older than the ring,
    /// so that another one is needed. As after `subscribe` the caller goes on with [`Hub::take`]. `None` when
    /// there is no such subscriber.
    pub fn restart(&mut self, id: SubscriberId, at: Zxid) -> Option<Start> {
        let (state, start) = self.place(at);
        let subscriber = self.subscribers.get_mut(&id)?;
        self.counters.pending -= subscriber.pending();
        subscriber.told = at;
        subscriber.state = state;
        subscriber.signalled = !subscriber.is_drained();
        self.agenda.release(id, &mut subscriber.hold);
        Some(start)
    }

    /// Removes a subscriber and what waits for it. Nothing happens when there is no such subscriber. Cost:
    /// O(audience) per filter.
    pub fn unsubscribe(&mut self, id: SubscriberId) {
        let Some(mut subscriber) = self.subscribers.remove(&id) else { return };
        self.agenda.release(id, &mut subscriber.hold);
        self.table.remove(id, &subscriber.filters);
        self.counters.filters -= subscriber.filters.len();
        self.counters.pending -= subscriber.pending();
    }

    /// Takes up an applied transaction, whose state has been published already, and wakes those whom it
    /// concerns, or holds them back for a while. To be called for every transaction with events, in the order
    /// of zxids; those without only advance the bookmarks. A repeated zxid, which the answer to a repeated
    /// request carries, is ignored. Returns how many it concerns. Cost: O(events · depth + audience).
    pub fn publish(&mut self, zxid: Zxid, events: Vec<Event>, pace: &Pace<'_>) -> usize {
        if zxid <= self.ring.last() {
            debug_assert!(events.is_empty(), "{zxid} was published before: {events:?}");
            return 0;
        }
        if events.is_empty() {
            self.ring.advance(zxid);
            return 0;
        }
        let selected = self.table.select(&events);
        let count = events.len();
        self.ring.push(Arc::new(Change::new(zxid, events).published(pace)));
        self.counters.published += 1;
        let told = selected.len();
        for (id, selection) in selected {
            self.deliver(id, zxid, selection, count, pace);
        }
        told
    }

    /// Holds a subscriber that has just resumed back until its turn, if all that it has missed is told in waves and none of
    /// it has waited for a round already: who comes back between its turns is told all the same. Returns whether it is held
    /// back: then the caller waits to be woken. Cost: O([`limits::NOTIFY_RESUMED_SEEN_MAX`] · depth · log audience).
    pub fn defer(&mut self, id: SubscriberId, wait: Wait, now_ms: u64) -> bool {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return false };
        let State::Behind = subscriber.state else { return false };
        let Ok(missed) = self.ring.since(subscriber.told) else { return false };
        let (mut events, mut oldest_ms) = (0, None);
        for change in missed {
            events += change.events().len();
            if events > limits::NOTIFY_RESUMED_SEEN_MAX {
                return false;
            }
            if change.events().iter().any(|event| self.table.sees(id, event)) {
                if !change.is_spread() {
                    return false;
                }
                oldest_ms.get_or_insert(change.published_ms());
            }
        }
        let Some(oldest_ms) = oldest_ms else { return false };
        let until_ms = (now_ms + wait.turn_ms).min(oldest_ms + wait.round_ms);
        subscriber.signalled = !self.agenda.hold(id, &mut subscriber.hold, until_ms, now_ms);
        !subscriber.signalled
    }

    /// Returns what a subscriber watches.
    pub fn filters(&self, id: SubscriberId) -> &[Filter] {
        self.subscribers.get(&id).map_or(&[], |subscriber| &subscriber.filters)
    }

    /// Returns how many changes wait for a subscriber that has missed none.
    pub fn pending(&self, id: SubscriberId) -> usize {
        self.subscribers.get(&id).map_or(0, Subscriber::pending)
    }

    /// Drops what waits for a subscriber: it is lost, and needs a snapshot in its place.
    pub fn skip(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        self.counters.pending -= subscriber.pending();
        subscriber.state = State::Lost;
    }

    /// Returns how many subscribers watch a path that is wanted. Cost: O(filters).
    pub fn watching(&self, is_wanted: impl Fn(&str) -> bool) -> usize {
        let wants = |subscriber: &&Subscriber| {
            subscriber.filters.iter().any(|filter| is_wanted(filter.path.as_str()))
        };
        self.subscribers.values().filter(wants).count()
    }

    /// Wakes those who are held back until then or earlier.
    pub fn release_until(&mut self, until_ms: u64, at: Moment) {
        for id in self.agenda.due(until_ms) {
            let Some(subscriber) = self.subscribers.get_mut(&id) else { continue };
            self.agenda.told(id, &mut subscriber.hold, at);
            subscriber.wake();
        }
    }

    /// Returns when [`Hub::release_until`] has somebody to wake; `None` while nobody is held back.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.agenda.next_ms()
    }

    /// Tells a subscriber up to where it has been told everything, without giving it what waits; never less than before.
    /// `None` when there is no such subscriber.
    pub fn tell_upto(&mut self, id: SubscriberId) -> Option<Zxid> {
        let subscriber = self.subscribers.get_mut(&id)?;
        // Kept: what comes next may have to wait, and then all that it is known to have been told is this.
        subscriber.told = told(subscriber, &[], self.ring.last());
        Some(subscriber.told)
    }

    /// Returns the subscribers whose filters concern one of these events. Cost: as [`Hub::publish`].
    pub fn audience(&self, events: &[Event]) -> BTreeSet<SubscriberId> {
        self.table.select(events).into_iter().map(|(id, _)| id).collect()
    }

    /// Returns up to where a subscriber has been told everything; `None` when there is no such subscriber.
    pub fn told(&self, id: SubscriberId) -> Option<Zxid> {
        Some(self.subscribers.get(&id)?.told)
    }

    /// Gives a subscriber at most `messages_max` messages. When neither `lost` nor `more` is set it has
    /// everything and will be woken for what comes next. `None` when there is no such subscriber. Cost:
    /// O(messages · log ring), or one step through the ring while it catches up.
    pub fn take(&mut self, id: SubscriberId, messages_max: usize) -> Option<Taken> {
        let subscriber = self.subscribers.get_mut(&id)?;
        let pending = subscriber.pending();
        let was_lost = matches!(subscriber.state, State::Lost);
        let messages = match &mut subscriber.state {
            State::Lost => None,
            State::Live(mailbox) => from_mailbox(mailbox, &self.ring, messages_max),
            State::Behind => catch_up(
                subscriber,
                &self.ring,
                &self.table,
                messages_max,
                self.bounds.resume_events_per_step,
            ),
        };
        match &messages {
            Some(messages) => {
                subscriber.told =
                    mutant!(M31, self.ring.last(), told(subscriber, messages, self.ring.last()));
                self.counters.delivered += messages.len() as u64;
            }
            None => subscriber.state = State::Lost,
        }
        let lost = messages.is_none();
        self.counters.overflows += u64::from(lost && !was_lost);
        self.counters.pending -= pending - subscriber.pending();
        subscriber.signalled = !subscriber.is_drained();
        self.agenda.release(id, &mut subscriber.hold);
        let more = subscriber.signalled && !lost;
        Some(Taken { messages: messages.unwrap_or_default(), lost, more, upto: subscriber.told })
    }

    /// Takes up a snapshot of the state at `zxid` that was installed in place of the transactions that led
    /// there: every subscriber is lost, except those who know all of it from another node. Cost:
    /// O(subscribers).
    pub fn reset_all(&mut self, zxid: Zxid) {
        self.ring.reset(zxid);
        self.counters.pending = 0;
        for (id, subscriber) in &mut self.subscribers {
            let knows_it = subscriber.told >= zxid && subscriber.is_drained();
            if !knows_it {
                self.agenda.release(*id, &mut subscriber.hold);
                subscriber.state = State::Lost;
                subscriber.wake();
            }
        }
    }

    /// Checks that a subscriber with so many filters may enter.
    fn admit(&self, filters: usize) -> Result<(), Error> {
        let filters_max = self.bounds.filters_per_subscription_max;
        let busy = |what| Err(Error::Busy { what, retry_after_ms: RETRY_AFTER_MS });
        if filters == 0 {
            return Err(Error::Refused("a subscription needs at least one path".to_owned()));
        }
        if filters > filters_max {
            return Err(Error::Refused(format!(
                "a subscription of {filters} paths: the limit is {filters_max}, use several"
            )));
        }
        if self.subscribers.len() >= self.bounds.subscriptions_max {
            return busy("the table of subscriptions");
        }
        if self.counters.filters + filters > self.bounds.filters_max {
            return busy("the table of watched paths");
        }
        Ok(())
    }

    /// Returns how a subscriber begins that has been told everything up to `told`.
    fn place(&self, told: Zxid) -> (State, Start) {
        if told < self.ring.floor() {
            (State::Lost, Start::Reset)
        } else if told < self.ring.last() {
            (State::Behind, Start::Resumed)
        } else if told == self.ring.last() {
            (State::Live(Mailbox::new()), Start::Resumed)
        } else {
            (State::Live(Mailbox::new()), Start::Ahead)
        }
    }

    /// Puts the newest change, of so many events, into a subscriber's mailbox. A full one overflows, and so does
    /// one whose oldest message the ring has dropped: it could not be taken any more. Before it gets full no window
    /// holds it back any longer. Its wave does, full or not: what it is told then is the latest state. One that resumes
    /// and is held back finds the change in the ring.
    fn deliver(
        &mut self,
        id: SubscriberId,
        zxid: Zxid,
        which: Selection,
        events: usize,
        pace: &Pace<'_>,
    ) {
        let limit = self.mailbox_limit();
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        if zxid <= subscriber.told {
            return;
        }
        let waiting = subscriber.pending();
        let outlived = subscriber.oldest().is_some_and(|oldest| oldest <= self.ring.floor());
        let overflows = outlived || waiting >= limit;
        let fills_up = overflows || (waiting + 1) * 2 > limit;
        let window_ms = if fills_up { 0 } else { pace.window_ms };
        let pace = Pace { window_ms, ..*pace };
        let due_ms = pace.due_of(&subscriber.hold, subscriber.turn, &which, events);
        if let State::Live(mailbox) = &mut subscriber.state {
            if overflows {
                self.counters.pending -= mailbox.len();
                self.counters.overflows += 1;
                mutant!(M25, (), subscriber.state = State::Lost);
            } else {
                let is_told_twice: bool = mutant!(M26, true, false);
                if is_told_twice {
                    mailbox.push_back((zxid, which.clone()));
                }
                mailbox.push_back((zxid, which));
                self.counters.pending += 1;
            }
        }
        let is_woken = subscriber.signalled;
        if !is_woken && !self.agenda.hold(id, &mut subscriber.hold, due_ms, pace.at.now_ms) {
            self.agenda.told(id, &mut subscriber.hold, pace.at);
            subscriber.wake();
        }
    }

    /// Returns how many messages one mailbox may hold at present.
    fn mailbox_limit(&self) -> usize {
        let Bounds { mailbox_messages_max, mailbox_messages_total_max, .. } = self.bounds;
        if self.counters.pending < mailbox_messages_total_max {
            return mailbox_messages_max;
        }
        (mailbox_messages_total_max / self.bounds.subscriptions_max).clamp(1, mailbox_messages_max)
    }
}

/// Looks through the ring after what the subscriber has been told, one step, and makes it live when nothing
/// is left. `None` when the ring does not reach back that far.
fn catch_up(
    subscriber: &mut Subscriber,
    ring: &Ring,
    table: &Table,
    messages_max: usize,
    events_max: usize,
) -> Option<Vec<Message>> {
    let mut messages = Vec::new();
    let mut events = 0;
    for change in ring.since(subscriber.told).ok()? {
        if messages.len() >= messages_max || events >= events_max {
            return Some(messages);
        }
        events += change.events().len();
        subscriber.told = change.zxid();
        let seen =
            (0u32..).zip(change.events()).filter(|(_, event)| table.sees(subscriber.id, event));
        let indexes: Vec<u32> = seen.map(|(index, _)| index).collect();
        if !indexes.is_empty() {
            let which = Selection::new(indexes, change.events().len());
            messages.push(Message { change: change.clone(), which });
        }
    }
    subscriber.state = State::Live(Mailbox::new());
    Some(messages)
}

/// Returns up to where a subscriber has been told everything once it has these messages.
fn told(subscriber: &Subscriber, messages: &[Message], last: Zxid) -> Zxid {
    if subscriber.is_drained() {
        return subscriber.told.max(last);
    }
    let newest = messages.last().map_or(subscriber.told, |message| message.change.zxid());
    subscriber.told.max(newest)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::types::EventKind::{self, Created, DataChanged};
    use crate::types::{Stat, ZnodePath};
    use crate::watch::{WatchKind, Waves};

    pub(in crate::watch) fn event(kind: EventKind, path: &str) -> Event {
        let path = ZnodePath::parse(path).unwrap();
        Event {
            kind,
            path,
            data: None,
            stat: Stat::default(),
            acl: Arc::from([]),
            parent_acl: Arc::from([]),
        }
    }

    pub(in crate::watch) fn filter(kind: WatchKind, path: &str) -> Filter {
        Filter { path: ZnodePath::parse(path).unwrap(), kind }
    }

    const SMALL: Bounds = Bounds {
        ring_txns_max: 8,
        ring_bytes_max: usize::MAX,
        mailbox_messages_max: 3,
        mailbox_messages_total_max: 1000,
        filters_per_subscription_max: 2,
        filters_max: 5,
        subscriptions_max: 3,
        resume_events_per_step: 2,
        watches_max: 0,
        watches_per_line_max: 0,
    };

    /// Nobody is held back.
    const NOW: Pace<'_> = Pace { at: moment(0), window_ms: 0, waves: &[] };

    const fn moment(now_ms: u64) -> Moment {
        Moment { now_ms, cluster_ms: 0 }
    }

    /// A waker and the number of times it was called.
    fn waker() -> (Wake, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let wake = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        (Box::new(wake), calls)
    }

    fn subscribe(hub: &mut Hub, path: &str, since: Since) -> (SubscriberId, Start) {
        hub.subscribe(vec![filter(WatchKind::Subtree, path)], since, 0, waker().0).unwrap()
    }

    fn publish(hub: &mut Hub, zxids: std::ops::RangeInclusive<u64>) {
        for zxid in zxids {
            hub.publish(Zxid(zxid), vec![event(DataChanged, "/a")], &NOW);
        }
    }

    /// The zxids of what is taken, whether it is lost, whether there is more, and the bookmark.
    fn take(hub: &mut Hub, id: SubscriberId, max: usize) -> (Vec<u64>, bool, bool, u64) {
        let taken = hub.take(id, max).unwrap();
        let zxids = taken.messages.iter().map(|message| message.change.zxid().0).collect();
        (zxids, taken.lost, taken.more, taken.upto.0)
    }

    #[test]
    fn a_new_subscriber_needs_a_snapshot_and_then_hears_what_follows_it() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        publish(&mut hub, 1..=1);
        let (id, start) = subscribe(&mut hub, "/a", Since::Now);
        assert_eq!((start, take(&mut hub, id, 9)), (Start::Reset, (vec![], true, false, 1)));
        publish(&mut hub, 2..=4);
        let snapshot_at = Zxid(3);
        assert_eq!(hub.restart(id, snapshot_at), Some(Start::Resumed));
        assert_eq!(take(&mut hub, id, 9), (vec![4], false, false, 4));
        publish(&mut hub, 5..=5);
        assert_eq!(take(&mut hub, id, 9), (vec![5], false, false, 5));
    }

    #[test]
    fn a_resumed_subscriber_hears_exactly_what_it_missed_step_by_step() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        publish(&mut hub, 1..=3);
        hub.publish(Zxid(4), vec![event(DataChanged, "/other")], &NOW);
        publish(&mut hub, 5..=6);
        let (id, start) = subscribe(&mut hub, "/a", Since::After(Zxid(1)));
        assert_eq!((start, take(&mut hub, id, 9)), (Start::Resumed, (vec![2, 3], false, true, 3)));
        publish(&mut hub, 7..=7);
        assert_eq!(take(&mut hub, id, 9), (vec![5], false, true, 5), "4 was looked at, 5 is told");
        assert_eq!(take(&mut hub, id, 1), (vec![6], false, true, 6));
        assert_eq!(take(&mut hub, id, 1), (vec![7], false, false, 7));
        publish(&mut hub, 8..=8);
        assert_eq!(take(&mut hub, id, 1), (vec![8], false, false, 8));
    }

    #[test]
    fn a_subscriber_from_before_the_ring_needs_a_snapshot() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        publish(&mut hub, 1..=10);
        assert_eq!(hub.ring().floor(), Zxid(2));
        assert_eq!(subscribe(&mut hub, "/a", Since::After(Zxid(1))).1, Start::Reset);
        let (id, start) = subscribe(&mut hub, "/a", Since::After(Zxid(2)));
        assert_eq!(start, Start::Resumed);
        publish(&mut hub, 11..=11);
        assert_eq!(take(&mut hub, id, 9), (vec![], true, false, 2), "overtaken while behind");
        assert_eq!(hub.restart(id, Zxid(2)), Some(Start::Reset), "an old snapshot does not help");
        assert_eq!(hub.counters().overflows, 1);
    }

    #[test]
    fn a_client_that_is_ahead_of_the_node_hears_nothing_twice() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let (id, start) = subscribe(&mut hub, "/a", Since::After(Zxid(2)));
        assert_eq!(start, Start::Ahead);
        publish(&mut hub, 1..=2);
        assert_eq!(take(&mut hub, id, 9), (vec![], false, false, 2));
        publish(&mut hub, 3..=3);
        assert_eq!(take(&mut hub, id, 9), (vec![3], false, false, 3));
    }

    #[test]
    fn an_overflowing_mailbox_turns_into_a_restart_without_a_gap() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let (id, _) = subscribe(&mut hub, "/a", Since::After(Zxid(0)));
        publish(&mut hub, 1..=4);
        assert_eq!((hub.counters().overflows, hub.counters().pending), (1, 0));
        assert_eq!(take(&mut hub, id, 9), (vec![], true, false, 0));
        publish(&mut hub, 5..=6);
        assert_eq!(take(&mut hub, id, 9), (vec![], true, false, 0), "lost until the restart");
        assert_eq!(hub.restart(id, Zxid(5)), Some(Start::Resumed));
        assert_eq!(take(&mut hub, id, 9), (vec![6], false, false, 6));
    }

    #[test]
    fn a_message_that_the_ring_has_dropped_makes_its_subscriber_lost() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let (reader, _) = subscribe(&mut hub, "/b", Since::After(Zxid(0)));
        let (writer, _) = subscribe(&mut hub, "/b", Since::After(Zxid(0)));
        hub.publish(Zxid(1), vec![event(Created, "/b")], &NOW);
        publish(&mut hub, 2..=9);
        assert_eq!(take(&mut hub, reader, 9), (vec![], true, false, 0), "found when it takes");
        hub.publish(Zxid(10), vec![event(DataChanged, "/b")], &NOW);
        assert_eq!(hub.counters().pending, 0, "found when it is written to");
        assert_eq!(take(&mut hub, writer, 9), (vec![], true, false, 0));
        assert_eq!(hub.counters().overflows, 2);
    }

    #[test]
    fn when_all_mailboxes_are_full_together_those_above_their_share_overflow() {
        let bounds = Bounds { mailbox_messages_total_max: 3, ..SMALL };
        let mut hub = Hub::new(Zxid(0), bounds);
        let (slow, _) = subscribe(&mut hub, "/a", Since::After(Zxid(0)));
        let (quick, _) = subscribe(&mut hub, "/a", Since::After(Zxid(0)));
        publish(&mut hub, 1..=1);
        take(&mut hub, quick, 9);
        publish(&mut hub, 2..=2);
        take(&mut hub, quick, 9);
        publish(&mut hub, 3..=4);
        assert_eq!(take(&mut hub, slow, 9), (vec![], true, false, 0));
        assert_eq!(take(&mut hub, quick, 9), (vec![3, 4], false, false, 4));
    }

    #[test]
    fn a_subscriber_is_woken_once_until_it_has_taken_everything() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let (wake, calls) = waker();
        let filters = vec![filter(WatchKind::Data, "/a")];
        let (id, _) = hub.subscribe(filters, Since::After(Zxid(0)), 0, wake).unwrap();
        let woken = || calls.load(Ordering::Relaxed);
        hub.publish(Zxid(1), vec![event(Created, "/elsewhere")], &NOW);
        assert_eq!(woken(), 0);
        publish(&mut hub, 2..=3);
        assert_eq!(woken(), 1);
        assert_eq!(take(&mut hub, id, 1), (vec![2], false, true, 2));
        publish(&mut hub, 4..=4);
        assert_eq!(woken(), 1, "it knows that there is more");
        take(&mut hub, id, 9);
        publish(&mut hub, 5..=5);
        assert_eq!(woken(), 2);
        take(&mut hub, id, 9);
        hub.reset_all(Zxid(9));
        assert_eq!(woken(), 3);
    }

    #[test]
    fn up_to_where_it_is_told_everything_never_goes_back_while_something_waits() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let (id, _) = subscribe(&mut hub, "/a", Since::After(Zxid(0)));
        let at = |now_ms| Pace { at: moment(now_ms), window_ms: 100, ..NOW };
        hub.publish(Zxid(1), vec![event(DataChanged, "/a")], &at(10));
        assert_eq!(take(&mut hub, id, 9).0, [1]);
        hub.publish(Zxid(7), vec![event(DataChanged, "/elsewhere")], &at(15));
        assert_eq!(hub.tell_upto(id), Some(Zxid(7)), "what happened concerns others");
        hub.publish(Zxid(8), vec![event(DataChanged, "/a")], &at(20));
        assert_eq!((hub.counters().held, hub.tell_upto(id)), (1, Some(Zxid(7))));
        assert_eq!(take(&mut hub, id, 9), (vec![8], false, false, 8));
    }

    #[test]
    fn who_was_told_a_moment_ago_is_woken_when_the_window_is_over_or_its_mailbox_half_full() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let (wake, calls) = waker();
        let filters = vec![filter(WatchKind::Data, "/a")];
        let (id, _) = hub.subscribe(filters, Since::After(Zxid(0)), 0, wake).unwrap();
        let woken = || calls.load(Ordering::Relaxed);
        let change = || vec![event(DataChanged, "/a")];
        let at = |now_ms| Pace { at: moment(now_ms), window_ms: 100, ..NOW };
        hub.publish(Zxid(1), change(), &at(10));
        assert_eq!((woken(), take(&mut hub, id, 9).0), (1, vec![1]), "never told before");
        hub.publish(Zxid(2), change(), &at(20));
        assert_eq!((woken(), hub.next_due_ms(), hub.counters().held), (1, Some(110), 1));
        assert_eq!(hub.tell_upto(id), Some(Zxid(1)), "what waits is not told");
        hub.release_until(109, moment(109));
        assert_eq!(woken(), 1);
        hub.release_until(110, moment(110));
        assert_eq!((woken(), hub.counters().held, take(&mut hub, id, 9).0), (2, 0, vec![2]));
        hub.publish(Zxid(3), change(), &at(120));
        assert_eq!(woken(), 2);
        hub.publish(Zxid(4), change(), &at(130));
        assert_eq!((woken(), hub.counters().held), (3, 0), "two of at most three wait");
        assert_eq!(take(&mut hub, id, 9).0, [3, 4]);
    }

    /// Of what is told in waves.
    const SPREAD: Pace<'_> = Pace { waves: &[Some(Waves { count: 6, interval_ms: 10 })], ..NOW };
    /// Of who comes back to that.
    const WAIT: Wait = Wait { turn_ms: 50, round_ms: 60 };

    #[test]
    fn who_waits_for_its_wave_does_so_though_its_mailbox_overflows_unless_something_is_urgent() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let (wake, calls) = waker();
        let filters = vec![filter(WatchKind::Data, "/a")];
        let (id, _) = hub.subscribe(filters, Since::After(Zxid(0)), 5, wake).unwrap();
        let woken = || calls.load(Ordering::Relaxed);
        let change = |hub: &mut Hub, zxid, pace: &Pace<'_>| {
            hub.publish(Zxid(zxid), vec![event(DataChanged, "/a")], pace);
            (woken(), hub.next_due_ms(), hub.counters().overflows)
        };
        let windowed = Pace { window_ms: 1_000, ..SPREAD };
        for zxid in 1..=20 {
            // More of them than the ring keeps, too.
            let overflows = u64::from(zxid > 3);
            assert_eq!(change(&mut hub, zxid, &windowed), (0, Some(50), overflows), "{zxid}");
        }
        assert_eq!((hub.counters().held, hub.counters().pending), (1, 0));
        assert_eq!(hub.tell_upto(id), Some(Zxid(0)), "what it has lost is not told");
        hub.release_until(50, Moment { now_ms: 50, cluster_ms: 50 });
        assert_eq!((woken(), take(&mut hub, id, 9)), (1, (vec![], true, false, 0)));
        assert_eq!(hub.restart(id, Zxid(20)), Some(Start::Resumed));
        // Once in a round: its wave runs, and it has been told.
        let at = Moment { now_ms: 52, cluster_ms: 52 };
        let (next, urgent) = (Pace { at, ..SPREAD }, Pace { at, ..NOW });
        for zxid in 21..=24 {
            assert_eq!(change(&mut hub, zxid, &next).0, 1);
        }
        assert_eq!((hub.counters().overflows, hub.counters().held), (2, 1));
        assert_eq!(change(&mut hub, 25, &urgent), (2, None, 2), "told at once that it is lost");
        assert_eq!(take(&mut hub, id, 9), (vec![], true, false, 20));
    }

    #[test]
    fn who_resumes_may_be_held_back_unless_it_missed_something_that_is_not_told_in_waves() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let change = |path| vec![event(DataChanged, path)];
        hub.publish(Zxid(1), change("/a"), &NOW);
        hub.publish(Zxid(2), change("/a"), &SPREAD);
        hub.publish(Zxid(3), change("/elsewhere"), &NOW);
        let (id, _) = subscribe(&mut hub, "/a", Since::After(Zxid(1)));
        assert!(hub.defer(id, WAIT, 0) && hub.tell_upto(id) == Some(Zxid(1)));
        hub.publish(Zxid(4), change("/a"), &NOW);
        assert_eq!(hub.counters().held, 0, "what needs no wave does not wait for it");
        assert_eq!(take(&mut hub, id, 9), (vec![2], false, true, 3));
        assert_eq!(take(&mut hub, id, 9), (vec![4], false, false, 4));
        let (id, _) = subscribe(&mut hub, "/a", Since::After(Zxid(1)));
        assert!(!hub.defer(id, WAIT, 0) && hub.counters().held == 0);
        hub.skip(id);
        assert_eq!(take(&mut hub, id, 9), (vec![], true, false, 1), "lost until it has a snapshot");
    }

    #[test]
    fn who_resumes_is_held_back_for_what_concerns_it_and_for_a_round_at_most() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let at = |now_ms| Pace { at: moment(now_ms), ..SPREAD };
        hub.publish(Zxid(1), vec![event(DataChanged, "/elsewhere")], &at(10));
        let (id, _) = subscribe(&mut hub, "/a", Since::After(Zxid(0)));
        assert!(!hub.defer(id, WAIT, 20), "nothing concerns it");
        hub.unsubscribe(id);
        hub.publish(Zxid(2), vec![event(DataChanged, "/a")], &at(30));
        for (now_ms, until_ms) in [(35, Some(85)), (60, Some(90)), (89, Some(90)), (90, None)] {
            let (id, _) = subscribe(&mut hub, "/a", Since::After(Zxid(0)));
            let is_held = hub.defer(id, WAIT, now_ms);
            assert_eq!((is_held, hub.next_due_ms()), (until_ms.is_some(), until_ms));
            hub.unsubscribe(id);
        }
    }

    #[test]
    fn a_transaction_without_events_wakes_nobody_but_moves_the_bookmark() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let (id, _) = subscribe(&mut hub, "/a", Since::After(Zxid(0)));
        hub.publish(Zxid(7), vec![], &NOW);
        hub.publish(Zxid(3), vec![], &NOW);
        assert_eq!((take(&mut hub, id, 9), hub.ring().len()), ((vec![], false, false, 7), 0));
    }

    #[test]
    fn an_installed_snapshot_loses_all_but_those_who_have_seen_it_elsewhere() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let (waiting, _) = subscribe(&mut hub, "/a", Since::After(Zxid(0)));
        publish(&mut hub, 1..=2);
        let (ahead, _) = subscribe(&mut hub, "/a", Since::After(Zxid(60)));
        hub.reset_all(Zxid(50));
        assert_eq!((hub.last_zxid(), hub.counters().pending), (Zxid(50), 0));
        assert_eq!(take(&mut hub, waiting, 9), (vec![], true, false, 0));
        publish(&mut hub, 60..=61);
        assert_eq!(take(&mut hub, ahead, 9), (vec![61], false, false, 61));
    }

    #[test]
    fn bounds_are_errors_and_leaving_makes_room() {
        let mut hub = Hub::new(Zxid(0), SMALL);
        let try_filters = |hub: &mut Hub, count: usize| {
            let filters = (0..count).map(|i| filter(WatchKind::Data, &format!("/{i}"))).collect();
            hub.subscribe(filters, Since::Now, 0, waker().0).map(|(id, _)| id)
        };
        assert!(matches!(try_filters(&mut hub, 0), Err(Error::Refused(_))));
        assert!(matches!(try_filters(&mut hub, 3), Err(Error::Refused(_))));
        let is_busy = |result, name: &str| match result {
            Err(Error::Busy { what, .. }) => what.contains(name),
            _ => false,
        };
        let first = try_filters(&mut hub, 2).unwrap();
        try_filters(&mut hub, 2).unwrap();
        assert!(is_busy(try_filters(&mut hub, 2), "paths"));
        try_filters(&mut hub, 1).unwrap();
        assert!(is_busy(try_filters(&mut hub, 1), "subscriptions"));
        hub.unsubscribe(first);
        assert_eq!((hub.counters().subscriptions, hub.counters().filters), (2, 3));
        assert!(try_filters(&mut hub, 1).is_ok());
        assert!(hub.take(first, 1).is_none() && hub.restart(first, Zxid(0)).is_none());
    }
}
