//! What must be true of every history, whatever has befallen the nodes. It is told what clients saw and what the nodes show
//! after each step, and keeps the violations as sentences.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound::{Excluded, Included};

use roost::tree::Tree;
use roost::types::{EventKind, NodeId, SessionId};
use roost::watch::Message;

/// A change of one znode, as a subscriber was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: EventKind,
    pub(crate) path: String,
    pub(crate) data: Vec<u8>,
    pub(crate) version: i32,
}

/// What a subscriber was told, from one snapshot or beginning to the next.
#[derive(Debug)]
struct Span {
    node: NodeId,
    from: u64,
    upto: u64,
    zxids: Vec<u64>,
}

/// What a client was promised about a session.
#[derive(Debug)]
struct Promise {
    opened: u64,
    lives_until_us: u64,
    gone_at_us: Option<u64>,
    /// Its client has asked for its end.
    closing: bool,
}

/// A znode that must be there exactly while something else is so.
#[derive(Debug)]
struct Guarded {
    path: String,
    since: u64,
    /// Its session, or the time before which its TTL is not over.
    owner: Result<SessionId, u64>,
}

/// What a read saw of one znode: its data and version.
pub(crate) type Seen = (String, Option<(Vec<u8>, i32)>);

/// All that is known of one run.
#[derive(Default)]
pub(crate) struct Checker {
    pub(crate) violations: Vec<String>,
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) reads_checked: u64,
    pub(crate) changes_told: u64,
    trace: DefaultHasher,
    /// The trace in words, where somebody wants to read it.
    pub(crate) told_all: Option<Vec<String>>,
    /// Of what has ended: when, and the greatest zxid that anybody had seen by then.
    ended: Vec<(u64, u64)>,
    digests: BTreeMap<u64, u64>,
    leaders: BTreeMap<u64, NodeId>,
    shown: BTreeMap<NodeId, (u64, u64)>,
    log: BTreeMap<u64, Vec<Change>>,
    spans: Vec<Span>,
    open: BTreeMap<NodeId, usize>,
    promises: BTreeMap<SessionId, Promise>,
    guarded: Vec<Guarded>,
    writes: Vec<(u64, String, Vec<u8>)>,
    observed: Vec<(u64, Vec<Seen>)>,
    appended: BTreeMap<Vec<u8>, Option<String>>,
}

impl Checker {
    fn wrong(&mut self, what: String) {
        // The first ones tell; the others follow from them.
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }

    /// Returns what tells this run apart from any other.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Takes something into the trace.
    pub(crate) fn note(&mut self, what: impl Hash + Debug) {
        what.hash(&mut self.trace);
        if let Some(told) = &mut self.told_all {
            told.push(format!("{what:?}"));
        }
    }

    /// Notes that something ended with a zxid. What is linearizable must not be older than what had ended before it began.
    pub(crate) fn ended(
        &mut self,
        what: &str,
        call_us: u64,
        now_us: u64,
        zxid: u64,
        linearizable: bool,
    ) {
        self.note((what, call_us, now_us, zxid));
        let before = self.ended.partition_point(|(ended_us, _)| *ended_us < call_us);
        let seen = before.checked_sub(1).map_or(0, |at| self.ended[at].1);
        if linearizable && zxid < seen {
            self.wrong(format!(
                "{what} that began at {call_us} is of zxid {zxid}, {seen} had been seen before"
            ));
        }
        let greatest = self.ended.last().map_or(0, |last| last.1).max(zxid);
        self.ended.push((now_us, greatest));
    }

    /// Notes a write that was acknowledged to have put this data at a path.
    pub(crate) fn wrote(&mut self, zxid: u64, path: &str, data: &[u8]) {
        self.acknowledged += 1;
        self.writes.push((zxid, path.to_owned(), data.to_vec()));
    }

    /// Notes what a read of one state saw.
    pub(crate) fn read(&mut self, zxid: u64, seen: Vec<Seen>) {
        self.reads += 1;
        self.observed.push((zxid, seen));
    }

    /// Notes that somebody is about to append this, or knows that he has, and as what.
    pub(crate) fn appended(&mut self, payload: &[u8], path: Option<String>) {
        self.appended.insert(payload.to_vec(), path);
    }

    /// Notes that a session was promised to live until then.
    pub(crate) fn promised(&mut self, session: SessionId, opened: u64, until_us: u64) {
        let promise = self.promises.entry(session).or_insert(Promise {
            opened,
            lives_until_us: 0,
            gone_at_us: None,
            closing: false,
        });
        promise.lives_until_us = promise.lives_until_us.max(until_us);
        if let Some(gone_us) = promise.gone_at_us.filter(|gone_us| *gone_us < until_us)
            && !promise.closing
        {
            self.wrong(format!(
                "session {session} was promised until {until_us}, it ended at {gone_us}"
            ));
        }
    }

    /// Notes that a session's client asks for its end.
    pub(crate) fn closing(&mut self, session: SessionId) {
        if let Some(promise) = self.promises.get_mut(&session) {
            promise.closing = true;
        }
    }

    /// Notes a znode that lives with a session, or at least until some time.
    pub(crate) fn guard(&mut self, path: String, since: u64, owner: Result<SessionId, u64>) {
        self.guarded.push(Guarded { path, since, owner });
    }

    /// Looks at what a node shows.
    pub(crate) fn look(&mut self, now_us: u64, node: NodeId, start: u64, tree: &Tree) {
        let (zxid, digest) = (tree.zxid().0, tree.digest().0);
        let last = self.shown.insert(node, (start, zxid));
        if last == Some((start, zxid)) {
            return;
        }
        if let Some((last_start, last_zxid)) = last
            && last_start == start
            && last_zxid > zxid
        {
            self.wrong(format!("node {node} went back from zxid {last_zxid} to {zxid}"));
        }
        self.note((now_us, node, zxid, digest));
        if *self.digests.entry(zxid).or_insert(digest) != digest {
            self.wrong(format!("node {node} differs at zxid {zxid}"));
        }
        self.look_at_sessions(now_us, tree);
        let of = |path| tree.get(path).map(|znode| znode.data().map(|data| data.to_vec()));
        if of("/m/a") != of("/m/b") {
            self.wrong(format!("at zxid {zxid} half of a multi is there"));
        }
    }

    fn look_at_sessions(&mut self, now_us: u64, tree: &Tree) {
        let zxid = tree.zxid().0;
        let mut early = Vec::new();
        for (session, promise) in &mut self.promises {
            let is_gone = promise.opened <= zxid && tree.session(*session).is_none();
            if is_gone && promise.gone_at_us.is_none() {
                promise.gone_at_us = Some(now_us);
                if !promise.closing && now_us < promise.lives_until_us {
                    early.push(format!(
                        "session {session} ended at {now_us}, it was promised until {}",
                        promise.lives_until_us
                    ));
                }
            }
        }
        let mut gone = Vec::new();
        for (at, guarded) in self.guarded.iter().enumerate().filter(|(_, it)| it.since <= zxid) {
            let is_there = tree.get(&guarded.path).is_some();
            let path = &guarded.path;
            match guarded.owner {
                Ok(session) if is_there != tree.session(session).is_some() => {
                    early.push(format!("{path} is there: {is_there}, its session is not the same"));
                }
                Err(until_us) if !is_there && now_us < until_us => {
                    early.push(format!("{path} is gone at {now_us}, its TTL ends at {until_us}"));
                }
                _ => {}
            }
            if !is_there {
                gone.push(at);
            }
        }
        // A node that lags still shows it, and is right to.
        gone.into_iter().rev().for_each(|at| drop(self.guarded.swap_remove(at)));
        early.into_iter().for_each(|what| self.wrong(what));
    }

    /// Notes who leads, as a node says of itself.
    pub(crate) fn leads(&mut self, node: NodeId, term: u64) {
        let known = *self.leaders.entry(term).or_insert(node);
        if known != node {
            self.wrong(format!("nodes {known} and {node} both led in term {term}"));
        }
    }

    /// Returns how many elections there were.
    pub(crate) fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// A subscriber at a node begins, or begins again with a snapshot, and has been told everything up to here.
    pub(crate) fn told_snapshot(&mut self, node: NodeId, zxid: u64) {
        self.note(("snapshot", node, zxid));
        self.open.insert(node, self.spans.len());
        self.spans.push(Span { node, from: zxid, upto: zxid, zxids: Vec::new() });
    }

    /// A subscriber was told these changes, and that these are all up to a zxid.
    pub(crate) fn told(&mut self, node: NodeId, messages: &[Message], upto: u64) {
        self.note(("told", node, messages.len(), upto));
        let Some(at) = self.open.get(&node).copied() else {
            return self.wrong(format!("the subscriber of node {node} is told before it begins"));
        };
        for message in messages {
            let zxid = message.change.zxid().0;
            let last = self.spans[at].zxids.last().copied().unwrap_or(self.spans[at].from);
            if zxid <= last {
                self.wrong(format!("node {node} tells zxid {zxid} after {last}"));
            }
            let changes: Vec<Change> = message
                .events()
                .map(|(_, event)| Change {
                    kind: event.kind,
                    path: event.path.to_string(),
                    data: event.data.as_deref().unwrap_or_default().to_vec(),
                    version: event.stat.version,
                })
                .collect();
            self.changes_told += changes.len() as u64;
            if *self.log.entry(zxid).or_insert_with(|| changes.clone()) != changes {
                self.wrong(format!("node {node} tells zxid {zxid} otherwise than another node"));
            }
            self.spans[at].zxids.push(zxid);
        }
        let span = &mut self.spans[at];
        if upto < span.upto || span.zxids.last().is_some_and(|last| *last > upto) {
            self.wrong(format!("node {node} is at {upto} after more was told"));
        } else {
            span.upto = upto;
        }
    }

    /// Judges the whole history against the state in which it ended.
    pub(crate) fn finish(&mut self, tree: &Tree) {
        let mut wrong = Vec::new();
        for span in &self.spans {
            let all: Vec<u64> = self
                .log
                .range((Excluded(span.from), Included(span.upto)))
                .map(|(zxid, _)| *zxid)
                .collect();
            if let Some(lost) = all.iter().find(|zxid| !span.zxids.contains(zxid)) {
                wrong.push(format!(
                    "the subscriber of node {} was not told of zxid {lost}",
                    span.node
                ));
            }
        }
        let covered = self.covered();
        let is_covered =
            |zxid: u64| covered.iter().any(|(from, upto)| *from < zxid && zxid <= *upto);
        for (zxid, path, data) in &self.writes {
            let told = self.log.get(zxid).into_iter().flatten();
            let is_there =
                told.into_iter().any(|change| change.path == *path && change.data == *data);
            if is_covered(*zxid) && !is_there {
                wrong.push(format!(
                    "the write of {path} that was acknowledged with zxid {zxid} is lost"
                ));
            }
        }
        for what in wrong {
            self.wrong(what);
        }
        self.replay(&covered, tree);
        self.check_appended(tree);
        if tree.digest() != tree.recomputed_digest() {
            self.wrong("the digest is not that of the state".into());
        }
    }

    /// Returns the intervals of zxids (after, up to) of which some subscriber was told everything, joined where they touch.
    fn covered(&self) -> Vec<(u64, u64)> {
        let mut spans: Vec<(u64, u64)> =
            self.spans.iter().map(|span| (span.from, span.upto)).collect();
        spans.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (from, upto) in spans {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(upto),
                _ => joined.push((from, upto)),
            }
        }
        joined
    }

    /// Replays what was told, znode by znode: it must hang together, agree with every read, and end in the final state.
    fn replay(&mut self, covered: &[(u64, u64)], tree: &Tree) {
        let mut observed = std::mem::take(&mut self.observed);
        observed.sort_by_key(|(zxid, _)| *zxid);
        let mut observed = observed.into_iter().peekable();
        let mut wrong = Vec::new();
        for (from, upto) in covered {
            // What is known of each znode: that it is gone, or its data and version.
            let mut known: BTreeMap<&str, Option<(&[u8], i32)>> = BTreeMap::new();
            let changes = self.log.range((Excluded(*from), Included(*upto)));
            let mut changes = changes.map(|(zxid, changes)| (*zxid, changes)).peekable();
            loop {
                let next = changes.peek().map_or(u64::MAX, |(zxid, _)| *zxid);
                while let Some((zxid, seen)) =
                    observed.next_if(|(zxid, _)| *zxid < next && *zxid <= *upto)
                {
                    if zxid <= *from {
                        continue;
                    }
                    for (path, value) in seen {
                        let Some(state) = known.get(path.as_str()) else { continue };
                        self.reads_checked += 1;
                        if value.as_ref().map(|(data, version)| (data.as_slice(), *version))
                            != *state
                        {
                            wrong.push(format!(
                                "a read of {path} at zxid {zxid} saw {value:?}, not {state:?}"
                            ));
                        }
                    }
                }
                let Some((zxid, changes)) = changes.next() else { break };
                for change in changes {
                    let before = known.get(change.path.as_str()).copied();
                    let fits = match (change.kind, before) {
                        (_, None) => true,
                        (EventKind::Created, Some(state)) => state.is_none() && change.version == 0,
                        (EventKind::DataChanged, Some(state)) => {
                            state.is_some_and(|(_, version)| change.version == version + 1)
                        }
                        (EventKind::Deleted, Some(state)) => state.is_some(),
                    };
                    if !fits {
                        wrong.push(format!("{change:?} at zxid {zxid} does not follow {before:?}"));
                    }
                    let is_gone = change.kind == EventKind::Deleted;
                    let state = (!is_gone).then_some((change.data.as_slice(), change.version));
                    known.insert(&change.path, state);
                }
            }
            if *upto == tree.zxid().0 {
                for (path, state) in known {
                    let now = tree.get(path).map(|znode| {
                        (
                            znode.data().map(|data| data.to_vec()).unwrap_or_default(),
                            znode.stat().version,
                        )
                    });
                    if now.as_ref().map(|(data, version)| (data.as_slice(), *version)) != state {
                        wrong.push(format!(
                            "{path} ends as {now:?}, subscribers were told {state:?}"
                        ));
                    }
                }
            }
        }
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    /// Everything that was appended is there once: what was acknowledged surely, what was not at most.
    fn check_appended(&mut self, tree: &Tree) {
        let mut found: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
        for (path, znode) in tree.descendants("/q") {
            let data = znode.data().map(|data| data.to_vec()).unwrap_or_default();
            found.entry(data).or_default().push(path.to_string());
        }
        let mut wrong = Vec::new();
        for (payload, path) in &self.appended {
            let paths = found.get(payload).cloned().unwrap_or_default();
            let is_right = match path {
                Some(path) => paths == [path.clone()],
                None => paths.len() <= 1,
            };
            if !is_right {
                wrong.push(format!(
                    "{} was acknowledged as {path:?} and is there as {paths:?}",
                    String::from_utf8_lossy(payload)
                ));
            }
        }
        wrong.into_iter().for_each(|what| self.wrong(what));
    }
}
