//! roost, over HTTP or over ZooKeeper's protocol.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use ::roost::client::model::Member;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;

use super::{Place, System, eventually, until_ready};
use crate::door::{Door, HttpDoor, ZkDoor};
use crate::workload::{REQUEST_TIMEOUT, Workload};

/// Runs `roost serve`.
#[derive(Clone, Debug)]
pub struct Roost {
    /// The program.
    pub program: PathBuf,
    /// Whether clients speak ZooKeeper's protocol.
    pub is_zk: bool,
}

impl System for Roost {
    fn name(&self) -> String {
        if self.is_zk { "roost-zk" } else { "roost" }.into()
    }

    fn has_one_port(&self) -> bool {
        false
    }

    fn has_api_apart(&self) -> bool {
        self.is_zk
    }

    fn runs(&self, _: Workload) -> bool {
        true
    }

    fn door(&self, node: u8, addr: &str) -> Result<Arc<dyn Door>, String> {
        Ok(match self.is_zk {
            true => Arc::new(ZkDoor::new(node, addr, REQUEST_TIMEOUT)),
            false => Arc::new(HttpDoor::new(node, addr, REQUEST_TIMEOUT)?),
        })
    }

    fn survives_wipe(&self) -> bool {
        false
    }

    fn command(&self, place: &Place) -> Result<Command, String> {
        let Place { id, dir, host, client, http, peer, .. } = place;
        let zk = match self.is_zk {
            true => format!("[zk]\nlisten = \"{host}:{client}\"\n"),
            false => String::new(),
        };
        // Snapshots are taken as often as it goes, so that a run has some.
        let config = format!(
            "[node]\nid = {id}\ndata_dir = {:?}\n[http]\nlisten = \"{host}:{http}\"\n\
             [peer]\nlisten = \"{host}:{peer}\"\n[cluster]\nsecret = \"a secret of the suite\"\n\
             [raft]\nsnapshot_log_bytes = 1048576\nlog_entries_kept = 50\n{zk}",
            self.data_dir(place)
        );
        let file = dir.join("node.toml");
        std::fs::write(&file, config).map_err(|err| format!("{}: {err}", file.display()))?;
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--config").arg(file).env_remove("RUST_LOG");
        Ok(command)
    }

    fn begin<'a>(&'a self, places: &'a [Place]) -> BoxFuture<'a, Result<(), String>> {
        async move {
            for place in places {
                let client = place.observer()?;
                let probe = || {
                    let client = client.clone();
                    async move { client.digest().await.is_ok() }
                };
                eventually(&format!("node {} answers", place.node), probe).await?;
            }
            let members: Vec<Member> = places.iter().map(Place::member).collect();
            let first = places.first().ok_or("a cluster has a node")?.observer()?;
            let first = first.with_timeout(std::time::Duration::from_secs(30));
            // A member that was too slow to answer an invitation refuses the whole; asking again does no harm, and is
            // refused itself when an earlier attempt went through after all.
            let init = || {
                let (first, members) = (first.clone(), members.clone());
                async move {
                    first.init_cluster(&members).await.is_ok()
                        || first.cluster().await.is_ok_and(|cluster| !cluster.members.is_empty())
                }
            };
            eventually("the cluster begins", init).await?;
            for place in places {
                until_ready(place).await?;
            }
            // What is measured is how soon the dead are found, not how many of them are kept for safety.
            let all = json!({
                "pattern": "/services/*/providers", "max_ratio": 1, "reason": "the suite kills many on purpose",
            });
            let unprotected = || {
                let (first, all) = (first.clone(), all.clone());
                async move { first.set_policy("removal", "suite", &all).await.is_ok() }
            };
            eventually("protection is off", unprotected).await
        }
        .boxed()
    }

    fn leads<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Option<u64>> {
        async move {
            let cluster = place.observer().ok()?.cluster().await.ok()?;
            (cluster.leader == Some(place.id)).then_some(cluster.term)
        }
        .boxed()
    }

    fn digests<'a>(&'a self, places: &'a [Place]) -> BoxFuture<'a, Option<Vec<(u64, String)>>> {
        async move {
            let mut digests = Vec::new();
            for place in places {
                let answer = place.observer().ok()?.digest().await;
                digests.extend(answer.ok().map(|answer| (answer.zxid, answer.digest)));
            }
            Some(digests)
        }
        .boxed()
    }

    fn store_file(&self, place: &Place) -> Option<PathBuf> {
        Some(self.data_dir(place).join("raft").join("db"))
    }

    fn can_live_elsewhere(&self) -> bool {
        true
    }

    fn has_members(&self) -> bool {
        true
    }
}
