use reqwest::Method;

use super::call::Call;
use super::error::Error;
use super::model::{Deregistered, Deregistration};
use super::request::Client;

impl Client {
    /// Takes out whatever registrations are meant, in one transaction, and keeps them from coming back if asked to. Errors:
    /// `bad_arguments`, `no_auth` (then nothing is gone).
    pub async fn deregister_all(&self, wish: &Deregistration) -> Result<Deregistered, Error> {
        self.send(&Call::write(Method::POST, "/v1/deregister".to_owned()).json(wish)).await
    }
}
