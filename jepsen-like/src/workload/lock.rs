//! Locks made of ephemerals. Contenders at all sites open a session and try to create the lock's znode until they may;
//! then they hold it for a while, renewing the session at whatever node answers, and release it, or die with it.
//!
//! What a contender believes is decided by the protocol: a renewal that promises the session for a whole timeout moves
//! its lease, a ping of ZooKeeper's protocol does not, see [`Door::renew`](crate::door::Door::renew).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Doors, World, all_of};
use crate::check::lock::Holding;
use crate::door::{Reply, Session, Trouble, answered};
use crate::history::Request;
use crate::history::kv::Refusal;

const ROOT: &str = "/lock";
const LOCKS: u32 = 2;
/// Contenders at each site.
const CLIENTS: u32 = 3;
/// How long somebody waits before the next attempt to get what somebody else has.
const RETRY_MS: std::ops::RangeInclusive<u64> = 20..=150;
const HOLD_MS: std::ops::RangeInclusive<u64> = 50..=1_000;
/// So many hold it for longer than a session lasts without renewal, and up to twice as long.
const LONG_SHARE: f64 = 0.15;
/// So many holders never release.
const DEATHS_SHARE: f64 = 0.08;

/// A time that somebody held a lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// The path.
    pub lock: String,
    /// Who, and from when to when.
    pub holding: Holding,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// All holdings.
    pub held: Vec<Held>,
    /// All requests.
    pub requests: Vec<Request>,
}

/// Runs the workload to its end.
pub async fn run(world: &World) -> Result<Recorded, String> {
    world.begin(ROOT).await?;
    let recorded: Arc<Mutex<Recorded>> = Arc::default();
    let mut clients: JoinSet<Result<(), String>> = JoinSet::new();
    for number in 0..CLIENTS * u32::from(world.nodes) {
        let process = number + 1;
        let contender = Contender {
            world: world.clone(),
            random: world.random(process),
            doors: world.doors(world.site(process))?,
            recorded: Arc::clone(&recorded),
            process,
            lock: format!("{ROOT}/l{}", number % LOCKS),
        };
        clients.spawn(contender.live());
    }
    all_of(clients).await?;
    let recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(recorded.clone())
}

struct Contender {
    world: World,
    random: StdRng,
    doors: Doors,
    recorded: Arc<Mutex<Recorded>>,
    process: u32,
    lock: String,
}

impl Contender {
    /// Notes a request that was sent then, and goes on to the next node if this one did not answer.
    fn note<T>(&mut self, start_us: u64, reply: Reply<T>) -> Reply<T> {
        let request = Request { start_us, result: answered(&reply) };
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).requests.push(request);
        self.doors.judge(&reply);
        reply
    }

    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.random.random_range(RETRY_MS))).await;
    }

    async fn live(mut self) -> Result<(), String> {
        while !self.world.is_over() {
            let sent_us = self.world.clock.now_us();
            let opened = self.doors.door().open(self.world.timeout_ms).await;
            let Ok(session) = self.note(sent_us, opened) else {
                self.pause().await;
                continue;
            };
            let Some(holding) = self.acquire(&session, sent_us).await else { continue };
            if self.random.random_bool(DEATHS_SHARE) {
                self.keep(holding);
            } else {
                let holding = self.hold(&session, holding).await;
                self.keep(holding);
            }
        }
        Ok(())
    }

    fn keep(&self, holding: Holding) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.held.push(Held { lock: self.lock.clone(), holding });
    }

    /// Tries until it has the lock. A session of which it is not known whether it has it is left to its end.
    async fn acquire(&mut self, session: &Session, opened_us: u64) -> Option<Holding> {
        let timeout_us = session.timeout_ms * 1_000;
        let (mut renewed_us, mut asked_to_live_us) = (opened_us, opened_us);
        while !self.world.is_over() {
            let asked_us = self.world.clock.now_us();
            let reply = self.doors.door().hold(session, &self.lock).await;
            match self.note(asked_us, reply) {
                Ok(czxid) => {
                    return Some(Holding {
                        process: self.process,
                        czxid,
                        asked_us,
                        granted_us: self.world.clock.now_us(),
                        renewed_us,
                        timeout_us,
                        release_sent_us: None,
                        released_zxid: None,
                    });
                }
                Err(Trouble::Refused(Refusal::NodeExists) | Trouble::Failed(_)) => {}
                Err(_) => return None,
            }
            self.pause().await;
            if self.world.clock.now_us() > asked_to_live_us + timeout_us / 4 {
                asked_to_live_us = self.world.clock.now_us();
                let reply = self.doors.door().renew(session).await;
                match self.note(asked_to_live_us, reply) {
                    Ok(true) => renewed_us = asked_to_live_us,
                    Err(Trouble::Expired) => return None,
                    _ => {}
                }
            }
        }
        None
    }

    /// Holds the lock for a while and releases it.
    async fn hold(&mut self, session: &Session, mut holding: Holding) -> Holding {
        let for_ms = match self.random.random_bool(LONG_SHARE) {
            true => self.random.random_range(session.timeout_ms..=2 * session.timeout_ms),
            false => self.random.random_range(HOLD_MS),
        };
        let until_ms = self.world.clock.now_ms() + for_ms;
        let rhythm_ms = session.timeout_ms / 5;
        loop {
            let now_ms = self.world.clock.now_ms();
            self.world.clock.sleep_until_ms(until_ms.min(now_ms + rhythm_ms)).await;
            if self.world.clock.now_ms() >= until_ms {
                break;
            }
            let sent_us = self.world.clock.now_us();
            let reply = self.doors.door().renew(session).await;
            match self.note(sent_us, reply) {
                Ok(true) => holding.renewed_us = sent_us,
                Err(Trouble::Expired) => return holding,
                _ => {}
            }
        }
        let sent_us = self.world.clock.now_us();
        holding.release_sent_us = Some(sent_us);
        let reply = self.doors.door().release(session, &self.lock).await;
        holding.released_zxid = self.note(sent_us, reply).ok();
        let sent_us = self.world.clock.now_us();
        let closed = self.doors.door().close(session).await;
        // If this did not work the session ends by itself.
        let _ = self.note(sent_us, closed);
        holding
    }
}
