use std::time::Duration;

use reqwest::Method;

use super::call::{Call, Repeat, encode_path};
use super::error::Error;
use super::model::{Done, Drain, Drained, Registered, Registration, Service, Services, Versions};
use super::request::Client;
use super::znodes::ReadOptions;
use crate::limits::POLL_WAIT_MS_MAX;

/// Encodes a name that is one element of a path: a slash in it does not begin another.
pub(super) fn element(name: &str) -> String {
    encode_path(name).replace('/', "%2F")
}

/// Returns the call that announces that somebody leaves, and waits as long as it says.
fn draining(path: String, drain: &Drain) -> Call {
    let wait_ms = match drain.wait.as_str() {
        "none" => 0,
        _ => {
            drain.wait_ms.unwrap_or(drain.deadline_ms).min(drain.deadline_ms).min(POLL_WAIT_MS_MAX)
        }
    };
    Call { wait: Duration::from_millis(wait_ms), ..Call::write(Method::POST, path) }
}

impl Client {
    /// Returns where the services of the client's namespace are.
    fn services_url(&self) -> String {
        match self.namespace() {
            "" => "/v1/services".to_owned(),
            namespace => format!("/v1/ns/{}/services", element(namespace)),
        }
    }

    /// Returns where one of them is.
    fn service_url(&self, name: &str) -> String {
        format!("{}/{}", self.services_url(), element(name))
    }

    /// Returns where a provider of one of them is.
    fn provider_url(&self, service: &str, id: &str) -> String {
        format!("{}/providers/{}", self.service_url(service), element(id))
    }

    /// Returns all services with their numbers of providers and consumers, fetched in pages.
    pub async fn services(&self) -> Result<Services, Error> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page: Services =
                self.send(&Call::read(self.services_url()).param("after", after.take())).await?;
            all.extend(page.services);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(Services { services: all, next: None, zxid: page.zxid }),
            }
        }
    }

    /// Returns a service with its providers and consumers. Error: `no_node`.
    pub async fn service(&self, name: &str) -> Result<Service, Error> {
        self.send(&Call::read(self.service_url(name))).await
    }

    /// Returns a service as current as asked. Error: `no_node`.
    pub async fn service_with(&self, name: &str, options: ReadOptions) -> Result<Service, Error> {
        self.send(&options.apply(Call::read(self.service_url(name)))).await
    }

    /// Returns revision and sign of the lists of these services, in all layouts together: whether it makes sense to fetch them
    /// again. Those that may not be followed are named.
    pub async fn versions(&self, services: &[String]) -> Result<Versions, Error> {
        let call = Call::new(Method::POST, "/v1/versions".to_owned(), Repeat::Read);
        let asked = serde_json::json!({ "services": services, "namespace": self.namespace() });
        self.send(&call.json(&asked)).await
    }

    /// Registers a provider, bound to the session that the client was made
    /// [`with_session`](Client::with_session); the same session may register again with other data. Errors:
    /// `node_exists` (another session holds the id), `session_expired`.
    pub async fn register(
        &self,
        service: &str,
        registration: &Registration,
    ) -> Result<Registered, Error> {
        let call = Call::write(Method::POST, self.service_url(service) + "/providers");
        self.send(&call.json(registration)).await
    }

    /// Deregisters a provider: the session's own, or with `force` any. Errors: `no_node`, `no_auth`.
    pub async fn deregister(&self, service: &str, id: &str, force: bool) -> Result<Done, Error> {
        let path = self.provider_url(service, id);
        self.send(&Call::write(Method::DELETE, path).param("force", force.then_some(true))).await
    }

    /// Announces that a provider leaves, and returns how many subscribers know. The client's timeout has to be longer than what
    /// the answer waits. Where an endpoint is lost meanwhile the next one is asked, and the deadline begins anew. Errors: `no_node`, `no_auth`; `not_found` or `method_not_allowed` from a server that does not know how.
    pub async fn drain(&self, service: &str, id: &str, drain: &Drain) -> Result<Drained, Error> {
        let path = self.provider_url(service, id) + "/drain";
        self.send(&draining(path, drain).json(drain)).await
    }

    /// [`drain`](Client::drain) for a registration of any layout, by its path.
    pub async fn drain_instance(&self, path: &str, drain: &Drain) -> Result<Drained, Error> {
        let mut body =
            serde_json::to_value(drain).map_err(|err| Error::Invalid(err.to_string()))?;
        body["instance"] = path.into();
        self.send(&draining("/v1/drain".to_owned(), drain).json(&body)).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Drain, draining};

    #[test]
    fn who_is_asked_to_wait_is_given_the_time_for_it_before_another_is_asked() {
        let share_ms = |wait: &str, deadline_ms, wait_ms, left_ms| {
            let drain = Drain { deadline_ms, wait: wait.to_owned(), wait_ms, reason: None };
            draining(String::new(), &drain).share_of(Duration::from_millis(left_ms)).as_millis()
        };
        // As `roost drain` asks, and then as the SDK does, which leaves no time for a second endpoint.
        assert_eq!(share_ms("all_subscribers", 30_000, Some(30_000), 40_000), 35_000);
        assert_eq!(share_ms("all_subscribers", 11_000, Some(9_000), 10_000), 10_000);
        assert_eq!(share_ms("all_subscribers", 20_000, None, 40_000), 30_000);
        assert_eq!(share_ms("all_subscribers", 3_600_000, None, 70_000), 65_000);
        assert_eq!(share_ms("none", 30_000, Some(30_000), 40_000), 20_000);
        assert_eq!(share_ms("none", 30_000, None, 1_500), 1_000);
        assert_eq!(share_ms("none", 30_000, None, 500), 500);
    }
}
