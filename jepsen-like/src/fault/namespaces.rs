//! A network of its own for the nodes: each in a namespace, all on a bridge, this program as one more host on it. Links
//! between nodes are cut and made lossy by a packet filter in the namespace of who receives.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::schedule::{End, Link, Network};

/// Networks that this process has made so far, so that two at a time have different names.
static MADE: AtomicU32 = AtomicU32::new(0);

/// The namespaces of a cluster's nodes. Dropping it removes them; who runs in them must have ended.
#[derive(Debug)]
pub(super) struct Namespaces {
    name: String,
    subnet: (u8, u8),
    nodes: u8,
    /// What the filters of each node were last told.
    rules: BTreeMap<u8, String>,
}

impl Namespaces {
    /// Makes so many. Error: what is missing for it.
    pub(super) fn create(nodes: u8) -> Result<Namespaces, String> {
        let number = std::process::id() ^ (MADE.fetch_add(1, Ordering::Relaxed) << 20);
        // Names of interfaces have at most 15 characters.
        let name = format!("rj{:x}", number);
        let subnet = (128 + (number / 250 % 100) as u8, (number % 250) as u8);
        let made = Namespaces { name, subnet, nodes, rules: BTreeMap::new() };
        let (bridge, (high, low)) = (&made.name, subnet);
        run(&format!("ip link add {bridge} type bridge"))?;
        run(&format!("ip addr add 10.{high}.{low}.254/24 dev {bridge}"))?;
        run(&format!("ip link set {bridge} up"))?;
        for node in 1..=nodes {
            let (space, link, host) = (made.space(node), made.link(node), made.host(node));
            run(&format!("ip netns add {space}"))?;
            run(&format!("ip link add {link} type veth peer name eth0 netns {space}"))?;
            run(&format!("ip link set {link} master {bridge} up"))?;
            run(&format!("ip -n {space} addr add {host}/24 dev eth0"))?;
            run(&format!("ip -n {space} link set eth0 up"))?;
            run(&format!("ip -n {space} link set lo up"))?;
            filter(&space, "")?;
        }
        Ok(made)
    }

    fn space(&self, node: u8) -> String {
        format!("{}-n{node}", self.name)
    }

    fn link(&self, node: u8) -> String {
        format!("{}n{node}", self.name)
    }

    /// Returns the address of a node.
    pub(super) fn host(&self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.subnet.0, self.subnet.1, node)
    }

    /// Returns the words before a command that has to run where a node is.
    pub(super) fn prefix(&self, node: u8) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/run/netns/{}", self.space(node))]
    }

    /// Makes the links between nodes what they are in this network. A link that is slow is not made so.
    pub(super) fn set(&mut self, network: &Network) -> Result<(), String> {
        for node in 1..=self.nodes {
            let mut rules = String::new();
            for (from, to, link) in network.ill() {
                if let (End::Node(from), true) = (from, to == End::Node(node)) {
                    let _ = writeln!(rules, "{}", self.rule(from, link));
                }
            }
            if self.rules.get(&node) != Some(&rules) {
                filter(&self.space(node), &rules)?;
                self.rules.insert(node, rules);
            }
        }
        Ok(())
    }

    fn rule(&self, from: u8, link: Link) -> String {
        let from = self.host(from);
        match link {
            Link { is_cut: true, .. } => format!("ip saddr {from} drop"),
            Link { loss_percent: 0, .. } => String::new(),
            Link { loss_percent, .. } => {
                format!("ip saddr {from} numgen random mod 100 < {loss_percent} drop")
            }
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for node in 1..=self.nodes {
            // Its end of the cable goes with it.
            let _ = run(&format!("ip netns del {}", self.space(node)));
        }
        let _ = run(&format!("ip link del {}", self.name));
    }
}

/// Puts rules in force in a namespace, all at once, in the place of those before.
fn filter(space: &str, rules: &str) -> Result<(), String> {
    let text = format!(
        "table ip chaos {{}}\ndelete table ip chaos\ntable ip chaos {{\nchain in {{\n\
         type filter hook input priority 0; policy accept;\n{rules}}}\n}}\n"
    );
    let mut command = Command::new("nsenter");
    command.args([&format!("--net=/run/netns/{space}"), "nft", "-f", "-"]);
    let failed = |err: std::io::Error| format!("nft: {err}");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = pipes.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Runs a command whose words have no spaces in them.
fn run(line: &str) -> Result<(), String> {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output();
    let output = output.map_err(|err| format!("{line}: {err}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use super::Namespaces;
    use crate::schedule::{Fault, Network};

    /// Whether a node reaches another: a listener there hears a word from here.
    fn reaches(spaces: &Namespaces, from: u8, to: u8) -> bool {
        let prefix = spaces.prefix(from);
        let mut ping = Command::new(&prefix[0]);
        ping.arg(&prefix[1]).args(["timeout", "2", "bash", "-c"]);
        // Refused is an answer, too: only who is cut off gets none.
        let script = format!("exec 3<>/dev/tcp/{}/9", spaces.host(to));
        let output = ping.arg(script).output().unwrap();
        String::from_utf8_lossy(&output.stderr).contains("refused")
    }

    #[test]
    fn packets_pass_between_nodes_as_the_network_says() {
        let mut spaces = match Namespaces::create(3) {
            Ok(spaces) => spaces,
            Err(why) => {
                // Past the test harness, which would swallow it.
                let _ = writeln!(std::io::stderr(), "SKIPPED: no namespaces ({why})");
                return;
            }
        };
        assert!(reaches(&spaces, 1, 2));
        let fault: Fault = "partition n1 | rest".parse().unwrap();
        spaces.set(&Network::under([&fault], 3)).unwrap();
        assert!(!reaches(&spaces, 1, 2) && !reaches(&spaces, 3, 1));
        assert!(reaches(&spaces, 3, 2));
        spaces.set(&Network::default()).unwrap();
        assert!(reaches(&spaces, 1, 2));
    }
}
