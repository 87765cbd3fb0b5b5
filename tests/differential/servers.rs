//! The two servers as processes of their own, on free ports. Each is killed, by its own pid, with its
//! [`Server`].

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::connection::Connection;

const JAVA: &str = "/usr/bin/java";
const JAR: &str = "/usr/share/java/zookeeper.jar";
/// Polls until a server is there: a minute.
const POLLS_MAX: usize = 1200;
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) fn is_zookeeper_installed() -> bool {
    Path::new(JAVA).exists() && Path::new(JAR).exists()
}

/// One system under test: addresses at which it speaks ZooKeeper's protocol.
pub(crate) struct Server {
    pub(crate) addresses: Vec<SocketAddr>,
    processes: Vec<Process>,
}

struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn spawn(mut command: Command, log: PathBuf) -> Process {
        let out = File::create(&log).unwrap();
        let err = out.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(out).stderr(err).env_remove("RUST_LOG");
        Process { child: command.spawn().unwrap(), log }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(20)..];
            eprintln!("--- the end of {}:\n{}", self.log.display(), tail.join("\n"));
        }
    }
}

/// Returns ports that were free a moment ago, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Server {
    /// Starts ZooKeeper by itself, with everything switched on that the comparison needs, and without syncing
    /// its disk: it is not its durability that is compared.
    pub(crate) fn zookeeper(dir: &Path) -> Server {
        fs::create_dir_all(dir).unwrap();
        let port = free_ports(1)[0];
        let config = dir.join("zoo.cfg");
        let text = format!(
            "tickTime=2000\nminSessionTimeout=1000\nmaxSessionTimeout=600000\nmaxClientCnxns=0\n\
             dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
             extendedTypesEnabled=true\nforceSync=no\n",
            dir.join("data").display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(JAVA);
        command
            .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            // What has had its time goes away at a moment of the server's own choice: not during a
            // comparison.
            .arg("-Dznode.container.checkIntervalMs=86400000")
            .args(["-cp", JAR, "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
            .arg(&config);
        let process = Process::spawn(command, dir.join("log"));
        let server = Server { addresses: vec![at(port)], processes: vec![process] };
        server.ready()
    }

    /// Starts a cluster of roost with so many nodes.
    pub(crate) fn roost(dir: &Path, nodes: u64) -> Server {
        let ports: Vec<[u16; 3]> = (0..nodes).map(|_| free_ports(3).try_into().unwrap()).collect();
        let mut server = Server { addresses: Vec::new(), processes: Vec::new() };
        for (id, [zk, http, peer]) in (1..).zip(&ports) {
            let dir = dir.join(id.to_string());
            fs::create_dir_all(&dir).unwrap();
            let config = dir.join("node.toml");
            let text = format!(
                "[node]\nid = {id}\ndata_dir = {:?}\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
                 [zk]\nlisten = \"127.0.0.1:{zk}\"\n[znodes]\ncheck_interval_ms = 3600000\n\
                 [peer]\nlisten = \"127.0.0.1:{peer}\"\n[cluster]\nsecret = \"a secret of the tests\"\n",
                dir.join("data")
            );
            fs::write(&config, text).unwrap();
            let mut command = Command::new(roost_program());
            command.args(["serve", "--config"]).arg(&config);
            server.processes.push(Process::spawn(command, dir.join("log")));
            server.addresses.push(at(*zk));
        }
        let mut init = Command::new(roost_program());
        init.arg("init").env("ROOST_ENDPOINTS", format!("127.0.0.1:{}", ports[0][1]));
        for (id, [_, http, peer]) in (1..).zip(&ports) {
            init.arg(format!("--member={id}=127.0.0.1:{peer},127.0.0.1:{http}"));
        }
        server.wait_for(at(ports[0][1]));
        for [_, http, peer] in &ports {
            server.wait_for(at(*http));
            server.wait_for(at(*peer));
        }
        let done = init.output().unwrap();
        assert!(done.status.success(), "roost init: {done:?}");
        server.ready()
    }

    /// Waits until somebody listens.
    fn wait_for(&mut self, address: SocketAddr) {
        for _ in 0..POLLS_MAX {
            if std::net::TcpStream::connect(address).is_ok() {
                return;
            }
            for process in &mut self.processes {
                let ended = process.child.try_wait().unwrap();
                assert!(ended.is_none(), "{} ended: {ended:?}", process.log.display());
            }
            // Until the next look.
            sleep(POLL_INTERVAL);
        }
        panic!("nobody listens at {address}");
    }

    /// Waits until a session can be opened at each address.
    fn ready(mut self) -> Server {
        for address in self.addresses.clone() {
            self.wait_for(address);
            let mut polls = 0..POLLS_MAX;
            while !Connection::is_possible(address) {
                polls.next().unwrap_or_else(|| panic!("no session at {address}"));
                // Until the next look.
                sleep(POLL_INTERVAL);
            }
        }
        self
    }
}

/// Returns the built program.
fn roost_program() -> &'static str {
    env!("CARGO_BIN_EXE_roost")
}
