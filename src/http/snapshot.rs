use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::task::AbortOnDropHandle;

use super::dto::{Encoding, StatBody, data_out};
use crate::limits::SNAPSHOT_SENT_MS_MAX;
use crate::tree::{Tree, permits};
use crate::types::{AclId, Perms, ZnodePath};
use crate::watch::{Filter, WatchKind};

/// Size from which a piece goes out, bytes: large enough to be cheap, small enough that one is soon written.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// Returns the name of a kind in URLs and JSON.
pub(crate) fn kind_name(kind: WatchKind) -> &'static str {
    match kind {
        WatchKind::Data => "data",
        WatchKind::Children => "children",
        WatchKind::ChildrenData => "children_data",
        WatchKind::Subtree => "subtree",
    }
}

/// The JSON of what some filters see of one state, written piece by piece, so that a subtree of any size
/// takes neither the memory of its text nor a long stretch of a thread. Znodes that the authority may not
/// read are left out.
pub(crate) struct SnapshotText {
    tree: Arc<Tree>,
    authority: Arc<[AclId]>,
    /// What is left to write; the front one has begun when `at` is set.
    filters: VecDeque<Filter>,
    at: Progress,
}

/// How far the text has come.
enum Progress {
    /// Nothing is written.
    Head,
    /// Before the front filter.
    Between { first: bool },
    /// Within the front filter, after this znode, if any.
    Within { after: Option<ZnodePath>, first: bool },
    /// All is written.
    End,
}

#[derive(Serialize)]
struct ItemBody<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Option<std::borrow::Cow<'a, str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
    stat: StatBody,
}

impl SnapshotText {
    /// Begins the text of what these filters see of this state.
    pub(crate) fn new(
        tree: Arc<Tree>,
        filters: Vec<Filter>,
        authority: Arc<[AclId]>,
    ) -> SnapshotText {
        SnapshotText { tree, authority, filters: filters.into(), at: Progress::Head }
    }

    /// Appends the next piece to `out`. Returns whether there is more.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) -> bool {
        let begun = out.len();
        while out.len() - begun < PIECE_BYTES {
            self.step(out);
            if matches!(self.at, Progress::End) {
                return false;
            }
        }
        true
    }

    /// Appends the smallest unit: a bracket, the head of a filter, a znode.
    fn step(&mut self, out: &mut Vec<u8>) {
        self.at = match std::mem::replace(&mut self.at, Progress::End) {
            Progress::Head => {
                put(out, format_args!("{{\"zxid\":{},\"watches\":[", self.tree.zxid()));
                Progress::Between { first: true }
            }
            Progress::Between { first } => match self.filters.front() {
                None => {
                    out.extend_from_slice(b"]}");
                    Progress::End
                }
                Some(filter) => {
                    let exists = self.tree.get(filter.path.as_str()).is_some();
                    let comma = if first { "" } else { "," };
                    let kind = kind_name(filter.kind);
                    put(out, format_args!("{comma}{{\"kind\":\"{kind}\",\"path\":"));
                    json(out, filter.path.as_str());
                    put(out, format_args!(",\"exists\":{exists},\"znodes\":["));
                    Progress::Within { after: None, first: true }
                }
            },
            Progress::Within { after, first } => match self.next(after.as_ref()) {
                None => {
                    out.extend_from_slice(b"]}");
                    self.filters.pop_front();
                    Progress::Between { first: false }
                }
                Some(path) => {
                    let written = self.znode(&path, first, out);
                    Progress::Within { after: Some(path), first: first && !written }
                }
            },
            Progress::End => Progress::End,
        };
    }

    /// Returns the znode that follows `after` in what the front filter sees. Cost: O(depth · log n).
    fn next(&self, after: Option<&ZnodePath>) -> Option<ZnodePath> {
        let filter = self.filters.front()?;
        let top = filter.path.as_str();
        match (filter.kind, after) {
            (WatchKind::Data | WatchKind::Subtree, None) => Some(filter.path.clone()),
            (WatchKind::Data, Some(_)) => None,
            (WatchKind::Children | WatchKind::ChildrenData, None) => {
                let parent = self.tree.get(top)?;
                let open = permits(parent.acl(), &self.authority, Perms::READ);
                parent.children().next().filter(|_| open).cloned()
            }
            (WatchKind::Children | WatchKind::ChildrenData, Some(after)) => {
                self.tree.get(top)?.children_after(after.as_str()).next().cloned()
            }
            (WatchKind::Subtree, Some(after)) => preorder(&self.tree, top, after),
        }
    }

    /// Appends one znode unless it does not exist or is not the reader's to see. Returns whether it did.
    fn znode(&self, path: &ZnodePath, first: bool, out: &mut Vec<u8>) -> bool {
        let Some(znode) = self.tree.get(path.as_str()) else { return false };
        if !permits(znode.acl(), &self.authority, Perms::READ) {
            return false;
        }
        let with_data =
            self.filters.front().is_some_and(|filter| filter.kind != WatchKind::Children);
        let (data, encoding) = if with_data { data_out(znode.data()) } else { (None, None) };
        let data = with_data.then_some(data);
        if !first {
            out.push(b',');
        }
        let stat = StatBody::from(&znode.stat());
        json(out, &ItemBody { path: path.as_str(), data, encoding, stat });
        true
    }
}

/// A snapshot on its way to a client, which may take [`SNAPSHOT_SENT_MS_MAX`]: until its last piece is written it keeps a
/// whole state in memory, and a client that does not read would have it kept for ever.
pub(crate) struct Sending {
    text: Arc<Mutex<Option<SnapshotText>>>,
    timer: Option<AbortOnDropHandle<()>>,
}

/// The client has not read its snapshot in time; the rest of it is gone.
#[derive(Debug)]
pub(crate) struct TooSlow;

impl Sending {
    /// Begins to send a text.
    pub(crate) fn new(text: SnapshotText) -> Sending {
        Sending { text: Arc::new(Mutex::new(Some(text))), timer: None }
    }

    /// Appends the next piece to `out`. Returns whether there is more.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) -> Result<bool, TooSlow> {
        let mut text = self.text.lock();
        let more = text.as_mut().ok_or(TooSlow)?.write(out);
        if !more {
            *text = None;
            self.timer = None;
        } else if self.timer.is_none() {
            // Whoever does not read does not make this being called either.
            let text = self.text.clone();
            self.timer = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(SNAPSHOT_SENT_MS_MAX)).await;
                drop(text.lock().take());
            })));
        }
        Ok(more)
    }
}

/// Returns what follows a znode when those below `top` are walked parents first.
fn preorder(tree: &Tree, top: &str, after: &ZnodePath) -> Option<ZnodePath> {
    if let Some(child) = tree.get(after.as_str()).and_then(|znode| znode.children().next()) {
        return Some(child.clone());
    }
    let mut at = after.as_str();
    for parent in after.self_and_ancestors().skip(1) {
        if at == top {
            return None;
        }
        if let Some(sibling) = tree.get(parent)?.children_after(at).next() {
            return Some(sibling.clone());
        }
        at = parent;
    }
    None
}

/// Appends formatted text.
pub(crate) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes everything");
}

/// Appends a value as JSON.
pub(crate) fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("the door's own answers always encode");
}

/// Takes all of `out` as one piece of a body.
pub(crate) fn piece(out: &mut Vec<u8>) -> Bytes {
    Bytes::from(std::mem::take(out))
}
