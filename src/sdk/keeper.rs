//! The task that keeps providers registered at one registry.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::{Backoff, renew_after};
use super::incarnations::Incarnations;
use super::registrar::{Left, RegistrarOptions, RegistrationState, Service, ShutdownOptions};
use super::registry::Registry;
use super::sessions::SessionStore;
use crate::client::model::{Drain, Drained, Registered, Registration};
use crate::client::{Client, Error};
use crate::limits::POLL_WAIT_MS_MAX;

/// How long saying goodbye may take beside the draining itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// The shortest time that one call gets, however short the ttl.
const CALL_TIMEOUT_MIN: Duration = Duration::from_millis(300);

/// What a keeper is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    Leaving(ShutdownOptions),
    Closing,
}

/// A session of ours.
#[derive(Clone, Debug)]
struct Held {
    token: String,
    ttl_ms: u64,
    /// When the last renewal that succeeded was sent.
    renewed_at: Instant,
}

#[derive(Debug)]
pub(super) struct Keeper {
    registry: Registry,
    services: Vec<Service>,
    ttl_ms: u64,
    states: watch::Sender<Vec<(Arc<str>, RegistrationState)>>,
    /// Which of the states is this keeper's.
    index: usize,
    held: Option<Held>,
    sessions: SessionStore,
    /// Tokens of earlier sessions that live on and may have what is to be registered.
    earlier: Vec<String>,
    /// How many of the services are registered under the session.
    registered: usize,
    /// The place in the order of the last registration.
    zxid: u64,
    incarnations: Incarnations,
    backoff: Backoff,
}

impl Keeper {
    pub(super) fn new(
        registry: Registry,
        services: Vec<Service>,
        options: &RegistrarOptions,
        states: watch::Sender<Vec<(Arc<str>, RegistrationState)>>,
        index: usize,
        incarnations: Incarnations,
    ) -> Keeper {
        Keeper {
            registry,
            services,
            ttl_ms: u64::try_from(options.ttl.as_millis()).unwrap_or(u64::MAX),
            states,
            index,
            held: None,
            sessions: options.sessions.clone(),
            earlier: Vec::new(),
            registered: 0,
            zxid: 0,
            incarnations,
            // A provider should be back soon after the registry is: within a fifth of its ttl.
            backoff: Backoff::up_to(options.ttl / 5),
        }
    }

    /// Keeps the providers registered until the phase changes, then leaves.
    pub(super) async fn keep(mut self, mut phases: watch::Receiver<Phase>) -> Left {
        let phase = tokio::select! {
            // A step may be dropped anywhere: at worst a session was opened that ends at its timeout.
            () = self.go_on() => Phase::Closing,
            changed = phases.changed() => match changed {
                Ok(()) => *phases.borrow(),
                Err(_) => Phase::Closing,
            }
        };
        let held = self.held.take();
        let drained = match (phase, &held) {
            (Phase::Leaving(options), Some(held)) => self.drain(held, options).await,
            _ => Vec::new(),
        };
        let error = match &held {
            Some(held) => close(&self.registry, &held.token).await,
            None => None,
        };
        if let (Some(held), None) = (&held, &error) {
            self.sessions.remove(self.registry.name(), &held.token);
        }
        self.set(RegistrationState::Left);
        Left { registry: self.registry.name().to_owned(), drained, error }
    }

    /// Works for ever: one step after the other, with the wait that each asks for.
    async fn go_on(&mut self) {
        loop {
            let wait = self.step().await;
            sleep(wait).await;
        }
    }

    /// Does the next thing and returns how long to wait before the one after it.
    pub(super) async fn step(&mut self) -> Duration {
        let wait = match self.advance().await {
            Ok(wait) => {
                self.backoff.succeeded();
                wait
            }
            Err(error) => {
                self.note(error);
                self.backoff.failed(rand::random())
            }
        };
        self.registry.refresh_if_due().await;
        wait
    }

    /// Returns a client whose calls leave time for another within the ttl.
    fn client(&self) -> Client {
        let ttl_ms = self.held.as_ref().map_or(self.ttl_ms, |held| held.ttl_ms);
        let third = Duration::from_millis(ttl_ms / 3).max(CALL_TIMEOUT_MIN);
        let client = self.registry.client();
        client.with_timeout(client.timeout().min(third))
    }

    async fn advance(&mut self) -> Result<Duration, Error> {
        let (client, sent_at) = (self.client(), Instant::now());
        let Some(held) = &mut self.held else {
            self.earlier = self.predecessors(&client).await?;
            let opened = client.open_session(self.ttl_ms).await?;
            self.registered = 0;
            let (token, ttl_ms) = (opened.token, opened.timeout_ms);
            self.sessions.add(self.registry.name(), &token);
            self.held = Some(Held { token, ttl_ms, renewed_at: sent_at });
            return Ok(Duration::ZERO);
        };
        let ttl_ms = held.ttl_ms;
        let Some(service) = self.services.get(self.registered) else {
            let renewed = client.renew_session(&held.token).await?;
            held.renewed_at = sent_at;
            // The session is alive, and so is all that it holds.
            self.set(RegistrationState::Registered { zxid: self.zxid });
            return Ok(renew_after(ttl_ms, renewed.next_renew_ms, rand::random()));
        };
        let client = client.with_session(&held.token);
        let done = register(&client, service, &self.earlier).await?;
        held.renewed_at = sent_at;
        self.zxid = done.zxid;
        self.incarnations.note(&service.name, done.incarnation);
        self.registered += 1;
        if self.registered < self.services.len() {
            return Ok(Duration::ZERO);
        }
        // What earlier sessions may have beside this is not ours any more, and goes with them.
        self.sessions.keep(self.registry.name(), &held.token);
        self.earlier.clear();
        self.set(RegistrationState::Registered { zxid: self.zxid });
        Ok(renew_after(ttl_ms, None, rand::random()))
    }

    /// Returns the earlier sessions that live, and renews them, so that none ends before what it has is taken over.
    async fn predecessors(&self, client: &Client) -> Result<Vec<String>, Error> {
        let mut living = Vec::new();
        for token in self.sessions.tokens(self.registry.name()) {
            match client.renew_session(&token).await {
                Ok(_) => living.push(token),
                // A damaged note is no token.
                Err(error) if is_gone(&error) || error.is("bad_arguments") => {
                    self.sessions.remove(self.registry.name(), &token);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(living)
    }

    fn set(&self, state: RegistrationState) {
        self.states.send_if_modified(|states| {
            let is_new = states[self.index].1 != state;
            states[self.index].1 = state;
            is_new
        });
    }

    /// Notes why a step failed, and what that means for the registration.
    fn note(&mut self, error: Error) {
        if is_gone(&error)
            && let Some(held) = self.held.take()
        {
            self.sessions.remove(self.registry.name(), &held.token);
            self.registered = 0;
        }
        let is_alive = self
            .held
            .as_ref()
            .is_some_and(|held| held.renewed_at.elapsed() < Duration::from_millis(held.ttl_ms));
        let before = self.states.borrow()[self.index].1.clone();
        self.set(match before {
            RegistrationState::Registering(_) => RegistrationState::Registering(Some(error)),
            RegistrationState::Lost(_) => RegistrationState::Lost(error),
            _ if is_alive => RegistrationState::Late(error),
            _ => RegistrationState::Lost(error),
        });
    }

    /// Tells consumers that the providers leave, and goes on renewing until they know or the time is over.
    async fn drain(&self, held: &Held, options: ShutdownOptions) -> Vec<(String, Drained)> {
        let client = self.registry.client();
        let draining = drain_all(&client, &held.token, &self.services, options);
        let renewing = async {
            loop {
                sleep(Duration::from_millis(held.ttl_ms / 3)).await;
                // What matters is that it is tried: the end is near, whatever becomes of it.
                let _ = client.renew_session(&held.token).await;
            }
        };
        tokio::select! {
            drained = draining => drained,
            () = renewing => Vec::new(),
        }
    }
}

/// Returns whether a session has ended, or has never been one of this registry.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Invalid(_)) || error.is("session_expired") || error.is("auth_failed")
}

/// Registers a provider, and takes it over if one of these sessions has it: the newest is asked for first.
async fn register(
    client: &Client,
    service: &Service,
    earlier: &[String],
) -> Result<Registered, Error> {
    let mut earlier = earlier.iter().rev();
    let mut takes_over = earlier.next().cloned();
    loop {
        let registration = Registration { takes_over, ..service.registration.clone() };
        let done = client.register(&service.name, &registration).await;
        match (done, earlier.next()) {
            (Err(error), Some(token)) if error.is("node_exists") => {
                takes_over = Some(token.clone())
            }
            (done, _) => return done,
        }
    }
}

async fn drain_all(
    client: &Client,
    token: &str,
    services: &[Service],
    options: ShutdownOptions,
) -> Vec<(String, Drained)> {
    let mut tasks = JoinSet::new();
    for service in services.iter().cloned() {
        let client = client.with_session(token).with_timeout(options.drain);
        tasks.spawn(async move {
            let drained = drain_one(&client, &service, options).await;
            drained.map(|drained| (service.name, drained))
        });
    }
    let mut drained: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    drained.sort_by(|a, b| a.0.cmp(&b.0));
    sleep(options.grace).await;
    drained
}

/// Drains one provider. A registry that does not know how still tells everybody that the provider is `draining`, if the
/// provider says so of itself.
async fn drain_one(
    client: &Client,
    service: &Service,
    options: ShutdownOptions,
) -> Option<Drained> {
    let deadline = options.drain + options.grace;
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX).max(1);
    // Who does not listen is counted: the answer comes before this client gives up.
    let wait_ms = u64::try_from(options.drain.as_millis() / 10 * 9).unwrap_or(u64::MAX);
    let drain = Drain {
        deadline_ms,
        wait: "all_subscribers".to_owned(),
        wait_ms: Some(wait_ms.clamp(1, POLL_WAIT_MS_MAX)),
        reason: None,
    };
    match client.drain(&service.name, &service.id(), &drain).await {
        Ok(drained) => Some(drained),
        Err(Error::Refused(_)) => {
            let status = Some("draining".to_owned());
            let registration = Registration { status, ..service.registration.clone() };
            // If that fails too, what is left is to go.
            let _ = client.register(&service.name, &registration).await;
            None
        }
        Err(_) => None,
    }
}

/// Closes a session, with all that it holds; tries for some seconds. Returns why it could not.
async fn close(registry: &Registry, token: &str) -> Option<Error> {
    let mut last = None;
    let closing = async {
        let mut backoff = Backoff::default();
        loop {
            match registry.client().with_timeout(CLOSE_TIMEOUT).close_session(token).await {
                Ok(_) => return,
                Err(error) if error.is("session_expired") => return,
                Err(error) => last = Some(error),
            }
            sleep(backoff.failed(rand::random())).await;
        }
    };
    match timeout(CLOSE_TIMEOUT, closing).await {
        Ok(()) => None,
        Err(_) => Some(last.unwrap_or_else(|| {
            Error::Timeout(format!("no answer within {} ms", CLOSE_TIMEOUT.as_millis()))
        })),
    }
}
