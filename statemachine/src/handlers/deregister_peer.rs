//! `peers.deregister`

use serde::{Deserialize, Serialize};

use super::{not_draining, owns_nothing, peer};
use crate::{
    Effects, Event, Handler, PeerId, Rejection, Rule, View, check,
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

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::PEER_EXISTS, check::PEER_NOT_DRAINING, check::PEER_OWNS_NOTHING]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let peer = peer(view, &self.id)?;
        // Its operation would be left without a target.
        not_draining(view, peer, peer.status == PeerStatus::Draining)?;
        owns_nothing(view, &self.id)?;
        Ok(Effects::default()
            .delete(Kind::Peer, self.id.as_str())
            .event(Event::PeerDeregistered(self.id.clone())))
    }
}
