//! The verbs on sessions, and the session that a command or a shell holds for itself.

use std::time::Duration;

use clap::Subcommand;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Context;
use super::output::{Failure, table};
use crate::client::{Client, jittered};

/// See [`Verb::Session`](super::args::Verb::Session).
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Open a session and print its token.
    Open {
        /// How long it lives without being renewed.
        #[arg(long, default_value_t = 30_000)]
        timeout_ms: u64,
    },
    /// Renew a session.
    Renew {
        /// Its token.
        token: String,
    },
    /// Close a session; its ephemerals go.
    Close {
        /// Its token.
        token: String,
    },
    /// List the sessions.
    Ls,
    /// Print a session and the paths of its ephemerals.
    Show {
        /// Its id, 0x….
        session: String,
    },
}

/// Timeout of a session that a command holds for itself, ms: short, so that a killed command is soon
/// forgotten.
const OWN_SESSION_TIMEOUT_MS: u64 = 10_000;

/// A session kept alive by a background task until it is closed.
#[derive(Debug)]
pub(super) struct HeldSession {
    client: Client,
    token: String,
    /// Ends when the session is lost.
    renewal: JoinHandle<()>,
}

impl HeldSession {
    /// Opens a session and begins to renew it.
    pub(super) async fn open(client: &Client) -> Result<HeldSession, Failure> {
        let opened = client.open_session(OWN_SESSION_TIMEOUT_MS).await?;
        let renewal = tokio::spawn(renew(client.clone(), opened.token.clone(), opened.timeout_ms));
        Ok(HeldSession { client: client.clone(), token: opened.token, renewal })
    }

    /// Returns its token.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Returns whether it has expired.
    pub(super) fn is_lost(&self) -> bool {
        self.renewal.is_finished()
    }

    /// Returns when it has expired.
    pub(super) async fn lost(&mut self) {
        // The task is never aborted while somebody waits for it, and it does not panic.
        let _ = (&mut self.renewal).await;
    }

    /// Closes it: its ephemerals are gone when this returns. A session that has expired is closed.
    pub(super) async fn close(self) -> Result<(), Failure> {
        self.renewal.abort();
        match self.client.close_session(&self.token).await {
            Err(error) if !error.is("session_expired") => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Renews a session three times per timeout, or as the cluster asks, until the cluster says that it has expired.
async fn renew(client: Client, token: String, timeout_ms: u64) {
    let interval = Duration::from_millis(timeout_ms / 3);
    let client = client.with_timeout(interval.max(Duration::from_secs(1)));
    let (mut failures, mut next) = (0, interval);
    loop {
        sleep(if failures == 0 { next } else { jittered(failures).min(interval) }).await;
        match client.renew_session(&token).await {
            Ok(renewed) => {
                failures = 0;
                next = renewed.next_renewal(interval);
            }
            Err(error) if error.is("session_expired") => return,
            Err(_) => failures += 1,
        }
    }
}

pub(super) async fn execute(context: &Context, command: &SessionCommand) -> Result<(), Failure> {
    let (client, output) = (&context.client, context.output);
    match command {
        SessionCommand::Open { timeout_ms } => {
            let opened = client.open_session(*timeout_ms).await?;
            output.result(&opened, || format!("{}\n", opened.token).into_bytes())
        }
        SessionCommand::Renew { token } => {
            let renewed = client.renew_session(token).await?;
            output.result(&renewed, || {
                format!("lives {} ms from now\n", renewed.timeout_ms).into_bytes()
            })
        }
        SessionCommand::Close { token } => {
            let closed = client.close_session(token).await?;
            output.result(&closed, || {
                format!("closed, {} ephemerals removed\n", closed.removed).into_bytes()
            })
        }
        SessionCommand::Ls => {
            let sessions = client.sessions().await?;
            output.result(&sessions, || {
                let mut rows =
                    vec![["SESSION", "TIMEOUT_MS", "EPHEMERALS"].map(str::to_owned).to_vec()];
                rows.extend(sessions.sessions.iter().map(|session| {
                    vec![
                        session.session.clone(),
                        session.timeout_ms.to_string(),
                        session.ephemerals.to_string(),
                    ]
                }));
                table(&rows).into_bytes()
            })
        }
        SessionCommand::Show { session } => {
            let detail = client.session(session).await?;
            output.result(&detail, || {
                let mut text =
                    format!("session = {}\ntimeout_ms = {}\n", detail.session, detail.timeout_ms);
                for path in &detail.ephemerals {
                    text.push_str(path);
                    text.push('\n');
                }
                text.into_bytes()
            })
        }
    }
}
