use serde_json::Value;

use super::call::Call;
use super::error::Error;
use super::request::Client;

impl Client {
    /// Returns who has switched what, as the node that answers has it in memory; see docs/OPERATIONS.md.
    pub async fn audit(&self, after: u64, limit: Option<usize>) -> Result<Value, Error> {
        let call = Call::read("/v1/audit".to_owned());
        self.send(&call.param("after", Some(after)).param("limit", limit)).await
    }
}
