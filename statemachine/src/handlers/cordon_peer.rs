//! `peers.cordon`

use serde::{Deserialize, Serialize};

use super::{peer, refuse_draining, status_reason};
use crate::{
    Effects, Event, Handler, PeerId, Record, Rejection, View,
    record::{Kind, Peer, PeerStatus},
};

/// Keeps new work away from a peer. A cordoned peer stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonPeer {
    /// The peer.
    pub id: PeerId,
}

impl Handler for CordonPeer {
    fn action(&self) -> &'static str {
        "peers.cordon"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Peer, self.id.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = peer(view.mesh, &self.id)?;
        match before.status {
            PeerStatus::Cordoned => Ok(Effects::unchanged()),
            PeerStatus::Draining | PeerStatus::Drained => Err(refuse_draining(before)),
            PeerStatus::Active => {
                let after = Peer {
                    status: PeerStatus::Cordoned,
                    status_reason: status_reason(view, PeerStatus::Cordoned),
                    ..before.clone()
                };
                Ok(Effects::default()
                    .put(Record::Peer(after.into()))
                    .event(Event::PeerCordoned(self.id.clone())))
            }
        }
    }
}
