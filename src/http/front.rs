use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::Door;
use super::answer::{NODE, ZXID};
use super::body::Room;
use super::error::Failed;
use super::metrics::RouteMeter;
use crate::limits::HTTP_REQUESTS_MAX;
use crate::types::Error;

/// What stands before the handlers of one route.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) door: Door,
    pub(crate) meter: Arc<RouteMeter>,
    /// Whether its requests take a place among [`HTTP_REQUESTS_MAX`]. Those that only wait (streams, polls)
    /// have their own bound, and those by which an operator looks at a node must get through when it is
    /// full.
    pub(crate) bounded: bool,
}

/// Advice to a client that met [`HTTP_REQUESTS_MAX`], ms.
const RETRY_AFTER_MS: u64 = 100;

/// Admits, measures and signs the requests of one route.
pub(crate) async fn front(
    State(front): State<Front>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = front.meter.method(request.method());
    let place = front.bounded.then(|| front.door.meters().enter(HTTP_REQUESTS_MAX));
    let mut response = match place {
        Some(None) => {
            let what = "the number of requests under way";
            Failed::from(Error::Busy { what, retry_after_ms: RETRY_AFTER_MS }).into_response()
        }
        _ => {
            let room = Room::default();
            request.extensions_mut().insert(room.clone());
            let response = next.run(request).await;
            // What was made of the body is in use up to here.
            drop(room);
            response
        }
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response = Failed::method_not_allowed().into_response();
    }
    sign(&front.door, &mut response);
    method.note(response.status(), begun.elapsed());
    response
}

/// Answers what no route answers.
pub(crate) async fn nowhere(State(door): State<Door>, request: Request) -> Response {
    let mut response = Failed::not_found(request.uri().path()).into_response();
    sign(&door, &mut response);
    response
}

fn sign(door: &Door, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(NODE, HeaderValue::from(door.node().id()));
    if !headers.contains_key(ZXID) {
        headers.insert(ZXID, HeaderValue::from(door.node().local().zxid().0));
    }
}
