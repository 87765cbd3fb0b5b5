//! Providers and consumers that use the SDK, against real nodes that are killed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use roost::client::model::{ChangeKind, Create, Mode, Registration, WatchEvent};
use roost::client::{Client, WatchFilter, WatchKind};
use roost::sdk::{
    Discovery, DiskCache, Instance, LookupError, PoolOptions, Registrar, RegistrarOptions,
    RegistrationState, Registry, Service, ServicePool, SessionStore, ShutdownOptions, Subscription,
    SubscriptionOptions, sign,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Cluster, Process, eventually, log_in};

const PATIENCE: Duration = Duration::from_secs(60);

fn registry(name: &str, cluster: &Cluster) -> Registry {
    Registry::new(name, &cluster.endpoints_from(0)).unwrap()
}

fn service(name: &str, port: u16) -> Service {
    let registration =
        Registration { host: "127.0.0.1".to_owned(), port, ..Registration::default() };
    Service { name: name.to_owned(), registration }
}

fn short() -> RegistrarOptions {
    RegistrarOptions { ttl: Duration::from_secs(1), ..RegistrarOptions::default() }
}

fn ids(subscription: &Subscription, service: &str) -> Vec<String> {
    let found = subscription.providers(service);
    found.map_or_else(
        |_| Vec::new(),
        |found| found.instances.iter().map(|one| one.id.clone()).collect(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_back_after_the_registry_was_away_for_longer_than_its_ttl_and_is_never_doubled()
 {
    let mut cluster = Cluster::start(1).await;
    let registrar =
        Registrar::start(&[registry("a", &cluster)], vec![service("web", 9001)], &short());
    registrar.registered(PATIENCE).await.unwrap();
    let before = cluster.client_from(0).service("web").await.unwrap().providers;
    cluster.nodes[0].kill9();
    // The alarm comes when a whole ttl has passed without a renewal.
    let mut states = registrar.states();
    let lost = states.wait_for(|all| matches!(all[0].1, RegistrationState::Lost(_)));
    tokio::time::timeout(PATIENCE, lost).await.unwrap().unwrap();
    cluster.nodes[0].spawn();
    cluster.nodes[0].ready().await;
    registrar.registered(PATIENCE).await.unwrap();
    let client = cluster.client_from(0);
    let after = client.service("web").await.unwrap().providers;
    assert_eq!((after.len(), &after[0].id), (1, &before[0].id));

    // And when its session was ended behind its back, it is there again under the same id.
    let session = after[0].session.clone().unwrap();
    let force = client.deregister("web", &after[0].id, true).await;
    assert!(force.is_ok());
    let left = registrar.withdraw().await;
    assert!(left[0].error.is_none(), "{left:?}");
    assert!(client.session(&session).await.is_err(), "nothing is left of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_crashed_and_starts_anew_is_the_same_one_without_a_moment_between() {
    let cluster = Cluster::start(1).await;
    // Far longer than this test: nothing expires here.
    let run = || {
        let sessions = SessionStore::open(&cluster.dir.path().join("sessions")).unwrap();
        let options =
            RegistrarOptions { ttl: PATIENCE * 5, sessions, ..RegistrarOptions::default() };
        let services = vec![service("web", 9001), service("api", 9002)];
        Registrar::start(&[registry("a", &cluster)], services, &options)
    };
    let client = cluster.client_from(0);
    let path = "/services/web/providers".to_owned();
    let filter = WatchFilter { kind: WatchKind::ChildrenData, path };
    let first = run();
    first.registered(PATIENCE).await.unwrap();
    let before = client.service("web").await.unwrap().providers;
    let mut watch = client.watch(&[filter], None);
    assert!(matches!(watch.next().await, Ok(WatchEvent::Snapshot(_))));
    drop(first);

    let second = run();
    second.registered(PATIENCE).await.unwrap();
    let after = client.service("web").await.unwrap();
    assert_eq!((after.providers.len(), &after.providers[0].id), (1, &before[0].id));
    assert!(after.providers[0].session != before[0].session);
    assert!(after.providers[0].czxid > before[0].czxid, "it is another process");
    loop {
        match watch.next().await.unwrap() {
            WatchEvent::Change(change) => {
                let kinds: Vec<ChangeKind> = change.changes.iter().map(|it| it.kind).collect();
                assert_eq!(kinds, [ChangeKind::Deleted, ChangeKind::Created], "at once");
                break;
            }
            event => assert!(matches!(event, WatchEvent::Progress { .. }), "{event:?}"),
        }
    }
    // The other one likewise: nothing is left to the session of the run that crashed.
    let session = client.session(&before[0].session.clone().unwrap()).await.unwrap();
    assert!(session.ephemerals.is_empty(), "{session:?}");
    second.withdraw().await;
    assert!(client.service("web").await.unwrap().providers.is_empty());
}

/// Set in the process that is a provider for the test below.
const PROVIDER_OF: &str = "ROOST_TEST_PROVIDER_OF";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_provider_that_nobody_registers_ends_and_says_why() {
    if let Ok(seed) = std::env::var(PROVIDER_OF) {
        let registry = Registry::new("a", &[seed]).unwrap();
        let exit_if_cannot_register = Some(Duration::from_millis(300));
        let options = RegistrarOptions { exit_if_cannot_register, ..RegistrarOptions::default() };
        let registrar = Registrar::start(&[registry], vec![service("web", 9001)], &options);
        registrar.registered(PATIENCE).await.unwrap();
        println!("it was registered");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = "sdk::a_new_provider_that_nobody_registers_ends_and_says_why";
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    // Nobody listens at port 1 of an address of the loopback network that nobody uses.
    command.args(["--exact", name, "--nocapture"]).env(PROVIDER_OF, "127.255.255.254:1");
    let mut provider = Process::spawn(command, &log_in(dir.path(), "provider.log"));
    assert_eq!(provider.exit().await.code(), Some(1), "{}", provider.output());
    let said = "roost: not registered within 300 ms, so this process ends: unreachable: ";
    assert!(provider.output().contains(said), "{}", provider.output());
    assert!(!provider.output().contains("test result"), "it ended itself: {}", provider.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_of_every_layout_are_followed_and_called() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client_from(0);
    let dubbo = "dubbo%3A%2F%2F10.0.0.1%3A20880%2FPay%3Fweight%3D7%26side%3Dprovider";
    let spring = |status: &str| {
        format!(
            r#"{{"address":"10.0.0.2","port":8080,"payload":{{"@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance",
               "metadata":{{"instance_status":"{status}"}}}}}}"#
        )
    };
    let all = [
        ("Pay", "dubbo", format!("/dubbo/Pay/providers/{dubbo}"), String::new()),
        ("shop", "spring", "/services/shop/5c8a".to_owned(), spring("UP")),
        (
            "k",
            "kratos",
            "/microservices/k/k1".to_owned(),
            r#"{"endpoints":["grpc://10.0.0.3:9000"]}"#.to_owned(),
        ),
        (
            "role/job",
            "serverset",
            "/serverset/role/job/member_0000000001".to_owned(),
            r#"{"serviceEndpoint":{"host":"10.0.0.4","port":1},"status":"ALIVE"}"#.to_owned(),
        ),
        (
            "web",
            "roost",
            "/services/web/providers/w".to_owned(),
            r#"{"host":"10.0.0.5","port":1}"#.to_owned(),
        ),
        // Its place has a group, which nobody can guess: it is found by the sign.
        (
            "s",
            "motan",
            "/motan/g/s/server/10.0.0.6:8002".to_owned(),
            "motan://10.0.0.6:8002/s?weight=3".to_owned(),
        ),
    ];
    let services: Vec<String> = all.iter().map(|(name, ..)| (*name).to_owned()).collect();
    let options = SubscriptionOptions {
        discovery: Discovery::Eager { wait: PATIENCE, fail_fast: true },
        compare: Duration::from_millis(500),
        guard: Duration::ZERO,
        ..SubscriptionOptions::default()
    };
    let subscription =
        Subscription::start(&[registry("a", &cluster)], &services, options).await.unwrap();
    for name in &services {
        assert_eq!(subscription.providers(name), Err(LookupError::Empty { service: name.clone() }));
    }
    let create = async |path: &str, data: &str| {
        let (path, data) = (path.to_owned(), data.as_bytes().to_vec());
        client.create(&Create { path, data, parents: true, ..Create::default() }).await.unwrap();
    };
    for (_, _, path, data) in &all {
        create(path, data).await;
    }
    for (name, layout, path, _) in &all {
        let one = eventually("its instance", async || {
            Some(subscription.providers(name).ok()?.instances[0].clone())
        })
        .await;
        assert_eq!((one.layout.as_str(), &one.path), (*layout, path));
        let weight = match *layout {
            "dubbo" => 7,
            "motan" => 3,
            _ => 100,
        };
        assert_eq!(one.weight, weight, "{name}");
    }
    // What is no instance is nobody to call, and no reason to ask for the list again and again.
    create("/services/shop/broken", "10.0.0.1:80").await;
    let shop = ServicePool::new(&subscription, "shop", PoolOptions::default());
    assert_eq!(shop.pick().unwrap().addr(), "10.0.0.2:8080");
    client.set("/services/shop/5c8a", spring("OUT_OF_SERVICE").into_bytes(), None).await.unwrap();
    eventually("nobody", async || {
        matches!(shop.pick(), Err(LookupError::NoneWanted { .. })).then_some(())
    })
    .await;
    for (name, _, path, _) in &all {
        client.delete(path, None).await.unwrap();
        eventually("an empty list", async || {
            matches!(subscription.providers(name), Err(LookupError::Empty { .. })).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_starts_from_its_disk_while_the_registry_is_down_and_says_so() {
    let mut cluster = Cluster::start(1).await;
    let registrar = Registrar::start(
        &[registry("a", &cluster)],
        vec![service("web", 9001)],
        &RegistrarOptions::default(),
    );
    registrar.registered(PATIENCE).await.unwrap();
    let dir = cluster.dir.path().join("cache");
    let options = SubscriptionOptions {
        cache_dir: Some(dir.clone()),
        discovery: Discovery::Eager { wait: PATIENCE, fail_fast: true },
        ..SubscriptionOptions::default()
    };
    let services = ["web".to_owned()];
    let first =
        Subscription::start(&[registry("a", &cluster)], &services, options.clone()).await.unwrap();
    assert!(!first.providers("web").unwrap().is_stale);
    let cache = DiskCache::open(&dir).unwrap();
    eventually("the list on the disk", async || cache.load("a", "web")).await;
    drop(first);
    cluster.nodes[0].kill9();

    let second = Subscription::start(&[registry("a", &cluster)], &services, options).await.unwrap();
    assert!(second.providers("web").unwrap().is_stale);
    assert_eq!(ids(&second, "web"), ["127.0.0.1:9001"]);
    let unknown = second.discover("new", Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(unknown, LookupError::NoKnownProviders { .. }), "{unknown}");
    cluster.nodes[0].spawn();
    cluster.nodes[0].ready().await;
    eventually("the registry's word", async || {
        (!second.providers("web").unwrap().is_stale).then_some(())
    })
    .await;
    eventually("an answer", async || {
        (second.providers("new") == Err(LookupError::Empty { service: "new".to_owned() }))
            .then_some(())
    })
    .await;
    registrar.withdraw().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_services_than_fit_into_a_stream_are_known_at_once_and_dead_providers_hold_nobody_up()
{
    let cluster = Cluster::start(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let live = listener.local_addr().unwrap().port();
    let accepting = tokio::spawn(async move {
        loop {
            let _ = listener.accept().await;
        }
    });
    let name = |index: usize| format!("s{index:03}");
    let all: Vec<String> = (0..205).map(name).collect();
    // Nobody listens on port 1.
    let services = all
        .iter()
        .enumerate()
        .map(|(index, name)| service(name, if index < 10 { 1 } else { live }));
    let registrar = Registrar::start(
        &[registry("a", &cluster)],
        services.collect(),
        &RegistrarOptions::default(),
    );
    registrar.registered(PATIENCE).await.unwrap();

    let options = SubscriptionOptions {
        discovery: Discovery::Eager { wait: PATIENCE, fail_fast: true },
        ..SubscriptionOptions::default()
    };
    let subscription =
        Subscription::start(&[registry("a", &cluster)], &all, options).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for name in &all {
        let pool = ServicePool::new(&subscription, name, PoolOptions::default());
        let name = name.clone();
        calls.spawn(async move {
            let called = pool
                .call(2, |picked| async move { TcpStream::connect(picked.addr()).await.map(drop) });
            (name, called.await.is_ok())
        });
    }
    let failed: BTreeSet<String> = calls
        .join_all()
        .await
        .into_iter()
        .filter(|(_, is_ok)| !is_ok)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(failed, all[..10].iter().cloned().collect());
    registrar.withdraw().await;
    accepting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_announces_its_leave_goes_and_who_falls_silent_last_stays_in_the_list() {
    let cluster = Cluster::start(1).await;
    let services = ["polite".to_owned(), "rude".to_owned()];
    let options = SubscriptionOptions {
        discovery: Discovery::Eager { wait: PATIENCE, fail_fast: true },
        ..SubscriptionOptions::default()
    };
    let subscription =
        Subscription::start(&[registry("a", &cluster)], &services, options).await.unwrap();
    assert_eq!(
        subscription.providers("polite"),
        Err(LookupError::Empty { service: "polite".to_owned() })
    );
    let start =
        |name| Registrar::start(&[registry("a", &cluster)], vec![service(name, 9001)], &short());
    let (polite, rude) = (start("polite"), start("rude"));
    for name in &services {
        eventually("the provider", async || (ids(&subscription, name).len() == 1).then_some(()))
            .await;
    }
    let options =
        ShutdownOptions { drain: Duration::from_secs(5), grace: Duration::from_millis(200) };
    let leaving = tokio::spawn(polite.shutdown(options));
    eventually("an empty list", async || subscription.providers("polite").err()).await;
    assert!(leaving.await.unwrap()[0].error.is_none());

    drop(rude);
    let client = cluster.client_from(0);
    eventually("its expiry", async || {
        client.service("rude").await.unwrap().providers.is_empty().then_some(())
    })
    .await;
    let kept = eventually("the guard", async || {
        subscription.providers("rude").ok().filter(|providers| providers.is_guarded)
    })
    .await;
    assert_eq!(kept.instances[0].id, "127.0.0.1:9001");
    let back = start("rude");
    eventually("its return", async || {
        subscription.providers("rude").ok().filter(|providers| !providers.is_guarded)
    })
    .await;
    back.withdraw().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_registries_a_provider_is_found_while_either_lives_and_counts_once() {
    let (mut near, far) = (Cluster::start(1).await, Cluster::start(1).await);
    let both = [registry("near", &near), registry("far", &far)];
    let registrar =
        Registrar::start(&both, vec![service("web", 9001)], &RegistrarOptions::default());
    registrar.registered(PATIENCE).await.unwrap();
    let only_far =
        Registrar::start(&both[1..], vec![service("web", 9002)], &RegistrarOptions::default());
    only_far.registered(PATIENCE).await.unwrap();
    let subscription =
        Subscription::start(&both, &["web".to_owned()], SubscriptionOptions::default())
            .await
            .unwrap();
    eventually("both", async || {
        (ids(&subscription, "web") == ["127.0.0.1:9001", "127.0.0.1:9002"]).then_some(())
    })
    .await;
    near.nodes[0].kill9();
    let mut states = registrar.states();
    let alarm = states.wait_for(|all| all[0].1.is_alarm());
    tokio::time::timeout(PATIENCE, alarm).await.unwrap().unwrap();
    assert!(matches!(registrar.states().borrow()[1].1, RegistrationState::Registered { .. }));
    let found = subscription.providers("web").unwrap();
    assert!(found.instances.len() == 2 && !found.is_stale, "the other registry confirms it");
    only_far.withdraw().await;
    eventually("the change", async || {
        (ids(&subscription, "web") == ["127.0.0.1:9001"]).then_some(())
    })
    .await;
}

/// The service of the test below.
const PAY: &str = "com.a.Pay";

/// Registers a provider as Dubbo does, which knows nothing of this registry. Returns its session.
async fn register_dubbo(client: &Client, port: u16) -> String {
    let session = client.open_session(600_000).await.unwrap().token;
    let url = format!("dubbo%3A%2F%2F10.0.0.5%3A{port}%2F{PAY}%3Fside%3Dprovider%26zone%3Da");
    let path = format!("/dubbo/{PAY}/providers/{url}");
    let create = Create { path, mode: Mode::Ephemeral, parents: true, ..Create::default() };
    client.with_session(&session).create(&create).await.unwrap();
    session
}

/// Who calls a service, by the SDK alone.
struct Consumer {
    client: Client,
    subscription: Subscription,
    pool: ServicePool,
}

impl Consumer {
    fn at(&self, port: u16) -> Option<Arc<Instance>> {
        let found = self.subscription.providers(PAY).ok()?;
        found.instances.iter().find(|one| one.port == port).cloned()
    }

    /// Sets the override of this name, or another in its place.
    async fn override_(&self, mut says: Value) {
        says["reason"] = json!("a test");
        says["pattern"] = json!(format!("/dubbo/{PAY}/providers/*"));
        self.client.set_policy("overrides", "o", &says).await.unwrap();
    }

    /// Waits until the instance at this port is listed so, and these are the ones that are called. The list is then what the
    /// registry says that it is.
    async fn sees(&self, what: &str, port: u16, is: impl Fn(&Instance) -> bool, called: &[u16]) {
        eventually(what, async || self.at(port).filter(|one| is(one))).await;
        let picks = || (0..20).map(|_| self.pool.pick().map(|picked| picked.instance.port));
        match picks().collect::<Result<BTreeSet<u16>, _>>() {
            Ok(ports) => assert_eq!(ports, called.iter().copied().collect(), "{what}"),
            Err(LookupError::NoneWanted { .. }) => assert!(called.is_empty(), "{what}"),
            Err(other) => panic!("{what}: {other}"),
        }
        eventually("the same sign", async || {
            let versions = self.client.versions(&[PAY.to_owned()]).await.unwrap().versions;
            let found = self.subscription.providers(PAY).unwrap();
            let sign = sign(found.instances.iter().map(|one| &**one));
            (versions[PAY].sign == format!("{sign:016x}")).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overridden_provider_of_dubbo_is_called_as_the_override_says_and_then_as_it_says_itself()
{
    let cluster = Cluster::start(1).await;
    let client = cluster.client_from(0);
    let session = register_dubbo(&client, 1).await;
    register_dubbo(&client, 2).await;
    let options = SubscriptionOptions {
        discovery: Discovery::Eager { wait: PATIENCE, fail_fast: true },
        ..SubscriptionOptions::default()
    };
    let services = [PAY.to_owned()];
    let subscription =
        Subscription::start(&[registry("a", &cluster)], &services, options).await.unwrap();
    let pool = ServicePool::new(&subscription, PAY, PoolOptions::default());
    let consumer = Consumer { client: client.clone(), subscription, pool };
    let zone = |one: &Instance| one.metadata.get("zone").cloned().unwrap_or_default();
    let is_as_it_says =
        |one: &Instance| (one.weight, one.status.as_str(), zone(one).as_str()) == (100, "up", "a");
    consumer.sees("both", 2, is_as_it_says, &[1, 2]).await;
    consumer.sees("both", 1, is_as_it_says, &[1, 2]).await;

    consumer.override_(json!({"instance": "10.0.0.5:1", "weight": 0})).await;
    consumer.sees("no weight", 1, |one| one.weight == 0, &[2]).await;
    // It comes back, and with it what holds of it: no list has it as it says itself.
    let before = consumer.at(1).unwrap().incarnation;
    let mut changes = consumer.subscription.changes();
    client.close_session(&session).await.unwrap();
    let session = register_dubbo(&client, 1).await;
    loop {
        changes.changed().await.unwrap();
        let Some(one) = consumer.at(1) else { continue };
        assert_eq!(one.weight, 0, "{one:?}");
        if one.incarnation != before {
            break;
        }
    }
    consumer.sees("no weight after a restart", 1, |one| one.weight == 0, &[2]).await;

    consumer.override_(json!({"status": "out_of_service"})).await;
    let is_out = |one: &Instance| (one.weight, one.status.as_str()) == (100, "out_of_service");
    eventually("the other one", async || consumer.at(2).filter(|one| is_out(one))).await;
    consumer.sees("both are out", 1, is_out, &[]).await;

    consumer.override_(json!({"ip": "10.0.0.5:1", "labels": {"zone": "b"}})).await;
    eventually("the other one", async || consumer.at(2).filter(|one| is_as_it_says(one))).await;
    let is_labelled = |one: &Instance| zone(one) == "b" && one.status == "up";
    consumer.sees("a label", 1, is_labelled, &[1, 2]).await;

    client.remove_policy("overrides", "o", None).await.unwrap();
    consumer.sees("its own word", 1, is_as_it_says, &[1, 2]).await;
    let before = consumer.at(1).unwrap().incarnation;
    client.close_session(&session).await.unwrap();
    register_dubbo(&client, 1).await;
    let is_new = |one: &Instance| one.incarnation != before && is_as_it_says(one);
    consumer.sees("its own word after a restart", 1, is_new, &[1, 2]).await;
}
