//! `roost run`: a command that is registered for as long as it runs.
//!
//! The child is the purpose and the registration its shadow: nothing that happens to the registry touches
//! the child.

use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::args::{GlobalArgs, RunArgs};
use super::output::Failure;
use crate::client::model::Registration;
use crate::client::{Client, Error, jittered};

/// How long deregistering may take at the end; after that the session's timeout does it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// What a shell answers when a command cannot be started.
const EXIT_NOT_STARTED: u8 = 127;

/// Runs the command and returns its exit code, or 128 + the signal that ended it.
pub(super) async fn execute(args: RunArgs, global: &GlobalArgs) -> Result<u8, Failure> {
    let client = global.client()?;
    let registration = Registration::from(&args.instance);
    let mut signals = Signals::listen()?;
    let mut child = match Command::new(&args.command[0]).args(&args.command[1..]).spawn() {
        Ok(child) => child,
        Err(err) => {
            eprintln!("roost: cannot start {:?}: {err}", args.command[0]);
            return Ok(EXIT_NOT_STARTED);
        }
    };
    let stop = CancellationToken::new();
    let registrar = Registrar::new(client, args.service, registration, args.timeout_ms);
    let keeping = tokio::spawn(registrar.keep(stop.clone()));
    let status = signals.forward_until_exit(&mut child).await;
    stop.cancel();
    // The task ends after the token is cancelled; it would fail only by panicking, of which nothing is left
    // to undo.
    let _ = keeping.await;
    Ok(exit_code(status?))
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
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
            let is_for_us_alone = received == Signal::SIGTERM || !self.has_terminal;
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
            if let (true, Some(pid)) = (is_for_us_alone, pid) {
                // A child that has just ended needs no signal; the next wait tells.
                let _ = kill(Pid::from_raw(pid), received);
            }
        }
    }
}

/// Keeps one provider registered: opens a session, registers, renews, and begins anew when the session is
/// lost.
struct Registrar {
    client: Client,
    service: String,
    registration: Registration,
    timeout_ms: u64,
    token: Option<String>,
    is_registered: bool,
    failures: u32,
    /// Code of the last failure told, so that each is told once.
    told: Option<String>,
}

impl Registrar {
    fn new(
        client: Client,
        service: String,
        registration: Registration,
        timeout_ms: u64,
    ) -> Registrar {
        Registrar {
            client,
            service,
            registration,
            timeout_ms,
            token: None,
            is_registered: false,
            failures: 0,
            told: None,
        }
    }

    /// A third of the session's timeout: two renewals may fail before it is lost.
    fn interval(&self) -> Duration {
        Duration::from_millis(self.timeout_ms / 3)
    }

    async fn keep(mut self, stop: CancellationToken) {
        let run = async {
            loop {
                let wait = self.step().await;
                sleep(wait).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = run => {}
        }
        self.close().await;
    }

    /// Does the next thing and returns how long to wait before the one after it.
    async fn step(&mut self) -> Duration {
        match self.advance().await {
            Ok(wait) => {
                self.failures = 0;
                wait
            }
            Err(error) => {
                self.note(&error);
                jittered(self.failures).min(self.interval())
            }
        }
    }

    async fn advance(&mut self) -> Result<Duration, Error> {
        let client = self.client.with_timeout(self.client.timeout().min(self.interval()));
        let Some(token) = self.token.clone() else {
            let opened = client.open_session(self.timeout_ms).await?;
            self.timeout_ms = opened.timeout_ms;
            self.token = Some(opened.token);
            return Ok(Duration::ZERO);
        };
        if self.is_registered {
            client.renew_session(&token).await?;
        } else {
            let registered =
                client.with_session(&token).register(&self.service, &self.registration).await?;
            self.is_registered = true;
            eprintln!("roost: registered {}", registered.path);
        }
        self.told = None;
        Ok(self.interval())
    }

    fn note(&mut self, error: &Error) {
        self.failures += 1;
        if error.is("session_expired") {
            self.token = None;
            self.is_registered = false;
        }
        if self.told.as_deref() != Some(error.code()) {
            eprintln!("roost: the command runs on, but keeping it registered failed: {error}");
            self.told = Some(error.code().to_owned());
        }
    }

    async fn close(&self) {
        let Some(token) = &self.token else { return };
        match self.client.with_timeout(CLOSE_TIMEOUT).close_session(token).await {
            Err(error) if !error.is("session_expired") => eprintln!(
                "roost: could not deregister ({error}); the registration goes within {} ms",
                self.timeout_ms
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::sync::Arc;

    use axum::extract::State;
    use axum::http::{Method, StatusCode, Uri};
    use parking_lot::Mutex;

    use super::{Registrar, exit_code};
    use crate::client::Client;
    use crate::client::model::Registration;

    #[test]
    fn the_exit_code_is_the_childs_or_128_and_its_signal() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 128 + 15);
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
    }

    /// Answers every call and notes it; the second renewal finds the session expired.
    async fn registry(
        calls: State<Arc<Mutex<Vec<String>>>>,
        method: Method,
        uri: Uri,
    ) -> (StatusCode, String) {
        let mut calls = calls.lock();
        calls.push(format!("{method} {}", uri.path()));
        let renewals = calls.iter().filter(|call| call.starts_with("PUT")).count();
        if method == Method::PUT && renewals == 2 {
            return (StatusCode::GONE, r#"{"code":"session_expired","message":"gone"}"#.to_owned());
        }
        let opened = calls.iter().filter(|call| *call == "POST /v1/sessions").count();
        let body = format!(
            r#"{{"session":"0x{opened}","token":"0x{opened}.x","timeout_ms":5000,"zxid":1,
                "name":"web","id":"a:1","path":"/p","removed":1}}"#
        );
        (StatusCode::OK, body)
    }

    #[tokio::test]
    async fn a_lost_session_is_replaced_and_the_provider_registered_again() {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let router = axum::Router::new().fallback(registry).with_state(calls.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });

        let client = Client::new(vec![endpoint]).unwrap();
        let mut registrar =
            Registrar::new(client, "web".to_owned(), Registration::default(), 5_000);
        for _ in 0..6 {
            registrar.step().await;
        }
        registrar.close().await;
        server.abort();
        assert_eq!(
            *calls.lock(),
            [
                "POST /v1/sessions",
                "POST /v1/services/web/providers",
                "PUT /v1/sessions/0x1",
                "PUT /v1/sessions/0x1",
                "POST /v1/sessions",
                "POST /v1/services/web/providers",
                "DELETE /v1/sessions/0x2",
            ]
        );
    }
}
