//! `peers.register`

use serde::{Deserialize, Serialize};

use crate::{
    Effects, Event, Handler, PeerId, Record, Rejection, Rule, View, check,
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

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::FORM, check::RECORD_ABSENT, check::PEERS_BELOW_LIMIT]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        view.check_form(check::FORM, self.spec.check())?;
        let taken = view.mesh.peer(&self.id).map(|peer| Rejection::AlreadyExists {
            kind: "peer".to_owned(),
            id: self.id.to_string(),
            current: peer.meta.etag(),
        });
        view.check_form(check::RECORD_ABSENT, taken.map_or(Ok(()), Err))?;
        let (measured, limit) = (view.mesh.peer_count(), view.mesh.settings().peers_max);
        super::room(view, check::PEERS_BELOW_LIMIT, "peers", measured, limit)?;
        let peer = Peer {
            id: self.id.clone(),
            spec: self.spec.clone(),
            status: PeerStatus::Active,
            status_reason: String::new(),
            status_before_drain: None,
            health: Health::Unknown,
            health_since_ms: 0,
            operation: None,
            meta: Meta::default(),
        };
        Ok(Effects::default()
            .put(Record::Peer(peer.into()))
            .event(Event::PeerRegistered(self.id.clone())))
    }
}
