//! The answers of the HTTP door as values, and the bodies sent to it. They serialise to the JSON they came
//! from.

mod cluster;
mod instances;
mod registry;
mod traffic;
mod watch;

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

pub use cluster::{Cluster, DigestAnswer, Member, MemberStatus};
pub use instances::{Instance, Opaque, ServiceDelta, ServiceEvent, ServiceRefusal, WatchedService};
pub use registry::{
    ClosedSession, Consumer, Drain, Drained, OpenedSession, Provider, Registered, Registration,
    RenewedSession, Service, ServiceSummary, ServiceVersion, Services, SessionDetail,
    SessionSummary, Sessions, Unparsable, Versions,
};
pub use traffic::{Deregistered, Deregistration};
pub use watch::{
    Change, ChangeKind, Reset, Snapshot, WatchEvent, WatchState, WatchedZnode, ZnodeChange,
};

/// The bytes of a znode as JSON carries them: `{"data", "encoding"}` among the fields of what holds them.
/// `None` is absent data, which is not the same as empty data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "EncodedData", into = "EncodedData")]
pub struct Payload(pub Option<Vec<u8>>);

#[derive(Clone, Serialize, Deserialize)]
struct EncodedData {
    #[serde(default)]
    data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoding: Option<String>,
}

impl TryFrom<EncodedData> for Payload {
    type Error = String;

    fn try_from(encoded: EncodedData) -> Result<Payload, String> {
        let Some(data) = encoded.data else { return Ok(Payload(None)) };
        match encoded.encoding.as_deref() {
            None | Some("utf8") => Ok(Payload(Some(data.into_bytes()))),
            Some("base64") => STANDARD
                .decode(&data)
                .map(|bytes| Payload(Some(bytes)))
                .map_err(|err| err.to_string()),
            Some(other) => Err(format!("unknown encoding {other:?}")),
        }
    }
}

impl From<Payload> for EncodedData {
    fn from(payload: Payload) -> EncodedData {
        let Some(bytes) = payload.0 else { return EncodedData { data: None, encoding: None } };
        match String::from_utf8(bytes) {
            Ok(text) => EncodedData { data: Some(text), encoding: Some("utf8".to_owned()) },
            Err(err) => EncodedData {
                data: Some(STANDARD.encode(err.as_bytes())),
                encoding: Some("base64".to_owned()),
            },
        }
    }
}

/// The eleven fields that clients see of a znode. Times are ms of wall clock since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the protocol's, explained at types::Stat")]
pub struct Stat {
    pub czxid: u64,
    pub mzxid: u64,
    pub ctime_ms: u64,
    pub mtime_ms: u64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    /// The owning session as `0x…`; `None` when the znode is not ephemeral.
    pub ephemeral_owner: Option<String>,
    pub data_length: u32,
    pub num_children: u32,
    pub pzxid: u64,
}

/// Answer of [`get`](crate::client::Client::get).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Znode {
    /// Its path.
    pub path: String,
    /// Its data.
    #[serde(flatten)]
    pub payload: Payload,
    /// Its stat.
    pub stat: Stat,
    /// The state this was read from.
    pub zxid: u64,
}

/// One child in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Last element of its path.
    pub name: String,
    /// Its data, when asked for.
    #[serde(flatten)]
    pub payload: Payload,
    /// Its stat, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<Stat>,
}

/// Answer of [`children`](crate::client::Client::children), sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Children {
    /// The parent.
    pub path: String,
    /// The parent's stat.
    pub stat: Stat,
    /// The children.
    pub children: Vec<Child>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The state that the last page was read from.
    pub zxid: u64,
}

/// Lifetime of a znode to create.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Stays until deleted.
    #[default]
    Persistent,
    /// Goes with its session.
    Ephemeral,
    /// Goes some time after its last child.
    Container,
    /// Goes when neither changed nor given children for a time.
    Ttl,
}

impl Mode {
    /// Returns the name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Persistent => "persistent",
            Mode::Ephemeral => "ephemeral",
            Mode::Container => "container",
            Mode::Ttl => "ttl",
        }
    }
}

/// What to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Create {
    /// Where; for a sequential znode the prefix of its path.
    pub path: String,
    /// The data.
    pub data: Vec<u8>,
    /// Its lifetime.
    pub mode: Mode,
    /// Whether the cluster appends ten digits.
    pub sequential: bool,
    /// For [`Mode::Ttl`].
    pub ttl_ms: Option<u64>,
    /// Whether missing parents are created, in the same transaction.
    pub parents: bool,
    /// Its access control list; open to everyone when empty.
    pub acl: Vec<AclRule>,
}

/// A rule of an access control list. Its text is `scheme:id:perms`, as in zkCli.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRule {
    /// Letters of `cdrwa`: create, delete, read, write, admin.
    pub perms: String,
    /// `world`, `auth`, `digest`, `ip` or `x509`.
    pub scheme: String,
    /// Whom, as the scheme writes it.
    pub id: String,
}

impl fmt::Display for AclRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.scheme, self.id, self.perms)
    }
}

impl FromStr for AclRule {
    type Err = String;

    /// Reads the text. The id may contain colons. Error: a sentence for the person who typed it.
    fn from_str(text: &str) -> Result<AclRule, String> {
        let wrong = || format!("{text:?} is not a rule of the form scheme:id:perms");
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (id, perms) = rest.rsplit_once(':').ok_or_else(wrong)?;
        Ok(AclRule { perms: perms.to_owned(), scheme: scheme.to_owned(), id: id.to_owned() })
    }
}

/// Answer of [`acl`](crate::client::Client::acl).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclOf {
    /// The rules; hashes of passwords are `x` for who may not change them.
    pub acl: Vec<AclRule>,
    /// The znode's stat.
    pub stat: Stat,
    /// The state that was read.
    pub zxid: u64,
}

/// Answer of [`create`](crate::client::Client::create).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The path as created, with the digits of a sequential znode.
    pub path: String,
    /// Its stat.
    pub stat: Stat,
    /// The write's place in the order.
    pub zxid: u64,
}

/// Answer of [`set`](crate::client::Client::set).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The stat after the write.
    pub stat: Stat,
    /// The write's place in the order.
    pub zxid: u64,
}

/// Answer of a write that has nothing else to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The write's place in the order.
    pub zxid: u64,
}

/// One op of a [`multi`](crate::client::Client::multi).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are those of the single calls")]
pub enum MultiOp {
    /// Creates a znode.
    Create {
        path: String,
        #[serde(flatten)]
        payload: Payload,
        mode: Mode,
        sequential: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
    },
    /// Sets the data.
    Set {
        path: String,
        #[serde(flatten)]
        payload: Payload,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<i32>,
    },
    /// Deletes a znode.
    Delete {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<i32>,
    },
    /// Only demands a version.
    Check {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<i32>,
    },
}

/// What one op of a multi gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultiResult {
    /// The path as created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The stat after the write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<Stat>,
}

/// Answer of [`multi`](crate::client::Client::multi).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultiDone {
    /// In the order of the ops.
    pub results: Vec<MultiResult>,
    /// The transaction's place in the order.
    pub zxid: u64,
}

#[cfg(test)]
mod tests {
    use super::{Payload, Znode};

    #[test]
    fn text_bytes_and_absence_of_data_survive_json() {
        for (data, json) in [
            (Some(b"hi".to_vec()), r#"{"data":"hi","encoding":"utf8"}"#),
            (Some(vec![0, 1, 0xff]), r#"{"data":"AAH/","encoding":"base64"}"#),
            (Some(vec![]), r#"{"data":"","encoding":"utf8"}"#),
            (None, r#"{"data":null}"#),
        ] {
            let payload = Payload(data);
            assert_eq!(serde_json::to_string(&payload).unwrap(), json);
            assert_eq!(serde_json::from_str::<Payload>(json).unwrap(), payload);
        }
        assert!(serde_json::from_str::<Payload>(r#"{"data":"*","encoding":"base64"}"#).is_err());
        assert!(serde_json::from_str::<Payload>(r#"{"data":"x","encoding":"rot13"}"#).is_err());
    }

    #[test]
    fn a_znode_reads_its_data_from_among_its_own_fields() {
        let json = r#"{"path":"/a","data":"AAE=","encoding":"base64","zxid":9,"stat":{"czxid":1,"mzxid":2,
            "ctime_ms":3,"mtime_ms":4,"version":5,"cversion":6,"aversion":7,
            "ephemeral_owner":"0x0100000000000001","data_length":2,"num_children":0,"pzxid":1}}"#;
        let znode: Znode = serde_json::from_str(json).unwrap();
        assert_eq!((znode.payload.0.as_deref(), znode.zxid), (Some(&[0u8, 1][..]), 9));
        assert_eq!(znode.stat.ephemeral_owner.as_deref(), Some("0x0100000000000001"));
    }
}
