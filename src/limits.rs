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
/// Body of an HTTP request that is refused for its length and still received, so that the client gets to read the
/// answer, bytes. Beyond: the connection is closed.
pub const BODY_BYTES_DRAINED_MAX: usize = 16 << 20;
/// Ops in one multi. Beyond: 400.
pub const MULTI_OPS_MAX: usize = 10_000;
/// Data of one policy, bytes. Beyond: 400.
pub const POLICY_BYTES_MAX: usize = 64 << 10;
/// Layouts that policies describe. Beyond: those later by name are as if they were not there.
pub const LAYOUTS_MAX: usize = 64;
/// Applications that one mapping of an interface names. Beyond: those later by name are passed over.
pub const MAPPED_APPLICATIONS_MAX: usize = 256;
/// Znodes that a test of a policy looks at. Beyond: the answer says that there are more.
pub const POLICY_TEST_ZNODES_MAX: usize = 100_000;
/// Longest window of a policy of removal, s: also the most losses that are told apart for one service, one per second. Beyond: 400.
pub const PROTECTION_WINDOW_S_MAX: u64 = 3_600;
/// Longest hold of a policy of removal, s. Beyond: 400.
pub const PROTECTION_HOLD_S_MAX: u64 = 86_400;
/// Sessions whose end is put off that the leader looks at in one go, twice a second; the rest follow.
pub const SUSPECTS_PER_LOOK_MAX: usize = 1_000;
/// Ephemerals of such sessions that it reads in one go; the rest follow.
pub const SUSPECT_EPHEMERALS_PER_LOOK_MAX: usize = 5_000;
/// How long an answer to a probe of a silent provider may take, ms, shortest and longest. Beyond: the policy is refused.
pub const PROBE_TIMEOUT_MS_MIN: u64 = 20;
/// See [`PROBE_TIMEOUT_MS_MIN`].
pub const PROBE_TIMEOUT_MS_MAX: u64 = 10_000;
/// Networks that a policy of probes names. Beyond: 400.
pub const PROBE_NETWORKS_MAX: usize = 64;
/// Addresses of one session that are probed; with more, refusals do not end it.
pub const PROBED_ADDRESSES_MAX: usize = 16;
/// Silent sessions that the leader asks about at the same time. Beyond: they wait for each other.
pub const SESSIONS_PROBED_AT_ONCE_MAX: usize = 256;
/// Silent sessions that the leader is asking about. Beyond: their silence is believed.
pub const PROBED_SESSIONS_MAX: usize = 8_192;
/// Time between two probes of an instance that is asked all the time, ms, shortest and longest. Beyond: the policy is refused.
pub const PROBE_INTERVAL_MS_MIN: u64 = 200;
/// See [`PROBE_INTERVAL_MS_MIN`].
pub const PROBE_INTERVAL_MS_MAX: u64 = 600_000;
/// Probes in a row that make an instance healthy or unhealthy, at most. Beyond: the policy is refused.
pub const PROBE_ROW_MAX: u64 = 10;
/// Instances that the leader asks all the time. Beyond: the others are not asked, and its log says so.
pub const INSTANCES_PROBED_MAX: usize = 20_000;
/// Znodes that it walks in search of them at one look. Beyond: as with too many instances.
pub const INSTANCES_SOUGHT_MAX: usize = 200_000;
/// Instances that it asks at the same time. Beyond: they wait for each other.
pub const INSTANCES_PROBED_AT_ONCE_MAX: usize = 256;
/// Instances of which nobody asks any more that it notes as healthy in one go; the rest follow.
pub const FINDINGS_DROPPED_AT_ONCE_MAX: usize = 1_000;
/// Sessions whose end one request confirms. Beyond: the answer says that there are more.
pub const CONFIRMS_PER_REQUEST_MAX: usize = 1_000;
/// Rules in one access control list. Beyond: `invalid_acl`.
pub const ACL_RULES_MAX: usize = 128;
/// Length of the scheme and of the name in one rule, bytes each. Beyond: `invalid_acl`.
pub const ACL_ID_BYTES_MAX: usize = 1024;
/// One encoded transaction, bytes. Beyond: 413.
pub const TXN_BYTES_MAX: usize = 6 << 20;
/// Length of an idempotency key, bytes: a client's 128 and two in which the HTTP door counts its own attempts. Beyond: 400.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 130;
/// Results kept for idempotency keys, over all sessions; the oldest go first.
pub const IDEMPOTENCY_RESULTS_MAX: usize = 65_536;
/// Their bytes, encoded; the oldest go first.
pub const IDEMPOTENCY_BYTES_MAX: usize = 64 << 20;
/// The greatest node id. Beyond, an origin is refused: `bad_arguments`.
pub const NODE_ID_MAX: u64 = 255;
/// Live sessions in the cluster. Beyond: 429.
pub const SESSIONS_MAX: usize = 1_000_000;
/// Znodes that one batch deregistration takes out. Beyond: 400.
pub const DEREGISTER_ZNODES_MAX: usize = 4_000;
/// Longest time for which what was deregistered is kept from coming back, ms. Beyond: 400.
pub const BLOCK_MS_MAX: u64 = 86_400_000;
/// Reason that somebody gives for what he does by hand, bytes. Beyond: 400.
pub const REASON_BYTES_MAX: usize = 1024;
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
pub const BATCH_BYTES_MAX: usize = 192 << 10;
/// Raft entries that the leader's batcher keeps in flight: more means smaller batches, fewer means waiting for the disk.
pub const BATCHES_IN_FLIGHT_MAX: usize = 2;
/// Chunks of transactions that wait for the leader's batcher, over all origins. Beyond: the origin's stream is not read.
pub const LANE_CHUNKS_MAX: usize = 256;
/// Transactions in one chunk from an origin.
pub const CHUNK_TXNS_MAX: usize = 256;
/// Bytes in one chunk from an origin; a single larger transaction goes alone.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Linearizable reads that wait for a read index. Beyond: 429.
pub const READ_WAITERS_MAX: usize = 65_536;
/// Renewals that wait for the leader's answer on one node. Beyond: 429.
pub const RENEWALS_MAX: usize = 262_144;
/// Connections that clients have ended and of which the leader is not told yet. Beyond: they are not told of, and their
/// sessions have their full timeout.
pub const LOST_CONNECTIONS_MAX: usize = 65_536;
/// How long a session may live on after its client has ended its connection, by a policy, ms, shortest and longest. Beyond:
/// the policy is refused.
pub const GRACE_MS_MIN: u32 = 100;
/// See [`GRACE_MS_MIN`].
pub const GRACE_MS_MAX: u32 = 600_000;
/// Ephemeral znodes of one session that are looked at for such a policy; one beyond does not count.
pub const EPHEMERALS_SEEN_MAX: usize = 1_000;
/// Longest time that an instance may take to leave, ms. Beyond: 400.
pub const DRAIN_MS_MAX: u64 = 86_400_000;
/// Leaving instances of which a node remembers whom it had to tell; the oldest are forgotten, and then nobody knows.
pub const DRAINS_MAX: usize = 4_096;
/// Followers of one list that a node names; the others are left out.
pub const FOLLOWERS_MAX: usize = 10_000;
/// Lists of one service whose followers are asked for with one request; the others are left out.
pub const SUBSCRIBED_LISTS_MAX: usize = 16;
/// Effects of overrides that the leader brings about or undoes at one look; the rest follow at the next.
pub const EFFECTS_PER_LOOK_MAX: usize = 256;
/// Znodes below the pattern of one override that the leader looks at; one beyond has no effect in other layouts.
pub const OVERRIDDEN_SEEN_MAX: usize = 100_000;
/// Instances of which a leader remembers that an override which observes would change them. Beyond: they are not noted.
pub const OBSERVED_MAX: usize = 10_000;
/// Lines of the audit that a node keeps in memory, of what was done and of what was denied each; the oldest go first. The file
/// has them longer.
pub const AUDIT_LINES_MAX: usize = 4_096;
/// Lines of the audit that wait for its file. Beyond: they are not in the file, and counted.
pub const AUDIT_QUEUE_MAX: usize = 8_192;
/// Denials that a node notes in its audit in one second. Beyond: they are counted only.
pub const AUDIT_DENIALS_PER_S_MAX: usize = 100;
/// Identities of one client that a line of the audit names. Beyond: the others are left out.
pub const AUDIT_WHO_MAX: usize = 16;
/// Sessions in one report to the leader; more go in several.
pub const TOUCHES_PER_REPORT_MAX: usize = 100_000;
/// Sessions that the leader closes in one tick; the rest follow at the next.
pub const CLOSES_PER_TICK_MAX: usize = 4_096;
/// Container and TTL znodes that the leader deletes in one tick; the rest follow at the next.
pub const REAPS_PER_TICK_MAX: usize = 1_000;
/// Time on the cluster's clock that the log does not know of while something has a TTL, ms: by so much each change of the
/// leader may prolong a TTL. Beyond: the leader writes it.
pub const CLOCK_UNWRITTEN_MS_MAX: u64 = 5_000;

/// The body of one frame between nodes, bytes. Beyond: the connection is closed.
pub const PEER_FRAME_BYTES_MAX: usize = 16 << 20;
/// One payload that a caller hands to a peer connection, bytes: a frame less its message header. Beyond: refused.
pub const PEER_PAYLOAD_BYTES_MAX: usize = PEER_FRAME_BYTES_MAX - 64;
/// One frame of the handshake, bytes: all that somebody without the secret can make a node hold. Beyond: closed.
pub const PEER_HANDSHAKE_BYTES_MAX: usize = 2048;
/// A reason or error text between nodes, characters. Beyond: cut off.
pub const PEER_REASON_CHARS_MAX: usize = 256;
/// Requests in flight on one peer connection. Beyond: the sender waits.
pub const PEER_IN_FLIGHT_MAX: usize = 256;
/// Bytes waiting to be written to one peer connection; a single larger payload goes alone. Beyond: the sender waits.
pub const PEER_QUEUE_BYTES_MAX: usize = 4 << 20;
/// Inbound peer connections. Beyond: closed at accept.
pub const PEER_CONNECTIONS_MAX: usize = 1024;
/// Time to reach a peer's address, ms. Beyond: unreachable.
pub const PEER_CONNECT_MS_MAX: u64 = 1_000;
/// Time for the whole handshake, ms. Beyond: closed.
pub const PEER_HANDSHAKE_MS_MAX: u64 = 5_000;
/// A side of a peer connection that has had nothing to say for this long says that it is alive, ms.
pub const PEER_PING_MS: u64 = 1_000;
/// Time without a byte from the other side of a peer connection, ms. Beyond: it is taken for dead and closed.
pub const PEER_SILENCE_MS_MAX: u64 = 5_000;
/// Pause after a failed attempt to connect, ms, doubled up to [`PEER_BACKOFF_MS_MAX`]; calls fail at once meanwhile.
pub const PEER_BACKOFF_MS_MIN: u64 = 20;
/// See [`PEER_BACKOFF_MS_MIN`].
pub const PEER_BACKOFF_MS_MAX: u64 = 500;

/// Recent changes kept for resuming watch streams, transactions. Older ones turn a resume into a `reset`.
pub const RING_TXNS_MAX: usize = 65_536;
/// Their bytes.
pub const RING_BYTES_MAX: usize = 32 << 20;
/// Messages waiting for one subscriber that is slow or waits for its wave. Beyond: they are dropped and the subscriber gets a
/// `reset`, in its wave if it waits for that.
pub const MAILBOX_MESSAGES_MAX: usize = 4096;
/// Messages waiting in all mailboxes of one node, about 24 bytes each. Beyond: mailboxes that hold more than their fair
/// share of it overflow as if they were full.
pub const MAILBOX_MESSAGES_TOTAL_MAX: usize = 4 << 20;
/// Paths that a request names to watch. Beyond: 400.
pub const WATCHED_PATHS_MAX: usize = 4096;
/// Paths watched by one subscription: of a stream of services, all lists that these may have. Beyond: 409.
pub const FILTERS_PER_SUBSCRIPTION_MAX: usize = 65_536;
/// Messages that a subscriber is given at once; the rest follow at once.
pub const MESSAGES_PER_DELIVERY_MAX: usize = 256;
/// Paths watched by all subscriptions of one node. Beyond: 429.
pub const FILTERS_MAX: usize = 2 << 20;
/// Events of the ring that one step of a resuming subscriber looks at, so that it does not hold up the publisher; the
/// rest is left for its next step.
pub const RESUME_EVENTS_PER_STEP: usize = 4096;
/// Subscriptions of one node. Beyond: 429.
pub const SUBSCRIPTIONS_MAX: usize = 100_000;
/// Bytes of one request of a ZooKeeper client, unless configured. Source: ZooKeeper `jute.maxbuffer`. Beyond: closed.
pub const ZK_FRAME_BYTES_DEFAULT: usize = 0xf_ffff;
/// The greatest that may be configured for it.
pub const ZK_FRAME_BYTES_MAX: usize = 4 << 20;
/// Bytes of the first request of a ZooKeeper client. Beyond: closed.
pub const ZK_HANDSHAKE_BYTES_MAX: usize = 1024;
/// How long a ZooKeeper client may take for it, ms. Beyond: closed.
pub const ZK_HANDSHAKE_MS_MAX: u64 = 10_000;
/// ZooKeeper connections of one node. Beyond: closed at accept.
pub const ZK_CONNECTIONS_MAX: usize = 131_072;
/// ZooKeeper connections from one address, unless configured. Beyond: closed at accept.
pub const ZK_CONNECTIONS_PER_ADDRESS_DEFAULT: usize = 16_384;
/// Requests of one ZooKeeper connection that are not answered. Beyond: it is not read.
pub const ZK_PENDING_MAX: usize = 4_096;
/// The memory that these take, bytes; a single larger one goes alone. Beyond: it is not read.
pub const ZK_PENDING_BYTES_MAX: usize = 4 << 20;
/// Identities that the client of one ZooKeeper connection proves. Beyond: the credentials are refused, and it is closed.
pub const ZK_IDENTITIES_MAX: usize = 64;
/// Replies and events of one ZooKeeper connection that are not sent, bytes; a single larger reply goes alone. Beyond: it
/// is not read, its reads wait, and its events wait as notices.
pub const ZK_OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Bytes that one ZooKeeper connection receives before it answers.
pub const ZK_INPUT_BYTES_AT_ONCE: usize = 256 << 10;
/// Reads of one ZooKeeper connection that are answered from one look at the state.
pub const ZK_READS_AT_ONCE: usize = 512;
/// What the reads of one multiRead find, bytes of data and names, before its last. Beyond: the request is refused with -8.
pub const ZK_MULTI_READ_BYTES_MAX: usize = 16 << 20;
/// Watches that a ZooKeeper client which comes back sets under one look at the state; the rest follow.
pub const ZK_REARMED_AT_ONCE: usize = 1_024;
/// Watches of one node, set through the ZooKeeper door. Beyond: the request is refused with a system error.
pub const WATCHES_MAX: usize = 32 << 20;
/// Watches of one ZooKeeper connection. Beyond: the request is refused with a system error.
pub const WATCHES_PER_LINE_MAX: usize = 1 << 20;
/// Notices that wait for one connection which does not take them. Beyond: it is closed; its client comes back and is
/// told what it missed.
pub const NOTICES_PER_LINE_MAX: usize = 65_536;
/// Notices that wait in all connections of one node, about 32 bytes each. Beyond: those with more than
/// [`NOTICES_KEPT_MIN`] are closed as if they had too many.
pub const NOTICES_TOTAL_MAX: usize = 4 << 20;
/// Notices that may wait for any connection, however many wait elsewhere.
pub const NOTICES_KEPT_MIN: usize = 256;
/// Period over which it is counted how much a node has to tell, ms.
pub const PACING_PERIOD_MS: u64 = 100;
/// Messages that a node has to tell per second. Beyond: one listener is told things at greater intervals. One costs some
/// 40 µs of CPU: this is less than half a core.
pub const PACING_MESSAGES_PER_S: u64 = 10_000;
/// As how many messages a notice of the ZooKeeper port counts: who gets it asks for the whole list again.
pub const PACING_MESSAGES_PER_NOTICE: usize = 5;
/// By how much that interval grows with each period beyond, and shrinks with each other, ms.
pub const PACING_WINDOW_MS_STEP: u64 = 100;
/// The greatest such interval, ms: the longest for which load delays what is told.
pub const PACING_WINDOW_MS_MAX: u64 = 1_000;
/// Time between two waves of a policy that spreads news, ms, shortest and longest. Beyond: the policy is refused.
pub const NOTIFY_INTERVAL_MS_MIN: u64 = 100;
/// See [`NOTIFY_INTERVAL_MS_MIN`].
pub const NOTIFY_INTERVAL_MS_MAX: u64 = 60_000;
/// Time in which all its waves have been, ms: the longest for which news waits. Beyond: the policy is refused.
pub const NOTIFY_ROUND_MS_MAX: u64 = 600_000;
/// Changes that are looked through for urgent ones when somebody resumes under such a policy. Beyond: it is told at once.
pub const NOTIFY_RESUMED_SEEN_MAX: usize = 4_096;
/// Watches of a closed connection that are removed in one step, so that it does not hold up apply.
pub const WATCHES_REMOVED_AT_ONCE: usize = 1_024;
/// Children in one page of a list.
pub const PAGE_CHILDREN_MAX: usize = 10_000;
/// HTTP requests that one node works on at once. Beyond: 429.
pub const HTTP_REQUESTS_MAX: usize = 16_384;
/// Bodies of all HTTP requests of one node that are under way, as far as they have arrived, bytes. Beyond: 429.
pub const HTTP_BODIES_BYTES_MAX: usize = 256 << 20;
/// HTTP connections of one node, streams included. Beyond: closed at accept.
pub const HTTP_CONNECTIONS_MAX: usize = 131_072;
/// Bytes that wait for the client of one HTTP connection, in the process and again in the kernel before they are sent.
/// Beyond: the answer or stream waits, and what comes meanwhile waits as messages ([`MAILBOX_MESSAGES_MAX`]). Also the longest
/// head of a request: 431.
pub const HTTP_UNSENT_BYTES_MAX: usize = 64 << 10;
/// How long an HTTP connection may take to send the head of its next request, ms; so also how long it may idle.
/// Beyond: closed.
pub const HTTP_IDLE_MS_MAX: u64 = 90_000;
/// How long the body of an HTTP request may take to arrive, ms. Beyond: 400.
pub const HTTP_BODY_MS_MAX: u64 = 30_000;
/// How long a stopping node waits for HTTP requests under way, ms. Beyond: their connections are closed.
pub const HTTP_DRAIN_MS_MAX: u64 = 10_000;
/// Data in one page of a list, and changes in one answer to a poll, bytes; one larger item goes alone.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// Longest wait of a poll, ms. Beyond: 400.
pub const POLL_WAIT_MS_MAX: u64 = 60_000;
/// How long a client may take to read a snapshot, in a stream or an answer to a poll, ms: until then it keeps a whole state
/// in memory. Beyond: the stream ends, the answer breaks off.
pub const SNAPSHOT_SENT_MS_MAX: u64 = 120_000;
/// Longest silence of a watch stream, ms; then it says how far it has come.
pub const STREAM_SILENCE_MS_MAX: u64 = 10_000;

/// Log entries sent to a follower, or read for apply, at once, bytes; a single larger entry goes alone.
pub const APPEND_BYTES_MAX: usize = 4 << 20;

/// One chunk of a snapshot of the tree, bytes.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 64 << 10;
/// One message of a watch stream that the client takes, bytes: a snapshot of a large subtree. Beyond: the stream is given
/// up with an error.
pub const SSE_MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Instances that left a service without a word and that a subscriber of the SDK remembers in case all do. Beyond: the
/// later ones are forgotten.
pub const DEPARTED_INSTANCES_MAX: usize = 10_000;
/// Registrations that a provider of the SDK remembers as its own. Beyond: the earliest are forgotten.
pub const INCARNATIONS_MAX: usize = 256;
/// Sessions of earlier runs that a provider of the SDK may take registrations over from. Beyond: the oldest is forgotten.
pub const SESSIONS_NOTED_MAX: usize = 8;
/// Instances of one service that the SDK probes at the same time. Beyond: they wait for each other.
pub const PROBES_AT_ONCE_MAX: usize = 16;
/// Services that one request for another program's service discovery may name. Beyond: 400.
pub const DISCOVERY_SERVICES_MAX: usize = 1_000;

/// Services that one question for their versions may name, and that one subscription of the SDK follows. Beyond: 400; the
/// subscription follows no further ones.
pub const SERVICES_PER_REQUEST_MAX: usize = 1_024;
/// Services that one stream of services may follow. Beyond: 400.
pub const STREAM_SERVICES_MAX: usize = 200;
/// Recent changes that are looked through to say what a service has lost since a zxid. Beyond: the answer is the whole list.
pub const DELTA_CHANGES_MAX: usize = 8_192;
/// Entries of services that one request which has to look into them examines. Beyond: the page ends.
pub const ENTRIES_EXAMINED_MAX: usize = 20_000;

/// A value in sled, bytes: larger ones would become blob files, which sled never syncs.
pub const STORE_VALUE_BYTES_MAX: usize = 48 << 10;
/// What sled may keep of the log in memory, bytes; not a hard bound.
pub const SLED_CACHE_BYTES: u64 = 8 << 20;
/// Log entries kept in memory for followers and apply, bytes; older ones are read from the store.
pub const LOG_CACHE_BYTES_MAX: usize = 8 << 20;
/// Jobs waiting for the thread that writes the log. Beyond: the caller waits, which is the back-pressure on consensus.
pub const WAL_QUEUE_JOBS_MAX: usize = 4096;
/// Their bytes; a single larger job is taken when the queue is empty. Beyond: the caller waits.
pub const WAL_QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes that one commit of the log gathers from the queue; a single larger job is committed alone.
pub const WAL_COMMIT_BYTES_MAX: usize = 4 << 20;
/// Bytes of a snapshot that are handed to the store at once.
pub const SNAPSHOT_BATCH_BYTES_MAX: usize = 1 << 20;

const _: () =
    assert!(TXN_BYTES_MAX > BODY_BYTES_MAX, "a body that was accepted must fit into a transaction");
const _: () = assert!(
    PEER_SILENCE_MS_MAX >= 3 * PEER_PING_MS,
    "one late ping must not look like a dead connection"
);
const _: () = assert!(
    PEER_HANDSHAKE_BYTES_MAX > 4 * PEER_REASON_CHARS_MAX,
    "a refusal must fit into a frame of the handshake"
);
const _: () = assert!(
    PEER_FRAME_BYTES_MAX > 2 * TXN_BYTES_MAX,
    "a forwarded transaction must fit into a frame"
);
const _: () =
    assert!(OUTBOX_BYTES_MAX > TXN_BYTES_MAX, "the largest transaction must be accepted when idle");
const _: () =
    assert!(WAL_COMMIT_BYTES_MAX <= WAL_QUEUE_BYTES_MAX, "a full commit must fit into the queue");
const _: () = assert!(
    HTTP_BODIES_BYTES_MAX > 2 * OUTBOX_BYTES_MAX,
    "clients that send slowly must leave room for those whose writes wait"
);
const _: () = assert!(
    STREAM_SERVICES_MAX * (2 * (5 + LAYOUTS_MAX) + 1) < FILTERS_PER_SUBSCRIPTION_MAX,
    "the lists that a name may have, in each layout, must fit into one subscription with what is noted of their instances"
);
const _: () = assert!(
    STREAM_SERVICES_MAX / 2 * (2 * (5 + LAYOUTS_MAX + MAPPED_APPLICATIONS_MAX) + 1)
        < FILTERS_PER_SUBSCRIPTION_MAX,
    "and those of the applications that offer it for half as many services, which is what the SDK asks for at once"
);
const _: () = assert!(
    WATCHED_PATHS_MAX <= FILTERS_PER_SUBSCRIPTION_MAX,
    "what a request may name must fit into its subscription"
);
const _: () = assert!(
    HTTP_CONNECTIONS_MAX > SUBSCRIPTIONS_MAX,
    "streams must leave connections for requests"
);
const _: () = assert!(
    DATA_BYTES_MAX * 4 / 3 + 4096 < BODY_BYTES_MAX,
    "a full znode must fit into JSON as base64"
);
const _: () = assert!(
    MAILBOX_MESSAGES_TOTAL_MAX / SUBSCRIPTIONS_MAX >= 16,
    "the fair share of a mailbox must outlast a short burst"
);
const _: () = assert!(
    TXN_BYTES_MAX > ZK_FRAME_BYTES_MAX + (1 << 20),
    "what a ZooKeeper client may ask must fit into a transaction"
);
const _: () = assert!(WATCHES_MAX < 1 << 30, "a path's number and a mode must fit into 32 bits");
const _: () = assert!(
    MAILBOX_MESSAGES_MAX < RING_TXNS_MAX,
    "a mailbox names changes of the ring: a full one must not outlive them"
);
