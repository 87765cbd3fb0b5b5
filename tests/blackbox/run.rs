//! `roost run`: a process that knows nothing of roost, registered for as long as it runs.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use roost::client::Client;
use roost::client::model::Provider;

use crate::harness::{Cluster, Process, eventually, is_running, log_in, roost, send};

/// A process that is not a child of the test; it ends with it.
struct Stranger(u32);

impl Drop for Stranger {
    fn drop(&mut self) {
        if is_running(self.0) {
            send(self.0, Signal::SIGKILL);
        }
    }
}

/// Starts `roost run` for a shell script; the script's process id goes to `<name>.pid`.
fn run(cluster: &Cluster, name: &str, args: &[&str], script: &str) -> Process {
    let args = [&["--timeout-ms", "2000"], args].concat();
    run_with(cluster, name, &args, script)
}

fn run_with(cluster: &Cluster, name: &str, args: &[&str], script: &str) -> Process {
    let dir = cluster.dir.path();
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; {script}", pid_file(dir, name));
    let mut all = vec!["run", "--service", "web"];
    all.extend(args);
    all.extend(["--", "sh", "-c", &script]);
    Process::roost(&all, &cluster.endpoints(), &log_in(dir, &format!("{name}.log")))
}

fn pid_file(dir: &Path, name: &str) -> String {
    dir.join(format!("{name}.pid")).display().to_string()
}

async fn pid(cluster: &Cluster, name: &str) -> u32 {
    let file = pid_file(cluster.dir.path(), name);
    let text = eventually("the command", async || fs::read_to_string(&file).ok()).await;
    text.trim().parse().unwrap()
}

async fn provider(client: &Client, id: &str) -> Option<Provider> {
    let service = client.service("web").await.ok()?;
    service.providers.into_iter().find(|provider| provider.id == id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_registered_while_it_runs_and_its_end_is_passed_on() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client_from(0);

    let log = log_in(cluster.dir.path(), "watch.log");
    let mut watch = Process::roost(&["watch", "/services/web"], &cluster.endpoints(), &log);

    // It is visible, with what was said of it.
    let args = ["--addr", "127.0.0.1:9001", "--meta", "zone=a", "--meta", "v=1=2", "--weight", "7"];
    let mut stopped = run(&cluster, "stopped", &args, "exec sleep 600");
    let found =
        eventually("the provider", async || provider(&client, "127.0.0.1:9001").await).await;
    assert_eq!((found.host.as_str(), found.port, found.weight), ("127.0.0.1", 9001, 7));
    let metadata: Vec<_> = found.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(metadata, [("v", "1=2"), ("zone", "a")]);
    let listed = roost(&cluster.endpoints(), &["service", "get", "web"]).await;
    assert!(listed.out.contains("127.0.0.1:9001") && listed.out.contains("zone=a"), "{listed:?}");

    watch.says("+ /services/web/providers/127.0.0.1:9001 {").await;

    // SIGTERM is forwarded, and the end of the command deregisters at once.
    let command = pid(&cluster, "stopped").await;
    stopped.signal(Signal::SIGTERM);
    assert_eq!(stopped.exit().await.code(), Some(128 + 15));
    assert!(!is_running(command));
    assert!(provider(&client, "127.0.0.1:9001").await.is_none(), "the exit has deregistered it");
    watch.says("- /services/web/providers/127.0.0.1:9001\n").await;
    assert!(client.sessions().await.unwrap().sessions.is_empty());

    // The command decides what to do with a signal, and how it all ends.
    let trap = "trap 'exit 42' TERM; while :; do sleep 0.1; done";
    let args = ["--addr", "127.0.0.1:9002", "--json"];
    let mut trapping = run(&cluster, "trapping", &args, trap);
    trapping.says(r#"{"event":"registered","id":"127.0.0.1:9002","service":"web"}"#).await;
    eventually("the provider", async || provider(&client, "127.0.0.1:9002").await).await;
    trapping.signal(Signal::SIGTERM);
    assert_eq!(trapping.exit().await.code(), Some(42));
    assert!(provider(&client, "127.0.0.1:9002").await.is_none());

    // The exit code of a command that ends by itself, or cannot start.
    let mut short = run(&cluster, "short", &["--addr", "127.0.0.1:9003"], "exit 7");
    assert_eq!(short.exit().await.code(), Some(7));
    let args = ["run", "--service", "web", "--addr", "h:1", "--", "/no/such/program"];
    let ran = roost(&cluster.endpoints(), &args).await;
    ran.fails_in_one_line(127, &["roost: ", "/no/such/program"]);
    let ran = roost(&cluster.endpoints(), &[&["--json"], &args[..]].concat()).await;
    ran.fails_in_one_line(127, &[r#"{"code":"local""#, "/no/such/program"]);
    assert!(provider(&client, "127.0.0.1:9003").await.is_none());
    // A session that was being opened when the command ended goes at its timeout.
    eventually("no session", async || {
        client.sessions().await.unwrap().sessions.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_whose_keeper_is_killed_goes_and_one_whose_command_is_killed_goes_at_once() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client_from(0);
    let mut keeper = run(&cluster, "kept", &["--addr", "127.0.0.1:9001"], "exec sleep 600");
    let mut other = run(&cluster, "other", &["--addr", "127.0.0.1:9002"], "exec sleep 600");
    for id in ["127.0.0.1:9001", "127.0.0.1:9002"] {
        eventually("the provider", async || provider(&client, id).await).await;
    }
    let command = Stranger(pid(&cluster, "kept").await);
    keeper.kill9();
    eventually("the timeout of its session", async || {
        provider(&client, "127.0.0.1:9001").await.is_none().then_some(())
    })
    .await;
    assert!(is_running(command.0), "the command itself goes on");
    assert!(provider(&client, "127.0.0.1:9002").await.is_some(), "the other has not gone");

    send(pid(&cluster, "other").await, Signal::SIGKILL);
    assert_eq!(other.exit().await.code(), Some(128 + 9));
    assert!(provider(&client, "127.0.0.1:9002").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_on_while_the_registry_is_away_and_is_registered_when_it_is_back() {
    let mut cluster = Cluster::start(1).await;
    let client = cluster.client_from(0);
    let mut keeper = run(&cluster, "early", &["--addr", "127.0.0.1:9001"], "exec sleep 600");
    let before = eventually("it", async || provider(&client, "127.0.0.1:9001").await).await;
    cluster.nodes[0].kill9();
    keeper.says("keeping it registered failed").await;
    // What is left of it is undone by hand, so that it has to register again.
    cluster.nodes[0].spawn();
    cluster.nodes[0].ready().await;
    let session = before.session.clone().unwrap();
    let deregister = ["service", "deregister", "web", "127.0.0.1:9001", "--force"];
    assert_eq!(roost(&cluster.endpoints(), &deregister).await.code, 0);
    assert!(keeper.ended().is_none());
    assert!(client.session(&session).await.is_ok(), "a restart costs nobody a session");
    keeper.signal(Signal::SIGINT);
    keeper.exit().await;
    assert!(client.sessions().await.unwrap().sessions.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_starts_it_again_finds_the_registration_its_own() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client_from(0);
    let dir = cluster.dir.path().join("state").display().to_string();
    // Nothing expires here: the second run neither waits for the first one's session nor meets a conflict.
    let args = ["--addr", "127.0.0.1:9001", "--timeout-ms", "600000", "--state-dir", &dir];
    let mut first = run_with(&cluster, "first", &args, "exec sleep 600");
    first.says("registered 127.0.0.1:9001").await;
    let before = provider(&client, "127.0.0.1:9001").await.unwrap();
    let _command = Stranger(pid(&cluster, "first").await);
    first.kill9();
    let mut second = run_with(&cluster, "second", &args, "exec sleep 600");
    second.says("registered 127.0.0.1:9001").await;
    assert!(!second.output().contains("failed"), "{}", second.output());
    let after = provider(&client, "127.0.0.1:9001").await.unwrap();
    assert!(after.session != before.session && after.czxid > before.czxid);
    second.signal(Signal::SIGTERM);
    second.exit().await;
    assert!(provider(&client, "127.0.0.1:9001").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_nobody_registers_is_ended_where_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'echo told to end; exit 0' TERM; while :; do sleep 0.1; done";
    let args = ["run", "--service", "web", "--addr", "127.0.0.1:9001"];
    let args =
        [&args[..], &["--exit-if-cannot-register", "300ms", "--", "sh", "-c", script]].concat();
    // Nobody listens at port 1 of an address of the loopback network that nobody uses.
    let mut keeper = Process::roost(&args, "127.255.255.254:1", &log_in(dir.path(), "keeper.log"));
    assert_eq!(keeper.exit().await.code(), Some(1), "{}", keeper.output());
    let said = "not registered within 300 ms, so the command was ended: unreachable";
    assert!(keeper.output().contains(said), "{}", keeper.output());
    assert!(keeper.output().contains("told to end"), "{}", keeper.output());
}
