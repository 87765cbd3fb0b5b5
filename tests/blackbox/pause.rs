//! SIGSTOP: a paused leader, or a paused cluster, costs nobody a session that did its part. The rule is the fourth of
//! `roost::session`.

use std::time::Duration;

use nix::sys::signal::Signal;
use roost::client::Client;
use roost::client::model::{Create, Mode, OpenedSession};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::harness::{Cluster, eventually};

const TIMEOUT_MS: u64 = 3_000;
const TIMEOUT: Duration = Duration::from_millis(TIMEOUT_MS);
/// Of the sessions that speak through the paused leader alone. Nobody hears of them in the meantime, so all that they have
/// is the timeout which the next leader gives them: were it as long as the pause, they would have to be heard of within an
/// election after it, and a busy machine does not manage that.
const HELD_MS: u64 = 4 * TIMEOUT_MS;

/// Opens a session through this client, with one ephemeral.
async fn open(client: &Client, path: &str, timeout_ms: u64) -> OpenedSession {
    let opened = client.open_session(timeout_ms).await.unwrap();
    assert_eq!(opened.timeout_ms, timeout_ms);
    let create = Create { path: path.into(), mode: Mode::Ephemeral, ..Create::default() };
    client.with_session(&opened.token).create(&create).await.unwrap();
    opened
}

/// Renews a session six times per timeout, for as long as it is not aborted; ends at an error.
fn keep(client: Client, token: String) -> JoinHandle<roost::client::Error> {
    tokio::spawn(async move {
        loop {
            if let Err(error) = client.renew_session(&token).await {
                return error;
            }
            // As a client does between its renewals.
            sleep(TIMEOUT / 6).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_4_a_leader_paused_for_longer_than_the_timeouts_costs_nobody_a_session() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let paused = &cluster.nodes[leader];
    let elsewhere = [1, 2].map(|offset| cluster.nodes[(leader + offset) % 3].client());
    let mut keepers = Vec::new();
    for index in 0..10 {
        let client = elsewhere[index % 2].clone();
        let session = open(&client, &format!("/elsewhere-{index}"), TIMEOUT_MS).await;
        keepers.push(keep(client, session.token));
    }
    let mut held = Vec::new();
    for index in 0..5 {
        let session = open(&paused.client(), &format!("/held-{index}"), HELD_MS).await;
        held.push((paused.client(), session));
    }
    paused.process.as_ref().unwrap().signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    let pending: Vec<_> = held
        .iter()
        .map(|(client, session)| {
            let (client, token) =
                (client.with_timeout(Duration::from_secs(40)), session.token.clone());
            tokio::spawn(async move { client.renew_session(&token).await })
        })
        .collect();
    eventually("another leader", async || {
        let cluster = elsewhere[0].cluster().await.ok()?;
        (cluster.leader.is_some() && cluster.leader != Some(paused.id)).then_some(())
    })
    .await;
    // The pause is what is tested, and its length is what matters.
    tokio::time::sleep_until(stopped + TIMEOUT + TIMEOUT / 20).await;
    paused.process.as_ref().unwrap().signal(Signal::SIGCONT);

    for pending in pending {
        pending.await.unwrap().expect("nobody may expire");
    }
    for keeper in keepers {
        assert!(!keeper.is_finished(), "{}", keeper.await.unwrap());
        keeper.abort();
    }
    for index in 0..10 {
        let path = format!("/elsewhere-{index}");
        elsewhere[0].get(&path, Default::default()).await.expect("nobody may expire");
    }
    for index in 0..5 {
        let path = format!("/held-{index}");
        elsewhere[0].get(&path, Default::default()).await.expect("nobody may expire");
    }
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_4_a_cluster_paused_for_longer_than_the_timeouts_expires_nobody() {
    let mut cluster = Cluster::start(3).await;
    let mut sessions = Vec::new();
    for index in 0..9 {
        let client = cluster.nodes[index % 3].client();
        sessions.push((open(&client, &format!("/e{index}"), TIMEOUT_MS).await, client));
    }
    for (session, client) in &sessions {
        client.renew_session(&session.token).await.unwrap();
    }
    for node in &cluster.nodes {
        node.process.as_ref().unwrap().signal(Signal::SIGSTOP);
    }
    // The pause is what is tested, and its length is what matters.
    sleep(2 * TIMEOUT).await;
    // All are sent before any node goes on, and answered after it.
    let renewals: Vec<_> = sessions
        .iter()
        .map(|(session, client)| {
            let (client, token) =
                (client.with_timeout(Duration::from_secs(40)), session.token.clone());
            tokio::spawn(async move { client.renew_session(&token).await })
        })
        .collect();
    for node in &cluster.nodes {
        node.process.as_ref().unwrap().signal(Signal::SIGCONT);
    }
    for renewal in renewals {
        renewal.await.unwrap().expect("nobody may expire");
    }
    cluster.all_ready().await;
    for index in 0..9 {
        let client = cluster.client_from(index % 3);
        client.get(&format!("/e{index}"), Default::default()).await.expect("nobody may expire");
    }
    cluster.agree().await;
}
