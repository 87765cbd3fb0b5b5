//! Processes, ports and clusters for the tests. Nothing outlives a test: each process is killed, by its own pid, when
//! its [`Process`] is dropped.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use roost::client::Client;
use roost::client::model::DigestAnswer;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long anything that must come about may take; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const SECRET: &str = "a secret of the tests";

/// The program under test.
pub(crate) const ROOST: &str = env!("CARGO_BIN_EXE_roost");

/// Asks until there is an answer, and returns it.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "this never came about: {what}");
        // Until the next look at the condition.
        sleep(POLL_INTERVAL).await;
    }
}

/// Returns a number from the environment, or the one for the normal form of a test.
pub(crate) fn from_env(name: &str, normal: u64) -> u64 {
    std::env::var(name).map_or(normal, |text| text.parse().expect("a number"))
}

/// Returns the seed of a test and prints it: `ROOST_SEED`, or a new one.
pub(crate) fn seed() -> u64 {
    let seed = from_env("ROOST_SEED", rand::random());
    println!("ROOST_SEED={seed}");
    seed
}

/// A range of ports that no other test has, in this process or another. They lie below those that the system gives to
/// outgoing connections, so that none is taken while the node that listens on it is down.
pub(crate) struct Ports {
    base: u16,
    _locks: [TcpListener; 2],
}

impl Ports {
    const BLOCK: u16 = 20;
    const FIRST: u16 = 12_000;
    const BLOCKS: u16 = 850;
    /// `roost dev` uses the ports this much lower as well.
    const BELOW: u16 = 1_000;

    pub(crate) fn reserve() -> Ports {
        for _ in 0..1_000 {
            let base = Ports::FIRST + Ports::BLOCK * rand::random_range(0..Ports::BLOCKS);
            // The first port of a block is its lock.
            let lock = |base| TcpListener::bind(("127.0.0.1", base)).ok();
            let Some(locks) = lock(base).zip(lock(base - Ports::BELOW)) else { continue };
            let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
            let mut ports = (1..Ports::BLOCK).map(|offset| base + offset);
            if ports.all(|port| is_free(port) && is_free(port - Ports::BELOW)) {
                return Ports { base, _locks: locks.into() };
            }
        }
        panic!("no free ports");
    }

    /// Returns one of 19 ports; the one 1000 below is reserved too.
    pub(crate) fn get(&self, index: u16) -> u16 {
        assert!(index + 1 < Ports::BLOCK);
        self.base + 1 + index
    }
}

/// A child process whose output goes to a file, and which ends with the test.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `roost` with these arguments.
    pub(crate) fn roost(args: &[&str], endpoints: &str, log: &Path) -> Process {
        let mut command = Command::new(ROOST);
        command.args(args).env("ROOST_ENDPOINTS", endpoints);
        Process::spawn(command, log)
    }

    pub(crate) fn spawn(mut command: Command, log: &Path) -> Process {
        let file = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let output = file.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(output).stderr(file).env_remove("RUST_LOG");
        Process { child: command.spawn().unwrap(), log: log.to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns how it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let what = format!("the end of process {}", self.pid());
        eventually(&what, async || self.ended()).await
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until its output contains a text.
    pub(crate) async fn says(&mut self, text: &str) {
        eventually(&format!("{text:?} in {}", self.log.display()), async || {
            let is_there = self.output().contains(text);
            assert!(is_there || self.ended().is_none(), "it ended: {}", self.output());
            is_there.then_some(())
        })
        .await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(30)..];
            eprintln!("--- the end of {}:\n{}", self.log.display(), tail.join("\n"));
        }
    }
}

/// Sends a signal to a process that belongs to this test.
pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Returns whether a process runs; one that has ended and was not waited for does not.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses.
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// What a command that ran to its end gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The error as it must be: this exit code, nothing on stdout, and one line that says all these texts.
    #[track_caller]
    pub(crate) fn fails_in_one_line(&self, code: i32, texts: &[&str]) {
        let lines = self.err.lines().count();
        assert!(self.code == code && lines == 1 && self.out.is_empty(), "{self:?}");
        assert!(self.err.starts_with("roost: ") || self.err.starts_with('{'), "{self:?}");
        for text in texts {
            assert!(self.err.contains(text), "{text:?} is not said: {self:?}");
        }
    }
}

/// Runs `roost` with these arguments to its end.
pub(crate) async fn roost(endpoints: &str, args: &[&str]) -> Ran {
    let mut command = tokio::process::Command::new(ROOST);
    command.args(args).env("ROOST_ENDPOINTS", endpoints).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output());
    let output = output.await.unwrap_or_else(|_| panic!("{args:?} did not end")).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Somebody who types lines for `roost`: words that spaces part, and in single quotes one that has some.
pub(crate) struct Shell {
    pub(crate) endpoints: String,
}

impl Shell {
    pub(crate) async fn run(&self, line: &str) -> Ran {
        let words = shlex::split(line).expect("quotes in pairs");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        roost(&self.endpoints, &words).await
    }

    /// Runs a command that must work, and returns its output.
    pub(crate) async fn ok(&self, line: &str) -> String {
        let ran = self.run(line).await;
        assert!(ran.code == 0 && ran.err.is_empty(), "{line}: {ran:?}");
        ran.out
    }

    /// Runs a command that must work, and returns the one line of JSON that it prints.
    pub(crate) async fn json(&self, line: &str) -> Value {
        let out = self.ok(&format!("--json {line}")).await;
        assert_eq!(out.lines().count(), 1, "{line}: {out}");
        serde_json::from_str(&out).unwrap()
    }

    /// Runs a command that must fail with this exit code and say all these texts in one line.
    pub(crate) async fn fails(&self, code: i32, line: &str, texts: &[&str]) {
        let ran = self.run(line).await;
        println!("{line}");
        ran.fails_in_one_line(code, texts);
    }
}

/// One node: what its configuration says, and its process while it runs.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) dir: PathBuf,
    pub(crate) http: u16,
    pub(crate) peer: u16,
    pub(crate) secret: String,
    pub(crate) process: Option<Process>,
}

impl Node {
    /// Plans a node below `dir` with two of the ports.
    pub(crate) fn new(id: u64, dir: &Path, ports: &Ports) -> Node {
        let (dir, index) = (dir.join(id.to_string()), u16::try_from(id).unwrap() * 2 - 2);
        let (http, peer) = (ports.get(index), ports.get(index + 1));
        Node { id, dir, http, peer, secret: SECRET.into(), process: None }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn config(&self) -> String {
        let Node { id, http, peer, secret, .. } = self;
        let data_dir = self.data_dir();
        format!(
            "[node]\nid = {id}\ndata_dir = {data_dir:?}\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
             [peer]\nlisten = \"127.0.0.1:{peer}\"\n[cluster]\nsecret = {secret:?}\n"
        )
    }

    /// Writes its configuration and returns the file.
    pub(crate) fn write_config(&self, text: &str) -> String {
        fs::create_dir_all(&self.dir).unwrap();
        let file = self.dir.join("node.toml");
        fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// Starts it; does not wait for anything.
    pub(crate) fn spawn(&mut self) {
        let config = self.write_config(&self.config());
        let args = ["serve", "--config", &config];
        self.process = Some(Process::roost(&args, "", &self.dir.join("log")));
    }

    /// Runs it where it is expected to refuse.
    pub(crate) async fn refuses(&self, config: &str) -> Ran {
        let config = self.write_config(config);
        roost("", &["serve", "--config", &config]).await
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the node runs")
    }

    pub(crate) fn kill9(&mut self) {
        self.process().kill9();
        self.process = None;
    }

    /// Stops it as an operator does.
    pub(crate) async fn stop(&mut self) {
        self.process().signal(Signal::SIGTERM);
        let status = self.process().exit().await;
        assert!(status.success(), "{status}: {}", self.process().output());
        self.process = None;
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.endpoint())
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(vec![self.endpoint()]).unwrap()
    }

    /// Waits until the node answers whatever it is asked.
    pub(crate) async fn up(&mut self) {
        let probe = self.client().impatient();
        eventually("a node that answers", async || {
            let ended = self.process().ended();
            assert!(ended.is_none(), "node {} ended: {ended:?}", self.id);
            probe.digest().await.ok()
        })
        .await;
    }

    /// Waits until the node can serve.
    pub(crate) async fn ready(&mut self) {
        let probe = self.client().impatient();
        eventually("a node that is ready", async || {
            let ended = self.process().ended();
            assert!(ended.is_none(), "node {} ended: {ended:?}", self.id);
            probe.ready().await.ok()
        })
        .await;
    }
}

/// A cluster of processes on this machine.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) dir: TempDir,
    pub(crate) ports: Ports,
}

impl Cluster {
    /// Starts a new cluster of so many voters; returns when all are ready.
    pub(crate) async fn start(count: u64) -> Cluster {
        Cluster::of(1..=count).await
    }

    /// Starts a new cluster of these voters.
    pub(crate) async fn of(ids: RangeInclusive<u64>) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let ports = Ports::reserve();
        let nodes = ids.map(|id| Node::new(id, dir.path(), &ports)).collect();
        let mut cluster = Cluster { nodes, dir, ports };
        for node in &mut cluster.nodes {
            node.spawn();
        }
        for node in &mut cluster.nodes {
            node.up().await;
        }
        let members: Vec<String> = cluster
            .nodes
            .iter()
            .map(|node| format!("--member={}=127.0.0.1:{},{}", node.id, node.peer, node.endpoint()))
            .collect();
        let mut args = vec!["init"];
        args.extend(members.iter().map(String::as_str));
        let ran = roost(&cluster.nodes[0].endpoint(), &args).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        cluster.all_ready().await;
        cluster
    }

    pub(crate) async fn all_ready(&mut self) {
        for node in &mut self.nodes {
            node.ready().await;
        }
    }

    /// Returns all endpoints, beginning with this node's.
    pub(crate) fn endpoints_from(&self, first: usize) -> Vec<String> {
        let count = self.nodes.len();
        (0..count).map(|index| self.nodes[(first + index) % count].endpoint()).collect()
    }

    /// Returns all endpoints as the command line takes them.
    pub(crate) fn endpoints(&self) -> String {
        self.endpoints_from(0).join(",")
    }

    /// Returns a client of all nodes that begins with this one.
    pub(crate) fn client_from(&self, first: usize) -> Client {
        Client::new(self.endpoints_from(first)).unwrap()
    }

    /// Returns the place of the node that says of itself that it leads, among those that run.
    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader", async || {
            for (place, node) in self.nodes.iter().enumerate() {
                if node.process.is_some()
                    && let Ok(cluster) = node.client().impatient().cluster().await
                    && cluster.leader == Some(node.id)
                {
                    return Some(place);
                }
            }
            None
        })
        .await
    }

    /// Waits until all nodes stand at the same zxid, and returns their state, which must then be the same.
    pub(crate) async fn agree(&self) -> DigestAnswer {
        eventually("all nodes at one zxid", async || {
            let mut answers = Vec::new();
            for node in &self.nodes {
                answers.push(node.client().digest().await.ok()?);
            }
            let first = answers[0].clone();
            if answers.iter().any(|answer| answer.zxid != first.zxid) {
                return None;
            }
            let is_same = |answer: &DigestAnswer| answer.digest == first.digest;
            assert!(answers.iter().all(is_same), "the nodes disagree: {answers:?}");
            Some(first)
        })
        .await
    }
}

/// Creates an empty file for the output of a process and returns its path.
pub(crate) fn log_in(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    File::create(&path).unwrap();
    path
}
