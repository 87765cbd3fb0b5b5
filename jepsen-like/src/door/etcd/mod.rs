//! etcd over its gateway, which speaks JSON: keys are paths, a session is a lease, a zxid a revision.
//!
//! Znodes that must be there or not are compared in a transaction, which reads as well what is needed to say why it was
//! refused. `json` knows the form of requests and answers; here is what is asked.

mod json;

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Client, Response};
use roost::client::model::Registration;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{
    Door, News, Providers, Reply, Session, State, Subscription, Trouble, name, providers_path,
};
use crate::check::set::Added;
use crate::history::kv::{KvAnswer, KvCall, Refusal};
use json::{below, changes, compare, decode, encode, get, int, kv, put, read, refusal, revision};

/// A line of a watch stream that is longer is no line of it.
const LINE_BYTES_MAX: usize = 16 << 20;

/// A client of one server.
#[derive(Clone, Debug)]
pub struct EtcdDoor {
    node: u8,
    url: String,
    http: Client,
    patience: Duration,
}

impl EtcdDoor {
    /// Returns a client of the server at an address. Connects to nothing yet.
    pub fn new(node: u8, addr: &str, patience: Duration) -> Result<EtcdDoor, String> {
        let http = Client::builder().connect_timeout(patience).no_proxy().build();
        let http = http.map_err(|err| err.to_string())?;
        Ok(EtcdDoor { node, url: format!("http://{addr}/v3/"), http, patience })
    }

    async fn send(&self, what: &str, body: &Value, is_write: bool) -> Reply<Response> {
        let sent = self.http.post(format!("{}{what}", self.url)).json(body).send().await;
        sent.map_err(|err| match err.is_connect() {
            true => Trouble::Failed(err.to_string()),
            false => Trouble::unanswered(is_write, err.to_string()),
        })
    }

    /// Asks, and returns the JSON of the answer.
    async fn ask(&self, what: &str, body: Value, is_write: bool) -> Reply<Value> {
        let lost = |why: String| Trouble::unanswered(is_write, why);
        let asking = async {
            let response = self.send(what, &body, is_write).await?;
            let is_success = response.status().is_success();
            let answer: Value = response.json().await.map_err(|err| lost(err.to_string()))?;
            if is_success && answer.get("error").is_none() {
                return Ok(answer);
            }
            Err(refusal(&answer, is_write))
        };
        timeout(self.patience, asking).await.unwrap_or_else(|_| Err(lost("silence".into())))
    }

    async fn range(&self, key: &str, end: Option<String>, is_stale: bool) -> Reply<Value> {
        let mut body = json!({ "key": encode(key), "serializable": is_stale });
        if let Some(end) = end {
            body["range_end"] = json!(encode(&end));
        }
        self.ask("kv/range", body, false).await
    }

    async fn txn(&self, compare: Value, success: Value, failure: Value) -> Reply<Value> {
        let body = json!({ "compare": compare, "success": success, "failure": failure });
        self.ask("kv/txn", body, true).await
    }

    /// Sets keys that are there, and this one only at this version if that is said.
    async fn set(&self, writes: &[(String, u64)], version: Option<i32>) -> Reply<KvAnswer> {
        let compare: Vec<Value> = writes
            .iter()
            .map(|(key, _)| match version {
                Some(version) => compare(key, "VERSION", "EQUAL", i64::from(version) + 1),
                None => compare(key, "VERSION", "GREATER", 0),
            })
            .collect();
        let puts = writes.iter().map(|(key, value)| put(key, value.to_string().as_bytes(), 0));
        let gets = writes.iter().map(|(key, _)| get(key));
        let success: Vec<Value> = puts.chain(gets.clone()).collect();
        let failure: Vec<Value> = gets.collect();
        let answer = self.txn(json!(compare), json!(success), json!(failure)).await?;
        let found = answer["responses"].as_array().cloned().unwrap_or_default();
        let found = found.iter().filter_map(|one| one.get("response_range"));
        let versions: Vec<Option<i32>> =
            found.map(|one| Some(kv(&one["kvs"][0])?.version)).collect();
        if answer["succeeded"] != json!(true) {
            let is_there = versions.iter().all(Option::is_some);
            let refusal = if is_there { Refusal::BadVersion } else { Refusal::NoNode };
            return Err(Trouble::Refused(refusal));
        }
        // Keys that are always set together have the same version.
        let first = versions.first().copied().flatten();
        let version = first.filter(|_| versions.iter().all(|version| *version == first));
        Ok(KvAnswer::Done { zxid: revision(&answer), version })
    }

    /// Creates a key that is not there.
    async fn create(&self, key: &str, value: &[u8], lease: i64) -> Reply<u64> {
        let absent = json!([compare(key, "CREATE", "EQUAL", 0)]);
        let answer = self.txn(absent, json!([put(key, value, lease)]), json!([])).await?;
        match answer["succeeded"] == json!(true) {
            true => Ok(revision(&answer)),
            false => Err(Trouble::Refused(Refusal::NodeExists)),
        }
    }

    async fn delete(&self, key: &str) -> Reply<u64> {
        let answer = self.ask("kv/deleterange", json!({ "key": encode(key) }), true).await?;
        match int(&answer["deleted"]) {
            0 => Err(Trouble::Refused(Refusal::NoNode)),
            _ => Ok(revision(&answer)),
        }
    }

    async fn carry_out(&self, call: &KvCall, seen_zxid: u64) -> Reply<KvAnswer> {
        match call {
            KvCall::Read { key } => read(&self.range(key, None, false).await?),
            KvCall::ReadStale { key } => {
                let answer = self.range(key, None, true).await?;
                match revision(&answer) >= seen_zxid {
                    true => read(&answer),
                    false => Err(Trouble::Failed("the server is behind".into())),
                }
            }
            KvCall::Create { key, value } => {
                let zxid = self.create(key, value.to_string().as_bytes(), 0).await?;
                Ok(KvAnswer::Done { zxid, version: Some(0) })
            }
            KvCall::Set { key, value } => self.set(&[(key.clone(), *value)], None).await,
            KvCall::Cas { key, version, to, .. } => {
                self.set(&[(key.clone(), *to)], Some(*version)).await
            }
            KvCall::Delete { key } => {
                Ok(KvAnswer::Done { zxid: self.delete(key).await?, version: None })
            }
            KvCall::SetAll { writes } => self.set(writes, None).await,
            KvCall::ReadAll { keys } => {
                let gets: Vec<Value> = keys.iter().map(|key| get(key)).collect();
                let answer = self.txn(json!([]), json!(gets), json!([])).await;
                // It reads only, whatever it is called.
                let answer = answer.map_err(|trouble| Trouble::Failed(trouble.to_string()))?;
                let found = answer["responses"].as_array().cloned().unwrap_or_default();
                let seen = found.iter().map(|one| kv(&one["response_range"]["kvs"][0])).collect();
                Ok(KvAnswer::ReadAll { zxid: revision(&answer), seen })
            }
        }
    }

    async fn list(&self, parent: &str, is_stale: bool) -> Reply<State> {
        let (first, end) = below(parent);
        let answer = self.range(&first, Some(end), is_stale).await?;
        let kvs = answer["kvs"].as_array().cloned().unwrap_or_default();
        let children = kvs.iter().filter_map(|kv| {
            Some((
                name(&String::from_utf8(decode(&kv["key"])).ok()?).to_owned(),
                decode(&kv["value"]),
            ))
        });
        Ok(State { zxid: revision(&answer), children: children.collect() })
    }

    /// Sends on what a watch says, until it breaks.
    async fn follow(
        self,
        parent: String,
        since: Option<u64>,
        sender: mpsc::Sender<Reply<News>>,
    ) -> Trouble {
        let deaf = || Trouble::Failed("nobody listens".into());
        let since = match since {
            Some(since) => since,
            None => match self.list(&parent, true).await {
                Ok(state) => {
                    let zxid = state.zxid;
                    if sender.send(Ok(News::Snapshot(state))).await.is_err() {
                        return deaf();
                    }
                    zxid
                }
                Err(trouble) => return trouble,
            },
        };
        let (first, end) = below(&parent);
        let body = json!({ "create_request": {
            "key": encode(&first), "range_end": encode(&end), "start_revision": (since + 1).to_string(),
        } });
        let mut response = match self.send("watch", &body, false).await {
            Ok(response) => response,
            Err(trouble) => return trouble,
        };
        let mut arrived: Vec<u8> = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if arrived.len() < LINE_BYTES_MAX => arrived.extend(&chunk),
                Ok(_) => return Trouble::Failed("the stream has ended".into()),
                Err(err) => return Trouble::Failed(err.to_string()),
            }
            while let Some(end) = arrived.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = arrived.drain(..=end).collect();
                let Ok(message) = serde_json::from_slice::<Value>(&line) else {
                    return Trouble::Failed("a line that is no JSON".into());
                };
                if message["result"]["canceled"] == json!(true) || message.get("error").is_some() {
                    return Trouble::Failed(format!("the watch was cancelled: {message}"));
                }
                for news in changes(&message["result"]["events"]) {
                    if sender.send(Ok(news)).await.is_err() {
                        return deaf();
                    }
                }
            }
        }
    }
}

fn lease(session: &Session) -> i64 {
    session.id.parse().unwrap_or(0)
}

impl Door for EtcdDoor {
    fn node(&self) -> u8 {
        self.node
    }

    fn ensure<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Reply<()>> {
        async { Ok(()) }.boxed()
    }

    fn kv<'a>(&'a self, call: &'a KvCall, seen_zxid: u64) -> BoxFuture<'a, Reply<KvAnswer>> {
        async move {
            match self.carry_out(call, seen_zxid).await? {
                // Of one that is not there no state is told but that of the answer.
                KvAnswer::Read { seen: None, .. } => Err(Trouble::Refused(Refusal::NoNode)),
                answer => Ok(answer),
            }
        }
        .boxed()
    }

    fn open(&self, timeout_ms: u64) -> BoxFuture<'_, Reply<Session>> {
        async move {
            let body = json!({ "TTL": timeout_ms.div_ceil(1_000).to_string() });
            let answer = self.ask("lease/grant", body, true).await?;
            let timeout_ms = u64::try_from(int(&answer["TTL"])).unwrap_or(0) * 1_000;
            Ok(Session { id: int(&answer["ID"]).to_string(), secret: Vec::new(), timeout_ms })
        }
        .boxed()
    }

    fn renew<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Reply<bool>> {
        async move {
            let body = json!({ "ID": session.id });
            let answer = self.ask("lease/keepalive", body, true).await?;
            match int(&answer["result"]["TTL"]) {
                0 => Err(Trouble::Expired),
                _ => Ok(true),
            }
        }
        .boxed()
    }

    fn close<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Reply<()>> {
        async move {
            let body = json!({ "ID": session.id });
            self.ask("lease/revoke", body, true).await.map(|_| ())
        }
        .boxed()
    }

    fn hold<'a>(&'a self, session: &'a Session, path: &'a str) -> BoxFuture<'a, Reply<u64>> {
        self.create(path, b"1", lease(session)).boxed()
    }

    fn release<'a>(&'a self, session: &'a Session, path: &'a str) -> BoxFuture<'a, Reply<u64>> {
        async move {
            let own = json!([compare(path, "LEASE", "EQUAL", lease(session))]);
            let delete = json!([{ "request_delete_range": { "key": encode(path) } }]);
            let answer = self.txn(own, delete, json!([])).await?;
            match answer["succeeded"] == json!(true) {
                true => Ok(revision(&answer)),
                false => Err(Trouble::Refused(Refusal::NoNode)),
            }
        }
        .boxed()
    }

    fn add<'a>(&'a self, _: &'a str, _: u64) -> BoxFuture<'a, Reply<Added>> {
        async { Err(Trouble::Denied("etcd has no sequential keys".into())) }.boxed()
    }

    fn children<'a>(&'a self, parent: &'a str, is_stale: bool) -> BoxFuture<'a, Reply<State>> {
        self.list(parent, is_stale).boxed()
    }

    fn watch(&self, parent: &str, since: Option<u64>) -> Subscription {
        let (door, parent) = (self.clone(), parent.to_owned());
        Subscription::start(move |sender| door.follow(parent, since, sender))
    }

    fn register<'a>(
        &'a self,
        session: &'a Session,
        service: &'a str,
        provider: &'a Registration,
    ) -> BoxFuture<'a, Reply<()>> {
        async move {
            let id = provider.id.as_deref().unwrap_or_default();
            let key = format!("{}/{id}", providers_path(service));
            let data =
                serde_json::to_vec(provider).map_err(|err| Trouble::Failed(err.to_string()))?;
            let put = json!([put(&key, &data, lease(session))]);
            self.txn(json!([]), put, json!([])).await.map(|_| ())
        }
        .boxed()
    }

    fn deregister<'a>(
        &'a self,
        _: Option<&'a Session>,
        service: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, Reply<()>> {
        async move { self.delete(&format!("{}/{id}", providers_path(service))).await.map(|_| ()) }
            .boxed()
    }

    fn providers<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Reply<Providers>> {
        async move { Ok(self.list(&providers_path(service), true).await?.into()) }.boxed()
    }
}
