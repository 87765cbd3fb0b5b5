//! etcd as Debian packages it, with the settings that it comes with.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Place, System, eventually};
use crate::door::{Door, EtcdDoor};
use crate::workload::{REQUEST_TIMEOUT, Workload};

const PROGRAM: &str = "etcd";
const STATUS_PATIENCE: Duration = Duration::from_millis(500);

/// Runs `etcd`.
#[derive(Clone, Debug)]
pub struct Etcd;

impl Etcd {
    /// Returns what is missing to run it, if anything is.
    pub fn missing() -> Option<String> {
        let mut version = Command::new(PROGRAM);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        let is_there = version.status().is_ok_and(|status| status.success());
        (!is_there).then(|| "etcd is not there: scripts/install-etcd.sh installs it".to_owned())
    }
}

/// Returns a server's answer about itself.
async fn ask(place: &Place, what: &str) -> Option<Value> {
    let http = reqwest::Client::builder().timeout(STATUS_PATIENCE).no_proxy().build().ok()?;
    let url = format!("http://127.0.0.1:{}/v3/maintenance/{what}", place.client);
    http.post(url).json(&json!({})).send().await.ok()?.json().await.ok()
}

/// Reads a number: 64 bits are written as text.
fn int(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

impl System for Etcd {
    fn name(&self) -> String {
        "etcd".into()
    }

    fn has_one_port(&self) -> bool {
        false
    }

    fn runs(&self, workload: Workload) -> bool {
        // It has no sequential keys.
        workload != Workload::Set
    }

    fn door(&self, node: u8, addr: &str) -> Result<Arc<dyn Door>, String> {
        Ok(Arc::new(EtcdDoor::new(node, addr, REQUEST_TIMEOUT)?))
    }

    fn survives_wipe(&self) -> bool {
        false
    }

    fn command(&self, place: &Place) -> Result<Command, String> {
        let own = (place.node, &place.peer_addr);
        let others = place.others.iter().map(|(node, addr)| (*node, addr));
        let members = others.chain([own]).map(|(node, addr)| format!("n{node}=http://{addr}"));
        let members: Vec<String> = members.collect();
        let client = format!("http://127.0.0.1:{}", place.client);
        let mut command = Command::new(PROGRAM);
        command
            .args(["--name", &format!("n{}", place.node)])
            .arg("--data-dir")
            .arg(place.dir.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", place.peer)])
            .args(["--initial-advertise-peer-urls", &format!("http://{}", place.peer_addr)])
            .args(["--initial-cluster", &members.join(","), "--initial-cluster-state", "new"])
            .args(["--logger", "zap", "--log-level", "error"]);
        Ok(command)
    }

    fn begin<'a>(&'a self, places: &'a [Place]) -> BoxFuture<'a, Result<(), String>> {
        async move {
            for place in places {
                let serves = || async move {
                    ask(place, "status").await.is_some_and(|status| int(&status["leader"]) != 0)
                };
                eventually(&format!("server {} serves", place.node), serves).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn leads<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Option<u64>> {
        async move {
            let status = ask(place, "status").await?;
            let (own, leader) = (&status["header"]["member_id"], &status["leader"]);
            (own.is_string() && own == leader).then(|| int(&status["raftTerm"]))
        }
        .boxed()
    }

    fn digests<'a>(&'a self, places: &'a [Place]) -> BoxFuture<'a, Option<Vec<(u64, String)>>> {
        async move {
            let mut digests = Vec::new();
            for place in places {
                let Some(answer) = ask(place, "hash").await else { continue };
                if answer.get("hash").is_some() {
                    let revision = int(&answer["header"]["revision"]);
                    digests.push((revision, answer["hash"].to_string()));
                }
            }
            Some(digests)
        }
        .boxed()
    }
}
