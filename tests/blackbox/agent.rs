//! `roost run --check` and `roost render`: programs that know nothing of roost.

use std::fs;

use nix::sys::signal::Signal;
use roost::client::Client;
use roost::client::model::Registration;
use tokio::net::TcpListener;

use crate::harness::{Cluster, Process, eventually, log_in, roost};

async fn providers(client: &Client, service: &str) -> usize {
    client.service(service).await.map_or(0, |service| service.providers.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_registered_only_while_its_check_passes() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client_from(0);
    let port = cluster.ports.get(10);
    let check = format!("tcp://127.0.0.1:{port}");
    let addr = format!("127.0.0.1:{port}");
    let there = client.in_namespace("red");
    let args = [
        "run",
        "--service",
        "web",
        "--namespace",
        "red",
        "--addr",
        &addr,
        "--check",
        &check,
        "--check-interval",
        "50ms",
        "--check-fail",
        "2/2",
        "--",
        "sleep",
        "600",
    ];
    let mut process =
        Process::roost(&args, &cluster.endpoints(), &log_in(cluster.dir.path(), "run"));
    process.says("the check fails").await;
    assert_eq!(providers(&there, "web").await, 0, "nobody listens yet");
    for round in 1..=2 {
        let listener = TcpListener::bind(&addr).await.unwrap();
        eventually("the provider", async || (providers(&there, "web").await == 1).then_some(()))
            .await;
        assert_eq!(providers(&client, "web").await, 0, "it is of its namespace alone");
        drop(listener);
        eventually("its end", async || (providers(&there, "web").await == 0).then_some(())).await;
        assert!(process.ended().is_none(), "the command itself goes on, round {round}");
    }
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit().await.code(), Some(128 + 15));
    assert!(client.sessions().await.unwrap().sessions.is_empty());

    let wrong = roost(
        "",
        &["run", "--service", "a", "--addr", "a:1", "--check", "udp://a:1", "--", "true"],
    )
    .await;
    assert!(wrong.code == 2 && wrong.err.contains("tcp://host:port"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_changes_at_once_cause_at_most_two_executions_and_the_last_state_is_in_the_file()
{
    let mut cluster = Cluster::start(1).await;
    let client = cluster.client_from(0);
    let dir = cluster.dir.path().to_owned();
    let (template, output, count) = (dir.join("web.j2"), dir.join("web.conf"), dir.join("count"));
    fs::write(&template, "{% for p in service('web') %}\n{{ p.addr }}\n{% endfor %}\n").unwrap();
    let session = client.open_session(60_000).await.unwrap();
    let owner = client.with_session(&session.token).in_namespace("red");
    let at = |port| Registration {
        host: "10.0.0.1".to_owned(),
        port,
        id: Some("one".to_owned()),
        ..Default::default()
    };
    owner.register("web", &at(1)).await.unwrap();

    let path = |path: &std::path::Path| path.display().to_string();
    let exec = format!("echo executed >> {}", path(&count));
    // A quiet time that even a busy machine does not fill between two of the changes.
    let args = [
        "render",
        &path(&template),
        "-o",
        &path(&output),
        "--namespace",
        "red",
        "--exec",
        &exec,
        "--wait-min",
        "2s",
        "--wait-max",
        "50s",
        "--cache",
        &path(&dir.join("cache")),
    ];
    let mut process = Process::roost(&args, &cluster.endpoints(), &log_in(&dir, "render"));
    eventually("the file", async || {
        fs::read_to_string(&output).ok().filter(|text| text == "10.0.0.1:1\n")
    })
    .await;
    eventually("its execution", async || fs::read_to_string(&count).ok()).await;
    for port in 2..=100 {
        owner.register("web", &at(port)).await.unwrap();
    }
    eventually("the last state", async || {
        fs::read_to_string(&output).ok().filter(|text| text == "10.0.0.1:100\n")
    })
    .await;
    eventually("its execution", async || {
        (fs::read_to_string(&count).unwrap().lines().count() > 1).then_some(())
    })
    .await;
    process.signal(Signal::SIGINT);
    assert!(process.exit().await.success());
    let executed = fs::read_to_string(&count).unwrap().lines().count();
    assert!((2..=3).contains(&executed), "{executed} executions, the first one included");

    // While the registry is away the file is made from the cache, and without one not at all.
    cluster.nodes[0].kill9();
    fs::remove_file(&output).unwrap();
    let mut once = vec![
        "render",
        args[1],
        "-o",
        args[3],
        "--namespace",
        "red",
        "--once",
        "--timeout",
        "300ms",
    ];
    let ran = roost(&cluster.endpoints(), &once).await;
    ran.fails_in_one_line(3, &["not all services"]);
    once.extend(["--cache", args[13]]);
    assert_eq!(roost(&cluster.endpoints(), &once).await.code, 0);
    assert_eq!(fs::read_to_string(&output).unwrap(), "10.0.0.1:100\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_is_wrong_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let template = dir.path().join("bad.j2");
    fs::write(&template, "line one\n{% for %}\n").unwrap();
    let (template, output) =
        (template.display().to_string(), dir.path().join("out").display().to_string());
    let ran = roost("127.0.0.1:1", &["render", &template, "-o", &output, "--once"]).await;
    assert!(ran.code == 1 && ran.err.contains("bad.j2:2"), "{ran:?}");
    assert!(!std::path::Path::new(&output).exists());
}
