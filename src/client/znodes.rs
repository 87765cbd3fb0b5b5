use reqwest::Method;
use serde_json::json;

use super::call::{Call, encode_path};
use super::error::Error;
use super::model::{
    AclOf, AclRule, Changed, Children, Create, Created, Done, Mode, MultiDone, MultiOp, Znode,
};
use super::request::Client;

/// How current a read has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOptions {
    /// At least the state at the moment of the call; needs a quorum.
    #[default]
    Linearizable,
    /// The node's own state, not older than this zxid.
    Sequential {
        /// 0 takes any.
        min_zxid: u64,
    },
    /// The node's own state, also without a quorum.
    Stale,
}

impl ReadOptions {
    pub(super) fn apply(self, call: Call) -> Call {
        match self {
            ReadOptions::Linearizable => call,
            ReadOptions::Sequential { min_zxid } => {
                call.param("consistency", Some("sequential")).param("min_zxid", Some(min_zxid))
            }
            ReadOptions::Stale => call.param("consistency", Some("stale")),
        }
    }
}

fn znode_path(path: &str) -> Result<String, Error> {
    if path.starts_with('/') {
        return Ok(format!("/v1/znodes{}", encode_path(path)));
    }
    Err(Error::Invalid(format!("the path {path:?} does not start with a slash")))
}

/// Returns the rules as one text, joined by commas.
fn acl_text(rules: &[AclRule]) -> String {
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Client {
    /// Returns a znode. Error: `no_node`.
    pub async fn get(&self, path: &str, options: ReadOptions) -> Result<Znode, Error> {
        self.send(&options.apply(Call::read(znode_path(path)?))).await
    }

    /// Returns all children of a znode, sorted by name, fetched in pages; with their data and stats when
    /// asked. Pages may be of different states. Error: `no_node`.
    pub async fn children(
        &self,
        path: &str,
        values: bool,
        stats: bool,
        options: ReadOptions,
    ) -> Result<Children, Error> {
        znode_path(path)?;
        let mut all: Option<Children> = None;
        loop {
            let after = all.as_ref().and_then(|children| children.next.clone());
            let call = Call::read(format!("/v1/children{}", encode_path(path)))
                .param("values", values.then_some(true))
                .param("stats", stats.then_some(true))
                .param("after", after);
            let page: Children = self.send(&options.apply(call)).await?;
            let children = match all.take() {
                Some(mut before) => {
                    before.children.extend(page.children);
                    Children { children: before.children, ..page }
                }
                None => page,
            };
            if children.next.is_none() {
                return Ok(children);
            }
            all = Some(children);
        }
    }

    /// Creates a znode and returns its path as created. [`Mode::Ephemeral`] needs a client
    /// [`with_session`](Client::with_session). Errors: `node_exists`, `no_node` (the parent),
    /// `no_children_for_ephemerals`, `session_expired`.
    pub async fn create(&self, create: &Create) -> Result<Created, Error> {
        let call = Call::write(Method::POST, znode_path(&create.path)?)
            .param("mode", (create.mode != Mode::Persistent).then(|| create.mode.name()))
            .param("sequential", create.sequential.then_some(true))
            .param("ttl_ms", create.ttl_ms)
            .param("parents", create.parents.then_some(true))
            .param("acl", (!create.acl.is_empty()).then(|| acl_text(&create.acl)))
            .raw(create.data.clone());
        self.send(&call).await
    }

    /// Sets a znode's data; with a version, only if that is the present one. Errors: `no_node`,
    /// `bad_version`.
    pub async fn set(
        &self,
        path: &str,
        data: Vec<u8>,
        version: Option<i32>,
    ) -> Result<Changed, Error> {
        let call = Call::write(Method::PUT, znode_path(path)?).raw(data);
        self.send(&Call { if_match: version, ..call }).await
    }

    /// Returns a znode's access control list. Errors: `no_node`, `no_auth`.
    pub async fn acl(&self, path: &str, options: ReadOptions) -> Result<AclOf, Error> {
        znode_path(path)?;
        self.send(&options.apply(Call::read(format!("/v1/acl{}", encode_path(path))))).await
    }

    /// Replaces a znode's access control list; with a version, only if that is the list's present one. Errors:
    /// `no_node`, `no_auth`, `invalid_acl`, `bad_version`.
    pub async fn set_acl(
        &self,
        path: &str,
        acl: &[AclRule],
        aversion: Option<i32>,
    ) -> Result<Changed, Error> {
        znode_path(path)?;
        let call = Call::write(Method::PUT, format!("/v1/acl{}", encode_path(path)));
        self.send(&call.json(&json!({ "acl": acl, "aversion": aversion }))).await
    }

    /// Deletes a znode without children; with a version, only if that is the present one. Errors: `no_node`,
    /// `not_empty`, `bad_version`.
    pub async fn delete(&self, path: &str, version: Option<i32>) -> Result<Done, Error> {
        let call = Call::write(Method::DELETE, znode_path(path)?);
        self.send(&Call { if_match: version, ..call }).await
    }

    /// Carries out all ops or none. Error: the first failing op's, with its `multi_index`.
    pub async fn multi(&self, ops: &[MultiOp]) -> Result<MultiDone, Error> {
        self.send(&Call::write(Method::POST, "/v1/multi".to_owned()).json(&json!({ "ops": ops })))
            .await
    }
}
