use reqwest::Method;
use serde_json::Value;

use super::call::Call;
use super::error::Error;
use super::model::{Done, PolicySet};
use super::request::Client;
use super::services::element;

impl Client {
    /// Returns the policies, all or those of one kind, as the door shows them.
    pub async fn policies(&self, kind: Option<&str>) -> Result<Value, Error> {
        self.send(&Call::read("/v1/policies".to_owned()).param("kind", kind)).await
    }

    /// Returns one policy as the door shows it. Error: `no_node`.
    pub async fn policy(&self, kind: &str, name: &str) -> Result<Value, Error> {
        self.send(&Call::read(path(kind, name))).await
    }

    /// Sets a policy. Error: `bad_arguments`, which names the field and what is wrong with it.
    pub async fn set_policy(
        &self,
        kind: &str,
        name: &str,
        policy: &Value,
    ) -> Result<PolicySet, Error> {
        self.send(&Call::write(Method::PUT, path(kind, name)).json(policy)).await
    }

    /// Removes a policy, saying why to whoever reads the audit. Errors: `no_node`; `refused` for one that is built in.
    pub async fn remove_policy(
        &self,
        kind: &str,
        name: &str,
        reason: Option<&str>,
    ) -> Result<Done, Error> {
        let call = Call::write(Method::DELETE, path(kind, name));
        self.send(&call.param("reason", reason)).await
    }

    /// Checks a policy, or asks the policies about a write, without changing anything; see docs/HTTP.md.
    pub async fn test_policy(&self, wanted: &Value) -> Result<Value, Error> {
        let call = Call::write(Method::POST, "/v1/policies/test".to_owned());
        self.send(&call.json(wanted)).await
    }
}

fn path(kind: &str, name: &str) -> String {
    format!("/v1/policies/{}/{}", element(kind), element(name))
}
