use std::collections::BTreeSet;

use super::{Selection, Waves};

/// A time by both clocks that decide when somebody is told, ms: a node's own, and the cluster's, which decides about turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// By the node's clock.
    pub now_ms: u64,
    /// By the cluster's.
    pub cluster_ms: u64,
}

/// When a listener was told something last, and until when what waits for it is held back. An [`Agenda`] changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    told: Option<Moment>,
    until_ms: Option<u64>,
}

impl Hold {
    /// Returns whether what waits is held back.
    pub fn is_on(&self) -> bool {
        self.until_ms.is_some()
    }
}

/// When the listeners of one transaction are told of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace<'a> {
    /// The time. Another thread may have told something at a later one.
    pub at: Moment,
    /// How long after what a listener was told last it is told the next thing, ms.
    pub window_ms: u64,
    /// By which waves each of its events is told, if it is; empty when none is.
    pub waves: &'a [Option<Waves>],
}

impl Pace<'_> {
    /// Returns when a listener with this turn is told of one of the events.
    pub fn due_ms(&self, hold: &Hold, turn: u64, event: usize) -> u64 {
        let due_ms = hold.told.map_or(0, |told| told.now_ms + self.window_ms);
        let Some(Some(waves)) = self.waves.get(event) else { return due_ms };
        let told_ms = hold.told.map(|told| told.cluster_ms);
        due_ms.max(self.at.now_ms + waves.wait_ms(self.at.cluster_ms, turn, told_ms))
    }

    /// Returns when a listener with this turn is told of some of so many events: when it is of the first of them.
    pub(super) fn due_of(&self, hold: &Hold, turn: u64, which: &Selection, events: usize) -> u64 {
        let due_ms = |event| self.due_ms(hold, turn, event);
        let due_ms = match which {
            _ if self.waves.is_empty() => Some(due_ms(0)),
            Selection::All => (0..events).map(due_ms).min(),
            Selection::Only(indexes) => indexes.iter().map(|index| due_ms(*index as usize)).min(),
        };
        due_ms.unwrap_or(self.at.now_ms)
    }
}

/// The listeners that are held back, by when they will be told. Each is in it at most once.
#[derive(Debug)]
pub struct Agenda<Id>(BTreeSet<(u64, Id)>);

impl<Id> Default for Agenda<Id> {
    fn default() -> Agenda<Id> {
        Agenda(BTreeSet::new())
    }
}

impl<Id: Copy + Ord> Agenda<Id> {
    /// Holds a listener back until then, or as long as before if that is earlier; if that is past, not at all. Returns
    /// whether it is held back. Cost: O(log listeners).
    pub fn hold(&mut self, id: Id, hold: &mut Hold, until_ms: u64, now_ms: u64) -> bool {
        let until_ms = hold.until_ms.map_or(until_ms, |before| before.min(until_ms));
        self.release(id, hold);
        if until_ms > now_ms {
            hold.until_ms = Some(until_ms);
            self.0.insert((until_ms, id));
        }
        hold.is_on()
    }

    /// Holds a listener back no longer.
    pub fn release(&mut self, id: Id, hold: &mut Hold) {
        if let Some(until_ms) = hold.until_ms.take() {
            self.0.remove(&(until_ms, id));
        }
    }

    /// Notes that a listener is told what waits for it.
    pub fn told(&mut self, id: Id, hold: &mut Hold, at: Moment) {
        self.release(id, hold);
        hold.told = Some(at);
    }

    /// Returns those whose time has come, who have to be [released](Agenda::release).
    pub fn due(&self, now_ms: u64) -> Vec<Id> {
        self.0.iter().take_while(|(until_ms, _)| *until_ms <= now_ms).map(|(_, id)| *id).collect()
    }

    /// Returns when the next one's time comes; `None` when nobody is held back.
    pub fn next_ms(&self) -> Option<u64> {
        self.0.first().map(|(until_ms, _)| *until_ms)
    }

    /// Returns how many are held back.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether nobody is held back.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_held_until_the_earliest_of_its_times_and_then_no_more() {
        let (mut agenda, mut hold) = (Agenda::default(), Hold::default());
        assert!(!agenda.hold(1, &mut hold, 10, 10), "its time has come");
        assert!(agenda.hold(1, &mut hold, 30, 10));
        assert!(agenda.hold(1, &mut hold, 20, 10));
        assert!(agenda.hold(1, &mut hold, 40, 10));
        assert_eq!((agenda.next_ms(), agenda.len()), (Some(20), 1));
        assert_eq!((agenda.due(19), agenda.due(20)), (vec![], vec![1]));
        agenda.told(1, &mut hold, Moment { now_ms: 20, cluster_ms: 20 });
        assert!(agenda.is_empty() && !hold.is_on());
    }

    #[test]
    fn a_listener_waits_for_its_wave_unless_one_of_its_events_has_none() {
        let waves = Waves { count: 10, interval_ms: 100 };
        let at = Moment { now_ms: 5_000, cluster_ms: 230 };
        let pace = Pace { at, waves: &[Some(waves), None], ..Pace::default() };
        let hold = Hold::default();
        let due_ms = |which| pace.due_of(&hold, 7, &which, 2);
        assert_eq!(due_ms(Selection::Only([0].into())), 5_470);
        assert_eq!((due_ms(Selection::Only([1].into())), due_ms(Selection::All)), (0, 0));
        assert_eq!(pace.due_ms(&hold, 2, 0), 5_000, "its wave runs");
    }

    #[test]
    fn a_window_begins_with_what_was_told_last() {
        let (mut agenda, mut hold) = (Agenda::default(), Hold::default());
        let at = |now_ms| Moment { now_ms, cluster_ms: 0 };
        let pace = Pace { at: at(1_000), window_ms: 100, ..Pace::default() };
        assert!(pace.due_ms(&hold, 0, 0) <= 1_000, "never told: at once");
        agenda.told(1, &mut hold, at(950));
        assert_eq!(pace.due_ms(&hold, 0, 0), 1_050);
        agenda.told(1, &mut hold, at(900));
        assert!(pace.due_ms(&hold, 0, 0) <= 1_000);
    }
}
