use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::namespaces::Namespaces;
use super::trace::Trace;
use super::volume::Volume;
use super::{Kit, clock};
use crate::net::Links;
use crate::schedule::{Family, Network, Schedule};
use crate::target::{Place, Surroundings, System};

/// What is between the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Net {
    /// A proxy for each.
    Proxies,
    /// A namespace for each, on a bridge. Needs root.
    Namespaces,
    /// A namespace for each, on a switch of this program. Needs root.
    Switch,
}

/// What the faults of a run need and its nodes must find when they start. Drop it after the cluster.
#[derive(Debug)]
pub struct Rig {
    /// Where files of the rig are.
    dir: PathBuf,
    volumes: BTreeMap<u8, Volume>,
    /// What says which time it is.
    clocks: BTreeMap<u8, PathBuf>,
    surroundings: BTreeMap<u8, Surroundings>,
    traces: BTreeMap<u8, Trace>,
    /// Nodes to whose syncs something was done by a trace that is over.
    traced: BTreeSet<u8>,
    namespaces: Option<Namespaces>,
}

impl Rig {
    /// Makes what a schedule needs on a system whose nodes will be below this directory, and nothing that it does not. A
    /// switch, if it is one, heeds the state of these links.
    /// Error: why it cannot be carried out.
    pub fn build(
        schedule: &Schedule,
        system: &dyn System,
        dir: &Path,
        net: Net,
        links: &Links,
    ) -> Result<Rig, String> {
        let needed = schedule.needed();
        let kit = Kit::find(&needed, net);
        let rig_dir = dir.join("rig");
        create(&rig_dir)?;
        let mut rig = Rig {
            dir: rig_dir,
            volumes: BTreeMap::new(),
            clocks: BTreeMap::new(),
            surroundings: BTreeMap::new(),
            traces: BTreeMap::new(),
            traced: BTreeSet::new(),
            namespaces: None,
        };
        if net != Net::Proxies {
            if !system.can_live_elsewhere() {
                return Err(format!("{} is not run in namespaces", system.name()));
            }
            let switched = (net == Net::Switch).then_some(links);
            rig.namespaces = Some(Namespaces::create(schedule.nodes, switched)?);
        }
        for node in 1..=schedule.nodes {
            if let Some(spaces) = &rig.namespaces {
                let (prefix, host) = (spaces.prefix(node), Some(spaces.host(node)));
                rig.surroundings
                    .insert(node, Surroundings { prefix, host, ..Surroundings::default() });
            }
            let place = Place::below(dir, node);
            kit.check(schedule, system, &place)?;
            if needed.contains(&Family::Full) || needed.contains(&Family::Power) {
                let at = system.data_dir(&place);
                create(&at)?;
                let image = rig.dir.join(format!("n{node}.image"));
                rig.volumes.insert(node, Volume::create(image, at)?);
            }
            if needed.contains(&Family::Clock) || needed.contains(&Family::Rate) {
                rig.add_clock(node, needed.contains(&Family::Clock))?;
            }
        }
        Ok(rig)
    }

    /// Returns what each node has to be started in.
    pub fn surroundings(&self) -> BTreeMap<u8, Surroundings> {
        self.surroundings.clone()
    }

    /// Makes the links between nodes what they are in this network, if no proxies do that.
    pub(super) fn set_links(&mut self, network: &Network) -> Result<(), String> {
        self.namespaces.as_mut().map_or(Ok(()), |spaces| spaces.set(network))
    }

    /// Returns whether links between nodes do all that links can do.
    pub(super) fn has_switch(&self) -> bool {
        self.namespaces.as_ref().is_some_and(Namespaces::has_switch)
    }

    fn add_clock(&mut self, node: u8, is_monotonic_real: bool) -> Result<(), String> {
        let file = self.dir.join(format!("n{node}.time"));
        let library = clock::library().ok_or("libfaketime is not installed")?;
        let mut environment = vec![
            ("LD_PRELOAD", library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            // It looks into the file again after a second; to do so at each call would slow the node down.
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ];
        if is_monotonic_real {
            environment.push(("DONT_FAKE_MONOTONIC", "1".to_owned()));
        }
        let named = environment.into_iter().map(|(name, value)| (name.to_owned(), value));
        self.surroundings.entry(node).or_default().variables.extend(named);
        self.clocks.insert(node, file);
        self.set_clock(node, 0, 100)
    }

    /// Makes a node's clocks so much ahead, ms, and run at such a rate.
    pub(super) fn set_clock(&self, node: u8, ms: i64, percent: u16) -> Result<(), String> {
        let file = self.clocks.get(&node).ok_or("this run has no clocks that can be set")?;
        let sign = if ms < 0 { '-' } else { '+' };
        let (seconds, rest) = (ms.unsigned_abs() / 1_000, ms.unsigned_abs() % 1_000);
        let rate = format!("{}.{:02}", percent / 100, percent % 100);
        let text = match percent {
            100 => format!("{sign}{seconds}.{rest:03}\n"),
            _ => format!("{sign}{seconds}.{rest:03} x{rate}\n"),
        };
        // In one step, so that nobody reads half of it.
        let new = file.with_extension("new");
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, file));
        written.map_err(|err| format!("{}: {err}", file.display()))
    }

    /// Returns whether the node has looked at its clock since that was set: nobody else reads the file, and whoever does
    /// so first after it was written changes the time of its last access.
    pub(super) fn has_read_clock(&self, node: u8) -> bool {
        let file = self.clocks.get(&node).and_then(|file| fs::metadata(file).ok());
        let times = file.and_then(|file| Some((file.accessed().ok()?, file.modified().ok()?)));
        times.is_some_and(|(accessed, modified)| accessed > modified)
    }

    /// Returns a command that succeeds when a node reaches this address; `None` where nodes have no network of their own.
    pub(super) fn dial(&self, from: u8, host: &Ipv4Addr, port: u16) -> Option<Command> {
        let prefix = self.namespaces.as_ref()?.prefix(from);
        let (program, arguments) = prefix.split_first()?;
        let mut command = Command::new(program);
        command.args(arguments).args(["timeout", "1", "bash", "-c"]);
        command.arg(format!("exec 3<>/dev/tcp/{host}/{port}")).stderr(Stdio::null());
        Some(command)
    }

    /// Returns the file system of a node's data.
    pub(super) fn volume(&mut self, node: u8) -> Result<&mut Volume, String> {
        self.volumes.get_mut(&node).ok_or_else(|| "this run has no file systems of its own".into())
    }

    /// Begins to do this to the syncs of a node's process, in the words of strace.
    pub(super) fn trace(&mut self, node: u8, pid: u32, injection: &str) -> Result<(), String> {
        let output = self.dir.join(format!("n{node}.trace"));
        // An earlier one of the same node ends first: a process has one tracer.
        self.untrace(node);
        let trace = Trace::attach(pid, Some(injection), output)?;
        self.traces.insert(node, trace);
        Ok(())
    }

    /// Returns whether something was done to a sync of a node since this was last asked.
    pub(super) fn has_traced(&mut self, node: u8) -> bool {
        let was_traced = self.traced.remove(&node);
        was_traced || self.traces.get(&node).is_some_and(Trace::has_acted)
    }

    /// Lets the syncs of a node alone again. A process that is stopped or killed must not be traced: it would be the
    /// tracer's to let it go.
    pub(super) fn untrace(&mut self, node: u8) {
        if self.traces.remove(&node).is_some_and(|trace| trace.has_acted()) {
            self.traced.insert(node);
        }
    }

    /// Lets the syncs of all nodes alone again.
    pub(super) fn untrace_all(&mut self) {
        self.traces.clear();
    }
}

fn create(dir: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|err| format!("{}: {err}", dir.display()))
}
