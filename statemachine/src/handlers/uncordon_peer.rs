//! `peers.uncordon`

use serde::{Deserialize, Serialize};

use super::{peer, refuse_draining};
use crate::{
    Effects, Event, Handler, PeerId, Record, Rejection, View,
    record::{Kind, Peer, PeerStatus},
};

/// Lets new work reach a peer again. An active peer stays as it is; a drain is undone by `UndrainPeer` only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncordonPeer {
    /// The peer.
    pub id: PeerId,
}

impl Handler for UncordonPeer {
    fn action(&self) -> &'static str {
        "peers.uncordon"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Peer, self.id.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = peer(view.mesh, &self.id)?;
        match before.status {
            PeerStatus::Active => Ok(Effects::unchanged()),
            PeerStatus::Draining | PeerStatus::Drained => Err(refuse_draining(before)),
            PeerStatus::Cordoned => {
                let after = Peer {
                    status: PeerStatus::Active,
                    status_reason: String::new(),
                    ..before.clone()
                };
                Ok(Effects::default()
                    .put(Record::Peer(after.into()))
                    .event(Event::PeerUncordoned(self.id.clone())))
            }
        }
    }
}
