//! Who may connect, and what happens to those who may not.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use statemachine::{ClusterId, MeshId, NodeId};

use crate::env::PeerIdentity;

/// Which node of which cluster of which mesh this is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The mesh.
    pub mesh: MeshId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

impl Identity {
    /// The SPIFFE id of a node of this cluster.
    pub fn uri_of(&self, node: NodeId) -> String {
        format!("spiffe://{}/cluster/{}/node/{node}", self.mesh, self.cluster)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri_of(self.node))
    }
}

/// Why a node-to-node connection is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub enum RefusalCode {
    /// It showed no certificate.
    NoCertificate,
    /// Its certificate is a client's, a peer's, or not one of ours at all.
    NotANode,
    /// Its certificate is a node's of another mesh.
    ForeignMesh,
    /// Its certificate is a node's of another cluster of this mesh.
    ForeignCluster,
    /// Its certificate is not that of the node it says it is, or speaks for.
    WrongNode,
    /// It meant to reach another node.
    WrongTarget,
    /// The node was removed from the cluster.
    Removed,
    /// It speaks another protocol.
    Protocol,
    /// There are too many connections already.
    TooMany,
    /// Its certificate has run out.
    Expired,
    /// Its data directory is an old copy, or another one, and not what the cluster knows of this node.
    StaleDirectory,
    /// This node has no data yet, and its join token does not name the other one.
    NotPinned,
}

impl RefusalCode {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::NoCertificate,
        Self::NotANode,
        Self::ForeignMesh,
        Self::ForeignCluster,
        Self::WrongNode,
        Self::WrongTarget,
        Self::Removed,
        Self::Protocol,
        Self::TooMany,
        Self::Expired,
        Self::StaleDirectory,
        Self::NotPinned,
    ];

    /// As it appears in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::NotANode => "not_a_node",
            Self::ForeignMesh => "foreign_mesh",
            Self::ForeignCluster => "foreign_cluster",
            Self::WrongNode => "wrong_node",
            Self::WrongTarget => "wrong_target",
            Self::Removed => "removed",
            Self::Protocol => "protocol",
            Self::TooMany => "too_many",
            Self::Expired => "expired",
            Self::StaleDirectory => "stale_directory",
            Self::NotPinned => "not_pinned",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often connections were refused, by code.
#[derive(Debug, Default)]
pub struct RefusalCounters([AtomicU64; RefusalCode::ALL.len()]);

impl RefusalCounters {
    /// How often this was the reason.
    pub fn get(&self, code: RefusalCode) -> u64 {
        self.slot(code).map_or(0, |slot| slot.load(Ordering::Relaxed))
    }

    pub(crate) fn count(&self, code: RefusalCode) {
        if let Some(slot) = self.slot(code) {
            slot.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn slot(&self, code: RefusalCode) -> Option<&AtomicU64> {
        RefusalCode::ALL
            .iter()
            .position(|c| *c == code)
            .and_then(|at| self.0.get(at))
    }
}

/// A refusal and what is said about it.
pub(crate) type Refusal = (RefusalCode, String);

/// The node whose certificate this is, if it is one of `own`'s cluster.
pub(crate) fn node_of(own: &Identity, shown: Option<&PeerIdentity>) -> Result<NodeId, Refusal> {
    let Some(shown) = shown else {
        return Err((
            RefusalCode::NoCertificate,
            "nodes prove who they are with a certificate".into(),
        ));
    };
    let not_a_node = || (RefusalCode::NotANode, format!("{} is not a node", shorten(&shown.uri)));
    let path = shown.uri.strip_prefix("spiffe://").ok_or_else(not_a_node)?;
    let parts: Vec<&str> = path.split('/').collect();
    let [mesh, "cluster", cluster, "node", node] = parts[..] else {
        return Err(not_a_node());
    };
    let node: u64 = node.parse().map_err(|_| not_a_node())?;
    // One spelling per node: no leading zeros or signs.
    if !path.ends_with(&format!("/{node}")) {
        return Err(not_a_node());
    }
    if mesh != own.mesh.as_str() {
        let detail = format!("this is mesh {}, the certificate is of {}", own.mesh, shorten(mesh));
        return Err((RefusalCode::ForeignMesh, detail));
    }
    if cluster != own.cluster.as_str() {
        let detail = format!(
            "this is cluster {}, the certificate is of {}",
            own.cluster,
            shorten(cluster)
        );
        return Err((RefusalCode::ForeignCluster, detail));
    }
    Ok(NodeId(node))
}

/// Whether a certificate still counts at a time in seconds since 1970.
pub(crate) fn still_good(shown: Option<&PeerIdentity>, now_s: u64) -> Result<(), Refusal> {
    match shown {
        Some(shown) if shown.has_expired(now_s) => Err((
            RefusalCode::Expired,
            format!("the certificate of {} has expired", shorten(&shown.uri)),
        )),
        _ => Ok(()),
    }
}

/// What a stranger sent, fit for a log line.
fn shorten(text: &str) -> String {
    text.chars().take(128).flat_map(char::escape_default).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn judge(uri: &str) -> Result<NodeId, RefusalCode> {
        let own = Identity {
            mesh: MeshId::new("m1").unwrap(),
            cluster: ClusterId::new("c1").unwrap(),
            node: NodeId(1),
        };
        let shown = PeerIdentity::stated(uri);
        node_of(&own, Some(&shown)).map_err(|(code, _)| code)
    }

    #[test]
    fn only_nodes_of_this_cluster_pass() {
        assert_eq!(judge("spiffe://m1/cluster/c1/node/2"), Ok(NodeId(2)));
        assert_eq!(judge("spiffe://m2/cluster/c1/node/2"), Err(RefusalCode::ForeignMesh));
        assert_eq!(judge("spiffe://m1/cluster/c2/node/2"), Err(RefusalCode::ForeignCluster));
        for other in [
            "spiffe://m1/client/alice",
            "spiffe://m1/peer/p1",
            "spiffe://m1/cluster/c1/node/02",
            "spiffe://m1/cluster/c1/node/+2",
            "spiffe://m1/cluster/c1/node/2/x",
            "spiffe://m1/cluster/c1/node/",
            "https://m1/cluster/c1/node/2",
            "",
        ] {
            assert_eq!(judge(other), Err(RefusalCode::NotANode), "{other}");
        }
    }

    #[test]
    fn a_certificate_counts_to_its_last_second() {
        let ends = |not_after_s| PeerIdentity {
            not_after_s,
            ..PeerIdentity::stated("spiffe://m1/cluster/c1/node/2")
        };
        assert!(still_good(Some(&ends(Some(100))), 100).is_ok());
        let refusal = still_good(Some(&ends(Some(100))), 101).unwrap_err();
        assert_eq!(refusal.0, RefusalCode::Expired);
        assert!(still_good(Some(&ends(None)), u64::MAX).is_ok());
    }

    #[test]
    fn refusals_are_counted_by_code() {
        let counters = RefusalCounters::default();
        counters.count(RefusalCode::Removed);
        counters.count(RefusalCode::Removed);
        assert_eq!(
            (counters.get(RefusalCode::Removed), counters.get(RefusalCode::Protocol)),
            (2, 0)
        );
    }
}
