use std::collections::VecDeque;

use super::{Filter, Hold, Message, Ring, Selection};
use crate::types::Zxid;

/// Names a subscription of one hub, for the life of the process. Later ones have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u64);

/// What the hub calls when a subscriber has something to take: often under the hub's mutex, so it must only
/// set a flag or wake a task, and never call the hub.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// Capacity that an emptied mailbox may keep, messages: what a burst has grown is given back.
const MAILBOX_CAPACITY_KEPT: usize = 64;

/// Messages that wait for a subscriber, oldest first: zxids of changes in the ring, and which of their
/// events.
pub(super) type Mailbox = VecDeque<(Zxid, Selection)>;

/// Where a subscriber's messages come from.
pub(super) enum State {
    /// From its mailbox, which `publish` fills.
    Live(Mailbox),
    /// From the ring, after `told`, until it has caught up.
    Behind,
    /// From nowhere: it needs a snapshot first.
    Lost,
}

/// One subscription.
pub(super) struct Subscriber {
    /// Its name.
    pub(super) id: SubscriberId,
    /// What it watches, without doubles.
    pub(super) filters: Vec<Filter>,
    /// What decides when it is its turn, where listeners are told in turns.
    pub(super) turn: u64,
    /// It has taken everything that it watches up to here. In front of [`Ring::last`](super::Ring::last) only
    /// when the client has seen more on another node than this one has applied.
    pub(super) told: Zxid,
    /// Where its messages come from.
    pub(super) state: State,
    /// Whether it has been woken, or has been told to begin with `take`, and has not taken everything since.
    pub(super) signalled: bool,
    /// Whether it is held back instead of being woken.
    pub(super) hold: Hold,
    wake: Wake,
}

impl Subscriber {
    /// Returns a subscriber in this state. One that has something to take at once is not woken for it.
    pub(super) fn new(
        id: SubscriberId,
        filters: Vec<Filter>,
        turn: u64,
        told: Zxid,
        state: State,
        wake: Wake,
    ) -> Subscriber {
        let hold = Hold::default();
        let mut subscriber =
            Subscriber { id, filters, turn, told, state, signalled: false, hold, wake };
        subscriber.signalled = !subscriber.is_drained();
        subscriber
    }

    /// Returns whether there is nothing to take.
    pub(super) fn is_drained(&self) -> bool {
        matches!(&self.state, State::Live(mailbox) if mailbox.is_empty())
    }

    /// Returns the number of messages in the mailbox.
    pub(super) fn pending(&self) -> usize {
        match &self.state {
            State::Live(mailbox) => mailbox.len(),
            State::Behind | State::Lost => 0,
        }
    }

    /// Returns the transaction of the oldest message in the mailbox.
    pub(super) fn oldest(&self) -> Option<Zxid> {
        match &self.state {
            State::Live(mailbox) => mailbox.front().map(|(zxid, _)| *zxid),
            State::Behind | State::Lost => None,
        }
    }

    /// Wakes it unless it has been woken and has not taken everything since.
    pub(super) fn wake(&mut self) {
        if !self.signalled {
            self.signalled = true;
            (self.wake)();
        }
    }
}

/// Takes the oldest messages out of a mailbox. `None` when the ring has dropped a change that they name.
pub(super) fn from_mailbox(
    mailbox: &mut Mailbox,
    ring: &Ring,
    messages_max: usize,
) -> Option<Vec<Message>> {
    let count = mailbox.len().min(messages_max);
    let message = |(zxid, which): (Zxid, Selection)| {
        ring.get(zxid).map(|change| Message { change: change.clone(), which })
    };
    let messages = mailbox.drain(..count).map(message).collect();
    shrink(mailbox);
    messages
}

/// Gives back the memory of a burst once a mailbox is empty.
fn shrink(mailbox: &mut Mailbox) {
    if mailbox.is_empty() && mailbox.capacity() > MAILBOX_CAPACITY_KEPT {
        *mailbox = Mailbox::new();
    }
}
