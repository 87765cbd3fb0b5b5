use reqwest::Method;
use serde_json::json;

use super::call::{Call, encode_path};
use super::error::Error;
use super::model::{ClosedSession, OpenedSession, RenewedSession, SessionDetail, Sessions};
use super::request::Client;

/// Returns the URL of the session that a token belongs to. A token is the session's id, a dot, and a secret.
fn token_path(token: &str) -> Result<String, Error> {
    match token.split_once('.') {
        Some((session, _)) => Ok(session_path(session)),
        None => Err(Error::Invalid("a session's token is its id, a dot and a secret".to_owned())),
    }
}

fn session_path(session: &str) -> String {
    format!("/v1/sessions/{}", encode_path(session))
}

impl Client {
    /// Opens a session. The cluster moves the timeout into its range; the answer says to what.
    pub async fn open_session(&self, timeout_ms: u64) -> Result<OpenedSession, Error> {
        let call = Call::write(Method::POST, "/v1/sessions".to_owned());
        self.send(&call.json(&json!({ "timeout_ms": timeout_ms }))).await
    }

    /// Renews the session of a token. Error: `session_expired`, only said after its ephemerals are gone.
    pub async fn renew_session(&self, token: &str) -> Result<RenewedSession, Error> {
        self.with_session(token).send(&Call::write(Method::PUT, token_path(token)?)).await
    }

    /// Closes the session of a token: its ephemerals are gone when this returns. Error: `session_expired`.
    pub async fn close_session(&self, token: &str) -> Result<ClosedSession, Error> {
        self.with_session(token).send(&Call::write(Method::DELETE, token_path(token)?)).await
    }

    /// Returns all sessions, fetched in pages.
    pub async fn sessions(&self) -> Result<Sessions, Error> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page: Sessions = self
                .send(&Call::read("/v1/sessions".to_owned()).param("after", after.take()))
                .await?;
            all.extend(page.sessions);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(Sessions { sessions: all, next: None, zxid: page.zxid }),
            }
        }
    }

    /// Returns one session, by its id `0x…`, with the paths of its ephemerals. Error: `session_expired`.
    pub async fn session(&self, session: &str) -> Result<SessionDetail, Error> {
        self.send(&Call::read(session_path(session))).await
    }
}
