//! Whether two answers are the same but for what no two servers share: zxids, session ids and times.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use roost::jute::{EventType, OpResult, Request, Response, WatcherEvent};
use roost::types::{SessionId, Stat, Zxid};

use super::connection::Answer;

/// How two answers differ.
#[derive(Debug)]
pub(crate) enum Difference {
    /// The events before them do.
    Events,
    /// They do themselves, in this.
    Answer(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Events => f.write_str("other events"),
            Difference::Answer(what) => f.write_str(what),
        }
    }
}

/// The events that ZooKeeper has sent to a session and roost not yet. An answer that does not speak of the state, as its
/// zxid tells, need not wait for them: those to credentials, to pings, and to what is refused without a look.
#[derive(Default)]
pub(crate) struct Owed {
    events: Vec<(EventType, String)>,
    /// Whether they have no determined order: ZooKeeper deletes the ephemerals of a session in the order of a hash.
    pub(crate) unordered: bool,
}

impl Owed {
    /// Takes what came before an answer. Returns whether it was due, and all of it unless it may be late.
    fn settle(
        &mut self,
        ours: &[WatcherEvent],
        theirs: &[WatcherEvent],
        may_be_late: bool,
    ) -> bool {
        let told = |event: &WatcherEvent| (event.event, event.path.clone());
        self.events.extend(theirs.iter().map(told));
        for event in ours.iter().map(told) {
            let place = self.events.iter().position(|owed| *owed == event);
            match place {
                Some(place) if place == 0 || self.unordered => drop(self.events.remove(place)),
                _ => return false,
            }
        }
        self.unordered &= !self.events.is_empty();
        self.events.is_empty() || may_be_late
    }
}

/// What the two sides call the same thing, as far as it is known.
#[derive(Default)]
pub(crate) struct Comparison {
    /// Zxids here to zxids there, and back. Their order is the same, since they name the same changes.
    there: BTreeMap<u64, u64>,
    here: BTreeMap<u64, u64>,
    sessions: HashMap<SessionId, SessionId>,
    /// The greatest zxid that an answer of ours has had.
    latest: i64,
    /// On each side, the time of each zxid that a stat has shown.
    times: [HashMap<u64, u64>; 2],
}

impl Comparison {
    /// Notes that these are the same session.
    pub(crate) fn same_session(&mut self, ours: SessionId, theirs: SessionId) {
        self.sessions.insert(ours, theirs);
    }

    /// Checks two answers to one request; of the events, those that are owed to the session are part.
    pub(crate) fn check(
        &mut self,
        owed: &mut Owed,
        request: &Request,
        ours: &Answer,
        theirs: &Answer,
    ) -> Result<(), Difference> {
        self.latest = self.latest.max(ours.header.zxid);
        let may_be_late = ours.header.zxid < self.latest;
        if !owed.settle(&ours.events, &theirs.events, may_be_late) {
            return Err(Difference::Events);
        }
        self.check_answer(request, ours, theirs).map_err(Difference::Answer)
    }

    fn check_answer(
        &mut self,
        request: &Request,
        ours: &Answer,
        theirs: &Answer,
    ) -> Result<(), String> {
        if ours.header.err != theirs.header.err {
            return Err("another error".into());
        }
        let (mut left, mut right) = (ours.body.clone(), theirs.body.clone());
        self.level(left.as_mut(), right.as_mut())?;
        if left != right {
            return Err("another body".into());
        }
        let [here, there] = [ours, theirs].map(|answer| answer.header.zxid as u64);
        if is_done_change(request, ours) && !self.is_same_zxid(here, there) {
            return Err("another zxid in the header".into());
        }
        Ok(())
    }

    /// Makes equal what means the same.
    fn level(
        &mut self,
        ours: Option<&mut Response>,
        theirs: Option<&mut Response>,
    ) -> Result<(), String> {
        let (Some(ours), Some(theirs)) = (ours, theirs) else { return Ok(()) };
        for body in [&mut *ours, &mut *theirs] {
            sort_names(body);
        }
        let (ours, theirs) = (stats(ours), stats(theirs));
        if ours.len() != theirs.len() {
            return Err("another body".into());
        }
        ours.into_iter().zip(theirs).try_for_each(|(ours, theirs)| self.level_stat(ours, theirs))
    }

    fn level_stat(&mut self, ours: &mut Stat, theirs: &mut Stat) -> Result<(), String> {
        for (name, here, there) in [
            ("czxid", &mut ours.czxid, &mut theirs.czxid),
            ("mzxid", &mut ours.mzxid, &mut theirs.mzxid),
            ("pzxid", &mut ours.pzxid, &mut theirs.pzxid),
        ] {
            if !self.is_same_zxid(here.0, there.0) {
                return Err(format!(
                    "another {name}: {here} here, {there} there; known {:?}",
                    self.known(*here)
                ));
            }
        }
        for (times, stat) in self.times.iter_mut().zip([&*ours, &*theirs]) {
            for (zxid, time) in [(stat.czxid, stat.ctime_ms), (stat.mzxid, stat.mtime_ms)] {
                let known = *times.entry(zxid.0).or_insert(time);
                if known != time {
                    return Err(format!("zxid {zxid} was at {known}, now at {time}"));
                }
            }
        }
        let is_same_owner = match (ours.ephemeral_owner, theirs.ephemeral_owner) {
            (SessionId::NONE, SessionId::NONE) => true,
            (here, there) => self.sessions.get(&here) == Some(&there),
        };
        if !is_same_owner {
            return Err("another owner".into());
        }
        (ours.czxid, ours.mzxid, ours.pzxid) = (theirs.czxid, theirs.mzxid, theirs.pzxid);
        (ours.ctime_ms, ours.mtime_ms) = (theirs.ctime_ms, theirs.mtime_ms);
        ours.ephemeral_owner = theirs.ephemeral_owner;
        Ok(())
    }

    fn known(&self, here: Zxid) -> Option<u64> {
        self.there.get(&here.0).copied()
    }

    /// Returns whether two zxids may name the same change, given all that were seen before, and takes it for
    /// so.
    fn is_same_zxid(&mut self, here: u64, there: u64) -> bool {
        match (self.there.get(&here), self.here.get(&there)) {
            (Some(known), _) => return *known == there,
            (None, Some(_)) => return false,
            (None, None) => {}
        }
        let before = self.there.range(..here).next_back();
        let after = self.there.range(here..).next();
        let fits = before.is_none_or(|(_, known)| *known < there)
            && after.is_none_or(|(_, known)| *known > there);
        if fits {
            self.there.insert(here, there);
            self.here.insert(there, here);
        }
        fits
    }
}

/// Returns whether an answer says that the tree was changed: then its header has the change's zxid.
fn is_done_change(request: &Request, answer: &Answer) -> bool {
    let failed = |result: &OpResult| matches!(result, OpResult::Failed(_));
    match (request, &answer.body) {
        (Request::Multi(_), Some(Response::Results(results))) => !results.0.iter().any(failed),
        (Request::Write(_) | Request::SetAcl(_), Some(_)) => true,
        _ => false,
    }
}

/// Orders what has no order.
fn sort_names(body: &mut Response) {
    match body {
        Response::Names(names) => names.sort(),
        // What `auth` stands for is in the order of a hash.
        Response::Acl(acl) => acl.acl.sort(),
        Response::NamesStat(names) => names.names.sort(),
        Response::Identities(all) => {
            all.sort_by(|a, b| (&a.scheme, &a.user).cmp(&(&b.scheme, &b.user)))
        }
        Response::Results(results) => {
            for result in &mut results.0 {
                if let OpResult::Children(names) = result {
                    names.sort();
                }
            }
        }
        _ => {}
    }
}

/// Returns all stats of a body.
fn stats(body: &mut Response) -> Vec<&mut Stat> {
    match body {
        Response::Created(created) => vec![&mut created.stat],
        Response::Stat(stat) => vec![stat],
        Response::Data(data) => vec![&mut data.stat],
        Response::Acl(acl) => vec![&mut acl.stat],
        Response::NamesStat(names) => vec![&mut names.stat],
        Response::Results(results) => results
            .0
            .iter_mut()
            .filter_map(|result| match result {
                OpResult::Created2(created) => Some(&mut created.stat),
                OpResult::DataSet(stat) => Some(stat),
                OpResult::Data(data) => Some(&mut data.stat),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}
