//! What can be typed: the command line as clap types, without any behaviour.

use std::path::PathBuf;
use std::time::Duration;

use clap::{
    Arg, ArgAction, ArgGroup, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};

use super::agent::args::{RenderArgs, RunArgs};
use super::bench::args::BenchArgs;
use super::parse;
use super::policy::{AuditArgs, PolicyCommand};
use super::protection::ProtectionCommand;
use super::service::{InstanceArgs, NamespaceArgs};
use super::session::SessionCommand;
use super::traffic::{DeregisterArgs, DrainArgs, OverrideCommand};
use crate::client::WatchKind;
use crate::client::model::{AclRule, Member};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the cluster (the code is printed), or a local failure
  2  wrong usage
  3  the cluster cannot be reached, or did not answer in time
  4  no such znode, service, policy or registration (no_node)
  5  the version is not the expected one (bad_version)
`roost run` exits with its child's code, or 128 + the signal that ended the child.";

/// The command line of `roost`.
#[derive(Debug, Parser)]
#[command(name = "roost", version, about = "A service registry that is always right", after_help = EXIT_CODES)]
pub struct Args {
    /// Options that every subcommand takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Returns the whole command tree.
    pub fn command_tree() -> clap::Command {
        // `create -e` means ephemeral, as people know it from zkCli, so there `--endpoint` has no short
        // form. An argument of the same id keeps clap from handing down the global one.
        let endpoint = Arg::new("endpoint")
            .long("endpoint")
            .visible_alias("endpoints")
            .value_name("URL")
            .value_delimiter(',')
            .action(ArgAction::Append)
            .help("Where the cluster is (here without the short form)");
        Args::command().mut_subcommand("create", |create| create.arg(endpoint))
    }

    /// Parses the process's command line; on an error, or a wish for help, prints it and ends the process.
    pub fn from_command_line() -> Args {
        let matches = Args::command_tree().get_matches();
        Args::from_arg_matches(&matches).unwrap_or_else(|err| err.exit())
    }

    /// Parses these words, the first of which is the program's name.
    pub fn from_words<I: IntoIterator<Item = T>, T: Into<std::ffi::OsString> + Clone>(
        words: I,
    ) -> Result<Args, clap::Error> {
        let matches = Args::command_tree().try_get_matches_from(words)?;
        Args::from_arg_matches(&matches)
    }
}

/// Options that every subcommand takes.
#[derive(Clone, Debug, clap::Args)]
pub struct GlobalArgs {
    /// Where the cluster is: one or more of its nodes.
    #[arg(
        short,
        long,
        visible_alias = "endpoints",
        global = true,
        env = "ROOST_ENDPOINTS",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8081,http://127.0.0.1:8082,http://127.0.0.1:8083"
    )]
    pub endpoint: Vec<String>,
    /// Who you are: the name and password that access control lists know you by.
    #[arg(
        long,
        global = true,
        env = "ROOST_AUTH",
        hide_env_values = true,
        value_name = "NAME:PASSWORD",
        value_parser = parse::credentials
    )]
    pub auth: Option<(String, String)>,
    /// Print JSON: one document for each result, errors as {"code", "message"} on stderr.
    #[arg(long, global = true)]
    pub json: bool,
    /// How long one call may take, retries included: a whole number and ms, s, m, h or d, e.g. 500ms or 10s.
    #[arg(long, global = true, value_name = "TIME", value_parser = parse::duration, default_value = "10s")]
    pub timeout: Duration,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What the shell can do too.
    #[command(flatten)]
    Verb(Verb),
    /// Run a command and keep it registered while it runs.
    ///
    /// Opens a session, starts the command, registers it, and renews the session. When the command ends it is
    /// deregistered at once. When the registry is away the command goes on running. When roost itself is
    /// killed (-9) the command goes on running too, and the registration goes at the session's timeout.
    Run(RunArgs),
    /// Write a file from a template and the present providers, again whenever these change.
    ///
    /// The template is in the language of Jinja; `service("web")` in it is the list of those providers that take
    /// traffic, each with id, host, port, addr, weight, status and metadata, and `instances("web")` of all. The file
    /// is replaced whole. Changes that come together are gathered before the command is executed.
    Render(RenderArgs),
    /// An interactive shell with history and completion of paths.
    Shell,
    /// Put load on a running cluster and measure it.
    Bench(BenchArgs),
    /// Start a cluster on this machine for trying things out.
    Dev(DevArgs),
    /// Run one node of a cluster.
    Serve(ServeArgs),
    /// Print the log and the tree of a stopped node.
    ///
    /// One line for each transaction of the log: index, term, origin, session, op, zxid, result; then the tree.
    /// Entries behind the last known commit are marked: they may or may not be committed.
    Dump(DumpArgs),
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// The node's configuration file.
    #[arg(long, short, value_name = "FILE")]
    pub config: std::path::PathBuf,
    /// Stop when standard input ends, as it does when the parent process is gone.
    #[arg(long)]
    pub stop_on_stdin_eof: bool,
}

/// Arguments of `dump`.
#[derive(Debug, clap::Args)]
pub struct DumpArgs {
    /// The node's data directory (`node.data_dir` of its configuration).
    pub data_dir: std::path::PathBuf,
    /// Leave out the log.
    #[arg(long)]
    pub no_log: bool,
    /// Leave out the tree.
    #[arg(long)]
    pub no_tree: bool,
}

/// What both the command line and the shell can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the children of a znode.
    Ls(LsArgs),
    /// Print the data of a znode.
    Get(GetArgs),
    /// Set the data of a znode.
    Set(SetArgs),
    /// Create a znode.
    Create(CreateArgs),
    /// Delete a znode.
    Rm(RmArgs),
    /// Print the stat of a znode.
    Stat {
        /// The znode.
        path: String,
    },
    /// Print the access control list of a znode.
    Getacl {
        /// Print the znode's stat too.
        #[arg(short)]
        stat: bool,
        /// The znode.
        path: String,
    },
    /// Replace the access control list of a znode.
    Setacl(SetAclArgs),
    /// Print the changes of a path as they happen.
    Watch(WatchArgs),
    /// Sessions.
    #[command(subcommand)]
    Session(SessionCommand),
    /// List the services.
    Services(NamespaceArgs),
    /// One service.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Take out registrations by hand: dead ones, those of a host, of a session, or by their metadata.
    Deregister(DeregisterArgs),
    /// Let an instance leave in good order: everybody who follows it is told, and it goes at a deadline.
    Drain(DrainArgs),
    /// Policies: what is protected, and who may register what.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Print who has switched what and why, and who was turned away, as one node has it in memory.
    Audit(AuditArgs),
    /// Overrides: how instances stand, whatever they say themselves.
    #[command(subcommand)]
    Override(OverrideCommand),
    /// Protection of services from losing too many providers at once by silence.
    #[command(subcommand)]
    Protection(ProtectionCommand),
    /// Bootstrap a new cluster of these voters.
    Init {
        /// A voter: its id, the address for other nodes, the address for clients.
        #[arg(long, required = true, value_name = "ID=PEER_ADDR,HTTP_ADDR", value_parser = parse::member)]
        member: Vec<Member>,
    },
    /// Add a member: as a learner, then, when it has caught up, as a voter.
    Join(JoinArgs),
    /// Remove a member.
    Leave {
        /// Its id.
        #[arg(long)]
        node: u64,
    },
    /// Make a learner a voter.
    Promote {
        /// Its id.
        #[arg(long)]
        node: u64,
    },
    /// Hand leadership over.
    Transfer {
        /// The new leader's id.
        #[arg(long)]
        to: u64,
    },
    /// Print the members of the cluster and how far each has come.
    Status,
}

/// See [`Verb::Ls`].
#[derive(Debug, clap::Args)]
pub struct LsArgs {
    /// Print the znode's stat too.
    #[arg(short)]
    pub stat: bool,
    /// Print the paths of the whole subtree.
    #[arg(short = 'R', conflicts_with = "stat")]
    pub recursive: bool,
    /// The znode.
    #[arg(default_value = "/")]
    pub path: String,
}

/// See [`Verb::Get`].
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// Print the znode's stat too.
    #[arg(short)]
    pub stat: bool,
    /// The znode.
    pub path: String,
}

/// See [`Verb::Set`].
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// Only if this is the present version of the data.
    #[arg(short = 'v', value_name = "N")]
    pub data_version: Option<i32>,
    /// The znode.
    pub path: String,
    /// The data.
    #[arg(allow_hyphen_values = true)]
    pub data: String,
}

/// See [`Verb::Setacl`].
#[derive(Debug, clap::Args)]
pub struct SetAclArgs {
    /// Only if this is the present version of the list.
    #[arg(short = 'v', value_name = "N")]
    pub aversion: Option<i32>,
    /// The znode.
    pub path: String,
    /// The rules, joined by commas, e.g. world:anyone:r,digest:ann:HASH:cdrwa.
    #[arg(required = true, value_name = "SCHEME:ID:PERMS", value_delimiter = ',')]
    pub acl: Vec<AclRule>,
}

/// See [`Verb::Create`].
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("lifetime").args(["ephemeral", "container", "ttl_ms"]))]
pub struct CreateArgs {
    /// The cluster appends a number of ten digits to the path.
    #[arg(short, long)]
    pub sequential: bool,
    /// The znode goes with its session; without --session with this command, which then stays.
    #[arg(short, long)]
    pub ephemeral: bool,
    /// The znode goes some time after its last child.
    #[arg(short, long)]
    pub container: bool,
    /// The znode goes when it has neither been changed nor had children for so long.
    #[arg(short, long = "ttl", value_name = "MS")]
    pub ttl_ms: Option<u64>,
    /// Create missing parents too.
    #[arg(short, long)]
    pub parents: bool,
    /// Token of the session that shall hold the ephemeral znode.
    #[arg(long, value_name = "TOKEN", requires = "ephemeral")]
    pub session: Option<String>,
    /// The path.
    pub path: String,
    /// The data.
    #[arg(default_value = "", allow_hyphen_values = true)]
    pub data: String,
    /// Its access control list; open to everyone when left out.
    #[arg(long, value_name = "SCHEME:ID:PERMS", value_delimiter = ',')]
    pub acl: Vec<AclRule>,
}

/// See [`Verb::Rm`].
#[derive(Debug, clap::Args)]
pub struct RmArgs {
    /// Only if this is the present version of the data.
    #[arg(short = 'v', value_name = "N", conflicts_with = "recursive")]
    pub data_version: Option<i32>,
    /// Delete what is below it first. Not atomic.
    #[arg(short)]
    pub recursive: bool,
    /// The znode.
    pub path: String,
}

/// See [`Verb::Watch`].
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// What of the path.
    #[arg(long, value_enum, default_value = "subtree")]
    pub kind: KindArg,
    /// Begin with the changes after this zxid (decimal, or hex with 0x) instead of the present state.
    #[arg(long, value_name = "ZXID", value_parser = parse::zxid)]
    pub since: Option<u64>,
    /// The path.
    pub path: String,
}

/// Names of [`WatchKind`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum KindArg {
    /// The children coming and going.
    Children,
    /// The znode's own data.
    Data,
    /// The znode and everything below it.
    Subtree,
    /// The children and their data.
    ChildrenData,
}

impl From<KindArg> for WatchKind {
    fn from(kind: KindArg) -> WatchKind {
        match kind {
            KindArg::Children => WatchKind::Children,
            KindArg::Data => WatchKind::Data,
            KindArg::Subtree => WatchKind::Subtree,
            KindArg::ChildrenData => WatchKind::ChildrenData,
        }
    }
}

/// See [`Verb::Service`].
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Print the providers of a service.
    Get {
        /// Its name.
        name: String,
        /// Whose services are meant.
        #[command(flatten)]
        of: NamespaceArgs,
    },
    /// Register a provider; without --session it is registered while this command runs.
    Register(RegisterArgs),
    /// Deregister a provider.
    Deregister {
        /// The service.
        name: String,
        /// The provider.
        id: String,
        /// Token of the session that holds it.
        #[arg(long, value_name = "TOKEN")]
        session: Option<String>,
        /// Also when another session holds it.
        #[arg(long)]
        force: bool,
        /// Whose services are meant.
        #[command(flatten)]
        of: NamespaceArgs,
    },
}

/// See [`ServiceCommand::Register`].
#[derive(Debug, clap::Args)]
pub struct RegisterArgs {
    /// The service.
    pub name: String,
    /// Whose services are meant.
    #[command(flatten)]
    pub of: NamespaceArgs,
    /// What to say of the provider.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// Token of the session that shall hold it.
    #[arg(long, value_name = "TOKEN")]
    pub session: Option<String>,
}

/// See [`Verb::Join`].
#[derive(Debug, clap::Args)]
pub struct JoinArgs {
    /// The new member's id, never used before in this cluster.
    #[arg(long)]
    pub node: u64,
    /// Where other nodes reach it.
    #[arg(long, value_name = "ADDR")]
    pub peer: String,
    /// Where clients reach it.
    #[arg(long, value_name = "ADDR")]
    pub http: String,
    /// Where ZooKeeper clients reach it, if it serves them.
    #[arg(long, value_name = "ADDR")]
    pub zk: Option<String>,
    /// Leave it a learner.
    #[arg(long)]
    pub learner: bool,
}

/// See [`Command::Dev`].
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Keep nothing: a temporary directory, removed at the end.
    #[arg(long, conflicts_with = "dir")]
    pub ephemeral: bool,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// HTTP port of the first node; the next ones follow, and peers use the same less 1000.
    #[arg(long, default_value_t = 8081, value_parser = clap::value_parser!(u16).range(2000..=65_000))]
    pub base_port: u16,
    /// Where data and logs go.
    #[arg(long, default_value = "./data/dev")]
    pub dir: PathBuf,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Args, Command, KindArg, Verb};

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::from_words(line.split(' '))
    }

    #[test]
    fn the_command_tree_is_consistent() {
        Args::command_tree().debug_assert();
    }

    #[test]
    fn no_verb_has_an_argument_by_the_name_of_one_that_all_verbs_have() {
        fn check(command: &clap::Command, common: &[&str]) {
            for verb in command.get_subcommands() {
                let own = verb.get_arguments().map(|argument| argument.get_id().as_str());
                let twice: Vec<&str> = own.filter(|name| common.contains(name)).collect();
                assert!(twice.is_empty(), "{}: {twice:?}", verb.get_name());
                check(verb, common);
            }
        }
        // Without what `command_tree` adds on purpose.
        let tree = <Args as clap::CommandFactory>::command();
        let all = tree.get_arguments().filter(|argument| argument.is_global_set());
        let common: Vec<&str> = all.map(|argument| argument.get_id().as_str()).collect();
        assert!(common.contains(&"json"), "{common:?}");
        check(&tree, &common);
    }

    /// The least that each verb can be typed with.
    const LINES: &[&str] = &[
        "ls",
        "get /a",
        "set /a x",
        "create /a",
        "rm /a",
        "stat /a",
        "getacl /a",
        "setacl /a world:anyone:r",
        "watch /a",
        "session open",
        "session renew token",
        "session close token",
        "session ls",
        "session show 0x1",
        "services",
        "service get web",
        "service register web --addr a:1",
        "service deregister web a:1",
        "deregister --ip 10.0.0.1",
        "drain /a",
        "policy ls",
        "policy get removal a",
        "policy set removal a {}",
        "policy test removal {}",
        "policy rm removal a",
        "audit",
        "override set a --service web --reason r",
        "override ls",
        "override rm a",
        "protection ls",
        "protection confirm --all --reason r",
        "init --member 1=a:1,b:2",
        "join --node 2 --peer a:1 --http b:2",
        "leave --node 2",
        "promote --node 2",
        "transfer --to 2",
        "status",
        "run --service web --addr a:1 -- true",
        "render template -o file",
        "shell",
        "bench write",
        "bench read",
        "bench mixed",
        "bench storm",
        "bench fanout",
        "bench pauses",
        "dev",
        "serve --config file",
        "dump dir",
    ];

    #[test]
    fn every_verb_can_be_typed() {
        fn verbs(command: &clap::Command, before: &str, found: &mut BTreeSet<String>) {
            for verb in command.get_subcommands() {
                verbs(verb, &format!("{before} {}", verb.get_name()), found);
            }
            if !command.has_subcommands() {
                found.insert(before.to_owned());
            }
        }
        let mut untyped = BTreeSet::new();
        verbs(&Args::command_tree(), "roost", &mut untyped);
        for line in LINES {
            let line = format!("roost {line}");
            // Reading what was parsed panics where two arguments of one name differ in their types.
            parse(&line).unwrap_or_else(|why| panic!("{line}: {why}"));
            untyped.retain(|verb| !format!("{line} ").starts_with(&format!("{verb} ")));
        }
        assert!(untyped.is_empty(), "not in LINES: {untyped:?}");
    }

    #[test]
    fn endpoints_may_be_repeated_or_joined_and_stand_before_or_after_the_verb() {
        for line in [
            "roost -e a:1,b:2 ls /",
            "roost ls -e a:1 -e b:2 /",
            "roost --endpoint a:1,b:2 create -e /x",
            "roost create --endpoint a:1 --endpoint b:2 -e /x",
        ] {
            assert_eq!(parse(line).unwrap().global.endpoint, ["a:1", "b:2"], "{line}");
        }
    }

    #[test]
    fn create_takes_the_flags_of_zkcli() {
        let args = parse("roost create -s -e /x data").unwrap();
        let Command::Verb(Verb::Create(create)) = args.command else { panic!("not a create") };
        assert!(create.sequential && create.ephemeral && !create.container);
        assert_eq!((create.path.as_str(), create.data.as_str()), ("/x", "data"));
        assert!(parse("roost create -e -c /x").is_err(), "two lifetimes");
        assert!(parse("roost create -c -t 5 /x").is_err(), "two lifetimes");
    }

    #[test]
    fn what_follows_two_dashes_is_the_child_of_run() {
        let line = "roost run --service web --addr [::1]:80 --meta a=b=c -- sh -c exit --json";
        let args = parse(line).unwrap();
        assert!(!args.global.json);
        let Command::Run(run) = args.command else { panic!("not a run") };
        assert_eq!(run.command, ["sh", "-c", "exit", "--json"]);
        assert_eq!(run.instance.addr, ("::1".to_owned(), 80));
        assert_eq!(run.instance.meta, [("a".to_owned(), "b=c".to_owned())]);
        assert!(parse("roost run --service web --addr a:80").is_err(), "no command");
    }

    #[test]
    fn watch_takes_hex_and_decimal_zxids() {
        for (since, expected) in [("17", 17), ("0x11", 17)] {
            let args =
                parse(&format!("roost watch /a --since {since} --kind children_data")).unwrap();
            let Command::Verb(Verb::Watch(watch)) = args.command else { panic!("not a watch") };
            assert_eq!((watch.since, watch.kind), (Some(expected), KindArg::ChildrenData));
        }
    }
}
