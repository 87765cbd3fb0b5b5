//! A network of its own for the nodes: each in a namespace, this program as one more host. Either all are on a bridge, and
//! links between nodes are cut and made lossy by a packet filter in the namespace of who receives; or their cables end in a
//! [`Switch`], which does all that a link can do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::net::{HOST, Links, Switch};
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
    /// Without it there is a bridge.
    switch: Option<Switch>,
}

impl Namespaces {
    /// Makes so many, on a bridge; or on a switch, whose links are these. Error: what is missing for it.
    pub(super) fn create(nodes: u8, switched: Option<&Links>) -> Result<Namespaces, String> {
        let number = std::process::id() ^ (MADE.fetch_add(1, Ordering::Relaxed) << 20);
        // Names of interfaces have at most 15 characters.
        let name = format!("rj{:x}", number);
        let subnet = (128 + (number / 250 % 100) as u8, (number % 250) as u8);
        let (rules, switch) = (BTreeMap::new(), None);
        let mut made = Namespaces { name, subnet, nodes, rules, switch };
        let (own, (high, low), mac) = (&made.name, subnet, mac(HOST));
        match switched {
            None => run(&format!("ip link add {own} type bridge"))?,
            Some(_) => {
                let port = made.link(HOST);
                run(&format!("ip link add {own} address {mac} type veth peer name {port}"))?;
                run(&format!("ip link set {own} {ONE_SEGMENT}"))?;
                run(&format!("ip link set {port} {SILENT} up"))?;
            }
        }
        run(&format!("ip addr add 10.{high}.{low}.254/24 dev {own}"))?;
        run(&format!("ip link set {own} up"))?;
        for node in 1..=nodes {
            let (space, link, host) = (made.space(node), made.link(node), made.host(node));
            run(&format!("ip netns add {space}"))?;
            let mac = self::mac(node);
            run(&format!(
                "ip link add {link} type veth peer name eth0 address {mac} netns {space}"
            ))?;
            match switched {
                None => {
                    run(&format!("ip link set {link} master {own} up"))?;
                    filter(&space, "")?;
                }
                Some(_) => {
                    run(&format!("ip link set {link} {SILENT} up"))?;
                    run(&format!("ip -n {space} link set eth0 {ONE_SEGMENT}"))?;
                }
            }
            run(&format!("ip -n {space} addr add {host}/24 dev eth0"))?;
            run(&format!("ip -n {space} link set eth0 up"))?;
            run(&format!("ip -n {space} link set lo up"))?;
        }
        if let Some(links) = switched {
            let ports: Vec<_> = (HOST..=nodes).map(|port| (port, made.link(port))).collect();
            made.switch = Some(Switch::start(&ports, links)?);
        }
        Ok(made)
    }

    /// Returns whether all that a link can do is done here.
    pub(super) fn has_switch(&self) -> bool {
        self.switch.is_some()
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

    /// Makes the links between nodes what they are in this network; a switch knows by itself. On a bridge a link that is
    /// slow is not made so.
    pub(super) fn set(&mut self, network: &Network) -> Result<(), String> {
        if self.has_switch() {
            return Ok(());
        }
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
        drop(self.switch.take());
        for node in 1..=self.nodes {
            // Its end of the cable goes with it.
            let _ = run(&format!("ip netns del {}", self.space(node)));
        }
        let _ = run(&format!("ip link del {}", self.name));
    }
}

/// The near end of a cable to a switch does not answer for this host, which has an end of its own.
const SILENT: &str = "arp off";
/// What sends to a switch divides what it sends into packets by itself.
const ONE_SEGMENT: &str = "gso_max_segs 1";

/// Returns the address of a port's far end: its last byte is the port.
fn mac(port: u8) -> String {
    format!("02:00:00:00:00:{port:02x}")
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
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::process::Command;
    use std::thread;

    use nix::sched::{CloneFlags, setns};

    use super::Namespaces;
    use crate::clock::Clock;
    use crate::net::Links;
    use crate::schedule::{End, Fault, Network};

    /// Returns nothing, and says so past the test harness, which would swallow it, where there are no namespaces.
    fn create(switched: Option<&Links>) -> Option<Namespaces> {
        let made = Namespaces::create(3, switched);
        made.inspect_err(|why| {
            let _ = writeln!(std::io::stderr(), "SKIPPED: no namespaces ({why})");
        })
        .ok()
    }

    /// Whether a node reaches another, which refuses it. Who is cut off is given a second. Who should reach it is given several: who
    /// asked for its address while it was cut off asks again a second later.
    fn reaches(spaces: &Namespaces, from: u8, to: u8, is_cut: bool) -> bool {
        let prefix = spaces.prefix(from);
        let mut ping = Command::new(&prefix[0]);
        let patience_s = if is_cut { "1" } else { "10" };
        ping.arg(&prefix[1]).args(["timeout", patience_s, "bash", "-c"]);
        // Refused is an answer, too: only who is cut off gets none.
        let script = format!("exec 3<>/dev/tcp/{}/9", spaces.host(to));
        let output = ping.arg(script).output().unwrap();
        String::from_utf8_lossy(&output.stderr).contains("refused")
    }

    fn under(faults: &[&str]) -> Network {
        let faults: Vec<Fault> = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        Network::under(&faults, 3)
    }

    #[test]
    fn packets_pass_between_nodes_as_the_network_says() {
        for is_switched in [false, true] {
            let links = Links::default();
            let Some(mut spaces) = create(is_switched.then_some(&links)) else { return };
            assert!(reaches(&spaces, 1, 2, false));
            for (faults, is_cut) in [(&["partition n1 | rest"][..], true), (&[], false)] {
                links.set(under(faults));
                spaces.set(&under(faults)).unwrap();
                for (from, to) in [(1, 2), (3, 1)] {
                    assert!(
                        reaches(&spaces, from, to, is_cut) != is_cut,
                        "{from} to {to}: {is_cut}"
                    );
                }
                assert!(reaches(&spaces, 3, 2, false));
            }
        }
    }

    /// Does something where a node is. Sockets that are made there stay there.
    fn at<T: Send + 'static>(
        spaces: &Namespaces,
        node: u8,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let space = File::open(format!("/run/netns/{}", spaces.space(node))).unwrap();
        thread::spawn(move || {
            setns(space, CloneFlags::CLONE_NEWNET).unwrap();
            what()
        })
    }

    /// Sends bytes from node 1 to node 2, which sends back what it heard; returns that, and how long a connection took, ms.
    fn send(spaces: &Namespaces, bytes: Vec<u8>) -> (Vec<u8>, u64) {
        let host = spaces.host(2);
        let listener = at(spaces, 2, move || TcpListener::bind((host, 0)).unwrap()).join().unwrap();
        let addr = listener.local_addr().unwrap();
        let hearing = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            stream.write_all(&heard).unwrap();
        });
        let sending = at(spaces, 1, move || {
            let clock = Clock::start();
            let mut stream = TcpStream::connect(addr).unwrap();
            let took_ms = clock.now_ms();
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            (back, took_ms)
        });
        hearing.join().unwrap();
        sending.join().unwrap()
    }

    #[test]
    fn a_switch_makes_links_slow_loses_doubles_and_disorders_and_tcp_puts_it_right() {
        let links = Links::seeded(7);
        let Some(spaces) = create(Some(&links)) else { return };
        let bytes: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
        links.set(under(&[
            "delay n1 5ms jitter 2ms",
            "loss n1 1%",
            "duplicate n2 10%",
            "reorder n1 20% 4ms",
        ]));
        let (back, took_ms) = send(&spaces, bytes.clone());
        assert!(back == bytes, "{} bytes of {}", back.len(), bytes.len());
        assert!(took_ms >= 10, "there and back in {took_ms} ms");
        let tally = links.tally(End::Node(1), End::Node(2));
        assert!(tally.lost > 0 && tally.doubled > 0 && tally.overtaken > 0, "{tally:?}");
    }
}
