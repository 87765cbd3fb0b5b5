//! The answers of the HTTP door as values, and the bodies sent to it. They serialise to the JSON they came from.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

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

/// Answer of [`get`](super::Client::get).
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

/// Answer of [`children`](super::Client::children), sorted by name.
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
}

/// Answer of [`create`](super::Client::create).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The path as created, with the digits of a sequential znode.
    pub path: String,
    /// Its stat.
    pub stat: Stat,
    /// The write's place in the order.
    pub zxid: u64,
}

/// Answer of [`set`](super::Client::set).
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

/// One op of a [`multi`](super::Client::multi).
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

/// Answer of [`multi`](super::Client::multi).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultiDone {
    /// In the order of the ops.
    pub results: Vec<MultiResult>,
    /// The transaction's place in the order.
    pub zxid: u64,
}

/// Answer of [`open_session`](super::Client::open_session).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedSession {
    /// Its id, `0x…`.
    pub session: String,
    /// What proves to be its holder.
    pub token: String,
    /// The timeout as the cluster moved it into its range, ms.
    pub timeout_ms: u64,
    /// The opening's place in the order.
    pub zxid: u64,
}

/// Answer of [`renew_session`](super::Client::renew_session).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewedSession {
    /// Its id, `0x…`.
    pub session: String,
    /// It lives at least this long from the moment the request was sent, ms.
    pub timeout_ms: u64,
}

/// Answer of [`close_session`](super::Client::close_session).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedSession {
    /// How many ephemerals went with it.
    pub removed: u64,
    /// The closing's place in the order.
    pub zxid: u64,
}

/// One session in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Its id, `0x…`.
    pub session: String,
    /// Its timeout, ms.
    pub timeout_ms: u64,
    /// How many ephemerals it holds.
    pub ephemerals: u64,
}

/// Answer of [`sessions`](super::Client::sessions).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// The sessions.
    pub sessions: Vec<SessionSummary>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The state that the last page was read from.
    pub zxid: u64,
}

/// Answer of [`session`](super::Client::session).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDetail {
    /// Its id, `0x…`.
    pub session: String,
    /// Its timeout, ms.
    pub timeout_ms: u64,
    /// The paths of its ephemerals.
    pub ephemerals: Vec<String>,
    /// The state this was read from.
    pub zxid: u64,
}

/// One service in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSummary {
    /// Its name.
    pub name: String,
    /// How many providers it has.
    pub providers: u64,
    /// How many consumers it has.
    pub consumers: u64,
}

/// Answer of [`services`](super::Client::services).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The services, by name.
    pub services: Vec<ServiceSummary>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The state that the last page was read from.
    pub zxid: u64,
}

/// What to register.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The provider's id; `host:port` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where to reach it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share of traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Anything else that consumers have to know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Its state of health, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// Answer of [`register`](super::Client::register).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The service.
    pub name: String,
    /// The provider's id.
    pub id: String,
    /// Its znode.
    pub path: String,
    /// The write's place in the order.
    pub zxid: u64,
}

/// One provider of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its id.
    pub id: String,
    /// Where to reach it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share of traffic.
    pub weight: u32,
    /// Anything else that it wants known.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Its state of health, as it says itself.
    pub status: String,
    /// The session that holds it; `None` when its znode is not ephemeral.
    #[serde(default)]
    pub session: Option<String>,
    /// When it was registered.
    pub czxid: u64,
    /// Version of its data.
    pub version: i32,
}

/// One consumer of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its id.
    pub id: String,
    /// What it wants known.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The session that holds it; `None` when its znode is not ephemeral.
    #[serde(default)]
    pub session: Option<String>,
}

/// A znode among the providers or consumers whose data is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unparsable {
    /// Its id.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Answer of [`service`](super::Client::service).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its providers, by id.
    pub providers: Vec<Provider>,
    /// Its consumers, by id.
    #[serde(default)]
    pub consumers: Vec<Consumer>,
    /// What is registered in a form that cannot be read.
    #[serde(default)]
    pub unparsable: Vec<Unparsable>,
    /// The state this was read from.
    pub zxid: u64,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: u64,
    /// Where other nodes reach it.
    pub peer_addr: String,
    /// Where clients reach it.
    pub http_addr: String,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Who.
    #[serde(flatten)]
    pub member: Member,
    /// `voter` or `learner`.
    pub role: String,
    /// Last log index that it is known to hold.
    #[serde(default)]
    pub matched: Option<u64>,
    /// Entries that it lacks.
    #[serde(default)]
    pub lag: Option<u64>,
}

/// Answer of [`cluster`](super::Client::cluster). Positions are log indexes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are Raft's")]
pub struct Cluster {
    /// `None` before the cluster is initialised.
    #[serde(default)]
    pub cluster_id: Option<String>,
    /// The node that answered.
    pub node: u64,
    #[serde(default)]
    pub leader: Option<u64>,
    pub term: u64,
    pub state: String,
    #[serde(default)]
    pub members: Vec<MemberStatus>,
    #[serde(default)]
    pub last_log: Option<u64>,
    #[serde(default)]
    pub committed: Option<u64>,
    #[serde(default)]
    pub applied: Option<u64>,
    #[serde(default)]
    pub snapshot: Option<u64>,
    #[serde(default)]
    pub purged: Option<u64>,
    pub zxid: u64,
    /// Hash of the state at `zxid`, hex.
    pub digest: String,
}

/// Answer of [`digest`](super::Client::digest): one node's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestAnswer {
    /// The state's zxid.
    pub zxid: u64,
    /// Its hash, hex.
    pub digest: String,
    /// Last log index applied.
    #[serde(default)]
    pub applied: Option<u64>,
    /// The node.
    pub node: u64,
}

/// What a watch stream says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum WatchEvent {
    /// The state at the start, and again after a reset.
    Snapshot(Snapshot),
    /// One transaction's changes.
    Change(Change),
    /// Changes were skipped; a snapshot follows.
    Reset(Reset),
    /// Everything up to this zxid has been told.
    Progress {
        /// That zxid.
        zxid: u64,
    },
}

/// See [`WatchEvent::Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The state's zxid.
    pub zxid: u64,
    /// One for each thing watched.
    pub watches: Vec<WatchState>,
}

/// The state of one thing watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchState {
    /// `data`, `children`, `children_data` or `subtree`.
    pub kind: String,
    /// The path watched.
    pub path: String,
    /// Whether a znode is there.
    pub exists: bool,
    /// The znodes that the kind speaks of.
    #[serde(default)]
    pub znodes: Vec<WatchedZnode>,
}

/// A znode in a snapshot of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedZnode {
    /// Its path.
    pub path: String,
    /// Its data, where the kind includes it.
    #[serde(flatten)]
    pub payload: Payload,
    /// Its stat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<Stat>,
}

/// See [`WatchEvent::Change`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The transaction.
    pub zxid: u64,
    /// What it did, in order.
    pub changes: Vec<ZnodeChange>,
}

/// One change of one znode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZnodeChange {
    /// What happened.
    pub kind: ChangeKind,
    /// To which znode.
    pub path: String,
    /// The data after it, where the watch includes it.
    #[serde(flatten)]
    pub payload: Payload,
    /// The stat after it; `None` when deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<Stat>,
}

/// What happened to a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum ChangeKind {
    Created,
    Changed,
    Deleted,
}

/// See [`WatchEvent::Reset`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// The state that the following snapshot is at or after.
    pub zxid: u64,
    /// `too_old`, `overflow` or `snapshot_installed`.
    pub reason: String,
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
