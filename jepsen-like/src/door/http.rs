//! roost's HTTP API, which the AP registry speaks in part.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use roost::client::model::{
    ChangeKind, Create, Mode, MultiOp, Payload, Registration, Stat, WatchEvent,
};
use roost::client::{Client, Error, ReadOptions, WatchFilter, WatchKind};
use tokio::sync::mpsc;

use super::{
    Address, Door, News, Providers, Reply, Session, State, Subscription, Trouble, name, number,
    site,
};
use crate::check::set::Added;
use crate::history::kv::{KvAnswer, KvCall, Refusal, Seen};

/// A client of one node over HTTP.
#[derive(Clone, Debug)]
pub struct HttpDoor {
    node: u8,
    client: Client,
}

impl HttpDoor {
    /// Returns a client of the node at an endpoint, whose every call is one request.
    pub fn new(node: u8, endpoint: &str, timeout: Duration) -> Result<HttpDoor, String> {
        let client = Client::new(vec![endpoint.to_owned()]).map_err(|err| err.to_string())?;
        Ok(HttpDoor { node, client: client.with_timeout(timeout).impatient() })
    }

    fn within(&self, session: &Session) -> Client {
        self.client.with_session(&token(session))
    }

    async fn carry_out(&self, call: &KvCall, seen_zxid: u64) -> Result<KvAnswer, Error> {
        let client = &self.client;
        let stale = match seen_zxid {
            0 => ReadOptions::Stale,
            min_zxid => ReadOptions::Sequential { min_zxid },
        };
        match call {
            KvCall::Read { key } => read(client, key, ReadOptions::Linearizable).await,
            KvCall::ReadStale { key } => read(client, key, stale).await,
            KvCall::Create { key, value } => {
                let data = value.to_string().into_bytes();
                let create = Create { path: key.clone(), data, ..Create::default() };
                let created = client.create(&create).await?;
                Ok(KvAnswer::Done { zxid: created.zxid, version: Some(created.stat.version) })
            }
            KvCall::Set { key, value } => set(client, key, *value, None).await,
            KvCall::Cas { key, version, to, .. } => set(client, key, *to, Some(*version)).await,
            KvCall::Delete { key } => {
                let deleted = client.delete(key, None).await?;
                Ok(KvAnswer::Done { zxid: deleted.zxid, version: None })
            }
            KvCall::SetAll { writes } => set_all(client, writes).await,
            KvCall::ReadAll { keys } => {
                // A list of the parent's children with their data is of one state.
                let first = keys.first().map_or("/", String::as_str);
                let parent = &first[..first.len() - name(first).len() - 1];
                let linearizable = ReadOptions::Linearizable;
                let children = client.children(parent, true, true, linearizable).await?;
                let seen = keys.iter().map(|key| {
                    let child = children.children.iter().find(|child| child.name == name(key))?;
                    seen(&child.payload, child.stat.as_ref()?)
                });
                Ok(KvAnswer::ReadAll { zxid: children.zxid, seen: seen.collect() })
            }
        }
    }
}

fn token(session: &Session) -> String {
    String::from_utf8_lossy(&session.secret).into_owned()
}

/// Returns what is known of a request after its error.
fn trouble(error: &Error, is_write: bool) -> Trouble {
    let why = error.to_string();
    match error.code() {
        "no_node" => return Trouble::Refused(Refusal::NoNode),
        "node_exists" => return Trouble::Refused(Refusal::NodeExists),
        "bad_version" => return Trouble::Refused(Refusal::BadVersion),
        "session_expired" => return Trouble::Expired,
        _ => {}
    }
    match error {
        // It was not accepted: nothing of it was done.
        Error::Refused(refusal) if refusal.status == 429 => Trouble::Failed(why),
        Error::Refused(refusal) if refusal.status < 500 => Trouble::Denied(why),
        Error::Refused(refusal) if refusal.code == "no_leader" => Trouble::Failed(why),
        Error::Unreachable(_) | Error::Invalid(_) => Trouble::Failed(why),
        _ => Trouble::unanswered(is_write, why),
    }
}

fn is_read(call: &KvCall) -> bool {
    matches!(call, KvCall::Read { .. } | KvCall::ReadStale { .. } | KvCall::ReadAll { .. })
}

async fn read(client: &Client, key: &str, options: ReadOptions) -> Result<KvAnswer, Error> {
    let znode = client.get(key, options).await?;
    Ok(KvAnswer::Read { zxid: znode.zxid, seen: seen(&znode.payload, &znode.stat) })
}

fn seen(payload: &Payload, stat: &Stat) -> Option<Seen> {
    let value = number(payload.0.as_deref()?);
    Some(Seen { value, version: stat.version, czxid: stat.czxid, mzxid: stat.mzxid })
}

async fn set(
    client: &Client,
    key: &str,
    value: u64,
    version: Option<i32>,
) -> Result<KvAnswer, Error> {
    let changed = client.set(key, value.to_string().into_bytes(), version).await?;
    Ok(KvAnswer::Done { zxid: changed.zxid, version: Some(changed.stat.version) })
}

async fn set_all(client: &Client, writes: &[(String, u64)]) -> Result<KvAnswer, Error> {
    let op = |(path, value): &(String, u64)| MultiOp::Set {
        path: path.clone(),
        payload: Payload(Some(value.to_string().into_bytes())),
        version: None,
    };
    let done = client.multi(&writes.iter().map(op).collect::<Vec<_>>()).await?;
    // Znodes that are always set together have the same version.
    let mut versions = done.results.iter().map(|one| one.stat.as_ref().map(|stat| stat.version));
    let first = versions.next().flatten();
    let version = first.filter(|_| versions.all(|version| version == first));
    Ok(KvAnswer::Done { zxid: done.zxid, version })
}

/// Sends on what a stream says, until it breaks.
async fn follow(
    client: Client,
    parent: String,
    since: Option<u64>,
    sender: mpsc::Sender<Reply<News>>,
) -> Trouble {
    let filter = WatchFilter { kind: WatchKind::ChildrenData, path: parent.clone() };
    let mut watch = client.watch(&[filter], since);
    loop {
        let news = match watch.next().await {
            Ok(event) => news(event, &parent),
            Err(error) => return trouble(&error, false),
        };
        if sender.send(Ok(news)).await.is_err() {
            return Trouble::Failed("nobody listens".into());
        }
    }
}

fn news(event: WatchEvent, parent: &str) -> News {
    match event {
        WatchEvent::Snapshot(snapshot) => {
            let znodes = snapshot.watches.into_iter().flat_map(|watch| watch.znodes);
            let children = znodes
                .map(|znode| (name(&znode.path).to_owned(), znode.payload.0.unwrap_or_default()));
            News::Snapshot(State { zxid: snapshot.zxid, children: children.collect() })
        }
        WatchEvent::Change(change) => {
            // Whoever subscribes where the parent is not there yet is told of that too, which is no child.
            let children = change.changes.into_iter().filter(|change| change.path != parent);
            let changes = children.map(|change| {
                let is_gone = change.kind == ChangeKind::Deleted;
                let data = (!is_gone).then(|| change.payload.0.unwrap_or_default());
                (name(&change.path).to_owned(), data)
            });
            News::Change { zxid: change.zxid, changes: changes.collect() }
        }
        WatchEvent::Reset(_) => News::Reset,
        WatchEvent::Progress { zxid } => News::Progress(zxid),
    }
}

impl Door for HttpDoor {
    fn node(&self) -> u8 {
        self.node
    }

    fn ensure<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Reply<()>> {
        async move {
            let create = Create { path: path.to_owned(), parents: true, ..Create::default() };
            match self.client.create(&create).await {
                Err(error) if !error.is("node_exists") => Err(trouble(&error, true)),
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn kv<'a>(&'a self, call: &'a KvCall, seen_zxid: u64) -> BoxFuture<'a, Reply<KvAnswer>> {
        async move {
            let result = self.carry_out(call, seen_zxid).await;
            result.map_err(|error| trouble(&error, !is_read(call)))
        }
        .boxed()
    }

    fn open(&self, timeout_ms: u64) -> BoxFuture<'_, Reply<Session>> {
        async move {
            let opened = self.client.open_session(timeout_ms).await;
            let opened = opened.map_err(|error| trouble(&error, true))?;
            let secret = opened.token.into_bytes();
            Ok(Session { id: opened.session, secret, timeout_ms: opened.timeout_ms })
        }
        .boxed()
    }

    fn renew<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Reply<bool>> {
        async move {
            let renewed = self.client.renew_session(&token(session)).await;
            renewed.map(|_| true).map_err(|error| trouble(&error, true))
        }
        .boxed()
    }

    fn close<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Reply<()>> {
        async move {
            let closed = self.client.close_session(&token(session)).await;
            closed.map(|_| ()).map_err(|error| trouble(&error, true))
        }
        .boxed()
    }

    fn hold<'a>(&'a self, session: &'a Session, path: &'a str) -> BoxFuture<'a, Reply<u64>> {
        async move {
            let (path, mode) = (path.to_owned(), Mode::Ephemeral);
            let create = Create { path, mode, ..Create::default() };
            let created = self.within(session).create(&create).await;
            created.map(|created| created.zxid).map_err(|error| trouble(&error, true))
        }
        .boxed()
    }

    fn release<'a>(&'a self, session: &'a Session, path: &'a str) -> BoxFuture<'a, Reply<u64>> {
        async move {
            let deleted = self.within(session).delete(path, None).await;
            deleted.map(|done| done.zxid).map_err(|error| trouble(&error, true))
        }
        .boxed()
    }

    fn add<'a>(&'a self, parent: &'a str, value: u64) -> BoxFuture<'a, Reply<Added>> {
        async move {
            let (path, data) = (format!("{parent}/e-"), value.to_string().into_bytes());
            let create = Create { path, data, sequential: true, ..Create::default() };
            let created = self.client.create(&create).await;
            let created = created.map_err(|error| trouble(&error, true))?;
            Ok(Added { name: name(&created.path).to_owned(), zxid: created.zxid })
        }
        .boxed()
    }

    fn children<'a>(&'a self, parent: &'a str, is_stale: bool) -> BoxFuture<'a, Reply<State>> {
        async move {
            let options = if is_stale { ReadOptions::Stale } else { ReadOptions::Linearizable };
            let found = self.client.children(parent, true, false, options).await;
            let found = found.map_err(|error| trouble(&error, false))?;
            let children = found.children.into_iter();
            let children =
                children.map(|child| (child.name, child.payload.0.unwrap_or_default())).collect();
            Ok(State { zxid: found.zxid, children })
        }
        .boxed()
    }

    fn watch(&self, parent: &str, since: Option<u64>) -> Subscription {
        let (client, parent) = (self.client.clone(), parent.to_owned());
        Subscription::start(move |sender| follow(client, parent, since, sender))
    }

    fn register<'a>(
        &'a self,
        session: &'a Session,
        service: &'a str,
        provider: &'a Registration,
    ) -> BoxFuture<'a, Reply<()>> {
        async move {
            let registered = self.within(session).register(service, provider).await;
            registered.map(|_| ()).map_err(|error| trouble(&error, true))
        }
        .boxed()
    }

    fn deregister<'a>(
        &'a self,
        session: Option<&'a Session>,
        service: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, Reply<()>> {
        async move {
            let gone = match session {
                Some(session) => self.within(session).deregister(service, id, false).await,
                None => self.client.deregister(service, id, true).await,
            };
            gone.map(|_| ()).map_err(|error| trouble(&error, true))
        }
        .boxed()
    }

    fn providers<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Reply<Providers>> {
        async move {
            let found = self.client.service_with(service, ReadOptions::Stale).await;
            let found = found.map_err(|error| trouble(&error, false))?;
            let entry =
                |one: roost::client::model::Provider| (one.id, (one.port, site(&one.metadata)));
            let list: BTreeMap<String, Address> = found.providers.into_iter().map(entry).collect();
            Ok(Providers { zxid: found.zxid, list })
        }
        .boxed()
    }
}
