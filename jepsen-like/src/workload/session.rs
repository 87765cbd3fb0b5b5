//! Sessions: owners open one, hang a znode on it, keep it alive at one node after another, and then close it or fall
//! silent. An onlooker at another site reads the znode, linearizably, from its creation to its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Doors, World, all_of};
use crate::check::session::{Said, SessionEvent, SessionLife};
use crate::door::{Reply, Session, Trouble, answered};
use crate::history::Request;
use crate::history::kv::{KvAnswer, KvCall, Refusal};

const ROOT: &str = "/session";
/// Owners at each site.
const CLIENTS: u32 = 2;
/// How often an onlooker looks.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// So many owners close their session; the others fall silent.
const CLOSED_SHARE: f64 = 0.3;
/// So many renewals are sent to another node than the last.
const MOVED_SHARE: f64 = 0.3;

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Each session that had a znode.
    pub lives: Vec<SessionLife>,
    /// All requests.
    pub requests: Vec<Request>,
}

/// Runs the workload to its end.
pub async fn run(world: &World) -> Result<Recorded, String> {
    world.begin(ROOT).await?;
    let recorded: Arc<Mutex<Recorded>> = Arc::default();
    let mut owners: JoinSet<Result<(), String>> = JoinSet::new();
    for number in 0..CLIENTS * u32::from(world.nodes) {
        let process = number + 1;
        let (world, recorded) = (world.clone(), Arc::clone(&recorded));
        let random = world.random(process);
        owners.spawn(Owner { world, random, process, recorded }.live());
    }
    all_of(owners).await?;
    let recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(recorded.clone())
}

struct Owner {
    world: World,
    random: StdRng,
    process: u32,
    recorded: Arc<Mutex<Recorded>>,
}

/// What is known of one session so far, shared by its owner and its onlooker.
#[derive(Clone)]
struct Notes {
    world: World,
    events: Arc<Mutex<Vec<SessionEvent>>>,
    recorded: Arc<Mutex<Recorded>>,
}

impl Notes {
    fn note(&self, start_us: u64, said: Said) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken under the lock, so that events are in the order of their ends.
        events.push(SessionEvent { start_us, end_us: self.world.clock.now_us(), said });
    }

    /// Counts a request that was sent then.
    fn count<T>(&self, start_us: u64, reply: Reply<T>) -> Reply<T> {
        let request = Request { start_us, result: answered(&reply) };
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).requests.push(request);
        reply
    }
}

impl Owner {
    async fn live(mut self) -> Result<(), String> {
        let site = self.world.site(self.process);
        for life in 0.. {
            if self.world.is_over() {
                break;
            }
            let doors = self.world.doors(site)?;
            self.life(doors, &format!("{ROOT}/p{}-{life}", self.process)).await?;
        }
        Ok(())
    }

    /// Lives through one session.
    async fn life(&mut self, mut doors: Doors, path: &str) -> Result<(), String> {
        let recorded = Arc::clone(&self.recorded);
        let notes = Notes { world: self.world.clone(), events: Arc::default(), recorded };
        let start_us = self.world.clock.now_us();
        let Ok(session) = notes.count(start_us, doors.door().open(self.world.timeout_ms).await)
        else {
            sleep(LOOK_EVERY).await;
            return Ok(());
        };
        notes.note(start_us, Said::Alive);
        let start_us = self.world.clock.now_us();
        if notes.count(start_us, doors.door().hold(&session, path).await).is_err() {
            // It may have a znode, but nobody knows since when.
            return Ok(());
        }
        let site = self.world.site(self.process + 1);
        let watching = tokio::spawn(look(notes.clone(), self.world.doors(site)?, path.to_owned()));
        self.keep(&mut doors, &session, &notes).await;
        drop(doors);
        watching.await.map_err(|err| format!("an onlooker failed: {err}"))?;
        let events = notes.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let timeout_us = session.timeout_ms * 1_000;
        let life = SessionLife { session: session.id, timeout_us, events };
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).lives.push(life);
        Ok(())
    }

    /// Keeps a session for a while and then closes it, or leaves it alone.
    async fn keep(&mut self, doors: &mut Doors, session: &Session, notes: &Notes) {
        let for_ms = self.random.random_range(1..=3 * session.timeout_ms);
        let until_ms = (self.world.clock.now_ms() + for_ms).min(self.world.end_ms);
        let rhythm_ms = session.timeout_ms / 4;
        while self.world.clock.now_ms() < until_ms {
            let start_us = self.world.clock.now_us();
            let door = doors.door();
            // Whoever gives up a request goes on to another node while it may still be on its way.
            let reply = timeout(super::REQUEST_TIMEOUT * 2, door.renew(session)).await;
            let silent = || Err(Trouble::Unknown("silence".into()));
            let reply = notes.count(start_us, reply.unwrap_or_else(|_| silent()));
            match &reply {
                Ok(true) => notes.note(start_us, Said::Alive),
                Err(Trouble::Expired) => return notes.note(start_us, Said::Expired),
                _ => notes.note(start_us, Said::PerhapsRenewed),
            }
            doors.judge(&reply);
            if self.random.random_bool(MOVED_SHARE) {
                doors.leave();
            }
            let now_ms = self.world.clock.now_ms();
            self.world.clock.sleep_until_ms(until_ms.min(now_ms + rhythm_ms)).await;
        }
        if self.random.random_bool(CLOSED_SHARE) {
            let start_us = self.world.clock.now_us();
            // Whatever comes of it, the owner has let go.
            let _ = notes.count(start_us, doors.door().close(session).await);
            notes.note(start_us, Said::Closed);
        }
    }
}

/// Reads a session's znode until it is gone or the run is over.
async fn look(notes: Notes, mut doors: Doors, path: String) {
    let call = KvCall::Read { key: path };
    while !notes.world.is_over() {
        let start_us = notes.world.clock.now_us();
        let reply = notes.count(start_us, doors.door().kv(&call, 0).await);
        doors.judge(&reply);
        match reply {
            Ok(KvAnswer::Read { seen: Some(_), .. }) => notes.note(start_us, Said::ZnodeThere),
            Ok(KvAnswer::Read { seen: None, .. }) | Err(Trouble::Refused(Refusal::NoNode)) => {
                return notes.note(start_us, Said::ZnodeGone);
            }
            _ => {}
        }
        sleep(LOOK_EVERY).await;
    }
}
