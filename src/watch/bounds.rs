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
        }
    }
}
