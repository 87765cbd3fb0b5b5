//! Golden scripts of the tree: `tests/scripts/tree/*`, one behaviour each. `UPDATE_GOLDENFILES=1` writes
//! the output anew.
//!
//! A line `s1:> create /a` is a line of zkCli's language, spoken by the client `s1`; the commands of this
//! file are in [`World::harness`]. The output of a transaction is its zxid and answer, and a line for each
//! event. After each line the rolling digest is compared with the recomputed one.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use goldenscript::{ArgumentConsumer, Context, Runner};
use roost::tree::{Lifetime, Loader, Quota, QuotaLimits, SnapshotWriter, Tree};
use roost::types::{
    AclId, Applied, Code, Data, Event, EventKind, Failure, Op, Origin, Outcome, Owner, Reply,
    SessionId, Stat, Txn, TxnTime, ZnodePath,
};
use roost::zkcli::{self, Command};

type Output = Result<String, Box<dyn Error>>;

/// Somebody who speaks, named by the prefix of a line.
#[derive(Clone, Default)]
struct Client {
    session: SessionId,
    owner: Option<Owner>,
    authority: Vec<AclId>,
}

/// What a script acts on.
#[derive(Default)]
struct World {
    tree: Tree,
    clients: BTreeMap<String, Client>,
    time: TxnTime,
    /// For the next transaction only.
    origin: Origin,
    key: Option<String>,
}

impl World {
    fn apply(&mut self, client: &Client, op: Op) -> Outcome {
        let txn = Txn {
            origin: std::mem::take(&mut self.origin),
            session: client.session,
            owner: client.owner,
            authority: client.authority.clone(),
            idempotency_key: self.key.take(),
            op,
        };
        self.tree.apply(self.time, &txn)
    }

    fn speak(&mut self, client: &Client, op: Op, stat: bool) -> Output {
        match self.apply(client, op) {
            Outcome::Applied(applied) => format_applied(&applied, stat),
            Outcome::Duplicate => Ok("ignored: a duplicate".to_owned()),
            Outcome::Gap { expected } => Ok(format!("ignored: a gap, expected seq {expected}")),
        }
    }

    /// The commands beside zkCli's.
    fn harness(&mut self, who: &str, name: &str, mut args: ArgumentConsumer<'_>) -> Output {
        let client = self.clients.get(who).cloned().unwrap_or_default();
        let output = match name {
            // The leader's clocks go on.
            "advance" => {
                let ms: u64 = args.next_pos().ok_or("how many ms?")?.parse()?;
                self.time.cluster_ms += ms;
                self.time.wall_ms += ms;
                String::new()
            }
            // The leader's clocks go back.
            "rewind" => {
                self.time = TxnTime::default();
                String::new()
            }
            // Opens a session that belongs to a connection: open owner=NODE/GENERATION [timeout=MS]
            "open" => {
                let owner = args.take_key("owner").map(parse_owner).transpose()?.flatten();
                let timeout_ms = args.take_key("timeout").map_or(Ok(10_000), str::parse)?;
                self.open(who, owner, timeout_ms)?
            }
            // Makes another client's session one's own: attach CLIENT owner=NODE/GENERATION [password=N]
            // [timeout=MS]
            "attach" => {
                let session = self.session_of(args.next_pos().ok_or("whose session?")?);
                let owner = args.take_key("owner").map(parse_owner).transpose()?.flatten();
                let password = [args.take_key("password").map_or(Ok(7), str::parse)?; 16];
                let timeout_ms = args.take_key("timeout").map_or(Ok(10_000), str::parse)?;
                self.clients.insert(who.to_owned(), Client { session, owner, ..client });
                let op = Op::AttachSession { session, password, owner, timeout_ms };
                self.speak(&Client::default(), op, false)?
            }
            // Ends a session as expiry does: expire CLIENT [unless_moved_from=NODE/GENERATION|none]
            "expire" => {
                let session = self.session_of(args.next_pos().ok_or("whose session?")?);
                let seen = args.take_key("unless_moved_from").map(parse_owner).transpose()?;
                self.speak(
                    &Client::default(),
                    Op::CloseSession { session, unless_moved_from: seen },
                    false,
                )?
            }
            // Proves an identity: auth SCHEME ID
            "auth" => {
                let scheme = args.next_pos().ok_or("which scheme?")?.to_owned();
                let id = args.next_pos().ok_or("which id?")?.to_owned();
                self.clients
                    .entry(who.to_owned())
                    .or_default()
                    .authority
                    .push(AclId { scheme, id });
                String::new()
            }
            // The next transaction has this origin: origin NODE INCARNATION SEQ
            "origin" => {
                let mut number = || -> Result<u64, Box<dyn Error>> {
                    Ok(args.next_pos().ok_or("origin: node incarnation seq")?.parse()?)
                };
                self.origin = Origin { node: number()?, incarnation: number()?, seq: number()? };
                String::new()
            }
            // The next transaction has this idempotency key: key TEXT
            "key" => {
                self.key = Some(args.next_pos().ok_or("which key?")?.to_owned());
                String::new()
            }
            // What may be reaped now, and when the next thing will be: reapable [LIMIT]
            "reapable" => {
                let limit = args.next_pos().map_or(Ok(100), str::parse)?;
                let paths = self.tree.reapable(self.time.cluster_ms, limit);
                format!("{paths:?}, next due at {:?}", self.tree.next_due_ms())
            }
            // The quotas: what is used, and of what.
            "quotas" => {
                let quota = |(path, quota): (&ZnodePath, &Quota)| {
                    let exceeded = if quota.is_exceeded() { ", exceeded" } else { "" };
                    let Quota { limits, znodes, bytes } = quota;
                    let QuotaLimits { znodes_hard, bytes_hard, .. } = limits;
                    format!(
                        "{path}: {znodes} of {:?} ({znodes_hard:?}) znodes, {bytes} of {:?} ({bytes_hard:?}) bytes{exceeded}",
                        limits.znodes, limits.bytes
                    )
                };
                self.tree.quotas().map(quota).collect::<Vec<_>>().join("\n")
            }
            // The members are these: members LINE...
            "members" => {
                let lines = std::iter::from_fn(|| args.next_pos());
                let lines = lines.map(|line| line.to_owned() + "\n").collect();
                self.speak(&Client::default(), Op::SetMembers { lines }, false)?
            }
            // Proposes to reap: reap PATH...
            "reap" => {
                let paths: Result<_, _> =
                    std::iter::from_fn(|| args.next_pos()).map(ZnodePath::parse).collect();
                self.speak(&Client::default(), Op::Reap { paths: paths? }, false)?
            }
            // Saves and loads the tree.
            "reload" => {
                let digest = self.tree.digest();
                self.tree = reload(&self.tree)?;
                assert_eq!(self.tree.digest(), digest, "a loaded tree is the one that was saved");
                String::new()
            }
            // All znodes but the built-in ones, all sessions, and the counters.
            "dump" => self.dump(),
            _ => return Err(format!("there is no command {name:?}").into()),
        };
        args.reject_next()?;
        Ok(output)
    }

    fn open(&mut self, who: &str, owner: Option<Owner>, timeout_ms: u32) -> Output {
        let op = Op::OpenSession { timeout_ms, password: [7; 16], owner };
        let outcome = self.apply(&Client::default(), op);
        let Outcome::Applied(applied) = outcome else { return Ok(format!("{outcome:?}")) };
        if let Ok(Reply::Session { session, .. }) = applied.result {
            let client = self.clients.entry(who.to_owned()).or_default();
            (client.session, client.owner) = (session, owner);
        }
        format_applied(&applied, false)
    }

    fn session_of(&self, who: &str) -> SessionId {
        self.clients.get(who).map_or(SessionId(99), |client| client.session)
    }

    /// A line of zkCli's language.
    fn zkcli(&mut self, who: &str, line: &str) -> Output {
        let client = self.clients.get(who).cloned().unwrap_or_default();
        match zkcli::parse(line)? {
            Command::Change { op, stat } => self.speak(&client, op, stat),
            Command::OpenSession { timeout_ms } => self.open(who, None, timeout_ms),
            Command::CloseSession { session } => {
                let session = session.unwrap_or(client.session);
                self.speak(&client, Op::CloseSession { session, unless_moved_from: None }, false)
            }
            Command::DeleteAll { path } => {
                let mut below: Vec<_> =
                    self.tree.descendants(path.as_str()).map(|(path, _)| path.clone()).collect();
                below.insert(0, path);
                let delete = |path| Op::Delete { path, version: None };
                self.speak(&client, Op::Multi(below.into_iter().rev().map(delete).collect()), false)
            }
            Command::Get { path, stat } => {
                let znode =
                    self.tree.readable(path.as_str(), &client.authority).map_err(Code::name)?;
                Ok(format_data(znode.data()) + &format_stat(stat, &znode.stat()))
            }
            Command::Ls { path, stat, recursive } => {
                let znode =
                    self.tree.readable(path.as_str(), &client.authority).map_err(Code::name)?;
                let names: Vec<&str> = match recursive {
                    true => self
                        .tree
                        .descendants(path.as_str())
                        .map(|(path, _)| path.as_str())
                        .collect(),
                    false => znode.children().map(ZnodePath::name).collect(),
                };
                Ok(format!("[{}]", names.join(", ")) + &format_stat(stat, &znode.stat()))
            }
            Command::Stat { path } => {
                let znode =
                    self.tree.readable(path.as_str(), &client.authority).map_err(Code::name)?;
                Ok(format_stat(true, &znode.stat()).trim_start().to_owned())
            }
            Command::GetAcl { path, stat } => {
                let (acl, znode) =
                    self.tree.visible_acl(path.as_str(), &client.authority).map_err(Code::name)?;
                Ok(zkcli::format_acl(&acl) + &format_stat(stat, &znode.stat()))
            }
        }
    }

    fn dump(&self) -> String {
        let mut output = String::new();
        let znodes = self.tree.descendants("/");
        for (path, znode) in znodes.filter(|(path, _)| !path.as_str().starts_with("/zookeeper")) {
            let lifetime = match znode.lifetime() {
                Lifetime::Persistent => String::new(),
                other => format!(" {other:?}"),
            };
            writeln!(output, "{path} {}{lifetime}", format_data(znode.data())).unwrap();
        }
        for (id, session) in self.tree.sessions() {
            let owner = session.owner().map_or("nobody".to_owned(), |owner| {
                format!("{}/{}", owner.node, owner.generation)
            });
            let ephemerals: Vec<_> = session.ephemerals().collect();
            writeln!(output, "{id} of {owner}, {} ms, {ephemerals:?}", session.timeout_ms())
                .unwrap();
        }
        let tree = &self.tree;
        write!(
            output,
            "zxid {}, cluster {} ms, {} znodes of which {} ephemeral, {} bytes, {} sessions",
            tree.zxid(),
            tree.cluster_ms(),
            tree.znode_count(),
            tree.ephemeral_count(),
            tree.data_bytes(),
            tree.session_count()
        )
        .unwrap();
        output
    }
}

impl Runner for World {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &goldenscript::Command, context: &Context) -> Output {
        let who = context.prefix.as_deref().unwrap_or_default();
        // A literal line has all of its words in the name.
        if command.name.contains(' ') || command.name == "multi" {
            self.zkcli(who, &command.name)
        } else {
            self.harness(who, &command.name, command.consume_args())
        }
    }

    fn end_command(&mut self, _: &goldenscript::Command, _: &Context) -> Output {
        assert_eq!(
            self.tree.digest(),
            self.tree.recomputed_digest(),
            "the rolling digest is right"
        );
        Ok(String::new())
    }
}

fn parse_owner(text: &str) -> Result<Option<Owner>, Box<dyn Error>> {
    if text == "none" {
        return Ok(None);
    }
    let (node, generation) = text.split_once('/').ok_or("an owner is NODE/GENERATION")?;
    Ok(Some(Owner { node: node.parse()?, generation: generation.parse()? }))
}

fn reload(tree: &Tree) -> Result<Tree, String> {
    let mut writer = SnapshotWriter::new(tree.clone());
    let mut loader = Loader::new();
    while let Some(chunk) = writer.next_chunk() {
        loader.push(&chunk)?;
    }
    loader.finish()
}

fn format_applied(applied: &Applied, stat: bool) -> Output {
    let Applied { zxid, result, events } = applied;
    match result {
        Ok(reply) => {
            let mut output = format!("zxid {zxid}: {}", format_reply(reply, stat));
            events.iter().for_each(|event| output += &format!("\n  {}", format_event(event)));
            Ok(output)
        }
        Err(Failure { code, multi_index }) => {
            assert!(events.is_empty(), "a refused transaction has no events");
            let index = multi_index.map_or(String::new(), |index| format!(" at op {index}"));
            Err(format!("{}{index} (zxid {zxid})", code.name()).into())
        }
    }
}

fn format_reply(reply: &Reply, stat: bool) -> String {
    match reply {
        Reply::Created { path, .. } => format!("created {path}"),
        Reply::Deleted => "deleted".to_owned(),
        Reply::DataSet { stat: after } => {
            format!("set version {}", after.version) + &format_stat(stat, after)
        }
        Reply::AclSet { stat: after } => {
            format!("set aversion {}", after.aversion) + &format_stat(stat, after)
        }
        Reply::Checked => "checked".to_owned(),
        Reply::Multi(replies) => {
            let replies: Vec<_> = replies.iter().map(|reply| format_reply(reply, stat)).collect();
            format!("[{}]", replies.join(", "))
        }
        Reply::Session { session, timeout_ms } => format!("session {session}, {timeout_ms} ms"),
        Reply::Removed { znodes } => format!("removed {znodes}"),
        Reply::Held { for_ms } => format!("held for {for_ms} ms"),
        Reply::Deregistered { paths } => format!("deregistered {paths:?}"),
    }
}

fn format_event(event: &Event) -> String {
    let sign = match event.kind {
        EventKind::Created => '+',
        EventKind::Deleted => '-',
        EventKind::DataChanged => '*',
    };
    format!(
        "{sign} {} {} version {}",
        event.path,
        format_data(event.data.as_ref()),
        event.stat.version
    )
}

fn format_data(data: Option<&Data>) -> String {
    data.map_or("null".to_owned(), |data| format!("\"{}\"", data.escape_ascii()))
}

fn format_stat(wanted: bool, stat: &Stat) -> String {
    if !wanted {
        return String::new();
    }
    format!(
        "\n  czxid {} mzxid {} pzxid {}, ctime {} mtime {}, version {} cversion {} aversion {}, \
         owner {}, {} bytes, {} children",
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.ctime_ms,
        stat.mtime_ms,
        stat.version,
        stat.cversion,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children
    )
}

#[test]
fn the_tree_does_what_the_scripts_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/tree");
    let entries = std::fs::read_dir(&directory).expect("the directory of scripts exists");
    let mut scripts: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "there are scripts");
    for script in scripts {
        // The names of those that passed are shown when one fails.
        println!("{}", script.display());
        goldenscript::run(&mut World::default(), &script)
            .unwrap_or_else(|err| panic!("{}: {err}", script.display()));
    }
}
