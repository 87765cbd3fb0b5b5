//! Apache ZooKeeper as Debian packages it, three servers or more.
//!
//! A server tells the others at which address it takes votes, and they connect back to that: a proxy in front of it would
//! be passed by. So the servers are told names, and each has a table of names of its own, in which its own name is where
//! it listens, and the others' are proxies on the same ports of another loopback address.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{NAMED_PROXIES, Place, System, eventually};
use crate::door::{Door, ZkDoor};
use crate::judge;
use crate::workload::{REQUEST_TIMEOUT, Workload};

const JAVA: &str = "/usr/bin/java";
const CLASSES: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar";
const JAR: &str = "/usr/share/java/zookeeper.jar";
/// Ticks after which leader and followers give each other up.
const SYNC_LIMIT: u64 = 4;
const WORD_PATIENCE: Duration = Duration::from_millis(500);

/// Runs ZooKeeper's server class.
#[derive(Clone, Debug)]
pub struct ZooKeeper {
    /// Its unit of time, ms: sessions end at a multiple of it, and servers give each other up after four.
    pub tick_ms: u64,
}

impl ZooKeeper {
    /// Returns what is missing to run it, if anything is.
    pub fn missing() -> Option<String> {
        let missing = [JAVA, JAR].into_iter().find(|file| !Path::new(file).exists())?;
        Some(format!("{missing} is not there: scripts/install-zookeeper.sh installs it"))
    }
}

/// Returns what a server answers to `srvr`.
async fn srvr(place: &Place) -> Option<String> {
    let asking = async {
        let mut stream = TcpStream::connect(("127.0.0.1", place.client)).await.ok()?;
        stream.write_all(b"srvr").await.ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await.ok()?;
        said.contains("Mode: ").then_some(said)
    };
    timeout(WORD_PATIENCE, asking).await.ok().flatten()
}

/// Writes a file of a node, with the directory that it is in.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let failed = |err: std::io::Error| format!("{}: {err}", path.display());
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
    std::fs::write(path, text).map_err(failed)
}

impl System for ZooKeeper {
    fn name(&self) -> String {
        "zookeeper".into()
    }

    fn has_one_port(&self) -> bool {
        false
    }

    fn is_reached_by_name(&self) -> bool {
        true
    }

    fn runs(&self, _: Workload) -> bool {
        true
    }

    fn unpromised(&self) -> &'static [&'static str] {
        // A `sync` asks no quorum, so a read behind it may be old. Writes alone are not looked at.
        &[judge::WITNESS, judge::LINEARIZABLE]
    }

    fn door(&self, node: u8, addr: &str) -> Result<Arc<dyn Door>, String> {
        Ok(Arc::new(ZkDoor::new(node, addr, REQUEST_TIMEOUT)))
    }

    fn survives_wipe(&self) -> bool {
        false
    }

    fn command(&self, place: &Place) -> Result<Command, String> {
        let data = place.dir.join("data");
        write(&data.join("myid"), &place.node.to_string())?;
        let mut names = "127.0.0.1 localhost\n".to_owned();
        let mut members = String::new();
        for (node, peer, election) in &place.named {
            let at = if *node == place.node { "127.0.0.1" } else { NAMED_PROXIES };
            names += &format!("{at} n{node}\n");
            members += &format!("server.{node}=n{node}:{peer}:{election}\n");
        }
        let hosts = place.dir.join("hosts");
        write(&hosts, &names)?;
        let config = format!(
            "tickTime={}\ninitLimit=40\nsyncLimit={SYNC_LIMIT}\nminSessionTimeout=1000\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=srvr\ndataDir={}\nclientPort={}\n\
             clientPortAddress=127.0.0.1\n{members}",
            self.tick_ms,
            data.display(),
            place.client,
        );
        let file = place.dir.join("zoo.cfg");
        write(&file, &config)?;
        let mut command = Command::new(JAVA);
        command
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            // Connections are told apart by the kernel's table of IPv4 sockets.
            .arg("-Djava.net.preferIPv4Stack=true")
            .arg(format!("-Djdk.net.hosts.file={}", hosts.display()))
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .args(["-cp", CLASSES, "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
            .arg(&file);
        Ok(command)
    }

    fn begin<'a>(&'a self, places: &'a [Place]) -> BoxFuture<'a, Result<(), String>> {
        async move {
            for place in places {
                let serves = || async move { srvr(place).await.is_some() };
                eventually(&format!("server {} serves", place.node), serves).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn leads<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Option<u64>> {
        async move {
            let said = srvr(place).await?;
            let zxid = said.lines().find_map(|line| line.strip_prefix("Zxid: 0x"));
            let zxid = zxid.and_then(|zxid| u64::from_str_radix(zxid, 16).ok()).unwrap_or(0);
            // Its terms are the epochs.
            said.contains("Mode: leader").then_some(zxid >> 32)
        }
        .boxed()
    }
}
