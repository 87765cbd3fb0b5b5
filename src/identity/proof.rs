use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use crate::limits::ACL_ID_BYTES_MAX;
use crate::types::{AclId, Code};

/// Whose name and password make a client `super`, as `name:base64(sha1(name:password))`. Whoever reads it
/// still has to find a password.
#[derive(Clone, PartialEq, Eq)]
pub struct SuperDigest(String);

impl std::fmt::Debug for SuperDigest {
    /// Shows the name alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SuperDigest({:?})", self.0.split(':').next().unwrap_or_default())
    }
}

impl SuperDigest {
    /// Checks the text of a configuration. Errors: a sentence that says how to make a right one.
    pub fn parse(text: &str) -> Result<SuperDigest, String> {
        let hash = text.split_once(':').map(|(_, hash)| BASE64_STANDARD.decode(hash));
        match hash {
            Some(Ok(hash)) if hash.len() == Sha1::output_size() => Ok(SuperDigest(text.to_owned())),
            _ => Err(format!(
                "the super_digest of {:?} is not of the form name:base64(sha1(name:password)): `printf %s \
                 name:password | openssl dgst -binary -sha1 | base64` prints what follows the colon",
                text.split(':').next().unwrap_or_default()
            )),
        }
    }

    fn is(&self, id: &str) -> bool {
        self.0.as_bytes().ct_eq(id.as_bytes()).into()
    }
}

/// Returns the name of the `digest` identity that `name:password` proves: `name:base64(sha1(name:password))`.
/// Source: ZooKeeper `DigestAuthenticationProvider.generateDigest`.
pub fn digest_of(name_and_password: &str) -> String {
    let name = name_and_password.split(':').next().unwrap_or_default();
    let hash = Sha1::digest(name_and_password.as_bytes());
    format!("{name}:{}", BASE64_STANDARD.encode(hash))
}

/// Returns the identities that `name:password` proves: its `digest`, and `super` before it when this is the
/// configured one. Errors: `AuthFailed` when no rule could name it.
pub fn of_password(
    name_and_password: &str,
    super_digest: Option<&SuperDigest>,
) -> Result<Vec<AclId>, Code> {
    let id = digest_of(name_and_password);
    if id.len() > ACL_ID_BYTES_MAX {
        return Err(Code::AuthFailed);
    }
    let is_super = super_digest.is_some_and(|digest| digest.is(&id));
    let mut proved = Vec::with_capacity(2);
    if is_super {
        proved.push(AclId { scheme: "super".to_owned(), id: String::new() });
    }
    proved.push(AclId { scheme: "digest".to_owned(), id });
    Ok(proved)
}

/// Returns the identities that an auth packet of the ZooKeeper protocol adds to those that the connection
/// has: for `digest` see [`of_password`]; `ip` adds nothing, since the connection has its address already.
/// Errors: `AuthFailed` for another scheme and for bytes that are not text.
pub fn prove(
    scheme: &str,
    auth: &[u8],
    super_digest: Option<&SuperDigest>,
) -> Result<Vec<AclId>, Code> {
    match scheme {
        "digest" => {
            let text = std::str::from_utf8(auth).map_err(|_| Code::AuthFailed)?;
            of_password(text, super_digest)
        }
        "ip" => Ok(Vec::new()),
        _ => Err(Code::AuthFailed),
    }
}

#[cfg(test)]
mod tests {
    use super::{SuperDigest, digest_of, of_password, prove};
    use crate::limits::ACL_ID_BYTES_MAX;
    use crate::types::Code;

    /// As ZooKeeper's documentation has it for `super:test`… and as its `DigestAuthenticationProvider` prints it.
    const SUPER: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

    #[test]
    fn a_digest_is_the_one_that_zookeeper_computes() {
        assert_eq!(digest_of("super:test"), SUPER);
        assert_eq!(digest_of("user:pass:word").split(':').count(), 2, "all behind the first colon");
        assert!(digest_of("nameless").starts_with("nameless:"));
    }

    #[test]
    fn the_configured_name_and_password_are_super_and_no_others() {
        let digest = SuperDigest::parse(SUPER).unwrap();
        let schemes = |text: &str| -> Vec<String> {
            let proved = of_password(text, Some(&digest)).unwrap();
            proved.into_iter().map(|id| id.scheme).collect()
        };
        assert_eq!(schemes("super:test"), ["super", "digest"]);
        assert_eq!(schemes("super:tesT"), ["digest"]);
        assert_eq!(of_password("super:test", None).unwrap().len(), 1);
        assert_eq!(format!("{digest:?}"), r#"SuperDigest("super")"#);
    }

    #[test]
    fn a_super_digest_that_can_never_match_is_refused() {
        for bad in ["", "super", "super:test", "super:D/In", "super:!!!!"] {
            let why = SuperDigest::parse(bad).unwrap_err();
            assert!(why.contains("openssl") && !why.contains("test\""), "{why}");
        }
    }

    #[test]
    fn an_auth_packet_proves_a_digest_or_fails() {
        assert_eq!(prove("digest", b"u:p", None).unwrap()[0].id, digest_of("u:p"));
        assert_eq!(prove("ip", b"", None), Ok(Vec::new()));
        for (scheme, auth) in [("digest", &[0xff][..]), ("world", b"anyone"), ("super", b"")] {
            assert_eq!(prove(scheme, auth, None), Err(Code::AuthFailed), "{scheme}");
        }
        let long = "u".repeat(ACL_ID_BYTES_MAX);
        assert_eq!(of_password(&long, None), Err(Code::AuthFailed));
    }
}
