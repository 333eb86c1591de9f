//! `peers.register`

use serde::{Deserialize, Serialize};

use crate::{
    Effects, Event, Handler, PeerId, Record, Rejection, View,
    record::{Health, Kind, Meta, Peer, PeerSpec, PeerStatus},
};

/// Adds a peer. An id that is taken is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterPeer {
    /// Unique in the mesh.
    pub id: PeerId,
    /// What is registered.
    pub spec: PeerSpec,
}

impl Handler for RegisterPeer {
    fn action(&self) -> &'static str {
        "peers.register"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Peer, self.id.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        self.spec.check()?;
        if let Some(peer) = view.mesh.peer(&self.id) {
            return Err(Rejection::AlreadyExists {
                kind: "peer".to_owned(),
                id: self.id.to_string(),
                current: peer.meta.etag(),
            });
        }
        let (measured, limit) = (view.mesh.peer_count(), view.mesh.settings().peers_max);
        if measured >= limit {
            return Err(Rejection::ResourceExhausted {
                what: "peers".to_owned(),
                measured,
                limit,
            });
        }
        let peer = Peer {
            id: self.id.clone(),
            spec: self.spec.clone(),
            status: PeerStatus::Active,
            status_reason: String::new(),
            status_before_drain: None,
            health: Health::Unknown,
            operation: None,
            meta: Meta::default(),
        };
        Ok(Effects::default()
            .put(Record::Peer(peer.into()))
            .event(Event::PeerRegistered(self.id.clone())))
    }
}
