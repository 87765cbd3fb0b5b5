//! Counters of the door and of each connection, cheap enough for every request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::types::SessionId;
use crate::watch::NoticeKind;

/// Counters of the whole door.
#[derive(Default)]
pub(super) struct Meters {
    /// Requests whose reply was written, and how long that took, µs.
    pub(super) latency: Latency,
    /// The same of those that read, and of those that write.
    pub(super) reads: Latency,
    pub(super) updates: Latency,
    /// Replies, without the length in front.
    pub(super) responses: Sizes,
    /// Bytes of requests.
    pub(super) received_bytes: AtomicU64,
    /// Events that were sent, by what happened to a znode.
    fired: [AtomicU64; FIRED.len()],
    /// Connections that are closed.
    pub(super) dropped: AtomicU64,
    /// Connections that were refused at accept.
    pub(super) rejected: AtomicU64,
    /// Connections that were closed without ever having a session.
    pub(super) sessionless: AtomicU64,
    /// Credentials that were refused.
    pub(super) auth_failed: AtomicU64,
    /// Bytes of the longest list of names that was sent.
    pub(super) longest_list: AtomicU64,
    /// Packets of connections that are closed.
    gone: (AtomicU64, AtomicU64),
    /// The packets of all before the counters were started over.
    before: (AtomicU64, AtomicU64),
    connections: Mutex<Connections>,
}

/// What can happen to a znode.
pub(super) const FIRED: [NoticeKind; 4] = [
    NoticeKind::Created,
    NoticeKind::Deleted,
    NoticeKind::DataChanged,
    NoticeKind::ChildrenChanged,
];

/// The last, the smallest and the largest of things that are counted in bytes.
#[derive(Default)]
pub(super) struct Sizes {
    last: AtomicU64,
    /// One more than it; 0 before there is one.
    min: AtomicU64,
    max: AtomicU64,
}

impl Sizes {
    fn note(&self, bytes: u64) {
        self.last.store(bytes, Relaxed);
        let min = self.min.load(Relaxed);
        if min == 0 || bytes + 1 < min {
            self.min.store(bytes + 1, Relaxed);
        }
        self.max.fetch_max(bytes, Relaxed);
    }

    /// Returns the last, the smallest and the largest, if there was any.
    pub(super) fn get(&self) -> Option<(u64, u64, u64)> {
        let min = self.min.load(Relaxed).checked_sub(1)?;
        Some((self.last.load(Relaxed), min, self.max.load(Relaxed)))
    }

    fn reset(&self) {
        [&self.last, &self.min, &self.max].iter().for_each(|size| size.store(0, Relaxed));
    }
}

#[derive(Default)]
struct Connections {
    latest: u64,
    tallies: BTreeMap<u64, Arc<Tally>>,
    per_address: BTreeMap<IpAddr, usize>,
}

/// Shortest, longest, number and sum of durations, µs.
#[derive(Default)]
pub(super) struct Latency {
    /// One more than the shortest; 0 before there is one.
    min_us: AtomicU64,
    max_us: AtomicU64,
    count: AtomicU64,
    sum_us: AtomicU64,
}

/// Durations of several replies that were written together, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Took {
    min_us: u64,
    max_us: u64,
    count: u64,
    sum_us: u64,
}

/// The same by what was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TookBy {
    pub(super) reads: Took,
    pub(super) updates: Took,
}

impl Took {
    /// Adds one.
    pub(super) fn note(&mut self, us: u64) {
        self.min_us = if self.count == 0 { us } else { self.min_us.min(us) };
        self.max_us = self.max_us.max(us);
        self.count += 1;
        self.sum_us += us;
    }
}

impl TookBy {
    fn all(self) -> [Took; 2] {
        [self.reads, self.updates]
    }
}

impl Latency {
    fn note(&self, took: Took) {
        if took.count == 0 {
            return;
        }
        let min = self.min_us.load(Relaxed);
        if min == 0 || took.min_us + 1 < min {
            self.min_us.store(took.min_us + 1, Relaxed);
        }
        self.max_us.fetch_max(took.max_us, Relaxed);
        self.count.fetch_add(took.count, Relaxed);
        self.sum_us.fetch_add(took.sum_us, Relaxed);
    }

    /// Returns the shortest, the mean and the longest, ms.
    pub(super) fn ms(&self) -> (u64, f64, u64) {
        let count = self.count.load(Relaxed).max(1);
        let mean = self.sum_us.load(Relaxed) as f64 / count as f64 / 1e3;
        (
            self.min_us.load(Relaxed).saturating_sub(1) / 1_000,
            mean,
            self.max_us.load(Relaxed) / 1_000,
        )
    }

    /// Returns the sum, s, and the number.
    pub(super) fn total(&self) -> (f64, u64) {
        (self.sum_us.load(Relaxed) as f64 / 1e6, self.count.load(Relaxed))
    }

    fn reset(&self) {
        for counter in [&self.min_us, &self.max_us, &self.count, &self.sum_us] {
            counter.store(0, Relaxed);
        }
    }
}

/// Counters of one connection.
pub(super) struct Tally {
    pub(super) peer: SocketAddr,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    /// Of those received, the pings, which are answered at once.
    pub(super) pings: AtomicU64,
    pub(super) session: AtomicU64,
    pub(super) timeout_ms: AtomicU64,
    /// When it got its session, ms of the wall clock.
    pub(super) since_ms: AtomicU64,
    pub(super) last_op: AtomicI32,
    pub(super) last_xid: AtomicI32,
    /// The zxid in its last reply, -1 before there is one.
    pub(super) last_zxid: AtomicI64,
    /// When that was written, and how long it took, µs.
    pub(super) last_reply_us: AtomicU64,
    pub(super) last_latency_us: AtomicU64,
    pub(super) latency: Latency,
}

impl Tally {
    fn new(peer: SocketAddr) -> Tally {
        Tally {
            peer,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            pings: AtomicU64::new(0),
            session: AtomicU64::new(0),
            timeout_ms: AtomicU64::new(0),
            since_ms: AtomicU64::new(0),
            last_op: AtomicI32::new(0),
            last_xid: AtomicI32::new(0),
            last_zxid: AtomicI64::new(-1),
            last_reply_us: AtomicU64::new(0),
            last_latency_us: AtomicU64::new(0),
            latency: Latency::default(),
        }
    }

    /// Counts a request.
    pub(super) fn received(&self, xid: i32, opcode: i32) {
        self.received.fetch_add(1, Relaxed);
        self.last_op.store(opcode, Relaxed);
        self.last_xid.store(xid, Relaxed);
    }

    /// Counts replies or events.
    pub(super) fn sent(&self, packets: usize) {
        self.sent.fetch_add(packets as u64, Relaxed);
    }

    /// Counts a ping that was answered.
    pub(super) fn ping(&self) {
        self.pings.fetch_add(1, Relaxed);
        self.sent(1);
    }

    /// Notes a reply that was written now, so long after its request, µs.
    pub(super) fn replied(&self, zxid: i64, now_us: u64, took_us: u64) {
        self.last_zxid.store(zxid, Relaxed);
        self.last_reply_us.store(now_us, Relaxed);
        self.last_latency_us.store(took_us, Relaxed);
    }

    /// Returns how many requests wait for their reply.
    pub(super) fn queued(&self) -> u64 {
        let answered = self.latency.total().1 + self.pings.load(Relaxed);
        self.received.load(Relaxed).saturating_sub(answered)
    }

    /// Notes its session.
    pub(super) fn attached(&self, session: SessionId, timeout_ms: u32, wall_ms: u64) {
        self.session.store(session.0, Relaxed);
        self.timeout_ms.store(u64::from(timeout_ms), Relaxed);
        self.since_ms.store(wall_ms, Relaxed);
    }

    /// Returns the packets received and sent.
    pub(super) fn packets(&self) -> (u64, u64) {
        (self.received.load(Relaxed), self.sent.load(Relaxed))
    }

    /// Returns its session; [`SessionId::NONE`] before there is one.
    pub(super) fn session(&self) -> SessionId {
        SessionId(self.session.load(Relaxed))
    }

    /// Starts over, and returns the packets received and sent until now.
    fn reset(&self) -> (u64, u64) {
        self.pings.store(0, Relaxed);
        self.latency.reset();
        self.replied(-1, 0, 0);
        (self.received.swap(0, Relaxed), self.sent.swap(0, Relaxed))
    }
}

/// A connection's place; given back when dropped.
pub(super) struct Place {
    meters: Arc<Meters>,
    id: u64,
    pub(super) tally: Arc<Tally>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.meters.connections.lock();
        connections.tallies.remove(&self.id);
        let ip = self.tally.peer.ip();
        if let Some(count) = connections.per_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                connections.per_address.remove(&ip);
            }
        }
        self.meters.dropped.fetch_add(1, Relaxed);
        self.meters.gone.0.fetch_add(self.tally.received.load(Relaxed), Relaxed);
        self.meters.gone.1.fetch_add(self.tally.sent.load(Relaxed), Relaxed);
    }
}

impl Meters {
    /// Takes a place for a connection, unless there are so many, or so many from its address; 0 of those is no bound.
    pub(super) fn enter(
        self: &Arc<Self>,
        peer: SocketAddr,
        max: usize,
        per_address_max: usize,
    ) -> Option<Place> {
        let mut connections = self.connections.lock();
        let from_there = connections.per_address.get(&peer.ip()).copied().unwrap_or(0);
        let are_too_many = per_address_max > 0 && from_there >= per_address_max;
        if connections.tallies.len() >= max || are_too_many {
            self.rejected.fetch_add(1, Relaxed);
            return None;
        }
        connections.per_address.insert(peer.ip(), from_there + 1);
        connections.latest += 1;
        let id = connections.latest;
        let tally = Arc::new(Tally::new(peer));
        connections.tallies.insert(id, tally.clone());
        Some(Place { meters: self.clone(), id, tally })
    }

    /// Notes how long replies to one connection took.
    pub(super) fn took(&self, tally: &Tally, took: TookBy) {
        self.reads.note(took.reads);
        self.updates.note(took.updates);
        for took in took.all() {
            self.latency.note(took);
            tally.latency.note(took);
        }
    }

    /// Notes the bytes of a reply.
    pub(super) fn response(&self, bytes: usize) {
        self.responses.note(bytes as u64);
    }

    /// Counts an event that was sent.
    pub(super) fn fired(&self, kind: NoticeKind) {
        if let Some(at) = FIRED.iter().position(|one| *one == kind) {
            self.fired[at].fetch_add(1, Relaxed);
        }
    }

    /// Returns how many events of each of [`FIRED`] were sent.
    pub(super) fn all_fired(&self) -> [u64; FIRED.len()] {
        std::array::from_fn(|at| self.fired[at].load(Relaxed))
    }

    /// Returns the counters of the present connections, in the order in which they came.
    pub(super) fn tallies(&self) -> Vec<Arc<Tally>> {
        self.connections.lock().tallies.values().cloned().collect()
    }

    /// Returns the packets received and sent since the start or the last reset.
    pub(super) fn packets(&self) -> (u64, u64) {
        let (received, sent) = self.all_packets();
        let (before, before_sent) = (&self.before.0, &self.before.1);
        (
            received.saturating_sub(before.load(Relaxed)),
            sent.saturating_sub(before_sent.load(Relaxed)),
        )
    }

    /// Returns the packets received and sent since the start.
    fn all_packets(&self) -> (u64, u64) {
        let tallies = self.tallies();
        let sum = |of: fn(&Tally) -> &AtomicU64| -> u64 {
            tallies.iter().map(|tally| of(tally).load(Relaxed)).sum()
        };
        let (received, sent) = (sum(|tally| &tally.received), sum(|tally| &tally.sent));
        (received + self.gone.0.load(Relaxed), sent + self.gone.1.load(Relaxed))
    }

    /// Starts the counters of the door over, and leaves those of the connections.
    pub(super) fn reset(&self) {
        [&self.latency, &self.reads, &self.updates].iter().for_each(|latency| latency.reset());
        self.responses.reset();
        let (received, sent) = self.all_packets();
        self.before.0.store(received, Relaxed);
        self.before.1.store(sent, Relaxed);
    }

    /// Starts the counters of the connections over, and leaves those of the door.
    pub(super) fn reset_connections(&self) {
        for tally in self.tallies() {
            let (received, sent) = tally.reset();
            self.gone.0.fetch_add(received, Relaxed);
            self.gone.1.fetch_add(sent, Relaxed);
        }
    }
}
