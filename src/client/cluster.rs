use reqwest::Method;
use serde_json::{Value, json};

use super::call::{Call, Repeat};
use super::error::Error;
use super::model::{Cluster, DigestAnswer, Member};
use super::request::Client;

impl Client {
    /// Returns the cluster as one node sees it, with the leader's knowledge of the members' progress.
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.send(&Call::read("/v1/cluster".to_owned())).await
    }

    /// Returns zxid and digest of the answering node's own state.
    pub async fn digest(&self) -> Result<DigestAnswer, Error> {
        self.send(&Call::read("/v1/digest".to_owned())).await
    }

    /// Returns without error when the answering node knows a leader and has caught up.
    pub async fn ready(&self) -> Result<(), Error> {
        self.send_for_bytes(&Call::read("/readyz".to_owned())).await.map(|_| ())
    }

    /// Bootstraps a new cluster of these voters; the node that is asked must be one of them. Returns the
    /// answer's JSON. Error: `refused` when there is a cluster already.
    pub async fn init_cluster(&self, members: &[Member]) -> Result<Value, Error> {
        self.cluster_post("init", &json!({ "members": members })).await
    }

    /// Adds a learner and returns when it has caught up, which may take longer than the usual timeout.
    pub async fn add_learner(&self, member: &Member) -> Result<Value, Error> {
        self.cluster_post("learners", &json!(member)).await
    }

    /// Makes a learner a voter.
    pub async fn promote(&self, node: u64) -> Result<Value, Error> {
        self.cluster_post("promote", &json!({ "node": node })).await
    }

    /// Removes a member.
    pub async fn remove_member(&self, node: u64) -> Result<Value, Error> {
        self.cluster_post("remove", &json!({ "node": node })).await
    }

    /// Hands leadership to this node.
    pub async fn transfer_leader(&self, node: u64) -> Result<Value, Error> {
        self.cluster_post("transfer", &json!({ "node": node })).await
    }

    async fn cluster_post(&self, what: &str, body: &Value) -> Result<Value, Error> {
        let call = Call::new(Method::POST, format!("/v1/cluster/{what}"), Repeat::Never);
        let bytes = self.send_for_bytes(&call.json(body)).await?;
        // What these answer beside their success is of no interest to the caller; it may be nothing.
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|_| json!({})))
    }
}
