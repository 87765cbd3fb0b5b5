//! How a cluster begins, grows, shrinks, and whom it keeps out.

use roost::peer::MemoryLinks;
use roost::types::{Error, NodeId};

use crate::harness::{Cluster, Setup, eventually};
use crate::ops::{create, done, request};

fn setup(seed: u64) -> Setup {
    Setup { seed, ..Setup::default() }
}

/// Returns why something was refused.
fn reason<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Refused(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

/// Returns the voters and the learners as the leader knows them.
async fn members(cluster: &Cluster) -> (Vec<NodeId>, Vec<NodeId>) {
    let leader = cluster.leader().await;
    let members = cluster.node(leader).cluster().await.unwrap().members;
    let (voters, learners): (Vec<_>, Vec<_>) = members.into_iter().partition(|one| one.voter);
    let ids = |members: Vec<roost::types::MemberStatus>| {
        members.into_iter().map(|one| one.member.node).collect()
    };
    (ids(voters), ids(learners))
}

/// Asks for a change of the membership through a node, again while there is no leader to do it.
async fn change(cluster: &Cluster, change: impl AsyncFn(roost::node::Node) -> Result<(), Error>) {
    eventually("the membership is changed", async || {
        let leader = cluster.leader().await;
        let through = cluster.reachable().into_iter().find(|node| node.id() != leader)?;
        match change(through).await {
            Ok(()) => Some(()),
            Err(Error::NoLeader) => None,
            Err(err) => panic!("{err}"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_as_learners_become_voters_lead_and_go() {
    let cluster = Cluster::start(3, setup(81)).await;
    done(&cluster.node(1), request(create("/before", b""))).await;
    let fourth = cluster.boot(4).await;
    assert_eq!(fourth.submit(request(create("/x", b""))).await, Err(Error::NotInitialized));
    let member = cluster.member(4);
    change(&cluster, async |node| node.add_learner(member.clone()).await).await;
    assert_eq!(members(&cluster).await, (vec![1, 2, 3], vec![4]));
    let again = cluster.node(1).add_learner(cluster.member(4)).await;
    assert_eq!(reason(again), "node 4 is a member already");
    done(&fourth, request(create("/through-the-learner", b""))).await;

    change(&cluster, async |node| node.promote(4).await).await;
    assert_eq!(members(&cluster).await, (vec![1, 2, 3, 4], vec![]));
    assert!(reason(cluster.node(1).promote(9).await).contains("add it as a learner first"));
    change(&cluster, async |node| node.transfer(4).await).await;
    assert_eq!(cluster.leader().await, 4);
    assert!(reason(cluster.node(1).transfer(9).await).contains("not a voter"));

    change(&cluster, async |node| node.remove(1).await).await;
    cluster.stop(1).await;
    assert_eq!(members(&cluster).await, (vec![2, 3, 4], vec![]));
    change(&cluster, async |node| node.remove(4).await).await;
    cluster.stop(4).await;
    assert_eq!(members(&cluster).await, (vec![2, 3], vec![]));
    done(&cluster.node(2), request(create("/after", b""))).await;
    let tree = cluster.settled().await;
    for path in ["/before", "/through-the-learner", "/after"] {
        assert!(tree.get(path).is_some(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_initialised_once_and_takes_no_member_of_another() {
    let links = MemoryLinks::default();
    let one = Cluster::empty(links.clone(), Setup { name: "one", ..setup(82) });
    let two = Cluster::empty(links, Setup { name: "two", ..setup(82) });
    one.boot(1).await;
    two.boot(2).await;
    two.boot(3).await;
    let without_itself = one.node(1).init(vec![two.member(2)]).await;
    assert!(reason(without_itself).contains("must be one of the members"));
    let id = one.init([1]).await.unwrap();
    one.leader().await;
    assert!(reason(one.init([1]).await).contains("belongs to a running cluster already"));

    let foreign = vec![two.member(2), one.member(1)];
    let why = reason(two.on(2, |node| async move { node.init(foreign).await }).await);
    assert!(why.contains(&format!("{id:032x}")), "{why}");
    two.init([2, 3]).await.expect("what was half done is completed");
    two.leader().await;
    let invited = two.member(2);
    let why = reason(one.on(1, |node| async move { node.add_learner(invited).await }).await);
    assert!(why.contains("belongs to cluster"), "{why}");
    done(&one.node(1), request(create("/one", b""))).await;
    assert!(two.settled().await.get("/one").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_secret_is_refused_with_the_reason() {
    let cluster = Cluster::start(1, setup(83)).await;
    let other = Setup { secret: b"a quite different secret", ..setup(83) };
    cluster.boot_with(2, &other).await;
    let member = cluster.member(2);
    let why = reason(cluster.on(1, |node| async move { node.add_learner(member).await }).await);
    assert!(why.contains("secret"), "{why}");
    assert_eq!(members(&cluster).await, (vec![1], vec![]));
    assert_eq!(cluster.node(2).cluster_id(), None);
}
