//! The task that follows one registry: its stream, an occasional comparison, and the lists on the disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::feed::{self, Feed, Told};
use super::instance::{Instance, sign};
use super::list::Origin;
use super::registry::Registry;
use super::subscription::Shared;

/// How long one node gets to begin the stream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Changes are written to the disk at most this often.
const STORE_INTERVAL: Duration = Duration::from_secs(1);
/// Services that are asked for at nearly the same time share one stream from its beginning.
const GATHER: Duration = Duration::from_millis(10);

/// Follows all services that are wanted, for ever.
pub(super) async fn follow(shared: Arc<Shared>, index: usize, registry: Registry) {
    let mut wanted = shared.wanted.subscribe();
    let mut follower = Follower {
        compare_at: Instant::now() + compare_after(&shared),
        shared,
        index,
        registry,
        backoff: Backoff::default(),
        unstored: BTreeSet::new(),
        store_at: None,
    };
    loop {
        let services = wanted.borrow_and_update().clone();
        if services.is_empty() {
            if wanted.changed().await.is_err() {
                return;
            }
            sleep(GATHER).await;
            continue;
        }
        follower.follow_these(&services, &mut wanted).await;
        sleep(GATHER).await;
    }
}

struct Follower {
    shared: Arc<Shared>,
    index: usize,
    registry: Registry,
    backoff: Backoff,
    compare_at: Instant,
    /// Services whose list on the disk is not the present one.
    unstored: BTreeSet<String>,
    store_at: Option<Instant>,
}

impl Follower {
    /// Follows these services until others are wanted.
    async fn follow_these(
        &mut self,
        services: &[String],
        wanted: &mut watch::Receiver<Vec<String>>,
    ) {
        let mut feed = self.open(services, None);
        let mut reopen_at = None;
        loop {
            let is_open = reopen_at.is_none();
            let (compare_at, store_at) = (self.compare_at, self.store_at);
            tokio::select! {
                _ = wanted.changed() => return,
                told = feed.next(), if is_open => match told {
                    Ok(told) => self.take(told),
                    Err(error) => {
                        self.shared.lose(self.index, error);
                        reopen_at = Some(Instant::now() + self.backoff.failed(rand::random()));
                    }
                },
                () = at(reopen_at) => {
                    self.registry.refresh_if_due().await;
                    feed = self.open(services, feed.since());
                    reopen_at = None;
                }
                () = sleep_until(compare_at) => self.compare(services).await,
                () = at(store_at) => self.store().await,
            }
        }
    }

    fn open(&self, services: &[String], since: Option<u64>) -> Feed {
        let client = self.registry.client().with_timeout(CONNECT_TIMEOUT);
        Feed::open(&client, services, since)
    }

    fn take(&mut self, told: Told) {
        let (now_ms, hold_ms) = (self.shared.now_ms(), self.hold_ms());
        let changed = match told {
            Told::Lists { zxid, lists } => self.shared.hear(self.index, lists, |list, members| {
                let is_changed = list.replace(zxid, members, now_ms);
                list.end_guard(now_ms, hold_ms) || is_changed
            }),
            Told::Changes { zxid, services } => {
                self.shared.hear(self.index, services, |list, said| {
                    let is_changed = list.change(zxid, said, now_ms);
                    list.end_guard(now_ms, hold_ms) || is_changed
                })
            }
            Told::UpTo => {
                let nothing: [(String, ()); 0] = [];
                self.shared.hear(self.index, nothing, |_, ()| false)
            }
        };
        self.backoff.succeeded();
        self.will_store(changed);
    }

    /// Compares the lists with the registry's by their signs, fetches those that differ, and takes what is newer there.
    async fn compare(&mut self, services: &[String]) {
        self.compare_at = Instant::now() + compare_after(&self.shared);
        let client = self.registry.client().with_timeout(CONNECT_TIMEOUT);
        let (now_ms, hold_ms) = (self.shared.now_ms(), self.hold_ms());
        let differing: Vec<String> = match feed::signs(&client, services).await {
            Ok(signs) => {
                let differs = |service: &&String| {
                    let list = self.shared.list(self.index, service);
                    list.map_or(0, |list| list.sign()) != signs.get(*service).copied().unwrap_or(0)
                };
                services.iter().filter(differs).cloned().collect()
            }
            // Perhaps it is a server that has no signs: then there are only the lists.
            Err(_) => services.to_vec(),
        };
        if !differing.is_empty()
            && let Ok((zxid, lists)) = feed::lists(&client, &differing).await
        {
            let changed = self.shared.change(self.index, lists, |list, members| {
                sign(&members) != list.sign() && list.adopt(zxid, members, now_ms)
            });
            self.will_store(changed);
        }
        let all = services.iter().map(|service| (service.clone(), ()));
        self.shared.change(self.index, all, |list, ()| list.end_guard(now_ms, hold_ms));
        self.registry.refresh_if_due().await;
    }

    fn hold_ms(&self) -> u64 {
        u64::try_from(self.shared.options.guard.as_millis()).unwrap_or(u64::MAX)
    }

    fn will_store(&mut self, changed: Vec<String>) {
        if self.shared.cache.is_none() || changed.is_empty() {
            return;
        }
        self.unstored.extend(changed);
        self.store_at.get_or_insert(Instant::now() + STORE_INTERVAL);
    }

    /// Writes the lists that have changed to the disk.
    async fn store(&mut self) {
        self.store_at = None;
        let Some(cache) = self.shared.cache.clone() else { return };
        let name = self.registry.name().to_owned();
        let mut lists: Vec<(String, u64, Vec<Instance>)> = Vec::new();
        for service in std::mem::take(&mut self.unstored) {
            let Some(list) = self.shared.list(self.index, &service) else { continue };
            if list.origin() == Origin::Registry {
                let instances = list.shown().map(|instance| (**instance).clone()).collect();
                lists.push((service, list.zxid(), instances));
            }
        }
        let written = tokio::task::spawn_blocking(move || {
            for (service, zxid, instances) in lists {
                cache.store(&name, &service, zxid, instances)?;
            }
            Ok::<(), std::io::Error>(())
        });
        // A list that could not be written is an older one at the next start; there is nobody to tell.
        let _ = written.await;
    }
}

/// Returns at a moment, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn compare_after(shared: &Shared) -> Duration {
    let ms = u64::try_from(shared.options.compare.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(ms - rand::random_range(0..=ms * 2 / 5))
}
