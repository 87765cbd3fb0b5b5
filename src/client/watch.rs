use std::fmt;

use super::call::encode_path;
use super::error::Error;
use super::model::WatchEvent;
use super::request::Client;
use super::sse::SseMessage;
use super::stream::{Resumable, Resume, Stream, parse, progress};

/// What to watch of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// The znode's own data.
    Data,
    /// The coming and going of its children.
    Children,
    /// Its children and their data.
    ChildrenData,
    /// The znode and everything below it.
    Subtree,
}

impl WatchKind {
    /// Returns the name in requests.
    pub fn name(self) -> &'static str {
        match self {
            WatchKind::Data => "data",
            WatchKind::Children => "children",
            WatchKind::ChildrenData => "children_data",
            WatchKind::Subtree => "subtree",
        }
    }
}

/// One thing to watch. Its text form is `kind:path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchFilter {
    /// What of the path.
    pub kind: WatchKind,
    /// The path.
    pub path: String,
}

impl fmt::Display for WatchFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.path)
    }
}

/// A subscription that outlives its connections. Dropping it ends it.
#[derive(Debug)]
pub struct Watch(Stream<WatchEvent>);

impl Client {
    /// Returns a subscription to these paths: first a snapshot, or with `since` the changes after that zxid.
    /// Connects at the first [`next`](Watch::next).
    pub fn watch(&self, filters: &[WatchFilter], since: Option<u64>) -> Watch {
        let one = |filter: &WatchFilter| format!("watch={}", encode_path(&filter.to_string()));
        let query = filters.iter().map(one).collect::<Vec<_>>().join("&");
        Watch(Stream::new(self, format!("/v1/watch?{query}"), None, since, interpret))
    }
}

impl Watch {
    /// Returns the zxid up to which everything has been handed out: what `since` of a later watch should be.
    pub fn since(&self) -> Option<u64> {
        self.0.since()
    }

    /// Returns the next event, however long it takes while connected; a broken connection is replaced by one
    /// to the next endpoint without the caller noticing. Errors: `unreachable` when there was no connection
    /// for the client's timeout, or at any endpoint if the client is [impatient](Client::impatient) (calling
    /// again goes on trying, nothing is lost), or the cluster's refusal.
    /// May be dropped at any await and called again.
    pub async fn next(&mut self) -> Result<WatchEvent, Error> {
        self.0.next().await
    }
}

fn interpret(message: &SseMessage) -> Result<Option<Resumable<WatchEvent>>, Error> {
    let event = match message.event.as_str() {
        "snapshot" => WatchEvent::Snapshot(parse(message)?),
        "change" => WatchEvent::Change(parse(message)?),
        "reset" => WatchEvent::Reset(parse(message)?),
        "progress" => WatchEvent::Progress { zxid: progress(message)? },
        _ => return Ok(None),
    };
    let resume = match &event {
        WatchEvent::Snapshot(snapshot) => Resume::After(snapshot.zxid),
        WatchEvent::Change(change) => Resume::After(change.zxid),
        WatchEvent::Progress { zxid } => Resume::After(*zxid),
        // A connection that breaks before the promised snapshot must ask for it again.
        WatchEvent::Reset(_) => Resume::Anew,
    };
    Ok(Some((resume, event)))
}
