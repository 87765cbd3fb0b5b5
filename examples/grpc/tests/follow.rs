//! The channel goes on following its service whatever becomes of the stream from the registry: that falls behind and is begun
//! anew, the registry starts again and does not remember so long, or remembers nothing at all.

// A registry in this process, and what can befall it; not everything of it is needed here.
#[path = "../../../tests/cluster/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../who.rs"]
mod who;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use harness::{Cluster, Setup, eventually};
use roost::client::Client;
use roost::client::model::{ServiceEvent, WatchedService};
use roost::node::{Node, Request};
use roost::peer::MemoryLinks;
use roost::sdk::{Discovery, Registry, Subscription, SubscriptionOptions};
use roost::types::{CreateMode, Data, Member, Op, SessionId, ZnodePath};
use roost::watch::Bounds;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use who::{Who, name};

const SERVICE: &str = "who";
const LIST: &str = "/services/who/providers";
/// What waits for a subscriber, and what the registry remembers: so little that both are easily too little.
const MAILBOX: usize = 2;
const RING: usize = 8;
/// How far apart a subscriber is told things, ms.
const WINDOW_MS: u64 = 100;
/// A call that nobody takes within this time is made again.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// So many calls in a row have to reach the same one.
const CALLS: usize = 4;
/// Longer than any test: no comparison of lists repairs what the stream has missed.
const NEVER: Duration = Duration::from_secs(3_600);

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

fn create(at: &str, data: Option<Data>) -> Op {
    let (parent, name) = (path(at).parent().unwrap(), path(at).name().to_owned());
    Op::Create { parent, name, data, acl: Vec::new(), mode: CreateMode::Persistent }
}

/// Carries out ops in order, without waiting for one before the next is submitted.
async fn write(node: &Node, ops: impl IntoIterator<Item = Op>) {
    let mut writing = Vec::new();
    for op in ops {
        let (session, authority) = (SessionId::NONE, Vec::new());
        let node = node.clone();
        let mut answer = Box::pin(async move {
            node.submit(Request { session, owner: None, authority, idempotency_key: None, op })
                .await
        });
        // It is taken up when it is polled first.
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(answer.as_mut().poll(context)));
        match polled.await {
            std::task::Poll::Ready(answer) => drop(answer.unwrap().result.unwrap()),
            std::task::Poll::Pending => writing.push(answer),
        }
    }
    for answer in writing {
        answer.await.unwrap().result.unwrap();
    }
}

/// A provider of the service, by whom a call of it says that it was answered.
struct Provider {
    addr: SocketAddr,
}

impl Provider {
    fn start(serving: &mut JoinSet<()>) -> Provider {
        let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let addr = incoming.local_addr().unwrap();
        let server = Server::builder().add_service(Who { name: addr.to_string() });
        serving.spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        Provider { addr }
    }

    fn at(&self) -> String {
        format!("{LIST}/{}", self.addr)
    }

    fn says(&self, weight: u32) -> Option<Data> {
        let (host, port) = (self.addr.ip(), self.addr.port());
        let says = format!(r#"{{"host":"{host}","port":{port},"weight":{weight}}}"#);
        Some(Data::new(says.as_bytes()))
    }

    fn comes(&self) -> Op {
        create(&self.at(), self.says(1))
    }

    fn goes(&self) -> Op {
        Op::Delete { path: path(&self.at()), version: None }
    }

    /// Returns changes of the provider that matter to nobody.
    fn stirs(&self) -> impl Iterator<Item = Op> {
        (2..2 + RING as u32 / 2).map(|weight| Op::SetData {
            path: path(&self.at()),
            data: self.says(weight),
            version: None,
        })
    }

    /// Returns the changes by which this one takes another's place, more than a subscriber or the registry keeps.
    fn replaces(&self, other: &Provider) -> Vec<Op> {
        let change = other.stirs().chain([self.comes(), other.goes()]);
        change.chain(self.stirs()).collect()
    }

    /// Waits until all calls reach this one.
    async fn is_called(&self, channel: &Channel) {
        let what = format!("{} alone is called", self.addr);
        eventually(&what, async || {
            for _ in 0..CALLS {
                match timeout(CALL_TIMEOUT, name(channel)).await {
                    Ok(Ok(name)) if name == self.addr.to_string() => {}
                    _ => return None,
                }
            }
            Some(())
        })
        .await;
    }
}

/// Opens the door of the registry at an address, on the node's own runtime: it ends with the node.
async fn open(cluster: &Cluster, at: SocketAddr) -> SocketAddr {
    let bound = async || TcpListener::bind(at).await.ok();
    let listener = eventually("the address of the door is free", bound).await;
    let (at, listener) = (listener.local_addr().unwrap(), listener.into_std().unwrap());
    let serve = move |node| async move {
        let listener = TcpListener::from_std(listener).unwrap();
        let (annex, closing) = (Arc::new(roost::http::NoAnnex), CancellationToken::new());
        tokio::spawn(roost::http::serve(listener, node, annex, closing));
    };
    cluster.on(1, serve).await;
    at
}

/// Makes the node a registry, with the list of the service.
async fn found(cluster: &Cluster, at: SocketAddr) {
    let member = Member { http_addr: at.to_string(), ..cluster.member(1) };
    cluster.on(1, move |node| async move { node.init(vec![member]).await }).await.unwrap();
    cluster.leader().await;
    let folders = ["/services", "/services/who", LIST].map(|folder| create(folder, None));
    write(&cluster.node(1), folders).await;
}

/// Returns what the registry first tells who has seen everything up to this zxid.
async fn told_since(at: SocketAddr, since: u64) -> ServiceEvent {
    let client = Client::new(vec![at.to_string()]).unwrap();
    let service = WatchedService { name: SERVICE.to_owned(), since: Some(since) };
    client.watch_services(&[service]).next().await.unwrap()
}

#[track_caller]
fn is_reset(told: &ServiceEvent, reason: &str) {
    assert!(matches!(told, ServiceEvent::Reset(reset) if reset.reason == reason), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_follows_its_service_through_resets_and_restarts_of_the_registry() {
    let bounds = Bounds { mailbox_messages_max: MAILBOX, ring_txns_max: RING, ..Bounds::default() };
    let setup = Setup { watch_bounds: bounds, window_ms: Some(WINDOW_MS), ..Setup::default() };
    let cluster = Cluster::empty(MemoryLinks::default(), setup);
    let mut node = cluster.boot(1).await;
    let at = open(&cluster, (Ipv4Addr::LOCALHOST, 0).into()).await;
    found(&cluster, at).await;
    let mut serving = JoinSet::new();
    let (one, other) = (Provider::start(&mut serving), Provider::start(&mut serving));
    write(&node, [one.comes()]).await;

    let registry = Registry::new("test", &[at.to_string()]).unwrap();
    let discovery = Discovery::Eager { wait: harness::PATIENCE, fail_fast: true };
    let options = SubscriptionOptions { discovery, compare: NEVER, ..Default::default() };
    let services = [SERVICE.to_owned()];
    let subscription = Subscription::start(&[registry], &services, options).await.unwrap();
    let channel = roost_grpc::channel(&subscription, SERVICE);
    one.is_called(&channel).await;

    // It falls behind: of what it has missed it is told by a new list alone.
    let overflows = |node: &Node| {
        let gauges = node.gauges();
        gauges.iter().find(|(name, ..)| *name == "roost_watch_overflows").unwrap().2
    };
    let (mut now, mut before) = (&one, &other);
    while overflows(&node) == 0.0 {
        (now, before) = (before, now);
        write(&node, now.replaces(before)).await;
    }
    now.is_called(&channel).await;

    // The registry starts again and has forgotten what the channel has missed meanwhile, which goes on with what it knows.
    let since = node.local().zxid().0;
    cluster.stop(1).await;
    now.is_called(&channel).await;
    node = cluster.boot(1).await;
    cluster.leader().await;
    (now, before) = (before, now);
    write(&node, now.replaces(before)).await;
    open(&cluster, at).await;
    is_reset(&told_since(at, since).await, "too_old");
    now.is_called(&channel).await;
    (now, before) = (before, now);
    write(&node, [now.comes(), before.goes()]).await;
    now.is_called(&channel).await;

    // It has lost everything, and counts anew.
    let since = node.local().zxid().0;
    cluster.stop(1).await;
    cluster.wipe(1);
    node = cluster.boot(1).await;
    found(&cluster, at).await;
    (now, before) = (before, now);
    write(&node, [now.comes()]).await;
    open(&cluster, at).await;
    is_reset(&told_since(at, since).await, "not_reached");
    now.is_called(&channel).await;
    write(&node, [before.comes(), now.goes()]).await;
    before.is_called(&channel).await;
}
