use futures::{StreamExt, stream};
use rand::Rng;

use super::connection::host_of;
use crate::cli::output::Failure;
use crate::client::model::{Create, Mode, MultiOp, Payload};
use crate::client::{Client, Error, ReadOptions};

const ROOT: &str = "/bench";
/// Ops of one multi while setting up and clearing.
const OPS_MAX: usize = 500;
/// Multis under way at once.
const MULTIS_MAX: usize = 8;
/// Data of one multi, bytes: well below what a node takes, even as JSON.
const OPS_BYTES_MAX: usize = 1 << 20;

/// The part of the tree in which one run does its work.
#[derive(Debug)]
pub(super) struct Field {
    /// For what is not measured.
    pub(super) client: Client,
    /// Everything is below this.
    pub(super) path: String,
}

impl Field {
    /// Creates an empty field.
    pub(super) async fn new(client: Client) -> Result<Field, Failure> {
        let path = format!("{ROOT}/{:08x}", rand::rng().random::<u32>());
        client.create(&Create { path: path.clone(), parents: true, ..Create::default() }).await?;
        Ok(Field { client, path })
    }

    /// Returns `host:port` of every endpoint.
    pub(super) fn hosts(&self) -> Vec<String> {
        self.client.endpoints().iter().map(|endpoint| host_of(endpoint).to_owned()).collect()
    }

    /// Returns the path of a key.
    pub(super) fn key(&self, index: u32) -> String {
        format!("{}/k{index:07}", self.path)
    }

    /// Creates so many keys with this data.
    pub(super) async fn fill(&self, keys: u32, data: &[u8]) -> Result<(), Failure> {
        self.fill_with_progress(keys, data, |_| ()).await
    }

    /// The same, saying how far it has come.
    pub(super) async fn fill_with_progress(
        &self,
        keys: u32,
        data: &[u8],
        mut progress: impl FnMut(u32),
    ) -> Result<(), Failure> {
        let ops_max = (OPS_BYTES_MAX / (data.len() + 100)).clamp(1, OPS_MAX);
        let multis = (0..keys).step_by(ops_max).map(|first| async move {
            let create = |index| MultiOp::Create {
                path: self.key(index),
                payload: Payload(Some(data.to_vec())),
                mode: Mode::Persistent,
                sequential: false,
                ttl_ms: None,
            };
            let end = keys.min(first.saturating_add(ops_max as u32));
            let ops: Vec<_> = (first..end).map(create).collect();
            self.client.multi(&ops).await.map(|_| end - first)
        });
        let mut multis = stream::iter(multis).buffer_unordered(MULTIS_MAX);
        let mut done = 0;
        while let Some(created) = multis.next().await {
            done += created?;
            progress(done);
        }
        Ok(())
    }

    /// Removes the field, and the root of all fields if this was the last.
    pub(super) async fn clear(self) -> Result<(), Failure> {
        let children =
            self.client.children(&self.path, false, false, ReadOptions::Linearizable).await?;
        for some in children.children.chunks(OPS_MAX) {
            let path = |name: &str| format!("{}/{name}", self.path);
            let delete = |name: &str| MultiOp::Delete { path: path(name), version: None };
            let ops: Vec<_> = some.iter().map(|child| delete(&child.name)).collect();
            if self.client.multi(&ops).await.is_err() {
                // An ephemeral went meanwhile with its session, and so the whole multi failed.
                for child in some {
                    tolerate(&["no_node"], self.client.delete(&path(&child.name), None).await)?;
                }
            }
        }
        tolerate(&["no_node"], self.client.delete(&self.path, None).await)?;
        tolerate(&["no_node", "not_empty"], self.client.delete(ROOT, None).await)
    }
}

fn tolerate<T>(codes: &[&str], result: Result<T, Error>) -> Result<(), Failure> {
    match result {
        Err(error) if !codes.contains(&error.code()) => Err(error.into()),
        _ => Ok(()),
    }
}
