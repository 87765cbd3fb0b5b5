use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::roost::client::Client;
use ::roost::client::model::Member;

/// Where a node is.
#[derive(Clone, Debug)]
pub struct Place {
    /// From 1.
    pub node: u8,
    /// Who it is in its cluster: its number, until it comes back as a new member.
    pub id: u64,
    /// What it may write to.
    pub dir: PathBuf,
    /// The address that it listens on.
    pub host: Ipv4Addr,
    /// Its port for clients.
    pub client: u16,
    /// Its port for roost's HTTP API: that for clients, unless these speak something else.
    pub http: u16,
    /// Its port for other nodes; a system that needs one only uses that for clients.
    pub peer: u16,
    /// Where the other nodes reach it: a proxy.
    pub peer_addr: String,
    /// Where the other nodes are reached from here, by number: proxies.
    pub others: BTreeMap<u8, String>,
    /// Of nodes that know each other by name: all of them, with the two ports on which each listens.
    pub named: Vec<(u8, u16, u16)>,
}

impl Place {
    /// Returns the place of a node below a directory of nodes, as far as that decides it.
    pub fn below(dir: &Path, node: u8) -> Place {
        Place {
            node,
            id: u64::from(node),
            dir: dir.join(format!("n{node}")),
            host: Ipv4Addr::LOCALHOST,
            client: 0,
            http: 0,
            peer: 0,
            peer_addr: String::new(),
            others: BTreeMap::new(),
            named: Vec::new(),
        }
    }

    /// Returns what it is to its cluster, in the words of roost's HTTP API.
    pub fn member(&self) -> Member {
        Member {
            node: self.id,
            peer_addr: self.peer_addr.clone(),
            http_addr: self.addr(),
            zk_addr: None,
        }
    }

    /// Returns a client that reaches the node past all faults of the network, and does not wait for it.
    pub fn observer(&self) -> Result<Client, String> {
        let client = Client::new(vec![self.addr()]).map_err(|err| err.to_string())?;
        Ok(client.with_timeout(Duration::from_millis(500)).impatient())
    }

    /// Returns where roost's HTTP API is reached past all faults of the network.
    pub fn addr(&self) -> String {
        format!("{}:{}", self.host, self.http)
    }
}

/// What the processes of a node are started in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Variables of the environment.
    pub variables: Vec<(String, String)>,
    /// A command that runs the one behind it in its own place.
    pub prefix: Vec<String>,
    /// The address where the node is reached, by the others directly; without it, it is on this machine, behind proxies.
    pub host: Option<Ipv4Addr>,
}

impl Surroundings {
    /// Returns a command that does the same in here.
    pub(super) fn around(&self, command: Command) -> Command {
        let mut whole = match &self.prefix[..] {
            [] => command,
            [program, arguments @ ..] => {
                let mut whole = Command::new(program);
                whole.args(arguments).arg(command.get_program()).args(command.get_args());
                for (name, value) in command.get_envs() {
                    match value {
                        Some(value) => whole.env(name, value),
                        None => whole.env_remove(name),
                    };
                }
                whole
            }
        };
        whole.envs(self.variables.iter().map(|(name, value)| (name, value)));
        whole
    }
}
