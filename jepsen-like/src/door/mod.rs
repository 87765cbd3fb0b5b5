//! A client's way to one node: the same few words over whatever protocol the node speaks.
//!
//! Workloads are written once, against [`Door`]; so what they do to roost's HTTP door, to ZooKeeper's protocol and to
//! etcd differs only by what these protocols are. A door tries everything once: whether to ask again, and where, is the
//! workload's decision, in the open. What came of a request is an answer or a [`Trouble`], of which only two kinds say
//! that certainly nothing was done.
//!
//! | word | `http` | `zk` | `etcd` |
//! |---|---|---|---|
//! | linearizable read | `consistency=linearizable` | `sync`, then the read, on one connection | a range |
//! | stale read | `consistency=stale`, or `sequential` when a zxid must be reached | the read; the zxid is handed over when connecting | a serializable range; an answer that is too old is thrown away |
//! | zxid | zxid | zxid | revision |
//! | znode's version | version | version | version less 1 |
//! | session | a token, renewed by a request | a connection that is attached to it, kept by pings | a lease |
//! | several at once | multi | multi, multiRead | a transaction |
//! | sequential znodes | yes | yes | none |
//! | watch | a stream, resumed by zxid | a recursive watch that stays; after each event the children are read again | a stream, resumed by revision |
//! | a provider of a service | the registry API | an ephemeral with the same data | a key with a lease and the same data |
//!
//! What a renewal promises differs too, and [`Door::renew`] says it: a ping of ZooKeeper's protocol is answered by the
//! node alone, which may be cut off from who decides about sessions.
//!
//! What it deliberately lacks: retries, caches, and histories.

mod etcd;
mod http;
mod zk;

pub use etcd::EtcdDoor;
pub use http::HttpDoor;
pub use zk::ZkDoor;

use std::collections::BTreeMap;
use std::fmt;

use futures::FutureExt;
use futures::future::BoxFuture;
use roost::client::model::Registration;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::check::set::Added;
use crate::history::Outcome;
use crate::history::kv::{KvAnswer, KvCall, Refusal};
use crate::history::registry::Answered;

/// News of a subscription that nobody has taken yet; beyond it the stream is not read on.
const NEWS_MAX: usize = 1_024;

/// What came of a request.
pub type Reply<T> = Result<T, Trouble>;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The state did not allow it: an observation.
    Refused(Refusal),
    /// The session that it was for has ended.
    Expired,
    /// It was refused for another reason, and nothing was done; the node works.
    Denied(String),
    /// It certainly had and will have no effect, and says nothing of the state.
    Failed(String),
    /// It may have taken effect, or may yet.
    Unknown(String),
}

impl Trouble {
    /// Returns what is known of a request that was sent and not answered.
    pub fn unanswered(is_write: bool, why: String) -> Trouble {
        if is_write { Trouble::Unknown(why) } else { Trouble::Failed(why) }
    }

    /// Returns whether the node said anything at all.
    pub fn is_answer(&self) -> bool {
        matches!(self, Trouble::Refused(_) | Trouble::Expired | Trouble::Denied(_))
    }

    /// Returns it as the outcome of an op whose answers include no refusals.
    pub fn outcome<R>(&self) -> Outcome<R> {
        match self {
            Trouble::Unknown(why) => Outcome::Unknown(why.clone()),
            other => Outcome::Failed(other.to_string()),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused(refusal) => write!(f, "{refusal:?}"),
            Trouble::Expired => f.write_str("the session has expired"),
            Trouble::Denied(why) | Trouble::Failed(why) | Trouble::Unknown(why) => f.write_str(why),
        }
    }
}

/// Returns a reply as the registry's history counts it.
pub fn answered<T>(reply: &Reply<T>) -> Answered {
    match reply {
        Ok(_) => Answered::Ok,
        Err(Trouble::Failed(_)) => Answered::Failed,
        Err(Trouble::Unknown(_)) => Answered::Unknown,
        Err(_) => Answered::Refused,
    }
}

/// A session, good at every door of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: String,
    /// What proves to be its holder, in the form of the protocol.
    pub secret: Vec<u8>,
    /// Its timeout as the target has set it, ms.
    pub timeout_ms: u64,
}

/// The children of a znode with their data, of one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Which state.
    pub zxid: u64,
    /// The children by their names.
    pub children: BTreeMap<String, Vec<u8>>,
}

/// What a subscription says of the children of a znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// All of them.
    Snapshot(State),
    /// What one transaction did: names, and data or the absence of it.
    Change {
        /// The transaction.
        zxid: u64,
        /// What it did.
        changes: Vec<(String, Option<Vec<u8>>)>,
    },
    /// Changes were skipped; a snapshot follows.
    Reset,
    /// Everything up to this zxid has been told.
    Progress(u64),
}

/// A stream of news. It ends with a trouble; dropping it ends it too.
#[derive(Debug)]
pub struct Subscription {
    news: mpsc::Receiver<Reply<News>>,
    task: JoinHandle<()>,
}

impl Subscription {
    /// Starts a task that sends news until it returns why it cannot go on.
    fn start<F>(follow: impl FnOnce(mpsc::Sender<Reply<News>>) -> F) -> Subscription
    where
        F: Future<Output = Trouble> + Send + 'static,
    {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let following = follow(sender.clone());
        let task = tokio::spawn(async move {
            let trouble = following.await;
            // Nobody needs to hear it who is not there any more.
            let _ = sender.send(Err(trouble)).await;
        });
        Subscription { news, task }
    }

    /// Returns what is told next. May be dropped at any await and called again.
    pub async fn next(&mut self) -> Reply<News> {
        let ended = || Err(Trouble::Failed("the subscription has ended".into()));
        self.news.recv().await.unwrap_or_else(ended)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client's way to one node. Paths are absolute; values are numbers, written as text.
pub trait Door: Send + Sync {
    /// Returns the node, from 1.
    fn node(&self) -> u8;

    /// Creates a persistent znode with all above it, if it is not there.
    fn ensure<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Reply<()>>;

    /// Sends a request on registers. A stale read must not answer from a state before `seen_zxid`.
    fn kv<'a>(&'a self, call: &'a KvCall, seen_zxid: u64) -> BoxFuture<'a, Reply<KvAnswer>>;

    /// Opens a session.
    fn open(&self, timeout_ms: u64) -> BoxFuture<'_, Reply<Session>>;

    /// Keeps a session alive. Returns whether that promises it for a whole timeout from when this was sent: else it
    /// only says that the node is there.
    fn renew<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Reply<bool>>;

    /// Returns whether a renewal that is sent now would promise nothing, and only say that the node is there.
    fn only_pings<'a>(&'a self, _session: &'a Session) -> BoxFuture<'a, bool> {
        async { false }.boxed()
    }

    /// Ends a session.
    fn close<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Reply<()>>;

    /// Creates an ephemeral of a session and returns its czxid.
    fn hold<'a>(&'a self, session: &'a Session, path: &'a str) -> BoxFuture<'a, Reply<u64>>;

    /// Deletes what [`hold`](Door::hold) created and returns the zxid.
    fn release<'a>(&'a self, session: &'a Session, path: &'a str) -> BoxFuture<'a, Reply<u64>>;

    /// Creates a sequential znode below a path.
    fn add<'a>(&'a self, parent: &'a str, value: u64) -> BoxFuture<'a, Reply<Added>>;

    /// Returns the children of a znode, linearizably or of whatever state the node has.
    fn children<'a>(&'a self, parent: &'a str, is_stale: bool) -> BoxFuture<'a, Reply<State>>;

    /// Subscribes to the children of a znode and their data: from a snapshot, or from after a zxid if the protocol
    /// can.
    fn watch(&self, parent: &str, since: Option<u64>) -> Subscription;

    /// Registers a provider of a service with a session.
    fn register<'a>(
        &'a self,
        session: &'a Session,
        service: &'a str,
        provider: &'a Registration,
    ) -> BoxFuture<'a, Reply<()>>;

    /// Deregisters a provider: the session's own, or without a session anybody's.
    fn deregister<'a>(
        &'a self,
        session: Option<&'a Session>,
        service: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, Reply<()>>;

    /// Returns the providers of a service from whatever state the node has.
    fn providers<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Reply<Providers>>;
}

/// A service's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Providers {
    /// The state that it is from.
    pub zxid: u64,
    /// Where each is, by id.
    pub list: BTreeMap<String, Address>,
}

impl From<State> for Providers {
    /// Reads the znodes of a service's providers; those that are no provider's are left out.
    fn from(state: State) -> Providers {
        let entries = state.children.into_iter();
        let list = entries.filter_map(|(id, data)| Some((id, address(&data)?))).collect();
        Providers { zxid: state.zxid, list }
    }
}

/// Where a provider is: its port and its site.
pub type Address = (u16, u8);

/// Returns where the providers of a service have their znodes.
pub fn providers_path(service: &str) -> String {
    format!("/services/{service}/providers")
}

/// The fields of a provider's znode that a consumer needs.
#[derive(Deserialize)]
struct ProviderData {
    port: u16,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// Returns where a provider is, from the data of its znode; `None` if that is no provider's.
pub fn address(data: &[u8]) -> Option<Address> {
    let data: ProviderData = serde_json::from_slice(data).ok()?;
    Some((data.port, site(&data.metadata)))
}

fn site(metadata: &BTreeMap<String, String>) -> u8 {
    metadata.get("site").and_then(|site| site.parse().ok()).unwrap_or(1)
}

/// Returns the last element of a path.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Reads a value. What is no number was written by nobody: 0 is no value of a workload.
pub fn number(data: &[u8]) -> u64 {
    std::str::from_utf8(data).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}
