//! `peers.deregister`

use serde::{Deserialize, Serialize};

use super::{peer, refuse_draining};
use crate::{
    Effects, Event, Handler, PeerId, Rejection, View,
    record::{Kind, PeerStatus},
};

/// Removes a peer that holds nothing. Its history stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeregisterPeer {
    /// The peer.
    pub id: PeerId,
}

impl Handler for DeregisterPeer {
    fn action(&self) -> &'static str {
        "peers.deregister"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Peer, self.id.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let peer = peer(view.mesh, &self.id)?;
        match peer.status {
            // Its operation would be left without a target.
            PeerStatus::Draining => return Err(refuse_draining(peer)),
            PeerStatus::Active | PeerStatus::Cordoned | PeerStatus::Drained => {}
        }
        let shards = view.mesh.shards_owned(&self.id);
        if shards > 0 {
            return Err(Rejection::PeerOwnsShards {
                peer: self.id.clone(),
                shards,
            });
        }
        Ok(Effects::default()
            .delete(Kind::Peer, self.id.as_str())
            .event(Event::PeerDeregistered(self.id.clone())))
    }
}
