//! `peers.cordon`

use serde::{Deserialize, Serialize};

use super::{not_draining, peer, status_reason};
use crate::{
    Effects, Event, Handler, PeerId, Record, Rejection, Rule, View, check,
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

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::PEER_EXISTS, check::PEER_NOT_DRAINING]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = peer(view, &self.id)?;
        let draining = matches!(before.status, PeerStatus::Draining | PeerStatus::Drained);
        not_draining(view, before, draining)?;
        match before.status {
            PeerStatus::Cordoned | PeerStatus::Draining | PeerStatus::Drained => Ok(Effects::unchanged()),
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
