use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{self, ZXID};
use crate::types::{Code, Error, Failure, PathError, Zxid};

/// What a client reads when its request did not work.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody {
    /// Stable name of the reason; see the table of codes.
    #[schema(value_type = String, example = "no_node")]
    pub(crate) code: &'static str,
    /// The reason in one sentence for a person.
    #[schema(value_type = String)]
    pub(crate) message: Cow<'static, str>,
    /// ZooKeeper's number of the code, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zk_code: Option<i32>,
    /// When to try again, ms from now, when trying again can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
    /// Which policy forbids it, and behind a slash which of its rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// Which op of a multi, or which item of a batch, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) multi_index: Option<u32>,
}

/// An answer other than success. Boxed, for it travels in the cold half of every handler's result.
#[derive(Debug)]
pub(crate) struct Failed(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    body: ErrorBody,
    /// The state that the refusal speaks of, when it came from one.
    zxid: Option<Zxid>,
}

/// How long a client had better wait when a node cannot say anything more precise, ms.
const RETRY_AFTER_MS: u64 = 200;

impl Failed {
    fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Failed {
        let body = ErrorBody {
            code,
            message: message.into(),
            zk_code: None,
            retry_after_ms: None,
            rule: None,
            multi_index: None,
        };
        Failed(Box::new(Parts { status, body, zxid: None }))
    }

    /// Returns the answer for a code of the tree, with its usual message.
    pub(crate) fn code(code: Code) -> Failed {
        Failed::because(code, code.to_string())
    }

    /// Returns the answer for a code of the tree, with a message that says more.
    pub(crate) fn because(code: Code, message: impl Into<Cow<'static, str>>) -> Failed {
        let mut failed = Failed::new(status_of(code), code.name(), message);
        failed.0.body.zk_code = Some(code.number());
        failed
    }

    /// Returns the answer for a transaction that the tree refused.
    pub(crate) fn refused(failure: &Failure, zxid: Zxid) -> Failed {
        let mut failed = Failed::code(failure.code).at(zxid);
        failed.0.body.multi_index = failure.multi_index;
        failed
    }

    /// Returns the answer for a request that has no meaning; the message says what and where.
    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Failed {
        Failed::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// Returns the answer for an argument out of its range; the message names it.
    pub(crate) fn bad_arguments(message: impl Into<Cow<'static, str>>) -> Failed {
        Failed::because(Code::BadArguments, message)
    }

    /// Returns the answer for a URL that leads nowhere.
    pub(crate) fn not_found(path: &str) -> Failed {
        let path: String = path.chars().take(200).collect();
        let message = format!("there is nothing at {path}: see /openapi.json");
        Failed::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// Returns the answer for a method that the URL does not have.
    pub(crate) fn method_not_allowed() -> Failed {
        let message = "this URL does not have this method: the header Allow lists those it has";
        Failed::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// Returns the answer of a node that should not be sent requests now, and why.
    pub(crate) fn not_ready(why: String) -> Failed {
        let mut failed = Failed::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why);
        failed.0.body.retry_after_ms = Some(RETRY_AFTER_MS);
        failed
    }

    /// Returns the same answer, blaming this item of a batch.
    pub(crate) fn in_item(mut self, index: usize) -> Failed {
        self.0.body.multi_index = u32::try_from(index).ok();
        self
    }

    /// Returns the same answer without an index, for ops that the client did not number.
    pub(crate) fn into_one(mut self) -> Failed {
        self.0.body.multi_index = None;
        self
    }

    /// Returns the same answer, speaking of the state at this zxid.
    pub(crate) fn at(mut self, zxid: Zxid) -> Failed {
        self.0.zxid = Some(zxid);
        self
    }

    /// Returns the same answer, with a message that says more if it is the refusal with this code of the tree.
    pub(crate) fn explained(mut self, code: Code, why: impl FnOnce() -> String) -> Failed {
        if self.is(code) {
            self.0.body.message = why().into();
        }
        self
    }

    /// Returns whether it is the refusal with this code of the tree.
    pub(crate) fn is(&self, code: Code) -> bool {
        self.0.body.zk_code == Some(code.number())
    }

    /// Returns the status and the body, for tests.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> (u16, &ErrorBody) {
        (self.0.status.as_u16(), &self.0.body)
    }
}

/// Returns the HTTP status of a code of the tree.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::RuntimeInconsistency
        | Code::MarshallingError
        | Code::Unimplemented
        | Code::BadArguments
        | Code::InvalidAcl
        | Code::NoChildrenForEphemerals => StatusCode::BAD_REQUEST,
        Code::AuthFailed => StatusCode::UNAUTHORIZED,
        Code::NoAuth => StatusCode::FORBIDDEN,
        Code::NoNode => StatusCode::NOT_FOUND,
        Code::NodeExists | Code::NotEmpty | Code::SessionMoved => StatusCode::CONFLICT,
        Code::SessionExpired => StatusCode::GONE,
        Code::BadVersion => StatusCode::PRECONDITION_FAILED,
        Code::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
    }
}

/// Returns the answer for an error that has a code of the tree.
fn of_code(code: Code, error: &Error, multi_index: Option<u32>) -> Failed {
    let mut failed = Failed::because(code, error.to_string());
    failed.0.body.multi_index = multi_index;
    failed
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        let (status, retry_after_ms) = match &error {
            Error::Busy { retry_after_ms, .. } => {
                (StatusCode::TOO_MANY_REQUESTS, Some(*retry_after_ms))
            }
            Error::NoLeader | Error::Timeout(_) | Error::NotInitialized | Error::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(RETRY_AFTER_MS))
            }
            Error::Refused(_) => (StatusCode::CONFLICT, None),
            Error::Invalid { multi_index, .. } => {
                return of_code(Code::BadArguments, &error, *multi_index);
            }
            Error::Forbidden { rule, multi_index, .. } => {
                let mut failed = of_code(Code::NoAuth, &error, *multi_index);
                failed.0.body.rule = Some(rule.clone());
                return failed;
            }
            Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
            Error::OutcomeUnknown | Error::Io(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let mut failed = Failed::new(status, error.name(), error.to_string());
        failed.0.body.retry_after_ms = retry_after_ms;
        failed
    }
}

impl From<PathError> for Failed {
    fn from(error: PathError) -> Failed {
        Failed::bad_arguments(error.reason)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Parts { status, mut body, zxid } = *self.0;
        let pressed =
            matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        if pressed && body.retry_after_ms.is_none() {
            body.retry_after_ms = Some(RETRY_AFTER_MS);
        }
        let mut response = answer::json(status, &body);
        if let Some(ms) = body.retry_after_ms {
            // The header has whole seconds only; rounding down would invite clients too early.
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        if let Some(zxid) = zxid {
            response.headers_mut().insert(ZXID, HeaderValue::from(zxid.0));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::Failed;
    use crate::types::{Code, Error, Failure, Zxid};

    #[test]
    fn every_code_of_the_tree_has_the_documented_status() {
        for (status, codes) in [
            (
                400,
                &[
                    Code::BadArguments,
                    Code::InvalidAcl,
                    Code::NoChildrenForEphemerals,
                    Code::MarshallingError,
                    Code::Unimplemented,
                    Code::RuntimeInconsistency,
                ][..],
            ),
            (401, &[Code::AuthFailed]),
            (403, &[Code::NoAuth]),
            (404, &[Code::NoNode]),
            (409, &[Code::NodeExists, Code::NotEmpty, Code::SessionMoved]),
            (410, &[Code::SessionExpired]),
            (412, &[Code::BadVersion]),
            (429, &[Code::QuotaExceeded]),
        ] {
            for code in codes {
                let failed = Failed::code(*code);
                let (got, body) = failed.parts();
                assert_eq!(
                    (got, body.code, body.zk_code),
                    (status, code.name(), Some(code.number()))
                );
            }
        }
    }

    #[test]
    fn every_operational_error_has_the_documented_status() {
        for (status, error) in [
            (429, Error::Busy { what: "the outbox", retry_after_ms: 50 }),
            (503, Error::NoLeader),
            (503, Error::Timeout("the read")),
            (503, Error::NotInitialized),
            (503, Error::Stopping),
            (500, Error::OutcomeUnknown),
            (500, Error::Io("the log".into())),
            (409, Error::Refused("no".into())),
            (413, Error::TooLarge { what: "the data", limit: 1 }),
        ] {
            let name = error.name();
            let failed = Failed::from(error);
            let (got, body) = failed.parts();
            assert_eq!((got, body.code, body.zk_code), (status, name, None));
        }
    }

    #[test]
    fn a_full_node_says_when_to_come_back_rounded_up_to_whole_seconds() {
        for (error, seconds) in [
            (Error::Busy { what: "x", retry_after_ms: 50 }, Some("1")),
            (Error::Busy { what: "x", retry_after_ms: 1001 }, Some("2")),
            (Error::NoLeader, Some("1")),
            (Error::OutcomeUnknown, None),
        ] {
            let response = Failed::from(error).into_response();
            let header = response.headers().get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!(header, seconds);
        }
        let quota = Failed::code(Code::QuotaExceeded).into_response();
        assert!(quota.headers().contains_key("retry-after"));
    }

    #[test]
    fn a_refused_multi_names_the_op_and_the_zxid() {
        let failure = Failure { code: Code::NoNode, multi_index: Some(2) };
        let failed = Failed::refused(&failure, Zxid(9));
        assert_eq!(
            serde_json::to_string(failed.parts().1).unwrap(),
            r#"{"code":"no_node","message":"no such znode","zk_code":-101,"multi_index":2}"#
        );
        assert_eq!(failed.into_response().headers()["roost-zxid"], "9");
    }
}
