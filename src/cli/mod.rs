//! The `roost` command: what can be typed, what is done, and how it is shown.
//!
//! `args` says what can be typed and does nothing. Each family of verbs has a file that turns parsed
//! arguments into calls of the [`client`](crate::client) and their answers into output; it sees no clap and
//! no HTTP. A verb is written once: the command line and the shell parse their words through the same
//! command tree and execute the same [`Verb`]. What differs is the [`Context`]: a shell keeps one session
//! for all its ephemerals, a single command keeps its own until it is interrupted.
//!
//! Rules of the output:
//!
//! - Results go to stdout, everything else to stderr; with `--json` each result is one line of JSON.
//! - A failed command prints one line and ends with the exit code that `roost --help` lists.
//! - When the reader of stdout goes away (`| head`) the command ends quietly.
//!
//! All verbs reach a cluster as any user does, over HTTP, and know nothing of where the leader is. Two commands
//! work on a node itself: `serve` runs one, and `dump` reads what a stopped one has on its disk.

pub mod agent;
pub mod args;
pub mod bench;
mod cluster;
mod dev;
mod dump;
mod output;
mod parse;
mod policy;
mod protection;
mod service;
mod session;
mod shell;
mod signal;
mod traffic;
mod watch;
mod znode;

use std::process::ExitCode;

pub use args::Args;
pub use output::{Failure, Output};

use args::{Command, GlobalArgs, Verb};
use session::HeldSession;

use crate::client::Client;

impl GlobalArgs {
    /// Returns the client that these options describe.
    fn client(&self) -> Result<Client, Failure> {
        let client = Client::new(self.endpoint.clone())?.with_timeout(self.timeout);
        Ok(match &self.auth {
            Some((name, password)) => client.with_credentials(name, password),
            None => client,
        })
    }
}

/// What a verb works with.
#[derive(Debug)]
pub struct Context {
    client: Client,
    output: Output,
    /// The session that ephemerals are bound to when no other is named.
    held: Option<HeldSession>,
    /// Whether the held session outlives the verb, as in a shell.
    is_shell: bool,
}

impl Context {
    /// Returns the context of one command.
    pub fn new(global: &GlobalArgs) -> Result<Context, Failure> {
        let client = global.client()?;
        Ok(Context { client, output: Output { json: global.json }, held: None, is_shell: false })
    }

    /// Returns the token of the held session, opening one when there is none or it was lost.
    async fn session(&mut self) -> Result<&str, Failure> {
        if self.held.as_ref().is_some_and(HeldSession::is_lost) {
            eprintln!("roost: the session has expired, its ephemerals are gone; opening another");
            self.held = None;
        }
        let held = match self.held.take() {
            Some(held) => held,
            None => HeldSession::open(&self.client).await?,
        };
        Ok(self.held.insert(held).token())
    }

    fn held_token(&self) -> Option<&str> {
        self.held.as_ref().map(HeldSession::token)
    }

    /// Outside a shell: waits until interrupted, then closes the held session. Error: the session was lost.
    async fn stay(&mut self) -> Result<(), Failure> {
        if self.is_shell {
            return Ok(());
        }
        let Some(held) = &mut self.held else { return Ok(()) };
        tokio::select! {
            () = signal::interrupted() => self.leave().await,
            () = held.lost() => Err(Failure::Local("the session has expired, its ephemerals are gone".to_owned())),
        }
    }

    /// Closes the held session, if any.
    async fn leave(&mut self) -> Result<(), Failure> {
        match self.held.take() {
            Some(held) => held.close().await,
            None => Ok(()),
        }
    }
}

/// Carries a command out and returns how the process ends.
pub async fn execute(args: Args) -> ExitCode {
    let Args { global, command } = args;
    let result = match command {
        Command::Verb(verb) => execute_single(verb, &global).await.map(|()| 0),
        Command::Run(args) => agent::run::execute(args, &global).await,
        Command::Render(args) => agent::render::execute(args, &global).await.map(|()| 0),
        Command::Shell => shell::execute(&global).await.map(|()| 0),
        Command::Bench(args) => bench::execute(args, &global).await.map(|()| 0),
        Command::Dev(args) => dev::execute(args, &global).await.map(|()| 0),
        Command::Serve(args) => {
            let served = crate::server::run(&args.config, args.stop_on_stdin_eof).await;
            served.map(|()| 0).map_err(Failure::Local)
        }
        Command::Dump(args) => dump::execute(&args, &global).map(|()| 0),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.report(global.json);
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn execute_single(verb: Verb, global: &GlobalArgs) -> Result<(), Failure> {
    let mut context = Context::new(global)?;
    let result = execute_verb(verb, &mut context).await;
    // A session opened for a verb that then failed would linger until its timeout.
    let left = context.leave().await;
    result.and(left)
}

/// Carries one verb out.
async fn execute_verb(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    match verb {
        Verb::Ls(args) => znode::ls(context, &args).await,
        Verb::Get(args) => znode::get(context, &args).await,
        Verb::Set(args) => znode::set(context, &args).await,
        Verb::Create(args) => znode::create(context, &args).await,
        Verb::Rm(args) => znode::rm(context, &args).await,
        Verb::Stat { path } => znode::stat(context, &path).await,
        Verb::Getacl { stat, path } => znode::get_acl(context, &path, stat).await,
        Verb::Setacl(args) => znode::set_acl(context, &args).await,
        Verb::Watch(args) => watch::execute(context, &args).await,
        Verb::Session(command) => session::execute(context, &command).await,
        Verb::Services(of) => service::list(context, &of).await,
        Verb::Service(command) => service::execute(context, &command).await,
        Verb::Deregister(args) => traffic::deregister(context, args).await,
        Verb::Drain(args) => traffic::drain(context, args).await,
        Verb::Override(command) => traffic::overrides(context, command).await,
        Verb::Audit(args) => policy::audit(context, &args).await,
        Verb::Policy(command) => policy::execute(context, &command).await,
        Verb::Protection(command) => protection::execute(context, &command).await,
        Verb::Init { member } => cluster::init(context, &member).await,
        Verb::Join(args) => cluster::join(context, &args).await,
        Verb::Leave { node } => cluster::leave(context, node).await,
        Verb::Promote { node } => cluster::promote(context, node).await,
        Verb::Transfer { to } => cluster::transfer(context, to).await,
        Verb::Status => cluster::status(context).await,
    }
}
