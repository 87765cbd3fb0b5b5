//! What a conversation can do with what it sees under one look: pure, and short, since apply waits for it.

use std::collections::VecDeque;

use super::pending::{Pending, Task};
use super::reads::{self, Asker};
use crate::jute::{EventType, errors};
use crate::limits::{ZK_READS_AT_ONCE, ZK_REARMED_AT_ONCE};
use crate::node::{Inbox, OwnWatches};
use crate::tree::Tree;

/// What can be done with what is seen under one look.
#[derive(Default)]
pub(super) struct Plan {
    /// So many of the pending requests can be answered.
    pub(super) ready: usize,
    /// What watches that are set again have missed.
    pub(super) missed: Vec<(EventType, String)>,
    /// Whether another look may find more to do: so whenever there is something to say that could show the state.
    pub(super) has_moved: bool,
}

/// Finds out what can be done, and sets the watches that go with it. Of reads so many as what they find has about `room` for,
/// bytes: what is planned is answered from this root, so it cannot wait until the client has taken some of it.
pub(super) fn plan(
    pending: &mut VecDeque<Pending>,
    inbox: &Inbox,
    root: &Tree,
    asker: Asker<'_>,
    watches: &mut OwnWatches<'_>,
    mut room: usize,
) -> Plan {
    let count = pending.len();
    let mut answers = inbox.answers.len();
    let mut reads = 0;
    let mut ready = 0;
    for one in pending.iter_mut() {
        match &mut one.task {
            Task::Write { op: None, .. } if answers > 0 => answers -= 1,
            Task::Write { .. }
            | Task::Sync { is_passed: false, .. }
            | Task::Reconfig { outcome: None, .. } => break,
            // One that is too large for the room that there is goes alone.
            Task::Read(_) if reads >= ZK_READS_AT_ONCE || (reads > 0 && room == 0) => break,
            Task::Read(request) => {
                reads += 1;
                if ready + 1 < count {
                    room = room.saturating_sub(reads::size(root, asker.session, request));
                }
                let changed = reads::change_watches(request, watches);
                let refused = || reads::set_watch(root, asker, request, watches).err().map(Err);
                if let Some(outcome) = changed.or_else(refused) {
                    // What its watches have seen is told before what has become of them.
                    one.task = Task::Known { outcome, at: root.zxid() };
                }
            }
            // It is looked at when nothing is before it, so that what it missed comes right before its reply.
            Task::Rearm(rearm) if ready == 0 => {
                let part = rearm.next(root, asker.authority, watches, ZK_REARMED_AT_ONCE);
                let (missed, is_all) = match part {
                    Ok(part) => (part.missed, part.is_all),
                    Err(_) => {
                        one.task = Task::Last(errors::SYSTEM_ERROR);
                        (Vec::new(), true)
                    }
                };
                let ready = usize::from(is_all && missed.is_empty());
                return Plan { ready, missed, has_moved: true };
            }
            Task::Rearm(_) => break,
            Task::Sync { .. } | Task::Reconfig { .. } | Task::Known { .. } | Task::Last(_) => {}
        }
        ready += 1;
    }
    Plan { ready, missed: Vec::new(), has_moved: ready > 0 }
}
