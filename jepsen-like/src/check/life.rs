//! What a registry was told of each provider, and what it promised by its answers.

use std::collections::BTreeMap;

use super::registry::{CURVE_STEP_US, Frame};
use crate::history::registry::{Answered, Asked, End, Event, Noted};

/// One provider's life.
#[derive(Default)]
pub(super) struct Life {
    pub(super) up_us: Option<u64>,
    pub(super) down: Option<(u64, End)>,
    /// Acknowledged registrations and renewals: sent, acknowledged.
    kept: Vec<(u64, u64)>,
    /// Answered pings, likewise.
    pinged: Vec<(u64, u64)>,
    /// First acknowledged registration.
    pub(super) registered_us: Option<u64>,
    /// When a deregistration was first sent, and when one was acknowledged.
    leaving_us: Option<u64>,
    pub(super) left_us: Option<u64>,
    /// When it was first sent that its id be freed, without hearing what came of that.
    freed_us: Option<u64>,
}

impl Life {
    /// Returns whether it answers calls.
    pub(super) fn works(&self, at_us: u64) -> bool {
        self.up_us.is_some_and(|up| up <= at_us) && self.down.is_none_or(|(down, _)| at_us < down)
    }

    /// Returns whether the registry has promised that it is listed at this moment.
    pub(super) fn must_be_listed(&self, at_us: u64, frame: &Frame) -> bool {
        let is_now = is_within(at_us, frame.timeout_us);
        let calm_us = frame.healed_us.saturating_add(2 * frame.timeout_us);
        let is_ping = |ping: &(u64, u64)| ping.0 >= calm_us && is_now(ping);
        self.is_member(at_us) && (self.kept.iter().any(&is_now) || self.pinged.iter().any(is_ping))
    }

    /// Returns whether it works and is registered, as far as anybody can know who does not ask about its session.
    fn is_member(&self, at_us: u64) -> bool {
        self.works(at_us)
            && self.registered_us.is_some_and(|registered| registered <= at_us)
            && self.leaving_us.is_none_or(|leaving| at_us < leaving)
            && self.freed_us.is_none_or(|freed| at_us < freed)
    }

    /// Returns whether it had to be listed for a whole timeout before the end: long enough for everybody to hear of it.
    pub(super) fn must_be_listed_at_the_end(&self, frame: &Frame) -> bool {
        let from_us = frame.end_us.saturating_sub(frame.timeout_us);
        let mut moments = (from_us..=frame.end_us).step_by(CURVE_STEP_US as usize);
        moments.all(|at_us| self.must_be_listed(at_us, frame))
    }
}

/// Returns whether a request that was sent and acknowledged at such times promises something for a moment.
fn is_within(at_us: u64, timeout_us: u64) -> impl Fn(&(u64, u64)) -> bool {
    move |&(sent, acknowledged)| acknowledged <= at_us && at_us < sent.saturating_add(timeout_us)
}

/// All of them, by their ids.
pub(super) type Lives = BTreeMap<String, Life>;

/// Returns the lives of all providers of a run.
pub(super) fn lives(events: &[Noted]) -> Lives {
    let mut lives = Lives::new();
    for Noted { at_us, what } in events {
        match what {
            Event::Up { provider } => {
                lives.entry(provider.clone()).or_default().up_us = Some(*at_us);
            }
            Event::Down { provider, end } => {
                let life = lives.entry(provider.clone()).or_default();
                life.down = life.down.or(Some((*at_us, *end)));
            }
            Event::Asked { what, provider, start_us, result, .. } if !provider.is_empty() => {
                let life = lives.entry(provider.clone()).or_default();
                let is_done = *result == Answered::Ok;
                match what {
                    Asked::Register if is_done => {
                        life.registered_us = life.registered_us.or(Some(*at_us));
                        life.kept.push((*start_us, *at_us));
                    }
                    Asked::Renew if is_done => life.kept.push((*start_us, *at_us)),
                    Asked::Ping if is_done => life.pinged.push((*start_us, *at_us)),
                    Asked::Free if *result == Answered::Unknown => {
                        life.freed_us = life.freed_us.or(Some(*start_us));
                    }
                    Asked::Deregister => {
                        life.leaving_us = life.leaving_us.or(Some(*start_us));
                        life.left_us = life.left_us.or(is_done.then_some(*at_us));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    lives
}
