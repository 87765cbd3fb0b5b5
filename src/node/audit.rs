//! Who has switched what, and who was turned away: one line for each.
//!
//! - Every committed transaction that touches what is below `/roost` (policies, tombstones, effects, drains), and every
//!   registration that was taken out by hand, is a line, on every node, written while it is applied: so it is there
//!   through whichever door it came, and all nodes have the same lines with the same zxids. One that was refused is a line too.
//! - What a policy turned away before the log is a line of the node that turned it away, with the rule.
//!
//! The latest lines are kept in memory; all go to a file, if the node has one ([`audit_file`](super::audit_file)). Apply never
//! waits for either: lines that do not fit are dropped and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Serialize, Serializer};

use super::Node;
use super::audit_file::Writer;
use crate::limits::{
    AUDIT_DENIALS_PER_S_MAX, AUDIT_LINES_MAX, AUDIT_WHO_MAX, POLICY_BYTES_MAX, REASON_BYTES_MAX,
};
use crate::peer;
use crate::tree::is_health_note;
use crate::types::{AclId, Applied, ClusterId, EventKind, NodeId, Op, Reply, SessionId, Txn, Zxid};

/// Everything below is the registry's own.
const OWN: &str = "/roost/";
/// The op of a line that stands for a whole state.
pub(super) const RESTORE: &str = "restore";

/// One line of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditLine {
    /// Its number on this node since the start, from 1.
    #[serde(skip)]
    pub seq: u64,
    /// The cluster, in JSON as 32 hex digits: zxids are its own, and a file may outlive it.
    #[serde(serialize_with = "as_hex")]
    pub cluster: ClusterId,
    /// The transaction; of a denial, the state that was asked.
    pub zxid: u64,
    /// When, ms since 1970: of a transaction by the leader's clock, of a denial by this node's.
    pub at_ms: u64,
    /// Through which node it came.
    pub node: NodeId,
    /// Whom the client had proved to be, without secrets. Of what the leader does by itself nobody, or `super` alone.
    pub who: Vec<String>,
    /// The client's session, `0x…`, if it had one.
    pub session: Option<String>,
    /// What was done or tried: `create`, `set`, `set_acl`, `delete`, `expire`, `deregister`, `write` or `subscribe` (of
    /// a denial), `disconnect` or `override` (of what a policy observed), or `restore`: this node took over the state of that zxid as a whole, and lines before it may be missing here.
    pub op: &'static str,
    /// To which znode.
    pub path: String,
    /// Who set it, as the znode says.
    pub set_by: Option<String>,
    /// Why, as the znode says.
    pub reason: Option<String>,
    /// `ok`, the code of a refusal, `denied`, or `observed` for what a policy would have denied.
    pub result: &'static str,
    /// The rule of a denial: the policy, and behind a slash the rule's id.
    pub rule: Option<String>,
    /// Why it was denied.
    pub why: Option<String>,
}

/// Writes the id of a cluster as it is shown everywhere.
fn as_hex<S: Serializer>(cluster: &ClusterId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{cluster:032x}"))
}

/// The lines of one node.
pub(super) struct Audit {
    /// The node, and its cluster as soon as it has one.
    identity: peer::Identity,
    kept: Mutex<Kept>,
    file: Option<Writer>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Kept {
    seq: u64,
    /// What was done, and what was turned away: a client that goes on trying does not push out the former.
    done: VecDeque<Arc<AuditLine>>,
    denied: VecDeque<Arc<AuditLine>>,
    /// The second in which denials are counted, and how many there were.
    second: (u64, usize),
}

impl Kept {
    fn keep(&mut self, mut line: AuditLine) -> Arc<AuditLine> {
        self.seq += 1;
        line.seq = self.seq;
        let line = Arc::new(line);
        let is_done = line.rule.is_none() && line.result == "ok";
        let ring = if is_done { &mut self.done } else { &mut self.denied };
        if ring.len() == AUDIT_LINES_MAX {
            ring.pop_front();
        }
        ring.push_back(line.clone());
        line
    }
}

impl Audit {
    /// Returns an audit without lines that also writes to a file, if there is one.
    pub(super) fn new(identity: peer::Identity, file: Option<Writer>) -> Audit {
        Audit { identity, kept: Mutex::default(), file, dropped: AtomicU64::new(0) }
    }

    /// Notes what an applied transaction did to what is the registry's own. Cost: O(events) for one that did nothing.
    pub(super) fn applied(&self, txn: &Txn, applied: &Applied, wall_ms: u64) {
        let mut line = AuditLine {
            node: txn.origin.node,
            session: (!txn.session.is_none()).then(|| txn.session.to_string()),
            ..self.line(applied.zxid, wall_ms, "", "")
        };
        let mut note = |op: &'static str, path: &str, data: Option<&[u8]>| {
            if line.who.is_empty() {
                line.who = names(&txn.authority);
            }
            let (set_by, reason) = says(data);
            (line.op, line.path) = (op, path.to_owned());
            self.push(AuditLine { set_by, reason, ..line.clone() });
        };
        match &applied.result {
            Ok(reply) => {
                let expires = matches!(txn.op, Op::Reap { .. });
                for event in applied.events.iter().filter(|event| is_own(event.path.as_str())) {
                    let op = match event.kind {
                        EventKind::Created => "create",
                        EventKind::DataChanged => "set",
                        EventKind::Deleted if expires => "expire",
                        EventKind::Deleted => "delete",
                    };
                    note(op, event.path.as_str(), event.data.as_deref());
                }
                each(&txn.op, Some(reply), &mut |op, reply| match (op, reply) {
                    // It is no event.
                    (Op::SetAcl { path, .. }, _) if is_own(path.as_str()) => {
                        note("set_acl", path.as_str(), None);
                    }
                    (Op::Deregister { .. }, Some(Reply::Deregistered { paths })) => {
                        let others = paths.iter().filter(|path| !is_own(path.as_str()));
                        others.for_each(|path| note("deregister", path.as_str(), None));
                    }
                    _ => {}
                });
            }
            Err(failure) => {
                line.result = failure.code.name();
                let mut tried = Vec::new();
                each(&txn.op, None, &mut |op, _| tried.extend(attempt(op)));
                line.who = names(&txn.authority);
                for (op, path, data) in tried {
                    let (set_by, reason) = says(data.as_deref());
                    self.push(AuditLine { op, path, set_by, reason, ..line.clone() });
                }
            }
        }
    }

    /// Notes that this node took over a whole state.
    pub(super) fn restored(&self, zxid: Zxid, wall_ms: u64) {
        self.push(self.line(zxid, wall_ms, RESTORE, "/"));
    }

    /// Notes that a policy turned somebody away, or would have. Beyond [`AUDIT_DENIALS_PER_S_MAX`] they are dropped.
    pub(super) fn denied(&self, at: (Zxid, u64), session: SessionId, denied: &Denied<'_>) {
        let (zxid, wall_ms) = at;
        let is_too_many = {
            let mut kept = self.kept.lock();
            let second = wall_ms / 1_000;
            if kept.second.0 != second {
                kept.second = (second, 0);
            }
            kept.second.1 += 1;
            kept.second.1 > AUDIT_DENIALS_PER_S_MAX
        };
        if is_too_many {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.push(AuditLine {
            who: names(denied.authority),
            session: (!session.is_none()).then(|| session.to_string()),
            result: if denied.is_enforced { "denied" } else { "observed" },
            rule: Some(denied.rule.to_owned()),
            why: Some(denied.why.to_owned()),
            ..self.line(zxid, wall_ms, denied.op, denied.path)
        });
    }

    /// Returns the line of something that this node did itself, that nobody asked for and that went well.
    fn line(&self, zxid: Zxid, wall_ms: u64, op: &'static str, path: &str) -> AuditLine {
        AuditLine {
            seq: 0,
            cluster: self.identity.cluster(),
            zxid: zxid.0,
            at_ms: wall_ms,
            node: self.identity.node(),
            who: Vec::new(),
            session: None,
            op,
            path: path.to_owned(),
            set_by: None,
            reason: None,
            result: "ok",
            rule: None,
            why: None,
        }
    }

    fn push(&self, line: AuditLine) {
        let line = self.kept.lock().keep(line);
        if self.file.as_ref().is_some_and(|file| !file.push(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the lines that are kept after the one of this number, the oldest first, at most `limit`.
    pub(super) fn after(&self, seq: u64, limit: usize) -> Vec<Arc<AuditLine>> {
        let kept = self.kept.lock();
        let both = [&kept.done, &kept.denied].into_iter().flat_map(|ring| {
            let from = ring.partition_point(|line| line.seq <= seq);
            ring.range(from..).take(limit)
        });
        let mut lines: Vec<_> = both.cloned().collect();
        lines.sort_unstable_by_key(|line| line.seq);
        lines.truncate(limit);
        lines
    }

    /// Returns how many lines there were since the start, and how many were dropped before they reached the file.
    pub(super) fn counts(&self) -> (u64, u64) {
        let unwritten = self.file.as_ref().map_or(0, Writer::unwritten);
        (self.kept.lock().seq, self.dropped.load(Ordering::Relaxed) + unwritten)
    }

    /// Returns once everything so far is in the file; nothing reaches it afterwards. Blocks.
    pub(super) fn close(&self) {
        if let Some(file) = &self.file {
            file.close();
        }
    }
}

impl Node {
    /// Returns the lines of the audit that are kept in memory after the one of this number, the oldest first, at most
    /// `limit`.
    pub fn audit_after(&self, seq: u64, limit: usize) -> Vec<Arc<AuditLine>> {
        self.inner.stage.audit.after(seq, limit)
    }
}

/// What a policy does not allow.
pub(super) struct Denied<'a> {
    pub(super) authority: &'a [AclId],
    /// As [`AuditLine::op`] has it.
    pub(super) op: &'static str,
    pub(super) path: &'a str,
    pub(super) rule: &'a str,
    pub(super) why: &'a str,
    pub(super) is_enforced: bool,
}

fn is_own(path: &str) -> bool {
    // How instances stand is no doing of anybody, and may change often.
    path.starts_with(OWN) && !is_health_note(path)
}

/// Calls for an op, or for each op of a multi, with the reply to it.
fn each(op: &Op, reply: Option<&Reply>, act: &mut dyn FnMut(&Op, Option<&Reply>)) {
    match (op, reply) {
        (Op::Multi(ops), Some(Reply::Multi(replies))) => {
            ops.iter().zip(replies).for_each(|(op, reply)| act(op, Some(reply)));
        }
        (Op::Multi(ops), _) => ops.iter().for_each(|op| act(op, None)),
        (op, reply) => act(op, reply),
    }
}

type Attempt = (&'static str, String, Option<crate::types::Data>);

/// Returns what an op that was refused would have done to what is the registry's own, or that it would have deregistered.
fn attempt(op: &Op) -> Option<Attempt> {
    let (op, path, data) = match op {
        Op::Create { parent, name, data, .. } => ("create", format!("{parent}/{name}"), data),
        Op::SetData { path, data, .. } | Op::SetOwn { path, data } => {
            ("set", path.to_string(), data)
        }
        Op::SetAcl { path, .. } => ("set_acl", path.to_string(), &None),
        Op::Delete { path, .. } | Op::DeleteOwn { path } => ("delete", path.to_string(), &None),
        Op::Deregister { candidates } => {
            let (first, _) = candidates.first()?;
            return Some(("deregister", first.to_string(), None));
        }
        _ => return None,
    };
    is_own(&path).then(|| (op, path, data.clone()))
}

/// Returns what the data of a znode say of who set it and why.
fn says(data: Option<&[u8]>) -> (Option<String>, Option<String>) {
    let data = data.filter(|data| data.len() <= POLICY_BYTES_MAX);
    let json: Option<serde_json::Value> = data.and_then(|data| serde_json::from_slice(data).ok());
    let text = |name: &str| {
        let mut text = json.as_ref()?.get(name)?.as_str()?.to_owned();
        let mut ends = (0..=REASON_BYTES_MAX.min(text.len())).rev();
        let end = ends.find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        Some(text)
    };
    (text("set_by"), text("reason"))
}

/// Returns whom somebody has proved to be, for people: of a password neither that nor its hash.
fn names(authority: &[AclId]) -> Vec<String> {
    let name = |AclId { scheme, id }: &AclId| match (scheme.as_str(), id.as_str()) {
        (scheme, "") => scheme.to_owned(),
        ("digest", id) => format!("digest:{}", id.split(':').next().unwrap_or_default()),
        (scheme, id) => format!("{scheme}:{id}"),
    };
    authority.iter().take(AUDIT_WHO_MAX).map(name).collect()
}

#[cfg(test)]
#[path = "audit_test.rs"]
mod audit_test;
