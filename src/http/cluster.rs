use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Door;
use super::answer;
use super::body::Json;
use super::error::Failed;
use super::extract::Params;
use super::znodes::NoParams;
use crate::limits::NODE_ID_MAX;
use crate::types::Member;
use crate::types::{NodeId, Zxid};

/// A node of the cluster and where it is.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewMember)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberBody {
    /// 1 to 255, and never used for another node before.
    node: u64,
    /// `host:port` where other nodes reach it.
    peer_addr: String,
    /// `host:port` where clients reach it.
    http_addr: String,
    /// `host:port` where ZooKeeper clients reach it, if it serves them.
    zk_addr: Option<String>,
}

impl MemberBody {
    fn member(self) -> Result<Member, Failed> {
        let MemberBody { node, peer_addr, http_addr, zk_addr } = self;
        check_node(node)?;
        let zk = zk_addr.as_ref().map(|addr| ("zk_addr", addr));
        for (name, addr) in
            [("peer_addr", &peer_addr), ("http_addr", &http_addr)].into_iter().chain(zk)
        {
            let port = addr.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
            if !matches!(port, Some((host, Ok(1..))) if !host.is_empty()) {
                return Err(Failed::bad_arguments(format!(
                    "{name} is {addr:?}: expected host:port"
                )));
            }
        }
        Ok(Member { node, peer_addr, http_addr, zk_addr })
    }
}

fn check_node(node: NodeId) -> Result<NodeId, Failed> {
    match node {
        1..=NODE_ID_MAX => Ok(node),
        _ => Err(Failed::bad_arguments(format!("node is {node}: it must be 1 to {NODE_ID_MAX}"))),
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Cluster)]
pub(crate) struct ClusterBody {
    /// 32 hex digits; null before the node belongs to a cluster.
    cluster_id: Option<String>,
    /// The node that answers.
    node: u64,
    /// Null while there is none that the node knows of.
    leader: Option<u64>,
    term: u64,
    /// What the node is: `leader`, `follower`, `candidate`, `learner` …
    #[schema(value_type = String)]
    state: &'static str,
    members: Vec<MemberStatusBody>,
    /// Index of the last entry in the node's log.
    last_log: Option<u64>,
    /// Index up to which the log is committed, as the node knows.
    committed: Option<u64>,
    /// Index up to which the node has applied it.
    applied: Option<u64>,
    /// Index that the node's latest snapshot covers.
    snapshot: Option<u64>,
    /// Index up to which the node has dropped its log.
    purged: Option<u64>,
    zxid: u64,
    /// 16 hex digits, equal on all nodes at equal zxids.
    digest: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub(crate) struct MemberStatusBody {
    node: u64,
    peer_addr: String,
    http_addr: String,
    /// Null for a member that does not serve ZooKeeper clients.
    zk_addr: Option<String>,
    /// `voter` or `learner`.
    #[schema(value_type = String)]
    role: &'static str,
    /// Index up to which the leader knows the member's log to equal its own.
    matched: Option<u64>,
    /// Entries that the member lacks, as the leader knows.
    lag: Option<u64>,
}

/// Shows the cluster as this node and its leader see it.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster",
    responses((status = 200, description = "The cluster", body = ClusterBody)))]
pub(crate) async fn get_cluster(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Failed> {
    let status = door.node().cluster().await?;
    let members = status.members.into_iter().map(|member| MemberStatusBody {
        node: member.member.node,
        peer_addr: member.member.peer_addr,
        http_addr: member.member.http_addr,
        zk_addr: member.member.zk_addr,
        role: if member.voter { "voter" } else { "learner" },
        matched: member.matched,
        lag: member.lag,
    });
    let body = ClusterBody {
        cluster_id: status.cluster_id.map(cluster_id),
        node: status.node,
        leader: status.leader,
        term: status.term,
        state: status.state,
        members: members.collect(),
        last_log: status.last_log,
        committed: status.committed,
        applied: status.applied,
        snapshot: status.snapshot,
        purged: status.purged,
        zxid: status.zxid.0,
        digest: status.digest.to_string(),
    };
    Ok(answer::json_at(StatusCode::OK, status.zxid, &body))
}

fn cluster_id(id: u128) -> String {
    format!("{id:032x}")
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = InitCluster)]
#[serde(deny_unknown_fields)]
pub(crate) struct InitBody {
    members: Vec<MemberBody>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClusterInitialized)]
pub(crate) struct InitializedBody {
    /// 32 hex digits.
    cluster_id: String,
    zxid: u64,
}

/// Makes a new cluster of these voters, of which this node must be one.
#[utoipa::path(post, path = "/v1/cluster/init", tag = "cluster", request_body = InitBody,
    responses((status = 200, description = "The cluster exists", body = InitializedBody)))]
pub(crate) async fn init_cluster(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    Json(body): Json<InitBody>,
) -> Result<Response, Failed> {
    let mut members = Vec::with_capacity(body.members.len());
    for (index, member) in body.members.into_iter().enumerate() {
        members.push(member.member().map_err(|failed| failed.in_item(index))?);
    }
    let id = door.node().id();
    if !members.iter().any(|member| member.node == id) {
        return Err(Failed::bad_arguments(format!(
            "this is node {id}, which is not among the members"
        )));
    }
    members.sort_by_key(|member| member.node);
    if members.windows(2).any(|pair| pair[0].node == pair[1].node) {
        return Err(Failed::bad_arguments("two members have the same node id"));
    }
    let cluster = cluster_id(door.node().init(members).await?);
    let zxid = door.node().local().zxid();
    let body = InitializedBody { cluster_id: cluster, zxid: zxid.0 };
    Ok(answer::json_at(StatusCode::OK, zxid, &body))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NodeName)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeBody {
    node: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MemberDone)]
pub(crate) struct MemberDoneBody {
    /// The node that it was about.
    node: u64,
    zxid: u64,
}

fn member_done(door: &Door, node: NodeId) -> Response {
    let zxid: Zxid = door.node().local().zxid();
    answer::json_at(StatusCode::OK, zxid, &MemberDoneBody { node, zxid: zxid.0 })
}

/// Adds a learner and waits until it has caught up.
#[utoipa::path(post, path = "/v1/cluster/learners", tag = "cluster", request_body = MemberBody,
    responses((status = 200, description = "It is a member and has caught up", body = MemberDoneBody)))]
pub(crate) async fn add_learner(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    Json(body): Json<MemberBody>,
) -> Result<Response, Failed> {
    let member = body.member()?;
    let node = member.node;
    door.node().add_learner(member).await?;
    Ok(member_done(&door, node))
}

/// Makes a learner a voter.
#[utoipa::path(post, path = "/v1/cluster/promote", tag = "cluster", request_body = NodeBody,
    responses((status = 200, description = "It is a voter", body = MemberDoneBody)))]
pub(crate) async fn promote_node(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    Json(body): Json<NodeBody>,
) -> Result<Response, Failed> {
    let node = check_node(body.node)?;
    door.node().promote(node).await?;
    Ok(member_done(&door, node))
}

/// Removes a member.
#[utoipa::path(post, path = "/v1/cluster/remove", tag = "cluster", request_body = NodeBody,
    responses((status = 200, description = "It is no member any more", body = MemberDoneBody)))]
pub(crate) async fn remove_node(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    Json(body): Json<NodeBody>,
) -> Result<Response, Failed> {
    let node = check_node(body.node)?;
    door.node().remove(node).await?;
    Ok(member_done(&door, node))
}

/// Hands leadership over.
#[utoipa::path(post, path = "/v1/cluster/transfer", tag = "cluster", request_body = NodeBody,
    responses((status = 200, description = "It leads", body = MemberDoneBody)))]
pub(crate) async fn transfer_leadership(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    Json(body): Json<NodeBody>,
) -> Result<Response, Failed> {
    let node = check_node(body.node)?;
    door.node().transfer(node).await?;
    Ok(member_done(&door, node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_needs_an_id_in_range_and_addresses_with_ports() {
        let member = |node, peer: &str, http: &str| {
            MemberBody { node, peer_addr: peer.into(), http_addr: http.into(), zk_addr: None }
                .member()
        };
        assert!(member(255, "a:1", "[::1]:65535").is_ok());
        for (node, peer, http, word) in [
            (0, "a:1", "b:1", "node is 0"),
            (256, "a:1", "b:1", "node is 256"),
            (1, "a", "b:1", "peer_addr"),
            (1, ":1", "b:1", "peer_addr"),
            (1, "a:1", "b:0", "http_addr"),
            (1, "a:1", "b:65536", "http_addr"),
        ] {
            let failed = member(node, peer, http).unwrap_err();
            assert!(failed.parts().1.message.contains(word), "{}", failed.parts().1.message);
        }
    }
}
