use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

use super::incarnations::Incarnations;
use super::keeper::{Keeper, Phase};
use super::registry::Registry;
use super::sessions::SessionStore;
use crate::client::Error;
use crate::client::model::{Drained, Registration};

/// How a provider is kept registered.
#[derive(Clone, Debug)]
pub struct RegistrarOptions {
    /// How long it stays listed when nothing is heard of it any more; the registry moves it into its range.
    pub ttl: Duration,
    /// Ends the process, with a line on stderr and exit code 1, when not even one registry has registered it within this
    /// time from the start. For a new provider that nobody would ever find; one that was registered goes on serving.
    pub exit_if_cannot_register: Option<Duration>,
    /// Where the sessions are noted, and those of earlier runs are found, whose registrations are taken over.
    pub sessions: SessionStore,
}

impl Default for RegistrarOptions {
    /// Returns 15 s, no exit, and a store that ends with the process.
    fn default() -> RegistrarOptions {
        RegistrarOptions {
            ttl: Duration::from_secs(15),
            exit_if_cannot_register: None,
            sessions: SessionStore::default(),
        }
    }
}

/// A provider of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The service.
    pub name: String,
    /// What is said of the provider. Its id stays the same over all sessions; `host:port` when it is left out.
    pub registration: Registration,
}

impl Service {
    /// Returns the id of the provider.
    pub fn id(&self) -> String {
        let Registration { id, host, port, .. } = &self.registration;
        id.clone().unwrap_or_else(|| format!("{host}:{port}"))
    }
}

/// How it stands with the registration at one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// It has not been registered yet; why the last attempt failed, if one did.
    Registering(Option<Error>),
    /// It is registered and renewed in time.
    Registered {
        /// The registration's place in the order.
        zxid: u64,
    },
    /// A renewal failed. It is still listed, for a part of its ttl.
    Late(Error),
    /// It is not listed any more, or may not be: its session is gone, or was not renewed for a whole ttl. It is being
    /// registered again. The program can still be well: then the network between it and the registry is not.
    Lost(Error),
    /// It was deregistered on purpose.
    Left,
}

impl RegistrationState {
    /// Returns whether somebody should be told: it is late or lost.
    pub fn is_alarm(&self) -> bool {
        matches!(self, RegistrationState::Late(_) | RegistrationState::Lost(_))
    }
}

/// How a provider leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownOptions {
    /// How long consumers may take to be told that it leaves.
    pub drain: Duration,
    /// How long to go on after all that can be told were told, for the calls that were on their way.
    pub grace: Duration,
}

impl Default for ShutdownOptions {
    /// Returns 10 s and 1 s.
    fn default() -> ShutdownOptions {
        ShutdownOptions { drain: Duration::from_secs(10), grace: Duration::from_secs(1) }
    }
}

/// How one registry was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The registry's name.
    pub registry: String,
    /// For each service that the registry drained: how many consumers were told. Empty where it does not know how; there
    /// the provider said `draining` of itself.
    pub drained: Vec<(String, Drained)>,
    /// Why the session could not be closed; it ends at its timeout then.
    pub error: Option<Error>,
}

/// Keeps providers registered at one or several registries until it is shut down. Dropping it ends that too, without a
/// word: the registration goes at its ttl.
#[derive(Debug)]
pub struct Registrar {
    states: watch::Receiver<Vec<(Arc<str>, RegistrationState)>>,
    phase: watch::Sender<Phase>,
    keepers: Vec<JoinHandle<Left>>,
    incarnations: Incarnations,
    exit: Option<AbortHandle>,
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.keepers.iter().for_each(JoinHandle::abort);
        self.exit.iter().for_each(AbortHandle::abort);
    }
}

impl Registrar {
    /// Begins to register these providers, all under one session for each registry. Must be called within a runtime.
    /// Returns at once: [`registered`](Registrar::registered) waits.
    pub fn start(
        registries: &[Registry],
        services: Vec<Service>,
        options: &RegistrarOptions,
    ) -> Registrar {
        let begin = |registry: &Registry| {
            (Arc::from(registry.name()), RegistrationState::Registering(None))
        };
        let (states, seen) = watch::channel(registries.iter().map(begin).collect());
        let (phase, phases) = watch::channel(Phase::Running);
        let incarnations = Incarnations::default();
        let keepers = registries.iter().enumerate().map(|(index, registry)| {
            let services = services.clone();
            let (states, incarnations) = (states.clone(), incarnations.clone());
            let registry = registry.clone();
            let keeper = Keeper::new(registry, services, options, states, index, incarnations);
            tokio::spawn(keeper.keep(phases.clone()))
        });
        let keepers = keepers.collect();
        let exit = options.exit_if_cannot_register.map(|within| {
            tokio::spawn(exit_unless_registered(seen.clone(), within)).abort_handle()
        });
        Registrar { states: seen, phase, keepers, incarnations, exit }
    }

    /// Returns the incarnations that the providers have had, kept up to date: by which a server tells the calls that are
    /// meant for it.
    pub fn incarnations(&self) -> Incarnations {
        self.incarnations.clone()
    }

    /// Returns how it stands at each registry, by name, now and whenever that changes: the stream of alarms. Only the
    /// newest state is kept for a reader that is slow.
    pub fn states(&self) -> watch::Receiver<Vec<(Arc<str>, RegistrationState)>> {
        self.states.clone()
    }

    /// Waits until all registries have registered the providers. Error: that did not happen within this time, and the
    /// reason of one that did not.
    pub async fn registered(&self, within: Duration) -> Result<(), Error> {
        let mut states = self.states.clone();
        let is_registered = |state: &(Arc<str>, RegistrationState)| {
            matches!(state.1, RegistrationState::Registered { .. })
        };
        let all = states.wait_for(|states| states.iter().all(is_registered));
        if let Ok(Ok(_)) = timeout(within, all).await {
            return Ok(());
        }
        Err(reason(&self.states.borrow(), within))
    }

    /// Leaves in good order, everywhere at once: tells consumers that the provider leaves and waits until they know,
    /// deregisters it, and closes the session. Where a registry cannot be reached the session ends at its timeout. Takes at
    /// most the time of the options and about ten seconds.
    pub async fn shutdown(mut self, options: ShutdownOptions) -> Vec<Left> {
        self.end(Phase::Leaving(options)).await
    }

    /// Deregisters at once and closes the session, for a provider that is dead already.
    pub async fn withdraw(mut self) -> Vec<Left> {
        self.end(Phase::Closing).await
    }

    async fn end(&mut self, phase: Phase) -> Vec<Left> {
        self.phase.send_replace(phase);
        let mut left = Vec::new();
        for keeper in self.keepers.drain(..) {
            // A keeper that panicked has nothing to report.
            left.extend(keeper.await);
        }
        left
    }
}

fn reason(states: &[(Arc<str>, RegistrationState)], within: Duration) -> Error {
    let late = states.iter().find_map(|(_, state)| match state {
        RegistrationState::Registering(Some(error))
        | RegistrationState::Late(error)
        | RegistrationState::Lost(error) => Some(error.clone()),
        _ => None,
    });
    late.unwrap_or_else(|| {
        Error::Timeout(format!("not registered within {} ms", within.as_millis()))
    })
}

async fn exit_unless_registered(
    mut states: watch::Receiver<Vec<(Arc<str>, RegistrationState)>>,
    within: Duration,
) {
    let is_in = |state: &RegistrationState| !matches!(state, RegistrationState::Registering(_));
    let any = states.wait_for(|states| states.iter().any(|(_, state)| is_in(state)));
    if let Ok(Ok(_)) = timeout(within, any).await {
        return;
    }
    let error = reason(&states.borrow(), within);
    eprintln!(
        "roost: not registered within {} ms, so this process ends: {error}",
        within.as_millis()
    );
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::watch;

    use super::{Error, RegistrationState, exit_unless_registered};

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_one_registry_has_taken_is_not_ended_whatever_comes_then() {
        let within = Duration::from_secs(1);
        let lost = RegistrationState::Lost(Error::Unreachable("away".to_owned()));
        for state in [RegistrationState::Registered { zxid: 1 }, lost] {
            let never = (Arc::from("far"), RegistrationState::Registering(None));
            let (states, seen) = watch::channel(vec![never, (Arc::from("near"), state)]);
            // This process would end.
            exit_unless_registered(seen, within).await;
            drop(states);
        }
    }
}
