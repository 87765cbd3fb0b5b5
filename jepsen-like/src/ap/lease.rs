//! Who has been heard of, and when. Time is passed in.

use std::collections::BTreeMap;

/// A session as one node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    timeout_ms: u64,
    heard_ms: u64,
    /// Whether its client was heard here since the last [`Leases::take_direct`].
    is_direct: bool,
}

/// All sessions of which a node has heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    leases: BTreeMap<String, Lease>,
}

impl Leases {
    /// Notes that the client of a session was heard here.
    pub(super) fn hear(&mut self, session: &str, timeout_ms: u64, now_ms: u64) {
        let lease = Lease { timeout_ms, heard_ms: now_ms, is_direct: true };
        self.leases.insert(session.to_owned(), lease);
    }

    /// Notes that it was heard elsewhere, so long ago. Never takes back what is known better.
    pub(super) fn hear_of(&mut self, session: &str, timeout_ms: u64, ago_ms: u64, now_ms: u64) {
        let heard_ms = now_ms.saturating_sub(ago_ms);
        let lease = self.leases.entry(session.to_owned());
        let lease = lease.or_insert(Lease { timeout_ms, heard_ms, is_direct: false });
        lease.heard_ms = lease.heard_ms.max(heard_ms);
    }

    /// Returns the timeout of a session that has not run out, ms.
    pub(super) fn timeout_ms(&self, session: &str, now_ms: u64) -> Option<u64> {
        let lease = self.leases.get(session)?;
        (now_ms < lease.heard_ms.saturating_add(lease.timeout_ms)).then_some(lease.timeout_ms)
    }

    /// Returns whether a session has not run out.
    pub(super) fn is_alive(&self, session: &str, now_ms: u64) -> bool {
        self.timeout_ms(session, now_ms).is_some()
    }

    /// Returns how long ago a session was heard of, ms.
    pub(super) fn ago_ms(&self, session: &str, now_ms: u64) -> u64 {
        self.leases.get(session).map_or(u64::MAX, |lease| now_ms.saturating_sub(lease.heard_ms))
    }

    /// Returns the sessions whose clients were heard here since the last call: what the other nodes have to be told.
    pub(super) fn take_direct(&mut self) -> Vec<(String, u64)> {
        let mut direct = Vec::new();
        for (session, lease) in &mut self.leases {
            if std::mem::take(&mut lease.is_direct) {
                direct.push((session.clone(), lease.timeout_ms));
            }
        }
        direct
    }

    pub(super) fn end(&mut self, session: &str) {
        self.leases.remove(session);
    }

    /// Forgets sessions that have run out and that nobody asks for.
    pub(super) fn collect(&mut self, now_ms: u64, is_needed: impl Fn(&str) -> bool) {
        self.leases.retain(|session, lease| {
            now_ms < lease.heard_ms.saturating_add(lease.timeout_ms) || is_needed(session)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Leases;

    #[test]
    fn a_lease_lasts_its_timeout_from_the_latest_word_of_it() {
        let mut leases = Leases::default();
        leases.hear("a", 100, 1_000);
        leases.hear_of("a", 100, 50, 1_000);
        assert!(leases.is_alive("a", 1_099) && !leases.is_alive("a", 1_100));
        leases.hear_of("a", 100, 10, 1_110);
        assert!(leases.is_alive("a", 1_199));
        assert!(!leases.is_alive("b", 0));
    }

    #[test]
    fn what_was_heard_here_is_told_once_and_what_was_heard_of_never() {
        let mut leases = Leases::default();
        leases.hear("a", 100, 1_000);
        leases.hear_of("b", 100, 0, 1_000);
        assert_eq!(leases.take_direct(), [("a".to_owned(), 100)]);
        assert!(leases.take_direct().is_empty());
        leases.collect(1_100, |session| session == "b");
        assert_eq!((leases.ago_ms("a", 1_100), leases.ago_ms("b", 1_100)), (u64::MAX, 100));
    }
}
