use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;

use super::error::Failed;
use super::{Door, authority};
use crate::identity::because;
use crate::limits::{IDEMPOTENCY_KEY_BYTES_MAX, REASON_BYTES_MAX};
use crate::node::{Consistency, Request as NodeRequest};
use crate::types::{AclId, Code, Op, Password, SessionId, ZnodePath, Zxid};

/// Carries a session's token.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("roost-session");
/// Carries the client's own name for a write.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The address that a connection comes from, as text; the server puts it into each request of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer(pub(crate) Arc<str>);

/// The znode that the rest of the URL names.
#[derive(Debug)]
pub(crate) struct At(pub(crate) ZnodePath);

impl<S: Sync> FromRequestParts<S> for At {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<At, Failed> {
        rest_of(parts.uri.path(), ZnodePath::parse)?.map(At).map_err(Failed::from)
    }
}

/// The rest of the URL as text, for a create: the name of a sequential znode is only a prefix and may be
/// empty.
#[derive(Debug)]
pub(crate) struct Rest(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Rest {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Rest, Failed> {
        rest_of(parts.uri.path(), |text| Rest(text.to_owned()))
    }
}

/// Gives what follows `/v1/<collection>`, percent-decoded and with its leading slash, to `take`.
fn rest_of<T>(url: &str, take: impl FnOnce(&str) -> T) -> Result<T, Failed> {
    let at = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
    let rest = &url[at..];
    if !rest.contains('%') {
        return Ok(take(rest));
    }
    let decoded = percent_decode_str(rest).decode_utf8();
    decoded
        .map(|text| take(&text))
        .map_err(|_| Failed::bad_arguments("the path in the URL is not UTF-8"))
}

/// The named segments of the URL.
#[derive(Debug)]
pub(crate) struct Segments<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Segments<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Segments<T>, Failed> {
        let refuse = |why: PathRejection| Failed::bad_arguments(why.body_text());
        Path::<T>::from_request_parts(parts, state)
            .await
            .map(|Path(it)| Segments(it))
            .map_err(refuse)
    }
}

/// The query of the URL; a parameter that the operation does not have is refused.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Params<T>, Failed> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(it)) => Ok(Params(it)),
            Err(why) => Err(Failed::bad_request(format!("in the query: {}", root_cause(&why)))),
        }
    }
}

/// Returns the innermost reason of an error, which is the one that a client can do something about.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// The version that `If-Match` makes a condition; `None` without the header and for `*`.
#[derive(Debug)]
pub(crate) struct IfMatch(pub(crate) Option<i32>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<IfMatch, Failed> {
        let Some(text) = header(&parts.headers, &header::IF_MATCH)? else {
            return Ok(IfMatch(None));
        };
        if text == "*" {
            return Ok(IfMatch(None));
        }
        let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let refuse = |_| {
            Failed::bad_arguments(format!("If-Match is {text:?}: expected a version such as \"7\""))
        };
        i32::from_str(bare).map(|version| IfMatch(Some(version))).map_err(refuse)
    }
}

/// The entity tag that the client has already, as it stands.
#[derive(Debug)]
pub(crate) struct IfNoneMatch(pub(crate) Option<String>);

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<IfNoneMatch, Failed> {
        Ok(IfNoneMatch(header(&parts.headers, &header::IF_NONE_MATCH)?.map(str::to_owned)))
    }
}

/// Whether the client wants bare bytes instead of JSON.
#[derive(Debug)]
pub(crate) struct WantsBytes(pub(crate) bool);

impl<S: Sync> FromRequestParts<S> for WantsBytes {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<WantsBytes, Infallible> {
        let accept = parts.headers.get(header::ACCEPT);
        Ok(WantsBytes(accept.is_some_and(|kind| kind == "application/octet-stream")))
    }
}

/// The zxid of the last event that a reconnecting stream has seen.
#[derive(Debug)]
pub(crate) struct LastEventId(pub(crate) Option<u64>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<LastEventId, Failed> {
        match header(&parts.headers, &LAST_EVENT_ID)? {
            None | Some("") => Ok(LastEventId(None)),
            Some(id) => id.parse().map(|zxid| LastEventId(Some(zxid))).map_err(|_| {
                Failed::bad_arguments(format!("Last-Event-ID is {id:?}: expected a zxid"))
            }),
        }
    }
}

/// Returns the text of a header, refusing what is not visible ASCII.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Failed> {
    let refuse = |_| Failed::bad_arguments(format!("the header {name} is not visible ASCII"));
    headers.get(name).map(|value| value.to_str().map_err(refuse)).transpose()
}

/// What proves that a session is one's own: its id and its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) session: SessionId,
    pub(crate) password: Password,
}

impl Token {
    /// Parses `0x<16 hex digits>.<32 hex digits>`.
    pub(crate) fn parse(text: &str) -> Option<Token> {
        let (session, password) = text.split_once('.')?;
        let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits =
            session.strip_prefix("0x").filter(|digits| digits.len() == 16 && hex(digits))?;
        let session = SessionId(u64::from_str_radix(digits, 16).ok()?);
        if password.len() != 32 || !hex(password) {
            return None;
        }
        let password = u128::from_str_radix(password, 16).ok()?.to_be_bytes();
        Some(Token { session, password })
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:032x}", self.session, u128::from_be_bytes(self.password))
    }
}

/// Who sends a request: the identities it has, the session it has proved to own, and its own name for the
/// request.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) authority: Vec<AclId>,
    /// [`SessionId::NONE`] without the header.
    pub(crate) session: SessionId,
    pub(crate) idempotency_key: Option<String>,
}

impl Caller {
    /// Returns the session, or the refusal of an operation that makes no sense without one.
    pub(crate) fn need_session(&self) -> Result<SessionId, Failed> {
        if self.session.is_none() {
            return Err(Failed::bad_arguments(
                "this needs a session: open one with POST /v1/sessions and send its token as Roost-Session",
            ));
        }
        Ok(self.session)
    }

    /// Returns the same caller, who says why it writes, unless it gives no reason. Error: the reason is too long.
    pub(crate) fn saying(mut self, reason: Option<&str>) -> Result<Caller, Failed> {
        let reason = reason.unwrap_or_default();
        if reason.len() > REASON_BYTES_MAX {
            let why = format!("reason has {} bytes: at most {REASON_BYTES_MAX}", reason.len());
            return Err(Failed::bad_arguments(why));
        }
        if !reason.trim().is_empty() {
            self.authority.push(because(reason));
        }
        Ok(self)
    }

    /// Returns the request for the only transaction of a write.
    pub(crate) fn into_request(self, op: Op) -> NodeRequest {
        let Caller { authority, session, idempotency_key } = self;
        NodeRequest { session, owner: None, authority, idempotency_key, op }
    }

    /// Returns the request for one of several attempts, counted from 0, at what is one write to the client.
    /// Each has its own idempotency key, for a second one with the first one's key would only get the first
    /// one's refusal; and a retry by the client walks through the same keys to the same answer.
    pub(crate) fn request(&self, attempt: usize, op: Op) -> NodeRequest {
        let key = self.idempotency_key.as_ref();
        NodeRequest {
            session: self.session,
            owner: None,
            authority: self.authority.clone(),
            idempotency_key: key.map(|key| match attempt {
                0 => key.clone(),
                _ => format!("{key}{ATTEMPT_MARK}{attempt}"),
            }),
            op,
        }
    }
}

/// Stands between a client's key and the number of the attempt. No header can hold it, so no client's key
/// can look like another's second attempt.
const ATTEMPT_MARK: char = '\u{1}';
/// Room that the door keeps behind a client's key for both.
const ATTEMPT_SUFFIX_BYTES: usize = 2;

impl FromRequestParts<Door> for Caller {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Caller, Failed> {
        let peer = parts.extensions.get::<Peer>();
        let authority = authority::of(peer, &parts.headers, door.node().super_digest())?;
        let idempotency_key = match header(&parts.headers, &IDEMPOTENCY_KEY)? {
            None => None,
            Some(key) => Some(check_key(key)?),
        };
        let session = match header(&parts.headers, &SESSION)? {
            None => SessionId::NONE,
            Some(text) => prove(door, text).await?,
        };
        Ok(Caller { authority, session, idempotency_key })
    }
}

fn check_key(key: &str) -> Result<String, Failed> {
    let max = IDEMPOTENCY_KEY_BYTES_MAX - ATTEMPT_SUFFIX_BYTES;
    if key.is_empty() || key.len() > max {
        return Err(Failed::bad_arguments(format!(
            "Idempotency-Key has {} bytes: it must have 1 to {max}",
            key.len()
        )));
    }
    Ok(key.to_owned())
}

/// Returns the session of the caller's token, and counts the request as a sign of life.
async fn prove(door: &Door, text: &str) -> Result<SessionId, Failed> {
    let session = verify(door, text, "Roost-Session").await?;
    let session = session.map_err(|zxid| Failed::code(Code::SessionExpired).at(zxid))?;
    door.node().touch(session);
    Ok(session)
}

/// Returns the session of a token after comparing its password, and where it has ended the zxid at which it was gone. A
/// session that this node does not know may be new on another node, so that is only the truth after a linearizable read.
pub(crate) async fn verify(
    door: &Door,
    text: &str,
    what: &str,
) -> Result<Result<SessionId, Zxid>, Failed> {
    let wrong =
        || Failed::because(Code::AuthFailed, format!("{what} is not the token of a session"));
    let token = Token::parse(text).ok_or_else(wrong)?;
    let node = door.node();
    let mut password = node.local().session(token.session).map(|session| *session.password());
    if password.is_none() {
        let view = node.read(Consistency::Linearizable, Zxid(0)).await?;
        password = view.tree.session(token.session).map(|session| *session.password());
        if password.is_none() {
            return Ok(Err(view.tree.zxid()));
        }
    }
    let equal =
        password.is_some_and(|password| bool::from(password[..].ct_eq(&token.password[..])));
    if !equal {
        return Err(wrong());
    }
    Ok(Ok(token.session))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn extract<T: FromRequestParts<(), Rejection = Failed>>(
        request: axum::http::request::Builder,
    ) -> Result<T, Failed> {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        T::from_request_parts(&mut parts, &()).await
    }

    fn get(uri: &str) -> axum::http::request::Builder {
        axum::http::Request::builder().uri(uri)
    }

    #[tokio::test]
    async fn the_rest_of_the_url_is_a_znode_path_percent_decoded() {
        for (uri, path) in [
            ("/v1/znodes/", "/"),
            ("/v1/znodes/services/web", "/services/web"),
            ("/v1/children/a%20b/%C3%A9", "/a b/é"),
            ("/v1/acl/a%2Fb", "/a/b"),
        ] {
            assert_eq!(extract::<At>(get(uri)).await.unwrap().0.as_str(), path);
        }
        for uri in [
            "/v1/znodes/a/",
            "/v1/znodes/a//b",
            "/v1/znodes/a/..",
            "/v1/znodes/%FF",
            "/v1/znodes/%00",
        ] {
            let failed = extract::<At>(get(uri)).await.unwrap_err();
            assert_eq!((failed.parts().0, failed.parts().1.code), (400, "bad_arguments"), "{uri}");
        }
        assert_eq!(extract::<Rest>(get("/v1/znodes/tasks/")).await.unwrap().0, "/tasks/");
    }

    #[tokio::test]
    async fn an_unknown_query_parameter_is_named_in_the_refusal() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wanted {
            limit: Option<usize>,
        }
        let good = extract::<Params<Wanted>>(get("/x?limit=3")).await.unwrap();
        assert_eq!(good.0.limit, Some(3));
        for (uri, word) in
            [("/x?limt=3", "limt"), ("/x?limit=many", "limit"), ("/x?limit=1&limit=2", "limit")]
        {
            let failed = extract::<Params<Wanted>>(get(uri)).await.unwrap_err();
            let (status, body) = failed.parts();
            assert_eq!((status, body.code), (400, "bad_request"));
            assert!(body.message.contains(word), "{}", body.message);
        }
    }

    #[tokio::test]
    async fn if_match_takes_a_version_and_refuses_the_rest() {
        for (value, version) in
            [("\"7\"", Some(7)), ("7", Some(7)), ("\"-3\"", Some(-3)), ("*", None)]
        {
            let got = extract::<IfMatch>(get("/x").header("if-match", value)).await.unwrap();
            assert_eq!(got.0, version, "{value}");
        }
        assert_eq!(extract::<IfMatch>(get("/x")).await.unwrap().0, None);
        for value in ["\"x\"", "W/\"7\"", "\"7", "", "99999999999"] {
            let failed = extract::<IfMatch>(get("/x").header("if-match", value)).await.unwrap_err();
            assert_eq!(failed.parts().1.code, "bad_arguments", "{value}");
        }
    }

    #[test]
    fn a_token_survives_its_text_and_nothing_else_parses() {
        let token = Token { session: SessionId(0x0100_0000_0000_00ab), password: [0xf0; 16] };
        let text = token.to_string();
        assert_eq!(text, format!("0x01000000000000ab.{}", "f0".repeat(16)));
        assert_eq!(Token::parse(&text), Some(token));
        let password = "f0".repeat(16);
        for bad in [
            String::new(),
            "0x01000000000000ab".to_owned(),
            format!("0x1.{password}"),
            format!("01000000000000ab.{password}"),
            format!("0x+1000000000000ab.{password}"),
            format!("0x01000000000000ab.+{}", &password[1..]),
            format!("0x01000000000000ab.{password}0"),
        ] {
            assert_eq!(Token::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn an_idempotency_key_leaves_room_for_the_attempts() {
        assert!(check_key(&"k".repeat(IDEMPOTENCY_KEY_BYTES_MAX - ATTEMPT_SUFFIX_BYTES)).is_ok());
        for bad in [String::new(), "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX - ATTEMPT_SUFFIX_BYTES + 1)]
        {
            assert_eq!(check_key(&bad).unwrap_err().parts().1.code, "bad_arguments");
        }
    }
}
