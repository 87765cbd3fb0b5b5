use crate::limits;

/// What a hub may hold. The default is the product's; tests use less.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// See [`limits::RING_TXNS_MAX`].
    pub ring_txns_max: usize,
    /// See [`limits::RING_BYTES_MAX`].
    pub ring_bytes_max: usize,
    /// See [`limits::MAILBOX_MESSAGES_MAX`].
    pub mailbox_messages_max: usize,
    /// See [`limits::MAILBOX_MESSAGES_TOTAL_MAX`].
    pub mailbox_messages_total_max: usize,
    /// See [`limits::FILTERS_PER_SUBSCRIPTION_MAX`].
    pub filters_per_subscription_max: usize,
    /// See [`limits::FILTERS_MAX`].
    pub filters_max: usize,
    /// See [`limits::SUBSCRIPTIONS_MAX`].
    pub subscriptions_max: usize,
    /// See [`limits::RESUME_EVENTS_PER_STEP`].
    pub resume_events_per_step: usize,
    /// See [`limits::WATCHES_MAX`].
    pub watches_max: usize,
    /// See [`limits::WATCHES_PER_LINE_MAX`].
    pub watches_per_line_max: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            ring_txns_max: limits::RING_TXNS_MAX,
            ring_bytes_max: limits::RING_BYTES_MAX,
            mailbox_messages_max: limits::MAILBOX_MESSAGES_MAX,
            mailbox_messages_total_max: limits::MAILBOX_MESSAGES_TOTAL_MAX,
            filters_per_subscription_max: limits::FILTERS_PER_SUBSCRIPTION_MAX,
            filters_max: limits::FILTERS_MAX,
            subscriptions_max: limits::SUBSCRIPTIONS_MAX,
            resume_events_per_step: limits::RESUME_EVENTS_PER_STEP,
            watches_max: limits::WATCHES_MAX,
            watches_per_line_max: limits::WATCHES_PER_LINE_MAX,
        }
    }
}

/// What the hub has done and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Subscribers now.
    pub subscriptions: usize,
    /// Their filters.
    pub filters: usize,
    /// Those that are held back.
    pub held: usize,
    /// Messages in all mailboxes.
    pub pending: usize,
    /// Changes in the ring.
    pub ring_changes: usize,
    /// Their bytes, about.
    pub ring_bytes: usize,
    /// Transactions with events that were published, since the start.
    pub published: u64,
    /// Messages that were taken, since the start.
    pub delivered: u64,
    /// Times a subscriber got lost because it was too slow, since the start.
    pub overflows: u64,
}
