use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::error::Failed;
use super::extract::Peer;
use crate::identity::{self, SuperDigest};
use crate::types::{AclId, Code};

/// Returns whom a client has proved to be: its address, and the `digest` identity of the name and password of
/// `Authorization: Basic`, as a ZooKeeper client gets it by `addauth digest name:password`. Errors:
/// `auth_failed` for a header that proves nothing; a client that sends one means to be somebody.
pub(crate) fn of(
    peer: Option<&Peer>,
    headers: &HeaderMap,
    super_digest: Option<&SuperDigest>,
) -> Result<Vec<AclId>, Failed> {
    let ip = |Peer(ip): &Peer| AclId { scheme: "ip".to_owned(), id: ip.as_ref().to_owned() };
    let mut authority: Vec<AclId> = peer.map(ip).into_iter().collect();
    if let Some(value) = headers.get(AUTHORIZATION) {
        let wrong = || {
            let why = "Authorization is not `Basic` and the base64 of name:password";
            Failed::because(Code::AuthFailed, why)
        };
        let text = value.to_str().ok().and_then(password).ok_or_else(wrong)?;
        let proved = identity::of_password(&text, super_digest).map_err(Failed::code)?;
        authority.extend(proved);
    }
    Ok(authority)
}

/// Returns the `name:password` of the header's value. Source: RFC 7617, which has the name of the scheme in any
/// case.
fn password(value: &str) -> Option<String> {
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
    text.contains(':').then_some(text)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::of;
    use crate::http::extract::Peer;
    use crate::identity::SuperDigest;

    fn proved(value: &str, super_digest: Option<&SuperDigest>) -> Result<Vec<String>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(value).unwrap());
        let authority = of(Some(&Peer("10.0.0.1".into())), &headers, super_digest);
        let text = |id: crate::types::AclId| format!("{}:{}", id.scheme, id.id);
        authority.map(|ids| ids.into_iter().map(text).collect()).map_err(|failed| failed.parts().0)
    }

    #[test]
    fn a_name_and_password_are_the_identity_that_they_are_in_zookeeper() {
        let hash = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
        let digest = format!("digest:{hash}");
        let basic = "Basic c3VwZXI6dGVzdA==";
        assert_eq!(proved(basic, None).unwrap(), ["ip:10.0.0.1", &digest]);
        let known = SuperDigest::parse(hash).unwrap();
        let all = ["ip:10.0.0.1", "super:", &digest];
        assert_eq!(proved(basic, Some(&known)).unwrap(), all);
        assert_eq!(proved("basic c3VwZXI6dGVzdA==", Some(&known)).unwrap(), all);
        assert_eq!(of(None, &HeaderMap::new(), None).unwrap(), []);
    }

    #[test]
    fn a_header_that_proves_nothing_is_refused() {
        // No scheme, another scheme, no base64, no colon, no UTF-8.
        for value in ["", "Bearer c3VwZXI6dGVzdA==", "Basic !", "Basic c3VwZXI=", "Basic /zo="] {
            assert_eq!(proved(value, None), Err(401), "{value:?}");
        }
    }
}
