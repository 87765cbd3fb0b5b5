//! `roost run`: a command that is registered for as long as it runs.
//!
//! The child is the purpose and the registration its shadow: nothing that happens to the registry touches
//! the child.

use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::args::GlobalArgs;
use super::super::output::Failure;
use super::args::RunArgs;
use super::{check, registry};
use crate::client::model::Registration;
use crate::client::{Error, encode_path};
use crate::sdk::{Registrar, RegistrarOptions, RegistrationState, Registry, Service, SessionStore};

/// What a shell answers when a command cannot be started.
const EXIT_NOT_STARTED: u8 = 127;

/// Runs the command and returns its exit code, or 128 + the signal that ended it.
pub(in crate::cli) async fn execute(args: RunArgs, global: &GlobalArgs) -> Result<u8, Failure> {
    let registry = registry(&args.of, global)?;
    let registration = Registration::from(&args.instance);
    let service = Service { name: args.service.clone(), registration };
    let sessions = sessions(&args, &service)?;
    let mut signals = Signals::listen()?;
    let mut child = match Command::new(&args.command[0]).args(&args.command[1..]).spawn() {
        Ok(child) => child,
        Err(err) => {
            let why = format!("cannot start {:?}: {err}", args.command[0]);
            Failure::Local(why).report(global.json);
            return Ok(EXIT_NOT_STARTED);
        }
    };
    let stop = CancellationToken::new();
    let ttl = Duration::from_millis(args.timeout_ms);
    let options = RegistrarOptions { ttl, sessions, ..RegistrarOptions::default() };
    let (report, health) = watch::channel(args.check.is_none());
    let voice = Voice { json: global.json };
    let checking = args.check.clone().map(|check| {
        let health = check::Health::new(args.check_pass, args.check_fail);
        tokio::spawn(check::watch_over(
            check,
            health,
            args.check_interval,
            args.check_timeout,
            report.clone(),
            move |finding| voice.say_check(&finding),
        ))
    });
    let (outcome, registered) = watch::channel(Err("no registry has answered".to_owned()));
    let late = too_late(args.exit_if_cannot_register, health.clone(), registered);
    let keeping =
        keep(registry, service, options, health, Telling { voice, outcome }, stop.clone());
    let keeping = tokio::spawn(keeping);
    let mut unregistered = None;
    let status = tokio::select! {
        status = signals.forward_until_exit(&mut child) => status,
        failure = late => {
            unregistered = Some(failure);
            signal_child(&child, Signal::SIGTERM);
            signals.forward_until_exit(&mut child).await
        }
    };
    stop.cancel();
    // The task ends after the token is cancelled; it would fail only by panicking, of which nothing is left
    // to undo.
    let _ = keeping.await;
    if let Some(checking) = checking {
        checking.abort();
    }
    drop(report);
    let code = exit_code(status?);
    match unregistered {
        Some(failure) => Err(failure),
        None => Ok(code),
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Returns where the session is noted. Each registration has its own directory: several may share the one that was named.
fn sessions(args: &RunArgs, service: &Service) -> Result<SessionStore, Failure> {
    let Some(dir) = &args.state_dir else { return Ok(SessionStore::default()) };
    let name = match &*args.of.namespace {
        "" => format!("{}~{}", service.name, service.id()),
        namespace => format!("{namespace}~{}~{}", service.name, service.id()),
    };
    let name = encode_path(&name).replace('/', "%2F");
    let dir = dir.join(name);
    SessionStore::open(&dir).map_err(|err| {
        Failure::Local(format!("cannot note the session in {}: {err}", dir.display()))
    })
}

/// Returns, with the reason, when nothing has registered the command so long after it was first to be registered; never
/// without such a time, or once it was.
async fn too_late(
    within: Option<Duration>,
    mut health: watch::Receiver<bool>,
    mut registered: watch::Receiver<Outcome>,
) -> Failure {
    let Some(within) = within else { return std::future::pending().await };
    if health.wait_for(|is_healthy| *is_healthy).await.is_err() {
        return std::future::pending().await;
    }
    let once = registered.wait_for(Result::is_ok);
    if timeout(within, once).await.is_ok() {
        return std::future::pending().await;
    }
    let why = registered.borrow().clone().err().unwrap_or_default();
    let within = within.as_millis();
    Failure::Local(format!("not registered within {within} ms, so the command was ended: {why}"))
}

/// The signals that are meant for the child.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    /// The terminal sends SIGINT and SIGHUP to the child as well: forwarding would double them.
    has_terminal: bool,
}

impl Signals {
    fn listen() -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|err| Failure::Local(format!("cannot listen to signals: {err}")))
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            has_terminal: std::io::stdin().is_terminal(),
        })
    }

    async fn forward_until_exit(&mut self, child: &mut Child) -> Result<ExitStatus, Failure> {
        loop {
            let received = tokio::select! {
                status = child.wait() => {
                    return status.map_err(|err| Failure::Local(format!("cannot wait for the command: {err}")));
                }
                _ = self.terminate.recv() => Signal::SIGTERM,
                _ = self.interrupt.recv() => Signal::SIGINT,
                _ = self.hangup.recv() => Signal::SIGHUP,
            };
            if received == Signal::SIGTERM || !self.has_terminal {
                signal_child(child, received);
            }
        }
    }
}

fn signal_child(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // A child that has just ended needs no signal; the next wait tells.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Says on stderr how it stands with the registration, since stdout is the command's: lines for people, or JSON.
#[derive(Clone, Copy)]
struct Voice {
    json: bool,
}

impl Voice {
    fn say(self, event: &str, service: &Service, error: Option<&Error>, text: &str) {
        let (service, id) = (&service.name, service.id());
        let line = match error {
            None => json!({ "event": event, "service": service, "id": id }),
            Some(error) => json!({
                "event": event, "service": service, "id": id, "code": error.code(), "message": error.message(),
            }),
        };
        self.put(&line, text);
    }

    fn say_check(self, finding: &check::Finding) {
        match finding {
            check::Finding::Passes => {
                self.put(&json!({ "event": "check_passes" }), "the check passes");
            }
            check::Finding::Fails(why) => {
                let line = json!({ "event": "check_fails", "message": why });
                self.put(&line, &format!("the check fails: {why}"));
            }
            check::Finding::NotYet => {
                let text = "the check has not passed often enough yet";
                self.put(&json!({ "event": "check_not_yet" }), text);
            }
        }
    }

    fn put(self, line: &Value, text: &str) {
        match self.json {
            true => eprintln!("{line}"),
            false => eprintln!("roost: {text}"),
        }
    }
}

/// Whether it has ever been registered, or why not.
type Outcome = Result<(), String>;

/// Whom to tell how it stands.
struct Telling {
    voice: Voice,
    outcome: watch::Sender<Outcome>,
}

/// Keeps the provider registered while it is healthy, until stopped.
async fn keep(
    registry: Registry,
    service: Service,
    options: RegistrarOptions,
    mut health: watch::Receiver<bool>,
    telling: Telling,
    stop: CancellationToken,
) {
    let voice = telling.voice;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // The sender lives as long as this task.
            _ = health.wait_for(|is_healthy| *is_healthy) => {}
        }
        let services = vec![service.clone()];
        let registrar = Registrar::start(std::slice::from_ref(&registry), services, &options);
        tokio::select! {
            () = stop.cancelled() => {}
            _ = health.wait_for(|is_healthy| !*is_healthy) => {}
            () = tell(registrar.states(), &service, &telling) => {}
        }
        for left in registrar.withdraw().await {
            match left.error {
                Some(error) => {
                    let within = options.ttl.as_millis();
                    let text = format!(
                        "could not deregister ({error}); the registration goes within {within} ms"
                    );
                    voice.say("left_behind", &service, Some(&error), &text);
                }
                None if !stop.is_cancelled() => {
                    let text = format!("deregistered {}", service.id());
                    voice.say("deregistered", &service, None, &text);
                }
                None => {}
            }
        }
    }
}

/// Says how it stands with the registration whenever that changes, each failure once.
async fn tell(
    mut states: watch::Receiver<Vec<(Arc<str>, RegistrationState)>>,
    service: &Service,
    Telling { voice, outcome }: &Telling,
) {
    let mut told = None;
    loop {
        let state = states.borrow_and_update().first().map(|(_, state)| state.clone());
        match state {
            Some(RegistrationState::Registered { .. }) => {
                outcome.send_modify(|outcome| *outcome = Ok(()));
                if told.take() != Some(String::new()) {
                    let text =
                        format!("registered {} as a provider of {}", service.id(), service.name);
                    voice.say("registered", service, None, &text);
                }
                told = Some(String::new());
            }
            Some(
                RegistrationState::Registering(Some(error))
                | RegistrationState::Late(error)
                | RegistrationState::Lost(error),
            ) if told.as_deref() != Some(error.code()) => {
                let text =
                    format!("the command runs on, but keeping it registered failed: {error}");
                voice.say("failed", service, Some(&error), &text);
                if outcome.borrow().is_err() {
                    outcome.send_modify(|outcome| *outcome = Err(error.to_string()));
                }
                told = Some(error.code().to_owned());
            }
            _ => {}
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::Duration;

    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::{exit_code, too_late};

    #[tokio::test(start_paused = true)]
    async fn the_command_ends_only_when_it_should_have_been_registered_and_never_was() {
        let refused = || Err("no_auth".to_owned());
        let hour = Duration::from_secs(3_600);
        let second = Some(Duration::from_secs(1));
        for (within, is_healthy, registered, ends) in [
            (second, true, refused(), true),
            (second, true, Ok(()), false),
            (second, false, refused(), false),
            (None, true, refused(), false),
        ] {
            let (_health, health) = watch::channel(is_healthy);
            let (_outcome, outcome) = watch::channel(registered);
            let late = timeout(hour, too_late(within, health, outcome)).await;
            assert_eq!(late.is_ok(), ends);
            assert!(late.ok().is_none_or(|failure| failure.to_string().contains("no_auth")));
        }
    }

    #[test]
    fn the_exit_code_is_the_childs_or_128_and_its_signal() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 128 + 15);
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
    }
}
