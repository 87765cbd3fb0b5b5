use std::collections::{BTreeMap, BTreeSet};

use crate::types::SessionId;

/// The deadlines of all sessions, in buckets of one tick. The leader alone has one. All times are ms of the
/// leader's monotonic clock. Source: ZooKeeper `ExpiryQueue`.
///
/// Every session is in exactly one bucket, the one of its entry, and there are no empty buckets.
#[derive(Debug)]
pub struct ExpiryQueue {
    tick_ms: u64,
    retry_after_ms: u64,
    /// In which the deadlines last began anew.
    term: Option<u64>,
    sessions: BTreeMap<SessionId, Entry>,
    buckets: BTreeMap<u64, BTreeSet<SessionId>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    timeout_ms: u32,
    /// The bucket: when the session expires, or when it is named again if it is being closed.
    due_ms: u64,
    /// It has been named by `expired` and not been heard of since.
    is_closing: bool,
    /// It was being closed when its deadline began anew in the same term, and it has not been heard of since.
    is_ending: bool,
    /// Its end was put off, and it has not been heard of since.
    is_held: bool,
    /// Whatever is found out about it, it is not due earlier: its full timeout from when the deadlines last began anew.
    floor_ms: u64,
}

impl Entry {
    fn new(timeout_ms: u32, due_ms: u64) -> Entry {
        Entry {
            timeout_ms,
            due_ms,
            is_closing: false,
            is_ending: false,
            is_held: false,
            floor_ms: 0,
        }
    }
}

impl ExpiryQueue {
    /// Returns an empty queue. Deadlines are multiples of `tick_ms` (at least 1). A session that was named by
    /// [`ExpiryQueue::expired`] is named again after `retry_after_ms` if it is still here.
    pub fn new(tick_ms: u64, retry_after_ms: u64) -> ExpiryQueue {
        ExpiryQueue {
            tick_ms: tick_ms.max(1),
            retry_after_ms,
            term: None,
            sessions: BTreeMap::new(),
            buckets: BTreeMap::new(),
        }
    }

    /// Returns the number of sessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Returns whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Returns when the next session is due, if there is one: [`ExpiryQueue::expired`] yields nothing before.
    pub fn next_deadline(&self) -> Option<u64> {
        self.buckets.keys().next().copied()
    }

    /// Yields each deadline with the sessions that are due at it, the earliest first.
    pub fn deadlines(&self) -> impl Iterator<Item = (u64, &BTreeSet<SessionId>)> {
        self.buckets.iter().map(|(due_ms, sessions)| (*due_ms, sessions))
    }

    /// Enters a session that has just been opened, or found in the tree, with its full timeout. A session
    /// that is here already is touched: it has another owner, and what would have ended it counts no more. Cost:
    /// O(log sessions).
    pub fn insert(&mut self, session: SessionId, timeout_ms: u32, now_ms: u64) {
        if !self.touch(session, timeout_ms, now_ms) {
            let due_ms = self.deadline(timeout_ms, now_ms);
            self.sessions.insert(session, Entry::new(timeout_ms, due_ms));
            self.buckets.entry(due_ms).or_default().insert(session);
        }
    }

    /// Gives a session that was heard of its full timeout from now, which is `timeout_ms` henceforth. A
    /// deadline never becomes earlier by that, not even by a shorter timeout. Returns whether the session is known.
    /// Cost: O(log sessions).
    pub fn touch(&mut self, session: SessionId, timeout_ms: u32, now_ms: u64) -> bool {
        let deadline_ms = self.deadline(timeout_ms, now_ms);
        let Some(entry) = self.sessions.get_mut(&session) else { return false };
        let before = *entry;
        *entry = before.heard_of(timeout_ms, deadline_ms);
        let due_ms = entry.due_ms;
        self.rebucket(session, before.due_ms, due_ms);
        true
    }

    /// Leaves a session only this much time from now, if it had more: its connection has ended, and by a policy that means
    /// that its process has. Being heard of again gives it its full timeout. Returns whether the session is known and not
    /// being closed. Cost: O(log sessions).
    pub fn hasten(&mut self, session: SessionId, grace_ms: u32, now_ms: u64) -> bool {
        let hastened_ms = self.deadline(grace_ms, now_ms);
        let Some(entry) = self.sessions.get_mut(&session).filter(|entry| !entry.ends()) else {
            return false;
        };
        let before_ms = entry.due_ms;
        entry.due_ms = before_ms.min(hastened_ms);
        let due_ms = entry.due_ms;
        self.rebucket(session, before_ms, due_ms);
        true
    }

    /// Puts off the end of a session until this time, unless it is heard of: then it has its full timeout again. Returns
    /// whether it is known. Cost: O(log sessions).
    pub fn hold(&mut self, session: SessionId, until_ms: u64) -> bool {
        let until_ms = self.round_up(until_ms);
        let Some(entry) = self.sessions.get_mut(&session) else { return false };
        let before_ms = entry.due_ms;
        *entry = Entry {
            due_ms: until_ms,
            is_closing: false,
            is_ending: false,
            is_held: true,
            ..*entry
        };
        self.rebucket(session, before_ms, until_ms);
        true
    }

    /// Makes a session due whose end was put off, though not before the full timeout that it has had since the deadlines
    /// began anew: who renewed it under another leader may have been promised as much. Returns whether there is such a one
    /// that was not heard of since. Cost: O(log sessions).
    pub fn release(&mut self, session: SessionId, now_ms: u64) -> bool {
        let now_ms = self.round_up(now_ms);
        let is_waiting = |entry: &&mut Entry| entry.is_held && !entry.ends();
        let Some(entry) = self.sessions.get_mut(&session).filter(is_waiting) else { return false };
        let due_ms = now_ms.max(entry.floor_ms);
        let before_ms = std::mem::replace(&mut entry.due_ms, due_ms);
        self.rebucket(session, before_ms, due_ms);
        true
    }

    /// Ends the hold of a session of which it is noted no more that its end is put off: it has its full timeout from now. If
    /// its end is under way it still is. Returns whether it was held. Cost: O(log sessions).
    pub fn unhold(&mut self, session: SessionId, now_ms: u64) -> bool {
        let held = self.sessions.get(&session).copied().filter(|entry| entry.is_held);
        let Some(held) = held else { return false };
        self.touch(session, held.timeout_ms, now_ms);
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.is_ending = held.ends();
        }
        true
    }

    /// Returns whether a session's end was put off and it has not been heard of since.
    pub fn is_held(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|entry| entry.is_held)
    }

    /// Removes a session that was closed. Returns whether it was known. Cost: O(log sessions).
    pub fn remove(&mut self, session: SessionId) -> bool {
        let Some(entry) = self.sessions.remove(&session) else { return false };
        self.leave_bucket(session, entry.due_ms);
        true
    }

    /// Returns at most `max` sessions whose deadline is at or before `now_ms`, oldest bucket first and by id
    /// within it. They stay in the queue, as being closed, until they are removed or touched, and are not
    /// returned again for `retry_after_ms`. Cost: O(expired · log sessions). Source: ZooKeeper
    /// `ExpiryQueue.poll`.
    pub fn expired(&mut self, now_ms: u64, max: usize) -> Vec<SessionId> {
        let due = self.buckets.range(..=now_ms).flat_map(|(_, sessions)| sessions);
        let expired: Vec<SessionId> = due.take(max).copied().collect();
        // At least one tick ahead, or a caller that loops until nothing is returned would never end.
        let again_ms = self.round_up(now_ms.saturating_add(self.retry_after_ms.max(1)));
        for session in &expired {
            let Some(entry) = self.sessions.get_mut(session) else { continue };
            let before_ms = std::mem::replace(&mut entry.due_ms, again_ms);
            entry.is_closing = true;
            self.rebucket(*session, before_ms, again_ms);
        }
        expired
    }

    /// Returns whether a session has been named by [`ExpiryQueue::expired`] and not been touched since: its end is under
    /// way, so nobody may be told that it lives.
    pub fn is_closing(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(Entry::ends)
    }

    /// Forgets all sessions.
    pub fn clear(&mut self) {
        self.buckets.clear();
        self.sessions.clear();
    }

    /// Gives every session its full timeout from now, in this term, also those that are being closed. Of the same term as at
    /// the last time those still are: what was proposed in it may be on its way and counts. Of another term they are not:
    /// none of that counts any more. One whose end was put off is due no earlier for that, and still not heard of. Cost:
    /// O(sessions · log sessions).
    pub fn restart_all(&mut self, now_ms: u64, term: u64) {
        let counts = self.term.replace(term) == Some(term);
        let (tick_ms, mut buckets) = (self.tick_ms, BTreeMap::<u64, BTreeSet<SessionId>>::new());
        for (session, entry) in &mut self.sessions {
            let deadline_ms = deadline(tick_ms, entry.timeout_ms, now_ms);
            let is_ending = entry.ends() && counts;
            *entry = Entry { is_ending, ..entry.renewed(entry.timeout_ms, deadline_ms) };
            entry.floor_ms = deadline_ms;
            buckets.entry(entry.due_ms).or_default().insert(*session);
        }
        self.buckets = buckets;
    }

    fn deadline(&self, timeout_ms: u32, now_ms: u64) -> u64 {
        deadline(self.tick_ms, timeout_ms, now_ms)
    }

    fn round_up(&self, time_ms: u64) -> u64 {
        round_up(self.tick_ms, time_ms)
    }

    fn rebucket(&mut self, session: SessionId, from_ms: u64, to_ms: u64) {
        if from_ms != to_ms {
            self.leave_bucket(session, from_ms);
            self.buckets.entry(to_ms).or_default().insert(session);
        }
    }

    fn leave_bucket(&mut self, session: SessionId, due_ms: u64) {
        let Some(bucket) = self.buckets.get_mut(&due_ms) else { return };
        bucket.remove(&session);
        if bucket.is_empty() {
            self.buckets.remove(&due_ms);
        }
    }
}

impl Entry {
    /// Returns whether its end is under way.
    fn ends(&self) -> bool {
        self.is_closing || self.is_ending
    }

    /// Returns the entry with a deadline that is not earlier than the one it had. The time at which a closing
    /// session would have been named again is not such a deadline.
    fn renewed(self, timeout_ms: u32, deadline_ms: u64) -> Entry {
        let due_ms = if self.is_closing { deadline_ms } else { deadline_ms.max(self.due_ms) };
        Entry { timeout_ms, due_ms, is_closing: false, is_ending: false, ..self }
    }

    /// As [`Entry::renewed`], of a session that was heard of: nor is the time to which its end was put off.
    fn heard_of(self, timeout_ms: u32, deadline_ms: u64) -> Entry {
        let is_waiting = self.is_closing || self.is_held;
        let entry = Entry { is_closing: is_waiting, is_held: false, ..self };
        entry.renewed(timeout_ms, deadline_ms)
    }
}

fn deadline(tick_ms: u64, timeout_ms: u32, now_ms: u64) -> u64 {
    round_up(tick_ms, now_ms.saturating_add(u64::from(timeout_ms)))
}

/// Returns the first multiple of the tick at or after a time. A time that has none, some 580 million years
/// on, is never.
fn round_up(tick_ms: u64, time_ms: u64) -> u64 {
    time_ms.checked_next_multiple_of(tick_ms).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S1: SessionId = SessionId(1);
    const S2: SessionId = SessionId(2);
    const S3: SessionId = SessionId(3);

    /// The first ms in the range at which a session is named.
    fn first_expiry(queue: &mut ExpiryQueue, times: std::ops::Range<u64>) -> Option<u64> {
        times.into_iter().find(|now_ms| !queue.expired(*now_ms, 1).is_empty())
    }

    #[test]
    fn never_early_and_late_by_at_most_one_tick() {
        for heard_ms in 0..250 {
            let mut queue = ExpiryQueue::new(100, 1_000);
            queue.insert(S1, 1_030, heard_ms);
            let expired_ms = first_expiry(&mut queue, 0..3_000).unwrap();
            let due_ms = heard_ms + 1_030;
            assert!(
                (due_ms..due_ms + 100).contains(&expired_ms),
                "heard {heard_ms}, expired {expired_ms}"
            );
        }
    }

    #[test]
    fn a_touch_gives_the_full_timeout_again() {
        let mut queue = ExpiryQueue::new(100, 1_000);
        queue.insert(S1, 1_000, 0);
        assert!(queue.touch(S1, 1_000, 999));
        assert_eq!(queue.next_deadline(), Some(2_000));
        assert_eq!(first_expiry(&mut queue, 0..3_000), Some(2_000));
        assert!(!queue.touch(S2, 1_000, 0), "an unknown session stays unknown");
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_deadline_never_becomes_earlier() {
        let mut queue = ExpiryQueue::new(100, 1_000);
        queue.insert(S1, 9_000, 0);
        queue.touch(S1, 1_000, 500);
        queue.insert(S1, 1_000, 600);
        queue.restart_all(700, 1);
        assert_eq!(queue.next_deadline(), Some(9_000));
        queue.restart_all(8_950, 1);
        assert_eq!(queue.next_deadline(), Some(10_000), "the new timeout counts from then on");
    }

    #[test]
    fn a_session_that_is_hastened_has_its_grace_unless_it_is_heard_of() {
        let mut queue = ExpiryQueue::new(100, 1_000);
        queue.insert(S1, 9_000, 0);
        queue.insert(S2, 500, 0);
        assert!(
            queue.hasten(S1, 1_000, 50) && queue.hasten(S2, 1_000, 50) && !queue.hasten(S3, 1, 0)
        );
        assert_eq!(queue.expired(600, 9), [S2], "no grace lengthens a timeout");
        assert!(!queue.hasten(S2, 1, 600), "it is being closed");
        assert_eq!(first_expiry(&mut queue, 600..3_000), Some(1_100));
        assert!(queue.remove(S1) && queue.remove(S2));
        queue.insert(S3, 5_000, 0);
        queue.hasten(S3, 1_000, 2_000);
        queue.touch(S3, 5_000, 2_500);
        assert_eq!(first_expiry(&mut queue, 7_400..9_000), Some(7_500), "heard of again");
    }

    #[test]
    fn the_longest_silent_expire_first_and_at_most_so_many() {
        let mut queue = ExpiryQueue::new(100, 1_000);
        queue.insert(S3, 1_000, 0);
        queue.insert(S2, 1_000, 200);
        queue.insert(S1, 1_000, 190);
        assert_eq!(queue.expired(1_199, 9), [S3]);
        queue.insert(SessionId(4), 1_000, 0);
        assert_eq!(queue.expired(1_200, 2), [SessionId(4), S1]);
        assert_eq!(queue.expired(1_200, 2), [S2]);
        assert_eq!(queue.expired(1_200, 2), []);
    }

    #[test]
    fn a_closing_session_is_named_again_only_after_a_while() {
        let mut queue = ExpiryQueue::new(100, 1_000);
        queue.insert(S1, 5_000, 0);
        assert_eq!(queue.expired(5_000, 9), [S1]);
        assert_eq!(first_expiry(&mut queue, 5_000..9_000), Some(6_000));
        assert!(queue.remove(S1) && !queue.remove(S1));
        assert_eq!((queue.next_deadline(), queue.is_empty()), (None, true));
    }

    #[test]
    fn a_closing_session_that_is_heard_of_has_its_own_timeout_again() {
        let mut queue = ExpiryQueue::new(100, 60_000);
        queue.insert(S1, 1_000, 0);
        assert_eq!(queue.expired(1_000, 9), [S1]);
        queue.touch(S1, 1_000, 1_050);
        assert_eq!(queue.next_deadline(), Some(2_100), "not the minute until the next attempt");
    }

    #[test]
    fn a_session_whose_end_is_put_off_is_named_again_then_unless_it_is_heard_of() {
        let mut queue = ExpiryQueue::new(100, 60_000);
        queue.insert(S1, 1_000, 0);
        queue.insert(S2, 1_000, 0);
        assert!(!queue.is_held(S1) && !queue.release(S1, 0) && !queue.hold(S3, 9_000));
        assert_eq!(queue.expired(1_000, 9), [S1, S2]);
        assert!(queue.hold(S1, 9_000) && queue.hold(S2, 9_000));
        assert!(queue.is_held(S1) && !queue.is_closing(S1));
        assert!(queue.touch(S1, 1_000, 2_000));
        assert!(!queue.is_held(S1) && !queue.release(S1, 2_000), "it is as any other again");
        // A new leader does not take its own beginning for a word of theirs.
        queue.restart_all(2_500, 1);
        assert!(queue.is_held(S2));
        assert_eq!((queue.expired(3_500, 9), queue.expired(8_999, 9)), (vec![S1], vec![]));
        assert_eq!(queue.expired(9_000, 9), [S2]);
        assert!(queue.hold(S2, 20_000) && queue.release(S2, 9_050));
        assert_eq!((queue.expired(9_099, 9), queue.expired(9_100, 9)), (vec![], vec![S2]));
    }

    #[test]
    fn expired_without_a_pause_between_attempts_still_comes_to_an_end() {
        let mut queue = ExpiryQueue::new(100, 0);
        queue.insert(S1, 1_000, 0);
        assert_eq!(queue.expired(1_000, 9), [S1]);
        assert_eq!(queue.expired(1_000, 9), []);
    }

    #[test]
    fn after_a_restart_every_session_has_its_full_timeout() {
        let mut queue = ExpiryQueue::new(100, 60_000);
        queue.insert(S1, 1_000, 0);
        queue.insert(S2, 4_000, 0);
        assert_eq!(queue.expired(1_000, 9), [S1]);
        queue.restart_all(3_950, 1);
        assert_eq!(queue.next_deadline(), Some(5_000));
        assert_eq!((queue.expired(4_999, 9), queue.expired(5_000, 9)), (vec![], vec![S1]));
        assert_eq!((queue.expired(7_999, 9), queue.expired(8_000, 9)), (vec![], vec![S2]));
    }

    #[test]
    fn whose_end_is_under_way_is_not_said_to_live_before_another_term_begins() {
        let mut queue = ExpiryQueue::new(100, 1_000);
        queue.insert(S1, 1_000, 0);
        queue.insert(S2, 9_000, 0);
        queue.restart_all(0, 1);
        assert_eq!(queue.expired(1_000, 9), [S1]);
        queue.restart_all(1_500, 1);
        assert!(queue.is_closing(S1) && !queue.is_closing(S2));
        assert_eq!((queue.expired(2_499, 9), queue.expired(2_500, 9)), (vec![], vec![S1]));
        queue.restart_all(2_600, 2);
        assert!(!queue.is_closing(S1), "what was proposed in another term does not count");
    }

    #[test]
    fn a_hold_that_ends_after_the_deadlines_began_anew_leaves_the_full_timeout_from_then() {
        let mut queue = ExpiryQueue::new(100, 1_000);
        queue.insert(S1, 1_000, 0);
        queue.hold(S1, 60_000);
        queue.restart_all(5_000, 1);
        assert!(queue.release(S1, 5_100));
        assert_eq!(first_expiry(&mut queue, 5_100..9_000), Some(6_000));
        // Named, held again, and released in the same leadership: due at once.
        queue.hold(S1, 60_000);
        assert!(queue.release(S1, 7_000));
        assert_eq!(queue.expired(7_000, 9), [S1]);
    }

    #[test]
    fn who_is_not_held_any_more_has_its_full_timeout_and_nothing_of_the_hold() {
        let mut queue = ExpiryQueue::new(100, 1_000);
        queue.insert(S1, 1_000, 0);
        assert!(!queue.unhold(S1, 500), "it is not held");
        queue.hold(S1, 60_000);
        assert!(queue.unhold(S1, 2_000) && !queue.is_held(S1) && !queue.unhold(S2, 0));
        assert_eq!(queue.next_deadline(), Some(3_000));
        // Its hold is over and its end proposed when the note goes: that may come in the log behind it.
        queue.hold(S1, 5_000);
        assert_eq!(queue.expired(5_000, 9), [S1]);
        assert!(queue.unhold(S1, 5_100) && queue.is_closing(S1) && !queue.is_held(S1));
    }

    #[test]
    fn times_at_the_end_of_the_range_do_not_overflow() {
        let mut queue = ExpiryQueue::new(100, u64::MAX);
        queue.insert(S1, u32::MAX, u64::MAX - 1);
        assert_eq!(queue.next_deadline(), Some(u64::MAX));
        assert_eq!(queue.expired(u64::MAX - 1, 9), []);
    }
}
