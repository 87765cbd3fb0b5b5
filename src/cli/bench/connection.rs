use std::io;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::client::Refusal;

/// Sends requests on one connection, one at a time.
pub(super) type Sender = http1::SendRequest<Full<Bytes>>;
/// Moves the bytes of one connection; must be polled beside its [`Sender`], best in the same task.
pub(super) type Connection = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// Connects to an endpoint. `host` is its `host:port`.
pub(super) async fn open(host: &str) -> io::Result<(Sender, Connection)> {
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)
}

/// Returns `host:port` of an endpoint's URL.
pub(super) fn host_of(endpoint: &str) -> &str {
    let rest = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    rest.split('/').next().unwrap_or(rest)
}

/// Everything of a request that can be put together beforehand.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Prepared {
    /// Prepares a request. `target` is path and query, encoded. Panics on characters that cannot stand in a
    /// request: all that is used here is made of encoded paths, names of hosts that were connected to, and
    /// tokens.
    pub(super) fn new(method: Method, host: &str, target: &str, body: Bytes) -> Prepared {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(HOST, HeaderValue::from_str(host).expect("a host is a header value"));
        let uri = target.parse().expect("an encoded path is a URI");
        Prepared { method, uri, headers, body }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Prepared {
        self.headers.insert(name, HeaderValue::from_str(value).expect("a token is a header value"));
        self
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Sends a request and reads its answer to the end. `Ok(Err(code))` is a refusal; `Err` a broken connection.
pub(super) async fn exchange(
    sender: &mut Sender,
    request: &Prepared,
) -> Result<Result<(), String>, hyper::Error> {
    let mut response = send(sender, request).await?;
    if response.status().is_success() {
        while let Some(frame) = response.body_mut().frame().await {
            frame?;
        }
        return Ok(Ok(()));
    }
    Ok(Err(refusal_code(response).await?))
}

/// As [`exchange`], but returns the body.
pub(super) async fn exchange_for_body(
    sender: &mut Sender,
    request: &Prepared,
) -> Result<Result<Bytes, String>, hyper::Error> {
    let response = send(sender, request).await?;
    if response.status().is_success() {
        return Ok(Ok(response.into_body().collect().await?.to_bytes()));
    }
    Ok(Err(refusal_code(response).await?))
}

/// Sends a request and returns its answer's head; the body is still to be read.
pub(super) async fn send(
    sender: &mut Sender,
    request: &Prepared,
) -> Result<Response<Incoming>, hyper::Error> {
    sender.ready().await?;
    sender.send_request(request.request()).await
}

/// Returns the code of an answer that is not a success.
pub(super) async fn refusal_code(response: Response<Incoming>) -> Result<String, hyper::Error> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(code_in(status, &body))
}

fn code_in(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.code,
        Err(_) => format!("http_{}", status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::{code_in, host_of};

    #[test]
    fn a_refusal_is_counted_by_its_code_or_else_its_status() {
        assert_eq!(code_in(StatusCode::CONFLICT, br#"{"code":"busy","message":""}"#), "busy");
        assert_eq!(code_in(StatusCode::BAD_GATEWAY, b"<html>"), "http_502");
    }

    #[test]
    fn the_host_of_an_endpoint_has_neither_scheme_nor_path() {
        assert_eq!(host_of("http://127.0.0.1:8081/x"), "127.0.0.1:8081");
        assert_eq!(host_of("http://[::1]:80"), "[::1]:80");
    }
}
