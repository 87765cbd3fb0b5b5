//! `roost dev`: a cluster for trying things out, which leaves nothing behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use roost::client::Client;
use roost::client::model::Create;

use crate::harness::{Ports, Process, ROOST, eventually, is_running, log_in, roost, send};

const NODES: u16 = 3;

struct Dev {
    process: Process,
    client: Client,
    endpoints: Vec<String>,
}

impl Dev {
    /// Starts it; returns when it says that it is ready.
    async fn start(ports: &Ports, dir: &Path, args: &[&str]) -> Dev {
        let log = log_in(dir, "dev.log");
        let base = ports.get(0).to_string();
        let mut command = Command::new(ROOST);
        command.args(["--json", "dev", "--base-port", &base]).args(args);
        // Whatever is temporary shall be found here.
        command.current_dir(dir).env("TMPDIR", dir.join("tmp"));
        fs::create_dir_all(dir.join("tmp")).unwrap();
        let mut process = Process::spawn(command, &log);
        process.says("\"ready_ms\":").await;
        let endpoints: Vec<String> =
            (0..NODES).map(|index| format!("127.0.0.1:{}", ports.get(index))).collect();
        for endpoint in &endpoints {
            let is_told = process.output().contains(&format!("http://{endpoint}"));
            assert!(is_told, "{endpoint}: {}", process.output());
        }
        Dev { process, client: Client::new(endpoints.clone()).unwrap(), endpoints }
    }

    /// Returns the processes of the nodes.
    fn children(&self) -> BTreeMap<u32, String> {
        let parent = format!("PPid:\t{}\n", self.process.pid());
        let mut children = BTreeMap::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            if status.contains(&parent) && is_running(pid) {
                let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
                children.insert(pid, command.replace('\0', " "));
            }
        }
        children
    }

    async fn interrupt(&mut self, signal: Signal) {
        let children = self.children();
        assert_eq!(children.len(), usize::from(NODES));
        self.process.signal(signal);
        let status = self.process.exit().await;
        assert_eq!(status.code(), Some(0), "{}", self.process.output());
        assert!(!children.keys().any(|pid| is_running(*pid)), "{children:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ephemeral_dev_cluster_ends_with_code_0_and_leaves_nothing() {
    let (ports, dir) = (Ports::reserve(), tempfile::tempdir().unwrap());
    let mut dev = Dev::start(&ports, dir.path(), &["--ephemeral"]).await;
    dev.client.create(&Create { path: "/x".into(), ..Create::default() }).await.unwrap();
    assert_eq!(dev.client.cluster().await.unwrap().members.len(), usize::from(NODES));
    let temporary = || fs::read_dir(dir.path().join("tmp")).unwrap().count();
    assert_eq!(temporary(), 1);

    // A second one cannot have the same ports, and says how to get others.
    let base = ports.get(0).to_string();
    let second = roost("", &["dev", "--ephemeral", "--base-port", &base]).await;
    second.fails_in_one_line(1, &["port", "--base-port"]);
    dev.client.get("/x", Default::default()).await.expect("the first is unharmed");

    dev.interrupt(Signal::SIGINT).await;
    assert_eq!(temporary(), 0);
    assert!(!dir.path().join("data").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dev_cluster_keeps_its_state_restarts_its_nodes_and_takes_them_with_it() {
    let (ports, dir) = (Ports::reserve(), tempfile::tempdir().unwrap());
    let mut dev = Dev::start(&ports, dir.path(), &[]).await;
    let create = Create { path: "/kept".into(), data: b"1".to_vec(), ..Create::default() };
    dev.client.create(&create).await.unwrap();
    dev.interrupt(Signal::SIGTERM).await;
    assert!(dir.path().join("data/dev/1/node.toml").exists());

    let mut dev = Dev::start(&ports, dir.path(), &[]).await;
    let znode = dev.client.get("/kept", Default::default()).await.unwrap();
    assert_eq!(znode.payload.0.as_deref(), Some(&b"1"[..]));

    // A node that is killed comes back.
    let before = dev.children();
    let (victim, command) = before.first_key_value().unwrap();
    send(*victim, Signal::SIGKILL);
    eventually("a new process for the node", async || {
        let now = dev.children();
        now.iter().find(|(pid, same)| !before.contains_key(pid) && *same == command).map(drop)
    })
    .await;
    for endpoint in &dev.endpoints {
        let probe = Client::new(vec![endpoint.clone()]).unwrap().impatient();
        eventually("a ready node", async || probe.ready().await.ok()).await;
    }
    assert_eq!(dev.children().len(), usize::from(NODES));
    dev.client.set("/kept", b"2".to_vec(), None).await.unwrap();

    // Other shapes of the same directory are refused.
    let kept = dir.path().join("data/dev").display().to_string();
    let base = ports.get(0).to_string();
    let args = ["dev", "--dir", &kept, "--base-port", &base, "--nodes", "2"];
    roost("", &args).await.fails_in_one_line(2, &["--nodes"]);

    // No node outlives the command, however that ends.
    let children = dev.children();
    dev.process.kill9();
    eventually("the end of the nodes", async || {
        (!children.keys().any(|pid| is_running(*pid))).then_some(())
    })
    .await;
    let mut dev = Dev::start(&ports, dir.path(), &[]).await;
    let znode = dev.client.get("/kept", Default::default()).await.unwrap();
    assert_eq!(znode.payload.0.as_deref(), Some(&b"2"[..]));
    dev.interrupt(Signal::SIGINT).await;
}
