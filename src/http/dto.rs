//! What JSON the door takes and gives. Twins of the values within, so that neither shape binds the other.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Failed;
use crate::limits::{ACL_RULES_MAX, DATA_BYTES_MAX, TTL_MS_MAX};
use crate::types::{Acl, AclId, Code, CreateMode, Data, Error, Op, Perms, Stat, ZnodePath};
use crate::zkcli::parse_acl;

/// The eleven fields of a znode's stat.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stat)]
pub(crate) struct StatBody {
    /// Transaction that created the znode.
    czxid: u64,
    /// Transaction that last changed its data.
    mzxid: u64,
    /// When it was created, ms since 1970.
    ctime_ms: u64,
    /// When its data last changed, ms since 1970.
    mtime_ms: u64,
    /// Changes of the data since creation.
    version: i32,
    /// Children created plus children deleted.
    cversion: i32,
    /// Changes of the access control list.
    aversion: i32,
    /// The session that owns the znode, null unless it is ephemeral.
    #[schema(example = "0x0100000000000001")]
    ephemeral_owner: Option<String>,
    /// Bytes of data; 0 for null data.
    data_length: u32,
    /// Direct children.
    num_children: u32,
    /// Transaction that last created or deleted a child.
    pzxid: u64,
}

impl From<&Stat> for StatBody {
    fn from(stat: &Stat) -> StatBody {
        let owner = stat.ephemeral_owner;
        StatBody {
            czxid: stat.czxid.0,
            mzxid: stat.mzxid.0,
            ctime_ms: stat.ctime_ms,
            mtime_ms: stat.mtime_ms,
            version: stat.version,
            cversion: stat.cversion,
            aversion: stat.aversion,
            ephemeral_owner: (!owner.is_none()).then(|| owner.to_string()),
            data_length: stat.data_length,
            num_children: stat.num_children,
            pzxid: stat.pzxid.0,
        }
    }
}

/// How bytes are written in a JSON string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    /// As the text that they are.
    #[default]
    Utf8,
    /// As base64 (RFC 4648, padded).
    Base64,
}

/// Returns data as a JSON answer writes it: as text when it is text, else as base64; both `None` for null
/// data.
pub(crate) fn data_out(data: Option<&Data>) -> (Option<Cow<'_, str>>, Option<Encoding>) {
    match data.map(|data| (data, std::str::from_utf8(data))) {
        None => (None, None),
        Some((_, Ok(text))) => (Some(Cow::Borrowed(text)), Some(Encoding::Utf8)),
        Some((data, Err(_))) => {
            (Some(Cow::Owned(BASE64_STANDARD.encode(&data[..]))), Some(Encoding::Base64))
        }
    }
}

/// Returns the data that a JSON request writes.
pub(crate) fn data_in(data: Option<String>, encoding: Encoding) -> Result<Option<Data>, Failed> {
    let Some(text) = data else { return Ok(None) };
    let decoded;
    let bytes = match encoding {
        Encoding::Utf8 => text.as_bytes(),
        Encoding::Base64 => {
            let refuse = |why| Failed::bad_arguments(format!("the data is not base64: {why}"));
            decoded = BASE64_STANDARD.decode(&text).map_err(refuse)?;
            &decoded
        }
    };
    if bytes.len() > DATA_BYTES_MAX {
        let limit = DATA_BYTES_MAX as u64;
        return Err(Error::TooLarge { what: "the data, in bytes,", limit }.into());
    }
    Ok(Some(Data::new(bytes)))
}

/// How long a znode lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Until it is deleted.
    #[default]
    Persistent,
    /// Until the session of the request ends.
    Ephemeral,
    /// Until its last child is deleted.
    Container,
    /// Until it has been childless and unchanged for `ttl_ms`.
    Ttl,
}

/// What a create asks for, beside path and data.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Creation {
    pub(crate) mode: Mode,
    pub(crate) sequential: bool,
    pub(crate) ttl_ms: Option<u64>,
    /// Whether the request has a session.
    pub(crate) session: bool,
}

impl Creation {
    fn mode(self) -> Result<CreateMode, Failed> {
        let refuse = |why: String| Err(Failed::bad_arguments(why));
        if self.ttl_ms.is_some() != (self.mode == Mode::Ttl) {
            return refuse("ttl_ms belongs to the mode ttl, and the mode ttl needs it".to_owned());
        }
        let ttl_ms = self.ttl_ms.unwrap_or(TTL_MS_MAX);
        if ttl_ms == 0 || ttl_ms > TTL_MS_MAX {
            return refuse(format!("ttl_ms is {ttl_ms}: it must be 1 to {TTL_MS_MAX}"));
        }
        if self.mode == Mode::Ephemeral && !self.session {
            return refuse(
                "an ephemeral znode needs a session: send its token as Roost-Session".to_owned(),
            );
        }
        Ok(match (self.mode, self.sequential) {
            (Mode::Persistent, false) => CreateMode::Persistent,
            (Mode::Persistent, true) => CreateMode::PersistentSequential,
            (Mode::Ephemeral, false) => CreateMode::Ephemeral,
            (Mode::Ephemeral, true) => CreateMode::EphemeralSequential,
            (Mode::Container, false) => CreateMode::Container,
            (Mode::Container, true) => {
                return refuse("a container cannot be sequential".to_owned());
            }
            (Mode::Ttl, false) => CreateMode::Ttl(ttl_ms),
            (Mode::Ttl, true) => CreateMode::TtlSequential(ttl_ms),
        })
    }

    /// Returns the op that creates this znode.
    pub(crate) fn op(self, path: &str, data: Option<Data>, acl: Vec<Acl>) -> Result<Op, Failed> {
        let mode = self.mode()?;
        let (parent, name) = if self.sequential {
            ZnodePath::parse_sequential(path)?
        } else {
            let path = ZnodePath::parse(path)?;
            let Some(parent) = path.parent() else {
                return Err(Failed::because(Code::NodeExists, "the root always exists"));
            };
            (parent, path.name().to_owned())
        };
        Ok(Op::Create { parent, name, data, acl, mode })
    }
}

/// One rule of an access control list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Acl)]
#[serde(deny_unknown_fields)]
pub(crate) struct AclBody {
    /// What is permitted: letters of `cdrwa` (create, delete, read, write, admin).
    #[schema(example = "cdrwa")]
    perms: String,
    /// `world`, `ip`, `digest`, `auth` …
    #[schema(example = "world")]
    scheme: String,
    /// Who, as the scheme writes it.
    #[schema(example = "anyone")]
    id: String,
}

const LETTERS: [(char, Perms); 5] = [
    ('c', Perms::CREATE),
    ('d', Perms::DELETE),
    ('r', Perms::READ),
    ('w', Perms::WRITE),
    ('a', Perms::ADMIN),
];

/// Returns a list as JSON writes it; the empty list is open to everyone and says so.
pub(crate) fn acl_out(acl: &[Acl]) -> Vec<AclBody> {
    let rule = |perms: Perms, scheme: &str, id: &str| AclBody {
        perms: LETTERS
            .iter()
            .filter(|(_, bit)| perms.allows(*bit))
            .map(|(letter, _)| *letter)
            .collect(),
        scheme: scheme.to_owned(),
        id: id.to_owned(),
    };
    if acl.is_empty() {
        return vec![rule(Perms::ALL, "world", "anyone")];
    }
    acl.iter().map(|acl| rule(acl.perms, &acl.id.scheme, &acl.id.id)).collect()
}

/// Returns the list that a JSON request writes. An empty one is refused: it would mean "nobody" to some
/// readers and means "everybody" within.
pub(crate) fn acl_in(rules: Vec<AclBody>) -> Result<Vec<Acl>, Failed> {
    let refuse = |why: String| Failed::because(Code::InvalidAcl, why);
    check_acl_len(rules.len())?;
    let rule = |AclBody { perms, scheme, id }| {
        let mut bits = 0;
        for letter in perms.chars() {
            let known = LETTERS.iter().find(|(known, _)| *known == letter);
            let (_, bit) = known.ok_or_else(|| {
                refuse(format!("{letter:?} is no permission: perms are letters of cdrwa"))
            })?;
            bits |= bit.0;
        }
        Ok(Acl { perms: Perms(bits), id: AclId { scheme, id } })
    };
    rules.into_iter().map(rule).collect()
}

/// Returns the list that a query parameter writes: as [`acl_in`], in the words of zkCli.
pub(crate) fn acl_from_text(text: &str) -> Result<Vec<Acl>, Failed> {
    let acl = parse_acl(text).map_err(|why| Failed::because(Code::InvalidAcl, why))?;
    check_acl_len(acl.len())?;
    Ok(acl)
}

fn check_acl_len(rules: usize) -> Result<(), Failed> {
    if rules == 0 || rules > ACL_RULES_MAX {
        let why = format!("the list has {rules} rules: it must have 1 to {ACL_RULES_MAX}");
        return Err(Failed::because(Code::InvalidAcl, why));
    }
    Ok(())
}

/// Where an answer without anything else to say took effect.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Done)]
pub(crate) struct DoneBody {
    /// The state that the answer speaks of.
    pub(crate) zxid: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_text_when_it_can_be_and_base64_when_not() {
        for (bytes, data, encoding) in [
            (Some(&b"hi"[..]), Some("hi"), Some(Encoding::Utf8)),
            (Some(b""), Some(""), Some(Encoding::Utf8)),
            (Some(&[0, 1, 0xff]), Some("AAH/"), Some(Encoding::Base64)),
            (None, None, None),
        ] {
            let data_in_tree = bytes.map(Data::new);
            let (text, how) = data_out(data_in_tree.as_ref());
            assert_eq!((text.as_deref(), how), (data, encoding));
            let back = data_in(text.map(Cow::into_owned), how.unwrap_or_default()).unwrap();
            assert_eq!(back, data_in_tree, "what is read can be written back");
        }
    }

    #[test]
    fn data_that_is_not_base64_or_too_large_is_refused() {
        let failed = data_in(Some("a".to_owned()), Encoding::Base64).unwrap_err();
        assert_eq!(failed.parts().1.code, "bad_arguments");
        let failed = data_in(Some("x".repeat(DATA_BYTES_MAX + 1)), Encoding::Utf8).unwrap_err();
        assert_eq!(failed.parts().0, 413);
        assert!(data_in(Some("x".repeat(DATA_BYTES_MAX)), Encoding::Utf8).is_ok());
    }

    #[test]
    fn an_access_control_list_survives_its_json() {
        let rules = vec![
            AclBody { perms: "cdrwa".into(), scheme: "world".into(), id: "anyone".into() },
            AclBody { perms: "rw".into(), scheme: "ip".into(), id: "10.0.0.0/8".into() },
        ];
        assert_eq!(acl_out(&acl_in(rules.clone()).unwrap()), rules);
        assert_eq!(acl_out(&[]), rules[..1]);
        let unknown = AclBody { perms: "rx".into(), scheme: "world".into(), id: "anyone".into() };
        for bad in [vec![], vec![unknown], vec![rules[0].clone(); ACL_RULES_MAX + 1]] {
            assert_eq!(acl_in(bad).unwrap_err().parts().1.code, "invalid_acl");
        }
    }

    #[test]
    fn a_creation_becomes_the_op_that_it_asks_for() {
        let op = |creation: Creation, path| match creation.op(path, None, Vec::new()) {
            Ok(Op::Create { parent, name, mode, .. }) => Ok((parent.to_string(), name, mode)),
            Ok(_) => unreachable!("a creation makes a create"),
            Err(failed) => Err(failed.parts().1.code),
        };
        let plain = Creation::default();
        let session = Creation { mode: Mode::Ephemeral, session: true, ..plain };
        let ttl = Creation { mode: Mode::Ttl, ttl_ms: Some(5), ..plain };
        let made = |parent: &str, name: &str, mode| Ok((parent.to_owned(), name.to_owned(), mode));
        assert_eq!(op(plain, "/a/b"), made("/a", "b", CreateMode::Persistent));
        assert_eq!(op(session, "/a"), made("/", "a", CreateMode::Ephemeral));
        let sequential = Creation { sequential: true, ..ttl };
        assert_eq!(op(sequential, "/q/"), made("/q", "", CreateMode::TtlSequential(5)));
        assert_eq!(op(plain, "/"), Err("node_exists"));
        for bad in [
            Creation { session: false, ..session },
            Creation { ttl_ms: None, ..ttl },
            Creation { ttl_ms: Some(0), ..ttl },
            Creation { ttl_ms: Some(TTL_MS_MAX + 1), ..ttl },
            Creation { ttl_ms: Some(5), ..plain },
            Creation { mode: Mode::Container, sequential: true, ..plain },
        ] {
            assert_eq!(op(bad, "/a"), Err("bad_arguments"), "{bad:?}");
        }
    }
}
