//! The verbs on the cluster itself.

use std::time::Duration;

use serde_json::json;

use super::Context;
use super::args::JoinArgs;
use super::output::{Failure, status_table};
use crate::client::model::{DigestAnswer, Member};
use crate::client::{Client, Error};

/// How long each member is given to say its digest.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a new member is given to catch up, at least.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) async fn init(context: &Context, members: &[Member]) -> Result<(), Failure> {
    let answer = context.client.init_cluster(members).await?;
    let ids: Vec<String> = members.iter().map(|member| member.node.to_string()).collect();
    let text = format!("initialized, voters: {}\n", ids.join(", "));
    context.output.result(&answer, || text.into_bytes())
}

pub(super) async fn join(context: &Context, args: &JoinArgs) -> Result<(), Failure> {
    let member = Member {
        node: args.node,
        peer_addr: args.peer.clone(),
        http_addr: args.http.clone(),
        zk_addr: args.zk.clone(),
    };
    let patient = context.client.with_timeout(context.client.timeout().max(CATCH_UP_TIMEOUT));
    patient.add_learner(&member).await?;
    if !args.learner {
        patient.promote(args.node).await?;
    }
    let role = if args.learner { "learner" } else { "voter" };
    let value = json!({ "node": args.node, "role": role });
    context.output.result(&value, || format!("node {} is a {role}\n", args.node).into_bytes())
}

pub(super) async fn leave(context: &Context, node: u64) -> Result<(), Failure> {
    let answer = context.client.remove_member(node).await?;
    context.output.result(&answer, || format!("node {node} is no longer a member\n").into_bytes())
}

pub(super) async fn promote(context: &Context, node: u64) -> Result<(), Failure> {
    let answer = context.client.promote(node).await?;
    context.output.result(&answer, || format!("node {node} is a voter\n").into_bytes())
}

pub(super) async fn transfer(context: &Context, to: u64) -> Result<(), Failure> {
    let answer = context.client.transfer_leader(to).await?;
    context.output.result(&answer, || format!("node {to} leads\n").into_bytes())
}

pub(super) async fn status(context: &Context) -> Result<(), Failure> {
    let cluster = context.client.cluster().await?;
    let asked = cluster.members.iter().map(|status| digest_of(&status.member));
    let digests: Vec<Result<DigestAnswer, Error>> = futures::future::join_all(asked).await;
    let nodes: Vec<_> = cluster
        .members
        .iter()
        .zip(&digests)
        .map(|(status, digest)| match digest {
            Ok(digest) => json!(digest),
            Err(error) => {
                json!({ "node": status.member.node, "code": error.code(), "message": error.message() })
            }
        })
        .collect();
    let value = json!({ "cluster": cluster, "nodes": nodes });
    context.output.result(&value, || {
        let digests: Vec<_> = digests
            .into_iter()
            .map(|digest| digest.map_err(|error| error.code().to_owned()))
            .collect();
        status_table(&cluster, &digests).into_bytes()
    })
}

/// Asks one member, at its own address, for its own state.
async fn digest_of(member: &Member) -> Result<DigestAnswer, Error> {
    let client = Client::new(vec![member.http_addr.clone()])?.with_timeout(MEMBER_TIMEOUT);
    client.impatient().digest().await
}
