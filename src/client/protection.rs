use reqwest::Method;
use serde_json::{Value, json};

use super::call::Call;
use super::error::Error;
use super::request::Client;

impl Client {
    /// Returns the sessions whose end is put off behind this one, and how the services stand, as the door shows them.
    pub async fn protection(&self, after: Option<&str>) -> Result<Value, Error> {
        self.send(&Call::read("/v1/protection".to_owned()).param("after", after)).await
    }

    /// Confirms the end of sessions which is put off: `what` is `session`, `service` or `all` with its value. Errors:
    /// `no_node` for a session that is not suspect; `no_auth`.
    pub async fn confirm_removal(&self, what: (&str, Value), reason: &str) -> Result<Value, Error> {
        let call = Call::write(Method::POST, "/v1/protection/confirm".to_owned());
        let (key, value) = what;
        self.send(&call.json(&json!({ key: value, "reason": reason }))).await
    }
}
