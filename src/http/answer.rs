use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use crate::types::Zxid;

/// Names the state that an answer speaks of.
pub(crate) const ZXID: HeaderName = HeaderName::from_static("roost-zxid");
/// Names the node that gave the answer.
pub(crate) const NODE: HeaderName = HeaderName::from_static("roost-node");
/// Says how old a stale read may be, ms.
pub(crate) const AGE_MS: HeaderName = HeaderName::from_static("roost-age-ms");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Returns a response with this value as JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    // Most answers are one stat: room for it at once instead of growing to it.
    let mut bytes = Vec::with_capacity(384);
    serde_json::to_writer(&mut bytes, value).expect("the door's own answers always encode");
    with_type(status, JSON, Bytes::from(bytes))
}

/// Returns a response with this value as JSON that speaks of the state at this zxid.
pub(crate) fn json_at<T: Serialize>(status: StatusCode, zxid: Zxid, value: &T) -> Response {
    let mut response = json(status, value);
    response.headers_mut().insert(ZXID, HeaderValue::from(zxid.0));
    response
}

/// Returns a response without a body that speaks of the state at this zxid.
pub(crate) fn empty_at(status: StatusCode, zxid: Zxid) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(ZXID, HeaderValue::from(zxid.0));
    response
}

/// Returns a response with this body and content type.
pub(crate) fn with_type(status: StatusCode, kind: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Returns the entity tag of a znode's version.
pub(crate) fn etag(version: i32) -> HeaderValue {
    let text = format!("\"{version}\"");
    HeaderValue::from_str(&text).expect("digits and quotes are a header value")
}
