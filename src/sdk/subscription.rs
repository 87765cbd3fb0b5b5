use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::cache::DiskCache;
use super::follow;
use super::instance::Instance;
use super::list::{Origin, ServiceList};
use super::lookup::{LookupError, NotReady};
use super::merge::{MergeRule, merged, sources};
use super::registry::Registry;
use crate::client::Error;
use crate::limits::SERVICES_PER_REQUEST_MAX;

/// When lists are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// The start waits until all lists are known, at most for this long.
    Eager {
        /// How long.
        wait: Duration,
        /// Whether a list that is not known by then, not even from the disk, makes the start fail.
        fail_fast: bool,
    },
    /// The start waits for nothing; each list is asked for in the background.
    Lazy,
}

/// How a subscription works.
#[derive(Clone, Debug)]
pub struct SubscriptionOptions {
    /// Directory of the lists as they were last, for a start without a registry; `None` keeps none.
    pub cache_dir: Option<PathBuf>,
    /// When lists are asked for.
    pub discovery: Discovery,
    /// How the lists of several registries become one.
    pub merge: MergeRule,
    /// For how long those who all fell silent at once stay in the list; zero never keeps them.
    pub guard: Duration,
    /// How often the lists are compared with the registry's, less a random part of up to two fifths.
    pub compare: Duration,
}

impl Default for SubscriptionOptions {
    /// Returns no cache, lazy, union, 10 min, 50 s.
    fn default() -> SubscriptionOptions {
        SubscriptionOptions {
            cache_dir: None,
            discovery: Discovery::Lazy,
            merge: MergeRule::default(),
            guard: Duration::from_secs(600),
            compare: Duration::from_secs(50),
        }
    }
}

/// Who provides a service, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Providers {
    /// Sorted by id. Those who want no traffic are among them.
    pub instances: Vec<Arc<Instance>>,
    /// Whether no registry of whose lists it is made confirms it at present: it is from the disk, or the connection is broken.
    pub is_stale: bool,
    /// Whether it is of those who all fell silent at once.
    pub is_guarded: bool,
    /// Grows with each change.
    pub revision: u64,
}

impl Providers {
    /// Returns whom to call: those who want traffic, and of these the ones that are not `unhealthy` unless all are. For who balances by other means than a [`ServicePool`](super::ServicePool), which decides for itself.
    pub fn callable(&self) -> Vec<Arc<Instance>> {
        let wanting = || self.instances.iter().filter(|instance| instance.wants_traffic());
        let healthy: Vec<_> = wanting().filter(|instance| instance.is_healthy()).cloned().collect();
        if healthy.is_empty() { wanting().cloned().collect() } else { healthy }
    }
}

/// The lists of some services, kept up to date in the background from one or several registries. A clone is the same one;
/// it ends with the last clone.
#[derive(Clone, Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    _tasks: Arc<Tasks>,
}

#[derive(Debug)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// What the handles and the tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: SubscriptionOptions,
    pub(super) cache: Option<DiskCache>,
    registries: Vec<Registry>,
    began: Instant,
    lists: Mutex<Lists>,
    /// The services asked for, sorted.
    pub(super) wanted: watch::Sender<Vec<String>>,
    /// Counts the changes of anything.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Lists {
    /// One list for each registry.
    services: BTreeMap<String, (Vec<ServiceList>, Arc<Providers>)>,
    links: Vec<Link>,
}

/// How it stands with the stream from one registry.
#[derive(Clone, Debug, Default)]
struct Link {
    is_up: bool,
    /// Why it is down, once an attempt has failed.
    error: Option<Error>,
}

impl Subscription {
    /// Begins to follow these services at these registries, the first of which has priority. Must be called within a
    /// runtime. Errors: with eager discovery and `fail_fast`, the services of which nothing is known in time.
    pub async fn start(
        registries: &[Registry],
        services: &[String],
        options: SubscriptionOptions,
    ) -> Result<Subscription, NotReady> {
        let discovery = options.discovery;
        // A cache that cannot be opened is none: it is there to help a start, not to prevent one.
        let cache = options.cache_dir.as_deref().and_then(|dir| DiskCache::open(dir).ok());
        let links = vec![Link::default(); registries.len()];
        let shared = Arc::new(Shared {
            options,
            cache,
            registries: registries.to_vec(),
            began: Instant::now(),
            lists: Mutex::new(Lists { links, ..Lists::default() }),
            wanted: watch::channel(Vec::new()).0,
            changes: watch::channel(0).0,
        });
        shared.want(services);
        let follow = |(index, registry): (usize, &Registry)| {
            tokio::spawn(follow::follow(shared.clone(), index, registry.clone()))
        };
        let tasks = Tasks(registries.iter().enumerate().map(follow).collect());
        let subscription = Subscription { shared, _tasks: Arc::new(tasks) };
        if let Discovery::Eager { wait, fail_fast } = discovery {
            let ready = subscription.ready(wait).await;
            if fail_fast {
                ready?;
            }
        }
        Ok(subscription)
    }

    /// Waits until a list of every service is known: from a registry, or, when no registry can be reached, from the disk.
    /// Error: those of which nothing is known within this time.
    pub async fn ready(&self, within: Duration) -> Result<(), NotReady> {
        self.wait_until(within, || self.shared.is_settled()).await;
        let wanted = self.shared.wanted.borrow().clone();
        let missing = wanted.iter().filter_map(|service| match self.providers(service) {
            Err(error @ LookupError::NoKnownProviders { .. }) => Some(error),
            _ => None,
        });
        let missing: Vec<LookupError> = missing.collect();
        if missing.is_empty() { Ok(()) } else { Err(NotReady(missing)) }
    }

    /// Follows one more service from now on, if it is not followed yet. A subscription follows up to 1024 services; further
    /// ones stay unknown.
    pub fn want(&self, service: &str) {
        self.shared.want(&[service.to_owned()]);
    }

    /// Returns who provides a service, without waiting. Errors: nothing is known, or nobody is there. A service that is not
    /// followed yet is, from now on.
    pub fn providers(&self, service: &str) -> Result<Arc<Providers>, LookupError> {
        if let Some(found) = self.shared.lookup(service) {
            return found;
        }
        self.want(service);
        let nothing = LookupError::NoKnownProviders { service: service.to_owned(), why: None };
        self.shared.lookup(service).unwrap_or(Err(nothing))
    }

    /// As [`providers`](Subscription::providers), but waits at most this long until something is known.
    pub async fn discover(
        &self,
        service: &str,
        within: Duration,
    ) -> Result<Arc<Providers>, LookupError> {
        let is_known =
            || !matches!(self.providers(service), Err(LookupError::NoKnownProviders { .. }));
        self.wait_until(within, is_known).await;
        self.providers(service)
    }

    /// Returns when a condition of the lists holds, or after this time. The condition is asked while nothing is borrowed:
    /// it may itself change something.
    async fn wait_until(&self, within: Duration, holds: impl Fn() -> bool) {
        let mut changes = self.shared.changes.subscribe();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                if holds() || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // Whoever asked looks what has become of it.
        let _ = timeout(within, waiting).await;
    }

    /// Returns a number that changes whenever any list does. Only the newest is kept for a reader that is slow.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

impl Shared {
    /// Returns the time since the start, ms.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn want(&self, services: &[String]) {
        let mut lists = self.lists.lock();
        let mut is_new = false;
        for service in services {
            let is_full = lists.services.len() >= SERVICES_PER_REQUEST_MAX;
            if is_full || lists.services.contains_key(service) {
                continue;
            }
            is_new = true;
            let load = |registry: &Registry| {
                let mut list = ServiceList::default();
                let cached =
                    self.cache.as_ref().and_then(|cache| cache.load(registry.name(), service));
                if let Some(cached) = cached {
                    list.restore(cached.zxid, cached.instances);
                }
                list
            };
            let all = self.registries.iter().map(load).collect();
            lists.services.insert(service.clone(), (all, Arc::default()));
            lists.refresh(service, self.options.merge);
        }
        if is_new {
            // Under the lock: or who wanted less a moment ago could replace what another has wanted since.
            self.wanted.send_replace(lists.services.keys().cloned().collect());
            drop(lists);
            self.told();
        }
    }

    fn lookup(&self, service: &str) -> Option<Result<Arc<Providers>, LookupError>> {
        let lists = self.lists.lock();
        let (all, providers) = lists.services.get(service)?;
        let service = service.to_owned();
        Some(if !providers.instances.is_empty() {
            Ok(providers.clone())
        } else if all.iter().any(|list| list.origin() != Origin::Unknown) {
            Err(LookupError::Empty { service })
        } else {
            let refusal = all.iter().find_map(|list| list.refusal().cloned());
            let why = refusal.or_else(|| lists.links.iter().find_map(|link| link.error.clone()));
            Err(LookupError::NoKnownProviders { service, why })
        })
    }

    /// Returns whether waiting longer for a first answer makes no sense: each list has come from a registry, or has come
    /// from the disk and no registry answers, or they all refuse it.
    fn is_settled(&self) -> bool {
        let lists = self.lists.lock();
        let has_failed =
            |(list, link): (&ServiceList, &Link)| link.error.is_some() || list.refusal().is_some();
        lists.services.values().all(|(all, _)| {
            let is = |origin| all.iter().any(|list| list.origin() == origin);
            let all_failed = || all.iter().zip(&lists.links).all(has_failed);
            is(Origin::Registry) || (is(Origin::Cache) && all_failed())
        })
    }

    /// Changes the list that one registry has of a service: `change` returns whether what is shown has changed. Returns the
    /// service if that is so. With `is_up` the stream from the registry is known to be up, and at once with the list: or who
    /// waits for a list would find it and be told that it may be stale.
    pub(super) fn hear(
        &self,
        index: usize,
        is_up: bool,
        service: Option<String>,
        change: impl FnOnce(&mut ServiceList) -> bool,
    ) -> Option<String> {
        let mut lists = self.lists.lock();
        let is_news = is_up && !lists.links[index].is_up;
        if is_up {
            lists.links[index] = Link { is_up, error: None };
        }
        let has_changed = |service: &String| {
            let list = lists.services.get_mut(service);
            list.is_some_and(|(all, _)| change(&mut all[index]))
        };
        let changed = service.filter(has_changed);
        if let Some(service) = &changed {
            lists.refresh(service, self.options.merge);
        }
        if is_news {
            let services: Vec<String> = lists.services.keys().cloned().collect();
            services.iter().for_each(|service| lists.refresh(service, self.options.merge));
        }
        drop(lists);
        if is_news || changed.is_some() {
            self.told();
        }
        changed
    }

    /// Returns the list of one registry, to be stored.
    pub(super) fn list(&self, index: usize, service: &str) -> Option<ServiceList> {
        self.lists.lock().services.get(service).map(|(all, _)| all[index].clone())
    }

    /// Notes that the stream from one registry is down, and why.
    pub(super) fn lose(&self, index: usize, error: Error) {
        let mut lists = self.lists.lock();
        let down = Link { is_up: false, error: Some(error) };
        let before = std::mem::replace(&mut lists.links[index], down);
        if before.is_up {
            let services: Vec<String> = lists.services.keys().cloned().collect();
            services.iter().for_each(|service| lists.refresh(service, self.options.merge));
        }
        let is_news = before.is_up || before.error.is_none();
        drop(lists);
        if is_news {
            self.told();
        }
    }

    fn told(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Lists {
    /// Makes the one list of a service from those of the registries.
    fn refresh(&mut self, service: &str, rule: MergeRule) {
        let links = &self.links;
        let Some((all, providers)) = self.services.get_mut(service) else { return };
        let lists: Vec<&ServiceList> = all.iter().collect();
        let sources = sources(&lists, rule);
        let confirmed =
            |(list, link): (&&ServiceList, &Link)| link.is_up && list.origin() == Origin::Registry;
        let (lists, links) = (&lists[sources.clone()], &links[sources]);
        let next = Providers {
            instances: merged(lists, MergeRule::Union),
            is_stale: !lists.iter().zip(links).any(confirmed),
            is_guarded: lists.iter().any(|list| list.is_guarded()),
            revision: providers.revision,
        };
        if next != **providers {
            *providers = Arc::new(Providers { revision: providers.revision + 1, ..next });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::instance::tests::instance;
    use super::{Instance, Providers};

    #[test]
    fn those_to_call_want_traffic_and_are_healthy_unless_nobody_is() {
        let with = |id: &str, health: &str| Instance {
            health: Some(health.to_owned()),
            ..instance(id, 1)
        };
        let ill = |id: &str| with(id, "unhealthy");
        let idle = Instance { weight: 0, ..instance("idle", 1) };
        let callable = |all: &[Instance]| -> Vec<String> {
            let instances = all.iter().cloned().map(Arc::new).collect();
            let providers = Providers { instances, ..Providers::default() };
            providers.callable().iter().map(|one| one.id.clone()).collect()
        };
        assert_eq!(callable(&[ill("a"), instance("b", 1), idle.clone()]), ["b"]);
        assert_eq!(callable(&[ill("a"), with("b", "suspect"), instance("c", 1)]), ["b", "c"]);
        assert_eq!(callable(&[ill("a"), idle, ill("c")]), ["a", "c"]);
    }
}
