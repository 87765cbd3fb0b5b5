//! Providers and consumers that use the SDK, against real nodes that are killed.

use std::collections::BTreeSet;
use std::time::Duration;

use roost::client::model::Registration;
use roost::sdk::{
    Discovery, DiskCache, LookupError, PoolOptions, Registrar, RegistrarOptions, RegistrationState,
    Registry, Service, ServicePool, ShutdownOptions, Subscription, SubscriptionOptions,
};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Cluster, eventually};

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
async fn two_hundred_services_are_known_at_once_and_ten_dead_providers_hold_nobody_up() {
    let cluster = Cluster::start(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let live = listener.local_addr().unwrap().port();
    let accepting = tokio::spawn(async move {
        loop {
            let _ = listener.accept().await;
        }
    });
    let name = |index: usize| format!("s{index:03}");
    let all: Vec<String> = (0..200).map(name).collect();
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
