//! A consumer: it holds a list, kept by a subscription and by asking on a timer, and calls who is on it.
//!
//! What any consumer should do, and these do: keep the list while no node answers; not let an empty list replace one
//! that is not; take another node when the present one is silent; and if a call fails, call somebody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::World;
use super::registry::{Log, SERVICE};
use crate::door::{
    Address, Door, News, Providers, Subscription, address, answered, providers_path,
};
use crate::history::registry::{Answered, Asked, Event};
use crate::schedule::End;

/// How often each consumer calls a provider.
const CALL_EVERY: Duration = Duration::from_millis(100);
const CALL_TIMEOUT: Duration = Duration::from_millis(300);
/// Attempts of one call, each at another provider.
const ATTEMPTS: usize = 3;
/// Calls of one consumer at the same time; when they hang for longer, calls wait.
const CALLS_MAX: usize = 32;
/// How often the list is asked for, subscription or not.
const PULL_EVERY: Duration = Duration::from_secs(1);
/// Pulls that fail in a row before another node is taken.
const FAILURES_MAX: u32 = 2;
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_millis(1_500);

#[derive(Debug, Default)]
struct Held {
    list: BTreeMap<String, Address>,
    /// Which of the nodes is in use, by its place among the clients.
    at: usize,
    /// The newest version told by this node.
    zxid: u64,
}

struct Consumer {
    world: World,
    log: Log,
    number: u32,
    site: u8,
    doors: Vec<Arc<dyn Door>>,
    held: Mutex<Held>,
}

/// Runs a consumer until the workload ends.
pub(super) async fn live(world: World, log: Log, number: u32, site: u8) -> Result<(), String> {
    let doors = world.doors(site)?.all().to_vec();
    let end_ms = world.end_ms;
    let clock = world.clock;
    let held = Mutex::default();
    let consumer = Arc::new(Consumer { world, log, number, site, doors, held });
    tokio::select! {
        () = consumer.subscribe() => {}
        () = consumer.pull() => {}
        () = Arc::clone(&consumer).call() => {}
        () = clock.sleep_until_ms(end_ms) => {}
    }
    Ok(())
}

impl Consumer {
    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the list as a node told it at a version, unless the same node has told a newer one. The beginning of a
    /// subscription always counts: a node that was started again may count its versions anew.
    fn learn(
        &self,
        at: usize,
        zxid: u64,
        is_beginning: bool,
        change: impl FnOnce(&mut BTreeMap<String, Address>),
    ) {
        let mut held = self.held();
        if at != held.at || (zxid < held.zxid && !is_beginning) {
            return;
        }
        held.zxid = zxid;
        let mut list = held.list.clone();
        change(&mut list);
        if list == held.list || (list.is_empty() && held.list.len() > 1) {
            return;
        }
        held.list = list;
        let providers = held.list.keys().cloned().collect();
        self.log.note(Event::Held { consumer: self.number, providers });
    }

    /// Goes on to the next node, unless another has.
    fn leave(&self, at: usize) {
        let mut held = self.held();
        if held.at == at {
            held.at = (at + 1) % self.doors.len();
            held.zxid = 0;
        }
    }

    async fn subscribe(&self) {
        loop {
            let at = self.held().at;
            let door = &self.doors[at];
            let start_us = self.world.clock.now_us();
            let mut subscription = door.watch(&providers_path(SERVICE), None);
            let first = timeout(SUBSCRIBE_TIMEOUT, subscription.next()).await;
            let result = first.as_ref().map_or(Answered::Failed, answered);
            self.log.asked((self.site, door.node()), Asked::Subscribe, "", start_us, result);
            if let Ok(Ok(news)) = first {
                self.tell(at, news);
                self.follow(at, subscription).await;
            } else {
                self.leave(at);
                sleep(CALL_EVERY).await;
            }
        }
    }

    /// Takes what a subscription says until it breaks or another node is in use.
    async fn follow(&self, at: usize, mut subscription: Subscription) {
        loop {
            match timeout(PULL_EVERY, subscription.next()).await {
                Ok(Ok(news)) => self.tell(at, news),
                Ok(Err(_)) => return self.leave(at),
                Err(_) if self.held().at != at => return,
                Err(_) => {}
            }
        }
    }

    fn tell(&self, at: usize, news: News) {
        match news {
            News::Snapshot(state) => {
                let told = Providers::from(state);
                self.learn(at, told.zxid, true, |list| *list = told.list);
            }
            News::Change { zxid, changes } => self.learn(at, zxid, false, |list| {
                for (id, data) in changes {
                    match data {
                        None => {
                            list.remove(&id);
                        }
                        Some(data) => list.extend(address(&data).map(|address| (id, address))),
                    }
                }
            }),
            News::Reset | News::Progress(_) => {}
        }
    }

    async fn pull(&self) {
        let mut ticks = interval(PULL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            ticks.tick().await;
            let at = self.held().at;
            let door = &self.doors[at];
            let start_us = self.world.clock.now_us();
            let reply = door.providers(SERVICE).await;
            self.log.asked((self.site, door.node()), Asked::List, "", start_us, answered(&reply));
            let Ok(found) = reply else {
                failures += 1;
                if failures >= FAILURES_MAX {
                    failures = 0;
                    self.leave(at);
                }
                continue;
            };
            failures = 0;
            let providers: BTreeSet<String> = found.list.keys().cloned().collect();
            let (consumer, node) = (Some(self.number), door.node());
            self.log.note(Event::Listed { node, consumer, start_us, providers });
            self.learn(at, found.zxid, false, |list| *list = found.list);
        }
    }

    async fn call(self: Arc<Self>) {
        let mut ticks = interval(CALL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let under_way = Arc::new(Semaphore::new(CALLS_MAX));
        let mut turn = self.number as usize;
        loop {
            ticks.tick().await;
            let Ok(place) = Arc::clone(&under_way).acquire_owned().await else { return };
            let list: Vec<(String, Address)> =
                self.held().list.iter().map(|(id, addr)| (id.clone(), *addr)).collect();
            if list.is_empty() && self.world.clock.now_ms() < self.world.end_ms / 10 {
                // Nobody has registered yet.
                continue;
            }
            turn = turn.wrapping_add(1);
            let (consumer, turn) = (Arc::clone(&self), turn);
            tokio::spawn(async move {
                let start_us = consumer.world.clock.now_us();
                let (mut first, mut any) = (false, false);
                for attempt in 0..ATTEMPTS.min(list.len()) {
                    any = consumer.attempt(&list[(turn + attempt) % list.len()]).await;
                    first |= any && attempt == 0;
                    if any {
                        break;
                    }
                }
                if !consumer.world.is_over() {
                    let consumer_number = consumer.number;
                    consumer.log.note(Event::Called {
                        consumer: consumer_number,
                        start_us,
                        first,
                        any,
                    });
                }
                drop(place);
            });
        }
    }

    /// Calls one provider and returns whether it was who it should be.
    async fn attempt(&self, (id, (port, site)): &(String, Address)) -> bool {
        let links = self.world.links.watch();
        if !links.borrow().is_open(End::Site(self.site), End::Site(*site)) {
            sleep(CALL_TIMEOUT).await;
            return false;
        }
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", *port)).await?;
            let mut said = String::new();
            stream.read_to_string(&mut said).await?;
            Ok::<bool, std::io::Error>(said == *id)
        };
        matches!(timeout(CALL_TIMEOUT, exchange).await, Ok(Ok(true)))
    }
}
