//! The task that follows one registry: its stream, an occasional comparison, and the lists on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::feed::{self, Feed, Told, Versions};
use super::instance::Instance;
use super::list::Origin;
use super::registry::Registry;
use super::subscription::Shared;
use crate::client::Error;

/// How long one node gets to begin the stream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Changes are written to the disk at most this often.
const STORE_INTERVAL: Duration = Duration::from_secs(1);
/// Services that are asked for at nearly the same time share one stream from its beginning.
const GATHER: Duration = Duration::from_millis(10);
/// When a list has another sign than was told with it, lists are compared at once, but not more often than this.
const HASTE: Duration = Duration::from_secs(2);

/// Follows all services that are wanted, for ever.
pub(super) async fn follow(shared: Arc<Shared>, index: usize, registry: Registry) {
    let mut wanted = shared.wanted.subscribe();
    let now = Instant::now();
    let mut follower = Follower {
        compared_at: now,
        compare_at: now + compare_after(&shared),
        shared,
        index,
        registry,
        backoff: Backoff::default(),
        refused: BTreeSet::new(),
        gone: BTreeMap::new(),
        unstored: BTreeSet::new(),
        store_at: None,
    };
    let mut standing = BTreeMap::new();
    loop {
        let services = wanted.borrow_and_update().clone();
        if services.is_empty() {
            if wanted.changed().await.is_err() {
                return;
            }
            sleep(GATHER).await;
            continue;
        }
        standing = follower.follow_these(&services, standing, &mut wanted).await;
        sleep(GATHER).await;
    }
}

struct Follower {
    shared: Arc<Shared>,
    index: usize,
    registry: Registry,
    backoff: Backoff,
    compared_at: Instant,
    compare_at: Instant,
    /// Services that may not be followed, which are left out until a comparison finds that they may.
    refused: BTreeSet<String>,
    /// Services that a comparison did not find any more and of which there is a list still, and at which zxid that was first so.
    gone: BTreeMap<String, u64>,
    /// Services whose list on the disk is not the present one.
    unstored: BTreeSet<String>,
    store_at: Option<Instant>,
}

impl Follower {
    /// Follows these services until others are wanted, from where they stand. Returns where they stand then.
    async fn follow_these(
        &mut self,
        services: &[String],
        standing: BTreeMap<String, u64>,
        wanted: &mut watch::Receiver<Vec<String>>,
    ) -> BTreeMap<String, u64> {
        let mut feed = self.open(services, &standing);
        let mut reopen_at = None;
        loop {
            let is_open = reopen_at.is_none();
            let (compare_at, store_at) = (self.compare_at, self.store_at);
            tokio::select! {
                _ = wanted.changed() => return feed.standing(),
                told = feed.next(), if is_open => match told {
                    Ok(told) => self.take(told, feed.is_up()),
                    Err(error) => {
                        // One service that is refused must not keep the others from being told of.
                        if error.is("no_auth") && self.leave_out_refused(services).await {
                            feed = self.open(services, &feed.standing());
                        } else {
                            let wait = reopen_after(&error, &mut self.backoff, rand::random());
                            self.shared.lose(self.index, error);
                            reopen_at = Some(Instant::now() + wait);
                        }
                    }
                },
                () = at(reopen_at) => {
                    self.registry.refresh_if_due().await;
                    feed = self.open(services, &feed.standing());
                    reopen_at = None;
                }
                () = sleep_until(compare_at) => {
                    let differing = self.compare(services, &feed.standing()).await;
                    if is_open && !differing.is_empty() {
                        // Their lists are told anew, and of places that they have come to have since.
                        let mut standing = feed.standing();
                        standing.retain(|service, _| !differing.contains(service));
                        feed = self.open(services, &standing);
                    }
                }
                () = at(store_at) => self.store().await,
            }
        }
    }

    fn open(&self, services: &[String], standing: &BTreeMap<String, u64>) -> Feed {
        let client = self.registry.client().with_timeout(CONNECT_TIMEOUT);
        let permitted = services.iter().filter(|service| !self.refused.contains(*service));
        Feed::open(&client, &permitted.cloned().collect::<Vec<_>>(), standing)
    }

    /// Asks which services may not be followed, and leaves them out from now on. Returns whether there are any that were not
    /// left out before.
    async fn leave_out_refused(&mut self, services: &[String]) -> bool {
        let client = self.registry.client().with_timeout(CONNECT_TIMEOUT);
        let Ok(told) = feed::versions(&client, services).await else { return false };
        let mut is_news = false;
        for (service, why) in told.refused {
            is_news |= self.leave_out(false, service, why);
        }
        is_news
    }

    /// Leaves a service out of the next feed. Returns whether it was not left out before.
    fn leave_out(&mut self, is_up: bool, service: String, why: Error) -> bool {
        self.shared.hear(self.index, is_up, Some(service.clone()), |list| list.unconfirm(why));
        self.refused.insert(service)
    }

    /// Merges what the registry says; `is_up` when all that it is to say arrives.
    fn take(&mut self, told: Told, is_up: bool) {
        let (now_ms, hold_ms) = (self.shared.now_ms(), self.hold_ms());
        let mut is_astray = false;
        let changed = match told {
            Told::List { service, zxid, entries } => {
                self.shared.hear(self.index, is_up, Some(service), |list| {
                    let is_changed = list.replace(zxid, entries, now_ms);
                    list.end_guard(now_ms, hold_ms) || is_changed
                })
            }
            Told::Changes { service, zxid, entries, removes, sign } => {
                self.shared.hear(self.index, is_up, Some(service), |list| {
                    let is_changed = list.change(zxid, entries, &removes, now_ms);
                    is_astray = sign.is_some_and(|sign| sign != list.sign());
                    list.end_guard(now_ms, hold_ms) || is_changed
                })
            }
            Told::Refused { service, why } => {
                self.leave_out(is_up, service, why);
                None
            }
            Told::UpTo => self.shared.hear(self.index, is_up, None, |_| false),
        };
        if is_astray {
            self.compare_at = self.compare_at.min(self.compared_at + HASTE);
        }
        self.backoff.succeeded();
        self.will_store(changed);
    }

    /// Compares the lists with the registry's by their signs. Returns the services whose lists differ, and those that were
    /// left out and may be followed again. `standing` says up to where all has been told.
    async fn compare(
        &mut self,
        services: &[String],
        standing: &BTreeMap<String, u64>,
    ) -> Vec<String> {
        self.compared_at = Instant::now();
        self.compare_at = self.compared_at + compare_after(&self.shared);
        let client = self.registry.client().with_timeout(CONNECT_TIMEOUT);
        let (now_ms, hold_ms) = (self.shared.now_ms(), self.hold_ms());
        let differing = match feed::versions(&client, services).await {
            Ok(told) => {
                let differs = |service: &&String| self.differs(service, standing, &told);
                services.iter().filter(differs).cloned().collect()
            }
            // Whoever cannot be asked is asked again the next time.
            Err(_) => Vec::new(),
        };
        for service in services {
            self.shared.hear(self.index, false, Some(service.clone()), |list| {
                list.end_guard(now_ms, hold_ms)
            });
        }
        self.registry.refresh_if_due().await;
        differing
    }

    /// Returns whether a service has to be told anew. That the registry knows of changes which have not been told yet is no
    /// reason: it may have been told to hold them back.
    fn differs(
        &mut self,
        service: &String,
        standing: &BTreeMap<String, u64>,
        told: &Versions,
    ) -> bool {
        if told.refused.contains_key(service) {
            return false;
        }
        if self.refused.remove(service) {
            return true;
        }
        let list = self.shared.list(self.index, service).unwrap_or_default();
        let version = told.lists.get(service);
        if list.sign() == version.map_or(0, |(_, sign)| *sign) {
            self.gone.remove(service);
            return false;
        }
        let changed = match version {
            Some((revision, _)) => *revision,
            None => *self.gone.entry(service.clone()).or_insert(told.zxid),
        };
        standing.get(service).is_some_and(|since| list.zxid().max(*since) >= changed)
    }

    fn hold_ms(&self) -> u64 {
        u64::try_from(self.shared.options.guard.as_millis()).unwrap_or(u64::MAX)
    }

    fn will_store(&mut self, changed: Option<String>) {
        let Some(changed) = changed.filter(|_| self.shared.cache.is_some()) else { return };
        self.unstored.insert(changed);
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

/// Returns how long after a failure the stream is opened again: a random time beyond what was advised, so that those who were
/// told so together do not return together.
fn reopen_after(error: &Error, backoff: &mut Backoff, random: u64) -> Duration {
    Duration::from_millis(error.retry_after_ms()) + backoff.failed(random)
}

fn compare_after(shared: &Shared) -> Duration {
    let ms = u64::try_from(shared.options.compare.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(ms - rand::random_range(0..=ms * 2 / 5))
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Duration, Error, reopen_after};
    use crate::client::Refusal;

    #[test]
    fn who_is_told_when_to_come_back_comes_a_random_time_after_that() {
        let mut backoff = Backoff::default();
        let busy = Refusal { retry_after_ms: Some(1_000), ..Refusal::default() };
        let wait = reopen_after(&Error::Refused(busy), &mut backoff, 70);
        assert_eq!(wait, Duration::from_millis(1_070));
        let gone = Error::Unreachable("gone".to_owned());
        assert_eq!(reopen_after(&gone, &mut backoff, 150), Duration::from_millis(150));
    }
}
