//! What peers weigh: the shares of work that they were registered with.

use std::collections::BTreeMap;

use proto::v1::{Peer, simulate_shards_request::Node};

/// What a peer weighs that says nothing of it.
const USUAL: u32 = 100;

/// Weights by peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights(BTreeMap<String, u32>);

impl Weights {
    /// Takes note of a peer as it is.
    pub fn add(&mut self, peer: Peer) {
        self.0.insert(peer.id, peer.weight);
    }

    /// The same with peers as they would be.
    #[must_use]
    pub fn with(mut self, nodes: &[Node]) -> Self {
        for node in nodes {
            if let Some(weight) = node.weight {
                self.0.insert(node.id.clone(), weight);
            }
        }
        self
    }

    /// What a peer weighs, above 0.
    pub fn of(&self, peer: &str) -> u64 {
        let weight = self.0.get(peer).copied().filter(|weight| *weight > 0);
        weight.unwrap_or(USUAL).into()
    }
}
