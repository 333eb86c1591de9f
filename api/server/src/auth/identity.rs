//! The names that this mesh writes into certificates.

use statemachine::{ClusterId, MeshId, NodeId, PeerId};

/// A member node, as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The mesh.
    pub mesh: MeshId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

/// Reads `spiffe://<mesh>/cluster/<c>/node/<n>`. Every other name, also one that is merely close, is none.
#[must_use]
pub fn node_identity(uri: &str) -> Option<NodeIdentity> {
    let mut parts = uri.strip_prefix("spiffe://")?.split('/');
    let mesh = MeshId::new(parts.next()?).ok()?;
    if parts.next()? != "cluster" {
        return None;
    }
    let cluster = ClusterId::new(parts.next()?).ok()?;
    if parts.next()? != "node" {
        return None;
    }
    let number = parts.next()?;
    let node: u64 = number.parse().ok()?;
    // One spelling per node: no sign, no leading zeros.
    (parts.next().is_none() && node.to_string() == number).then_some(NodeIdentity {
        mesh,
        cluster,
        node: NodeId(node),
    })
}

/// Reads `spiffe://<mesh>/peer/<id>`, of this mesh alone. Every other name is no peer's.
#[must_use]
pub fn peer_identity(mesh: &MeshId, uri: &str) -> Option<PeerId> {
    let path = uri.strip_prefix("spiffe://")?.strip_prefix(mesh.as_str())?;
    PeerId::new(path.strip_prefix("/peer/")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_node() {
        let found = node_identity("spiffe://m/cluster/c/node/7").unwrap();
        assert_eq!(
            (found.mesh.as_str(), found.cluster.as_str(), found.node),
            ("m", "c", NodeId(7))
        );
        for other in [
            "spiffe://m/client/c",
            "spiffe://m/cluster/c/node/7/",
            "spiffe://m/cluster/c/node/07",
            "spiffe://m/cluster/c/node/+7",
            "spiffe://m/cluster/c/node/",
            "spiffe://m/cluster//node/7",
            "https://m/cluster/c/node/7",
            "spiffe://m/cluster/c/peer/7",
            "",
        ] {
            assert_eq!(node_identity(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_exact_form_is_a_peer() {
        let mesh = MeshId::new("m").unwrap();
        let found = peer_identity(&mesh, "spiffe://m/peer/edge-1");
        assert_eq!(found.as_ref().map(PeerId::as_str), Some("edge-1"));
        for other in [
            "spiffe://n/peer/edge-1",
            "spiffe://mm/peer/edge-1",
            "spiffe://m/peer/",
            "spiffe://m/peer/Edge",
            "spiffe://m/peer/edge-1/",
            "spiffe://m/peer/a/b",
            "spiffe://m/client/edge-1",
            "edge-1",
            "",
        ] {
            assert_eq!(peer_identity(&mesh, other), None, "{other}");
        }
    }
}
