//! Commands to a cluster while it is in trouble: each is repeated until the cluster shows that it was done.

use std::time::Duration;

use roost::client::model::{Cluster, Member};
use roost::client::{Client, ReadOptions};
use serde_json::Value;
use tokio::time::sleep;

use crate::target::Place;

/// How long one command may take: a learner has to receive everything first.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// Returns a client of each node but one.
pub(super) fn others(places: &[Place], but: u8) -> Result<Vec<Client>, String> {
    let others = places.iter().filter(|place| place.node != but);
    others.map(|place| Ok(place.observer()?.with_timeout(COMMAND_TIMEOUT))).collect()
}

/// Removes a member, and returns when it is none any more. It may lead: then the others learn of it by its absence.
pub(super) async fn remove(clients: Vec<Client>, id: u64) {
    for client in clients.iter().cycle() {
        if seen(client).await.is_some_and(|cluster| role(&cluster, id).is_none()) {
            return;
        }
        // Whether it worked is seen in the next round.
        let _ = client.remove_member(id).await;
        sleep(PAUSE).await;
    }
}

/// Puts a new member into the place of an old one, and returns when it is a voter.
pub(super) async fn replace(clients: Vec<Client>, old: u64, new: Member) {
    for client in clients.iter().cycle() {
        if let Some(cluster) = seen(client).await {
            let _ = match (role(&cluster, old), role(&cluster, new.node)) {
                // That the leader still has a majority, with the new one counted, is what a read like this proves.
                (None, Some("voter")) if is_heard(client).await => return,
                (None, Some("voter")) => Ok(Value::Null),
                (Some(_), _) => client.remove_member(old).await,
                (None, None) => client.add_learner(&new).await,
                (None, Some(_)) => client.promote(new.node).await,
            };
        }
        sleep(PAUSE).await;
    }
}

/// Hands leadership to a member, and returns when it leads.
pub(super) async fn transfer(clients: Vec<Client>, id: u64) {
    for client in clients.iter().cycle() {
        if client.cluster().await.is_ok_and(|cluster| cluster.leader == Some(id)) {
            return;
        }
        let _ = client.transfer_leader(id).await;
        sleep(PAUSE).await;
    }
}

/// Returns the cluster with its members, if this client's node leads.
async fn seen(client: &Client) -> Option<Cluster> {
    let cluster = client.cluster().await.ok()?;
    let leads = cluster.leader == Some(cluster.node) && !cluster.members.is_empty();
    leads.then_some(cluster)
}

async fn is_heard(client: &Client) -> bool {
    client.get("/", ReadOptions::Linearizable).await.is_ok()
}

fn role(cluster: &Cluster, id: u64) -> Option<&str> {
    let found = cluster.members.iter().find(|status| status.member.node == id);
    found.map(|status| status.role.as_str())
}
