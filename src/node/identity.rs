//! Who this node is, kept in its store.
//!
//! A node joins a cluster only by being asked to, once: as a founder by `init`, or as a learner by the leader. A node whose
//! disk was wiped has no identity and belongs to no cluster; the other members' Raft messages do not change that. So it can
//! never vote under its old id having forgotten its votes: it has to be removed and to join under a new id.

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::types::{ClusterId, NodeId};

/// The record. `cluster_id` 0 stands for "no cluster yet".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The node that this data directory belongs to.
    pub node: NodeId,
    /// The cluster that it belongs to.
    pub cluster_id: ClusterId,
    /// How often this node has started, this time included.
    pub incarnation: u64,
}

impl Identity {
    /// Returns the identity for the next start of a node, from what its store holds. Refused when the directory belongs to
    /// another node.
    pub fn next(node: NodeId, stored: Option<&[u8]>) -> Result<Identity, String> {
        let Some(bytes) = stored else {
            return Ok(Identity { node, cluster_id: 0, incarnation: 1 });
        };
        let last = Identity::decode(bytes)?;
        if last.node != node {
            return Err(format!(
                "the data directory belongs to node {}, the configuration says node {node}: correct node.id or node.data_dir",
                last.node
            ));
        }
        Ok(Identity { incarnation: last.incarnation + 1, ..last })
    }

    /// Decodes the stored record.
    pub fn decode(bytes: &[u8]) -> Result<Identity, String> {
        codec::decode(bytes, 1024)
            .map_err(|why| format!("the node's identity record does not parse: {why}"))
    }

    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn each_start_is_a_new_incarnation_of_the_same_node() {
        let first = Identity::next(3, None).unwrap();
        let joined = Identity { cluster_id: 77, ..first };
        let second = Identity::next(3, Some(&joined.encode())).unwrap();
        assert_eq!(second, Identity { node: 3, cluster_id: 77, incarnation: 2 });
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let other = Identity::next(2, None).unwrap().encode();
        assert!(Identity::next(3, Some(&other)).unwrap_err().contains("belongs to node 2"));
        assert!(Identity::next(3, Some(b"garbage")).is_err());
    }
}
