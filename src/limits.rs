//! Every bound of the product, in one place, with what happens at it.
//!
//! A bound that a request meets is answered (400, 413, 429 and the like); a bound that a subscriber meets turns into a
//! `reset`; a bound that a peer breaks closes the connection. Nothing grows without one.

/// Length of a path, bytes. Beyond: `bad_arguments`.
pub const PATH_BYTES_MAX: usize = 4096;
/// Data of one znode, bytes (ZooKeeper's jute.maxbuffer less headers). Beyond: 413.
pub const DATA_BYTES_MAX: usize = 1_048_000;
/// Body of an HTTP request, bytes: a full znode as base64 in JSON, or a large multi. Beyond: 413.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Ops in one multi. Beyond: 400.
pub const MULTI_OPS_MAX: usize = 10_000;
/// Rules in one access control list. Beyond: `invalid_acl`.
pub const ACL_RULES_MAX: usize = 128;
/// One encoded transaction, bytes. Beyond: 413.
pub const TXN_BYTES_MAX: usize = 6 << 20;
/// Length of an idempotency key, bytes. Beyond: 400.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
/// Results kept for idempotency keys, over all sessions; the oldest go first.
pub const IDEMPOTENCY_RESULTS_MAX: usize = 65_536;
/// Live sessions in the cluster. Beyond: 429.
pub const SESSIONS_MAX: usize = 1_000_000;
/// Session timeouts, ms, shortest and longest; a wish outside is moved to the nearest.
pub const SESSION_TIMEOUT_MS_MIN: u32 = 1_000;
/// See [`SESSION_TIMEOUT_MS_MIN`].
pub const SESSION_TIMEOUT_MS_MAX: u32 = 600_000;
/// Longest TTL of a znode, ms. Source: ZooKeeper `EphemeralType.TTL`.
pub const TTL_MS_MAX: u64 = (1 << 40) - 1;

/// Transactions of this node that are not applied yet. Beyond: 429.
pub const OUTBOX_TXNS_MAX: usize = 16_384;
/// Their bytes. Beyond: 429.
pub const OUTBOX_BYTES_MAX: usize = 64 << 20;
/// Transactions in one Raft entry.
pub const BATCH_TXNS_MAX: usize = 1024;
/// Bytes of transactions in one Raft entry; a single larger transaction goes alone.
pub const BATCH_BYTES_MAX: usize = 40 << 10;
/// Raft entries that the leader's batcher keeps in flight: more means smaller batches, fewer means waiting for the disk.
pub const BATCHES_IN_FLIGHT_MAX: usize = 4;

/// One frame between nodes, bytes. Beyond: the connection is closed.
pub const PEER_FRAME_BYTES_MAX: usize = 16 << 20;
/// Requests in flight on one peer connection. Beyond: the sender waits.
pub const PEER_IN_FLIGHT_MAX: usize = 256;
/// Inbound peer connections. Beyond: closed at accept.
pub const PEER_CONNECTIONS_MAX: usize = 1024;

/// Recent changes kept for resuming watch streams, transactions. Older ones turn a resume into a `reset`.
pub const RING_TXNS_MAX: usize = 65_536;
/// Their bytes.
pub const RING_BYTES_MAX: usize = 64 << 20;
/// Messages waiting for one slow subscriber. Beyond: they are dropped and the subscriber gets a `reset`.
pub const MAILBOX_MESSAGES_MAX: usize = 4096;
/// Paths watched by one subscription. Beyond: 400.
pub const FILTERS_PER_SUBSCRIPTION_MAX: usize = 1024;
/// Subscriptions of one node. Beyond: 429.
pub const SUBSCRIPTIONS_MAX: usize = 100_000;
/// Children in one page of a list.
pub const PAGE_CHILDREN_MAX: usize = 10_000;
/// HTTP requests that one node works on at once. Beyond: 429.
pub const HTTP_REQUESTS_MAX: usize = 16_384;

/// One message of a watch stream that the client takes, bytes: a snapshot of a large subtree. Beyond: the stream is given
/// up with an error.
pub const SSE_MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A value in sled, bytes: larger ones would become blob files, which sled never syncs.
pub const STORE_VALUE_BYTES_MAX: usize = 48 << 10;
/// Log entries kept in memory for followers and apply, bytes; older ones are read from the store.
pub const LOG_CACHE_BYTES_MAX: usize = 64 << 20;

const _: () =
    assert!(TXN_BYTES_MAX > BODY_BYTES_MAX, "a body that was accepted must fit into a transaction");
const _: () = assert!(
    PEER_FRAME_BYTES_MAX > 2 * TXN_BYTES_MAX,
    "a forwarded transaction must fit into a frame"
);
const _: () =
    assert!(OUTBOX_BYTES_MAX > TXN_BYTES_MAX, "the largest transaction must be accepted when idle");
const _: () =
    assert!(BATCH_BYTES_MAX < STORE_VALUE_BYTES_MAX, "an ordinary batch is one chunk of the log");
const _: () = assert!(
    DATA_BYTES_MAX * 4 / 3 + 4096 < BODY_BYTES_MAX,
    "a full znode must fit into JSON as base64"
);
