//! `peers.uncordon`

use serde::{Deserialize, Serialize};

use super::{not_draining, peer};
use crate::{
    Effects, Event, Handler, PeerId, Record, Rejection, Rule, View, check,
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

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::PEER_EXISTS, check::PEER_NOT_DRAINING]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = peer(view, &self.id)?;
        let draining = matches!(before.status, PeerStatus::Draining | PeerStatus::Drained);
        not_draining(view, before, draining)?;
        match before.status {
            PeerStatus::Active | PeerStatus::Draining | PeerStatus::Drained => Ok(Effects::unchanged()),
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
