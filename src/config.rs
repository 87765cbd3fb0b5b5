//! The configuration of one node: a TOML file, checked as a whole before anything starts.
//!
//! Unknown keys are refused by name. Nothing below `server` reads this; values are passed in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use crate::identity::{Network, SuperDigest};
use crate::limits::{
    SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN, ZK_CONNECTIONS_PER_ADDRESS_DEFAULT,
    ZK_FRAME_BYTES_DEFAULT, ZK_FRAME_BYTES_MAX,
};
use crate::types::NodeId;

/// The whole file. `config/` holds commented examples of every key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: NodeConfig,
    /// The HTTP door.
    pub http: ListenConfig,
    /// The door for other nodes.
    pub peer: ListenConfig,
    /// The ZooKeeper door; closed when missing.
    pub zk: Option<ZkConfig>,
    /// What all nodes of the cluster share.
    pub cluster: ClusterConfig,
    /// Timing of consensus.
    #[serde(default)]
    pub raft: RaftConfig,
    /// Sessions.
    #[serde(default)]
    pub sessions: SessionsConfig,
    /// Znodes that end by themselves.
    #[serde(default)]
    pub znodes: ZnodesConfig,
    /// Whom the node may ask whether they live.
    #[serde(default)]
    pub probe: ProbeConfig,
    /// Who may do what.
    #[serde(default)]
    pub access: AccessConfig,
    /// Who has switched what.
    #[serde(default)]
    pub audit: AuditConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
}

/// `[node]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// 1..=255, unique in the cluster for ever.
    pub id: NodeId,
    /// Where log and snapshots live; created when missing. Relative to the working directory.
    pub data_dir: PathBuf,
}

/// `[http]` and `[peer]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// Address and port to listen on.
    pub listen: SocketAddr,
}

/// `[zk]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZkConfig {
    /// Address and port to listen on. ZooKeeper's port is 2181.
    pub listen: SocketAddr,
    /// Bytes of one request. Source: ZooKeeper `jute.maxbuffer`.
    #[serde(default = "zk_frame_bytes_max")]
    pub frame_bytes_max: usize,
    /// Connections from one address, 0 for any number. Source: ZooKeeper `maxClientCnxns`.
    #[serde(default = "zk_connections_per_address_max")]
    pub connections_per_address_max: usize,
    /// Four-letter words that are answered; `*` for all. Source: ZooKeeper `4lw.commands.whitelist`.
    #[serde(default = "zk_words")]
    pub words: Vec<String>,
    /// Whether clients may change the members by `reconfig`. Source: ZooKeeper `reconfigEnabled`.
    #[serde(default)]
    pub reconfig: bool,
}

fn zk_words() -> Vec<String> {
    crate::zk::WORDS_DEFAULT.map(str::to_owned).to_vec()
}

fn zk_frame_bytes_max() -> usize {
    ZK_FRAME_BYTES_DEFAULT
}

fn zk_connections_per_address_max() -> usize {
    ZK_CONNECTIONS_PER_ADDRESS_DEFAULT
}

/// `[cluster]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The secret by which nodes know each other; the same on all of them, at least 16 characters.
    pub secret: String,
}

impl std::fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterConfig").field("secret", &"(hidden)").finish()
    }
}

/// `[raft]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftConfig {
    /// How often the leader shows that it lives, ms.
    pub heartbeat_ms: u64,
    /// Shortest time without a leader before a node stands for election, ms.
    pub election_ms_min: u64,
    /// Longest, ms; also the length of the leader's lease. Failover takes between this and twice this.
    pub election_ms_max: u64,
    /// Bytes of log after which a snapshot is taken (or as many as the state has, if that is more).
    pub snapshot_log_bytes: u64,
    /// Log entries kept behind a snapshot for followers that are a little behind.
    pub log_entries_kept: u64,
}

impl Default for RaftConfig {
    fn default() -> RaftConfig {
        let raft = crate::raft::Options::default();
        RaftConfig {
            heartbeat_ms: raft.heartbeat_ms,
            election_ms_min: raft.election_ms_min,
            election_ms_max: raft.election_ms_max,
            snapshot_log_bytes: 64 << 20,
            log_entries_kept: raft.log_entries_kept,
        }
    }
}

/// `[sessions]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsConfig {
    /// Granularity of expiry, ms: a session ends at most this much late.
    pub tick_ms: u64,
    /// Shortest timeout a client can get, ms.
    pub timeout_ms_min: u32,
    /// Longest, ms.
    pub timeout_ms_max: u32,
}

impl Default for SessionsConfig {
    fn default() -> SessionsConfig {
        SessionsConfig {
            tick_ms: 200,
            timeout_ms_min: SESSION_TIMEOUT_MS_MIN,
            timeout_ms_max: SESSION_TIMEOUT_MS_MAX,
        }
    }
}

/// `[znodes]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ZnodesConfig {
    /// How often the leader looks for containers that have lost their last child and for TTL znodes whose time is over, ms.
    /// Source: ZooKeeper `znode.container.checkIntervalMs`.
    pub check_interval_ms: u64,
}

impl Default for ZnodesConfig {
    fn default() -> ZnodesConfig {
        ZnodesConfig { check_interval_ms: 200 }
    }
}

/// `[probe]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Networks in which this node may probe providers, where a policy says so; none when empty.
    #[serde(deserialize_with = "networks")]
    pub networks: Vec<Network>,
}

fn networks<'de, D: Deserializer<'de>>(texts: D) -> Result<Vec<Network>, D::Error> {
    let read = |text: String| {
        Network::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no network")))
    };
    Vec::<String>::deserialize(texts)?.into_iter().map(read).collect()
}

/// `[access]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Whose name and password make a client `super`, for whom no access control list holds. Nobody's when empty.
    #[serde(deserialize_with = "super_digest")]
    pub super_digest: Option<SuperDigest>,
}

fn super_digest<'de, D: Deserializer<'de>>(text: D) -> Result<Option<SuperDigest>, D::Error> {
    let text = String::deserialize(text)?;
    if text.is_empty() {
        return Ok(None);
    }
    SuperDigest::parse(&text).map(Some).map_err(serde::de::Error::custom)
}

/// `[audit]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// The file, relative to the data directory. None when empty.
    pub path: PathBuf,
    /// At this size it is put aside, bytes.
    pub bytes_max: u64,
    /// How many older ones are kept.
    pub files_kept: u32,
}

impl Default for AuditConfig {
    fn default() -> AuditConfig {
        AuditConfig { path: "audit.log".into(), bytes_max: 16 << 20, files_kept: 4 }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// What to log, as in `RUST_LOG`: `info`, `roost=debug`, …
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { filter: "info,openraft=warn,sled=warn".into() }
    }
}

impl Config {
    /// Reads and checks a file. The error is one line that names the file, the place and what is wrong.
    pub fn load(path: &Path) -> Result<Config, String> {
        let text =
            std::fs::read_to_string(path).map_err(|err| format!("{}: {err}", path.display()))?;
        Config::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    /// Checks the text of a configuration file.
    pub fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|err| one_line(text, &err))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let refuse = |key: &str, why: String| Err(format!("{key}: {why}"));
        if !(1..=255).contains(&self.node.id) {
            return refuse("node.id", format!("{} is not within 1 to 255", self.node.id));
        }
        if self.cluster.secret.len() < 16 {
            return refuse("cluster.secret", "must have at least 16 characters".into());
        }
        let raft = &self.raft;
        if raft.heartbeat_ms < 10 || raft.heartbeat_ms > raft.election_ms_min / 3 {
            return refuse(
                "raft.heartbeat_ms",
                "must be at least 10 and at most a third of election_ms_min".into(),
            );
        }
        if raft.election_ms_min >= raft.election_ms_max || raft.election_ms_max > 60_000 {
            return refuse(
                "raft.election_ms_max",
                "must be greater than election_ms_min and at most 60000".into(),
            );
        }
        if raft.snapshot_log_bytes < 1 << 20 {
            return refuse("raft.snapshot_log_bytes", "must be at least 1 MiB (1048576)".into());
        }
        if let Some(zk) = &self.zk
            && !(1_024..=ZK_FRAME_BYTES_MAX).contains(&zk.frame_bytes_max)
        {
            return refuse(
                "zk.frame_bytes_max",
                format!("{} is not within 1024 to {ZK_FRAME_BYTES_MAX}", zk.frame_bytes_max),
            );
        }
        let check_interval_ms = self.znodes.check_interval_ms;
        if !(20..=3_600_000).contains(&check_interval_ms) {
            return refuse(
                "znodes.check_interval_ms",
                format!("{check_interval_ms} is not within 20 to 3600000"),
            );
        }
        let audit = &self.audit;
        if audit.bytes_max < 1 << 16 {
            return refuse("audit.bytes_max", "must be at least 65536".into());
        }
        if audit.files_kept > 1_000 {
            return refuse("audit.files_kept", "must be at most 1000".into());
        }
        let sessions = &self.sessions;
        if !(20..=10_000).contains(&sessions.tick_ms) {
            return refuse(
                "sessions.tick_ms",
                format!("{} is not within 20 to 10000", sessions.tick_ms),
            );
        }
        if u64::from(sessions.timeout_ms_min) < 2 * sessions.tick_ms
            || sessions.timeout_ms_min > sessions.timeout_ms_max
            || sessions.timeout_ms_max > SESSION_TIMEOUT_MS_MAX
        {
            return refuse(
                "sessions.timeout_ms_min",
                format!(
                    "must be at least two ticks and at most timeout_ms_max, and that at most {SESSION_TIMEOUT_MS_MAX}"
                ),
            );
        }
        Ok(())
    }
}

/// Folds toml's message, which draws the place over several lines, into one.
fn one_line(text: &str, err: &toml::de::Error) -> String {
    let line = err.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = err.message().replace('\n', "; ");
    line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::Config;

    const GOOD: &str = r#"
        [node]
        id = 1
        data_dir = "d"
        [http]
        listen = "127.0.0.1:8081"
        [peer]
        listen = "0.0.0.0:7081"
        [cluster]
        secret = "0123456789abcdef"
    "#;

    #[test]
    fn the_least_configuration_is_enough() {
        let config = Config::parse(GOOD).unwrap();
        assert_eq!((config.peer.listen.port(), config.sessions.tick_ms), (7081, 200));
        assert!(
            !format!("{config:?}").contains("0123456789abcdef"),
            "the secret must not reach a log"
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_place_in_one_line() {
        for (from, to, named) in [
            ("id = 1", "id = 0", "node.id"),
            ("id = 1", "id = \"x\"", "line 3"),
            ("data_dir", "data_dri", "data_dri"),
            ("0123456789abcdef", "short", "cluster.secret"),
            ("[cluster]", "[raft]\nheartbeat_ms = 300\n[cluster]", "raft.heartbeat_ms"),
            (
                "[cluster]",
                "[raft]\nheartbeat_ms = 6148914691236517206\n[cluster]",
                "raft.heartbeat_ms",
            ),
            ("[cluster]", "[sessions]\ntick_ms = 5\n[cluster]", "sessions.tick_ms"),
            (
                "[cluster]",
                "[zk]\nlisten = \"127.0.0.1:2181\"\nframe_bytes_max = 99\n[cluster]",
                "zk.frame_bytes_max",
            ),
            ("[cluster]", "[znodes]\ncheck_interval_ms = 0\n[cluster]", "znodes.check_interval_ms"),
            ("[cluster]", "[probe]\nnetworks = [\"hall\"]\n[cluster]", "hall"),
            ("[cluster]", "[audit]\nbytes_max = 1\n[cluster]", "audit.bytes_max"),
            ("[cluster]", "[access]\nsuper_digest = \"super:test\"\n[cluster]", "super_digest"),
        ] {
            let error = Config::parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(named) && !error.contains('\n'), "{named}: {error}");
        }
    }
}
