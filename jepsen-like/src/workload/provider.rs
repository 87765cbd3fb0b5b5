//! A provider: a port that says its id to whoever connects, and a session at the registry.

use std::collections::BTreeMap;
use std::time::Duration;

use roost::client::model::Registration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

use super::registry::{Log, Plan, SERVICE};
use super::{Doors, World};
use crate::door::{Reply, Session, Trouble, answered};
use crate::history::kv::Refusal;
use crate::history::registry::{Asked, End, Event};

/// How long one that leaves goes on answering after it has deregistered: for consumers who have not heard.
const DRAIN: Duration = Duration::from_millis(500);
/// Between attempts to reach a registry that fails.
const RETRY: Duration = Duration::from_millis(200);
/// How long a provider that leaves tries to say so, ms.
const FAREWELL_MS_MAX: u64 = 3_000;

/// What a provider's port does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Answers,
    Hangs,
    Gone,
}

/// Runs a provider as planned.
pub(super) async fn live(world: World, log: Log, plan: Plan) -> Result<(), String> {
    world.clock.sleep_until_ms(plan.from_ms).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.map_err(|err| format!("a provider has no port: {err}"))?;
    let port = listener.local_addr().map_err(|err| err.to_string())?.port();
    let (mode, modes) = watch::channel(Mode::Answers);
    let answering = tokio::spawn(answer(listener, plan.id.clone(), modes));
    log.note(Event::Up { provider: plan.id.clone() });

    let metadata = BTreeMap::from([("site".to_owned(), plan.site.to_string())]);
    let registration = Registration {
        id: Some(plan.id.clone()),
        host: "127.0.0.1".into(),
        port,
        metadata,
        ..Registration::default()
    };
    let doors = world.doors(plan.site)?;
    let (world, site, session) = (&world, plan.site, None);
    let mut member = Member { world, log: &log, site, registration, doors, session };
    let end_ms = plan.end.map_or(world.end_ms, |(at_ms, _)| at_ms);
    tokio::select! {
        () = member.keep() => {}
        () = world.clock.sleep_until_ms(end_ms) => {}
    }
    if let Some((_, end)) = plan.end {
        if end == End::Left {
            member.leave().await;
            sleep(DRAIN).await;
        }
        log.note(Event::Down { provider: plan.id.clone(), end });
        mode.send_replace(if end == End::Hung { Mode::Hangs } else { Mode::Gone });
        world.clock.sleep_until_ms(world.end_ms).await;
    }
    mode.send_replace(Mode::Gone);
    answering.await.map_err(|err| err.to_string())
}

async fn answer(listener: TcpListener, id: String, mut modes: watch::Receiver<Mode>) {
    let mut held = Vec::new();
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Gone {
            return;
        }
        tokio::select! {
            _ = modes.changed() => {}
            accepted = listener.accept() => {
                let Ok((mut stream, _)) = accepted else { continue };
                match mode {
                    Mode::Answers => {
                        // A caller that has gone away needs no answer.
                        let _ = stream.write_all(id.as_bytes()).await;
                    }
                    // Kept open: the caller must find out by its own patience.
                    Mode::Hangs | Mode::Gone => held.push(stream),
                }
            }
        }
    }
}

/// A provider as the registry knows it.
struct Member<'a> {
    world: &'a World,
    log: &'a Log,
    site: u8,
    registration: Registration,
    doors: Doors,
    /// While it has one in which it is registered.
    session: Option<Session>,
}

impl Member<'_> {
    fn id(&self) -> &str {
        self.registration.id.as_deref().unwrap_or_default()
    }

    /// Notes what came of a request, and goes on to the next node if this one did not answer.
    fn note<T>(&mut self, what: Asked, start_us: u64, reply: Reply<T>) -> Reply<T> {
        let node = self.doors.door().node();
        self.log.asked((self.site, node), what, self.id(), start_us, answered(&reply));
        self.doors.judge(&reply);
        reply
    }

    /// Registers and renews for ever.
    async fn keep(&mut self) {
        let rhythm = Duration::from_millis(self.world.timeout_ms / 3);
        loop {
            let done = match self.session.clone() {
                Some(session) => self.renew(session).await,
                None => self.register().await,
            };
            sleep(if done { rhythm } else { RETRY }).await;
        }
    }

    async fn renew(&mut self, session: Session) -> bool {
        let door = self.doors.door();
        let what = if door.only_pings(&session).await { Asked::Ping } else { Asked::Renew };
        let start_us = self.world.clock.now_us();
        let reply = door.renew(&session).await;
        match self.note(what, start_us, reply) {
            Ok(_) => true,
            Err(trouble) => {
                if trouble == Trouble::Expired {
                    self.session = None;
                }
                false
            }
        }
    }

    async fn register(&mut self) -> bool {
        let start_us = self.world.clock.now_us();
        let opened = self.doors.door().open(self.world.timeout_ms).await;
        let Ok(session) = self.note(Asked::Open, start_us, opened) else { return false };
        let start_us = self.world.clock.now_us();
        let door = self.doors.door();
        let registered = door.register(&session, SERVICE, &self.registration).await;
        match self.note(Asked::Register, start_us, registered) {
            Ok(()) => {
                self.session = Some(session);
                true
            }
            Err(trouble) => {
                if trouble == Trouble::Refused(Refusal::NodeExists) {
                    // An attempt of its own whose outcome was unknown holds the id. What came of this is not asked
                    // for here: the next attempt shows it.
                    let start_us = self.world.clock.now_us();
                    let freed = door.deregister(None, SERVICE, self.id()).await;
                    let _ = self.note(Asked::Free, start_us, freed);
                }
                false
            }
        }
    }

    /// Deregisters, for a while also when it fails.
    async fn leave(&mut self) {
        let Some(session) = self.session.clone() else { return };
        let until_ms = self.world.clock.now_ms() + FAREWELL_MS_MAX;
        while self.world.clock.now_ms() < until_ms {
            let start_us = self.world.clock.now_us();
            let door = self.doors.door();
            let reply = match door.deregister(Some(&session), SERVICE, self.id()).await {
                // Done by an earlier attempt, or by the end of the session.
                Err(Trouble::Refused(Refusal::NoNode) | Trouble::Expired) => Ok(()),
                other => other,
            };
            if self.note(Asked::Deregister, start_us, reply).is_ok() {
                return;
            }
            sleep(RETRY).await;
        }
    }
}
