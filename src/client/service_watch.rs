use serde_json::json;

use super::error::Error;
use super::model::{ServiceEvent, WatchedService};
use super::request::Client;
use super::sse::SseMessage;
use super::stream::{Resumable, Resume, Stream, parse, progress};

/// A subscription to the instances of services that outlives its connections. Dropping it ends it.
#[derive(Debug)]
pub struct ServiceWatch(Stream<ServiceEvent>);

impl Client {
    /// Returns a subscription to up to 200 services, of all layouts: of each first the whole list, or what has changed since
    /// its `since`. Connects at the first [`next`](ServiceWatch::next).
    pub fn watch_services(&self, services: &[WatchedService]) -> ServiceWatch {
        let named = |service: &WatchedService| {
            let mut named = json!(service);
            if !self.namespace().is_empty() {
                named["namespace"] = self.namespace().into();
            }
            named
        };
        let services: Vec<_> = services.iter().map(named).collect();
        let body = json!({ "services": services }).to_string();
        ServiceWatch(Stream::new(self, "/v1/watch".to_owned(), Some(body), None, interpret))
    }
}

impl ServiceWatch {
    /// Returns the zxid up to which everything has been handed out of all services: what `since` of a later watch should be.
    /// `None` before the first lists are complete.
    pub fn since(&self) -> Option<u64> {
        self.0.since()
    }

    /// Returns the next event; waits, reconnects and fails as [`Watch::next`](super::Watch::next) does.
    pub async fn next(&mut self) -> Result<ServiceEvent, Error> {
        self.0.next().await
    }
}

fn interpret(message: &SseMessage) -> Result<Option<Resumable<ServiceEvent>>, Error> {
    let event = match message.event.as_str() {
        "snapshot" => ServiceEvent::Snapshot(parse(message)?),
        "delta" => ServiceEvent::Delta(parse(message)?),
        "reset" => ServiceEvent::Reset(parse(message)?),
        "error" => ServiceEvent::Refused(parse(message)?),
        "progress" => ServiceEvent::Progress { zxid: progress(message)? },
        _ => return Ok(None),
    };
    // Only the last event of those that are told together says how far all services have come. A reset does not either: who
    // loses the stream before all lists have come is told of it again.
    let reached = message.id.as_deref().and_then(|id| id.parse().ok());
    Ok(Some((reached.map_or(Resume::AsBefore, Resume::After), event)))
}
