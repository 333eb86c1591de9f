//! How a peer is drained.

use crate::{
    MeshState,
    record::{Peer, Phase, Step},
};

/// The plan of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is done, in order. The first is done by the command that starts the drain.
    pub steps: Vec<Step>,
    /// How many shards have to move.
    pub moves: u32,
}

/// Plans the drain of a peer as the mesh is now.
#[must_use]
pub fn plan(mesh: &MeshState, peer: &Peer) -> Plan {
    let step = |name: &str, phase| Step {
        name: name.to_owned(),
        phase,
    };
    Plan {
        steps: vec![
            step("keep new work away", Phase::Done),
            step("move its shards to other peers", Phase::Active),
            step("confirm that it owns nothing", Phase::Pending),
        ],
        moves: u32::try_from(mesh.shards_owned(&peer.id)).unwrap_or(u32::MAX),
    }
}
