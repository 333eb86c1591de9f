//! `peers.observe`: what the leader has heard, or not heard, of peers.

use serde::{Deserialize, Serialize};

use crate::{
    Effects, Event, Handler, PeerId, Record, Rejection, View,
    record::{Health, Kind, Peer},
};

/// The most peers of one batch.
pub const OBSERVED_MAX: usize = 500;

/// Records that peers are seen otherwise than before. Each names how it was seen, so that a deposed leader's word about a peer
/// that has changed since is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservePeers {
    /// Which, how each was seen, and how it is.
    pub seen: Vec<(PeerId, Health, Health)>,
}

super::level_2!(ObservePeers);

impl Handler for ObservePeers {
    fn action(&self) -> &'static str {
        "peers.observe"
    }

    fn target(&self) -> Option<(Kind, String)> {
        None
    }

    fn level(&self) -> u32 {
        2
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        if self.seen.len() > OBSERVED_MAX {
            let why = format!("{} peers are over the limit of {OBSERVED_MAX}", self.seen.len());
            return Err(Rejection::invalid("seen", why));
        }
        let mut effects = Effects::default();
        for (id, from, to) in &self.seen {
            let Some(before) = view.mesh.peer(id).filter(|peer| peer.health == *from && from != to) else {
                continue;
            };
            let after = Peer {
                health: *to,
                health_since_ms: view.stamp.mesh_time_ms,
                ..before.clone()
            };
            effects = effects.put(Record::Peer(after.into())).event(Event::PeerObserved {
                peer: id.clone(),
                health: *to,
            });
        }
        Ok(effects)
    }
}
