use std::collections::BTreeSet;

/// When a listener was told something last, and until when what waits for it is held back. An [`Agenda`] changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    told_ms: Option<u64>,
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
pub struct Pace {
    /// The time.
    pub now_ms: u64,
    /// How long after what a listener was told last it is told the next thing, ms.
    pub window_ms: u64,
}

impl Pace {
    /// Returns when this listener is told.
    pub fn due_ms(&self, hold: &Hold) -> u64 {
        hold.told_ms.map_or(0, |told_ms| told_ms + self.window_ms)
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
    pub fn told(&mut self, id: Id, hold: &mut Hold, now_ms: u64) {
        self.release(id, hold);
        hold.told_ms = Some(now_ms);
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
        agenda.told(1, &mut hold, 20);
        assert!(agenda.is_empty() && !hold.is_on());
    }

    #[test]
    fn a_window_begins_with_what_was_told_last() {
        let (mut agenda, mut hold) = (Agenda::default(), Hold::default());
        let pace = Pace { now_ms: 1_000, window_ms: 100 };
        assert!(pace.due_ms(&hold) <= pace.now_ms, "never told: at once");
        agenda.told(1, &mut hold, 950);
        assert_eq!(pace.due_ms(&hold), 1_050);
        agenda.told(1, &mut hold, 900);
        assert!(pace.due_ms(&hold) <= pace.now_ms);
    }
}
