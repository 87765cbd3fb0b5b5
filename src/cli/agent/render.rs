//! `roost render`: a file that is always the present providers in another program's words.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::args::GlobalArgs;
use super::super::output::Failure;
use super::super::signal;
use super::args::RenderArgs;
use super::debounce::Debounce;
use super::registry;
use super::template::{self, Lookup};
use crate::client::Error;
use crate::sdk::{LookupError, Subscription, SubscriptionOptions};

/// A command that takes longer is killed: the next state waits for it.
const EXEC_TIMEOUT: Duration = Duration::from_secs(60);

/// Renders until interrupted, or once.
pub(in crate::cli) async fn execute(args: RenderArgs, global: &GlobalArgs) -> Result<(), Failure> {
    let name = args.template.display().to_string();
    let text = fs::read_to_string(&args.template)
        .map_err(|err| Failure::Local(format!("cannot read {name}: {err}")))?;
    let registry = registry(&args.of, global)?;
    let options =
        SubscriptionOptions { cache_dir: args.cache.clone(), ..SubscriptionOptions::default() };
    let started = Subscription::start(&[registry], &[], options).await;
    let subscription = started.map_err(|err| Failure::Local(err.to_string()))?;
    let renderer = Renderer { name, text, lookup: lookup(&subscription), args };
    let mut interrupted = Box::pin(signal::interrupted());
    tokio::select! {
        () = &mut interrupted => return Ok(()),
        first = renderer.first(&subscription, global.timeout) => first?,
    }
    if renderer.args.once {
        return Ok(());
    }
    tokio::select! {
        () = interrupted => Ok(()),
        () = renderer.follow(&subscription) => Ok(()),
    }
}

fn lookup(subscription: &Subscription) -> Lookup {
    let subscription = subscription.clone();
    Arc::new(move |service| match subscription.providers(service) {
        Ok(providers) => Some(providers.instances.clone()),
        Err(LookupError::NoKnownProviders { .. }) => None,
        Err(_) => Some(Vec::new()),
    })
}

struct Renderer {
    name: String,
    text: String,
    lookup: Lookup,
    args: RenderArgs,
}

impl Renderer {
    /// Renders as soon as all services are known; to do it once, waits no longer than this.
    async fn first(&self, subscription: &Subscription, within: Duration) -> Result<(), Failure> {
        let mut changes = subscription.changes();
        let deadline = Instant::now() + within;
        let mut has_told = false;
        loop {
            changes.mark_unchanged();
            match self.render() {
                Err(why) => return Err(Failure::Local(why)),
                Ok(Some(text)) => return self.write(&text).await.map_err(Failure::Local),
                Ok(None) => {}
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(deadline), if self.args.once || !has_told => {
                    let why = "not all services of the template are known yet";
                    if self.args.once {
                        return Err(Failure::Client(Error::Unreachable(why.to_owned())));
                    }
                    eprintln!("roost: {why}; waiting for the registry");
                    has_told = true;
                }
            }
        }
    }

    /// Renders whenever something has changed, gathering changes that come together.
    async fn follow(&self, subscription: &Subscription) {
        let mut changes = subscription.changes();
        let began = Instant::now();
        let now_ms = || ms(began.elapsed());
        let mut debounce = Debounce::new(ms(self.args.wait_min), ms(self.args.wait_max));
        // What changed since the first rendering.
        debounce.changed(now_ms());
        loop {
            let due = debounce.due_ms().map(|due| began + Duration::from_millis(due));
            tokio::select! {
                _ = changes.changed() => debounce.changed(now_ms()),
                () = sleep_until(due.unwrap_or(began)), if due.is_some() => {
                    debounce.acted();
                    let outcome = match self.render() {
                        Ok(Some(text)) => self.write(&text).await,
                        Ok(None) => Ok(()),
                        Err(why) => Err(why),
                    };
                    if let Err(why) = outcome {
                        eprintln!("roost: {why}");
                    }
                }
            }
        }
    }

    fn render(&self) -> Result<Option<String>, String> {
        template::render(&self.name, &self.text, &self.lookup)
    }

    /// Writes the file and executes the command, if the text is not what the file has.
    async fn write(&self, text: &str) -> Result<(), String> {
        let output = &self.args.output;
        if fs::read(output).is_ok_and(|present| present == text.as_bytes()) {
            return Ok(());
        }
        replace(output, text).map_err(|err| format!("cannot write {}: {err}", output.display()))?;
        match &self.args.exec {
            Some(command) => execute_command(command).await,
            None => Ok(()),
        }
    }
}

/// Replaces a file whole, with the permissions that it had.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    let permissions = match fs::metadata(path) {
        Ok(present) => present.permissions(),
        Err(_) => std::os::unix::fs::PermissionsExt::from_mode(0o644),
    };
    fs::set_permissions(file.path(), permissions)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

async fn execute_command(command: &str) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(EXEC_TIMEOUT, shell.status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{command:?} ended with {status}")),
        Ok(Err(err)) => Err(format!("cannot execute a shell: {err}")),
        Err(_) => Err(format!("{command:?} took longer than {} s", EXEC_TIMEOUT.as_secs())),
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
