//! How the replicated state has the peers, which every node can say.

use crate::{
    MeshState,
    record::{Health, Peer, PeerStatus},
};

/// How a peer is seen by the replicated state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// As what.
    pub health: Health,
    /// Since when, in mesh time.
    pub since_ms: u64,
    /// Whether it is being emptied or is empty. Whoever drains a peer may switch it off: that it is silent then is no sign of
    /// a broken network, and nothing is spared by keeping for it what it owns.
    pub going: bool,
}

impl Known {
    /// As the peer's record says.
    #[must_use]
    pub fn of(peer: &Peer) -> Self {
        Self {
            health: peer.health,
            since_ms: peer.health_since_ms,
            going: match peer.status {
                PeerStatus::Draining | PeerStatus::Drained => true,
                PeerStatus::Active | PeerStatus::Cordoned => false,
            },
        }
    }
}

/// The alarm of [`MassSilence`]. It is about no node, and nobody raises it: it is up for as long as it is so.
pub const MASS_SILENCE: &str = "MASS_SILENCE";

/// Too many peers are silent at once: more likely than not it is the network, or this leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MassSilence {
    /// How many are silent, or were until a moment ago where some of the others would be declared dead otherwise.
    pub silent: u64,
    /// Of how many that were there. Peers on their way out are in neither number.
    pub of: u64,
}

impl MassSilence {
    /// Whether it is one that so many of those that were there are silent. One alone never is.
    pub(super) fn found(silent: u64, of: u64, percent_max: u64) -> Option<Self> {
        let too_many = silent > 1 && silent.saturating_mul(100) > of.saturating_mul(percent_max);
        too_many.then_some(Self { silent, of })
    }
}

/// How the replicated state has the peers: the same on every node, and a moment behind what the leader hears.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Never heard of.
    pub unknown: u64,
    /// Heard of in time.
    pub alive: u64,
    /// Late.
    pub suspect: u64,
    /// Given up.
    pub dead: u64,
    /// Shards whose owner is suspect or dead, or was never heard of while others were: it may be that nobody serves them.
    pub shards_of_silent: u64,
    /// What the leader finds by those numbers; see [`Census::heard`].
    pub mass_silence: Option<MassSilence>,
}

impl Census {
    /// Counts. Walks all peers, and the shards of those that are silent.
    #[must_use]
    pub fn of(mesh: &MeshState) -> Self {
        let mut census = Self::default();
        let (mut silent, mut there) = (0_u64, 0_u64);
        for peer in mesh.peers_after(None) {
            let stays = u64::from(!Known::of(peer).going);
            match peer.health {
                Health::Unknown => census.unknown += 1,
                Health::Alive => {
                    census.alive += 1;
                    there += stays;
                }
                Health::Suspect => {
                    census.suspect += 1;
                    there += stays;
                    silent += stays;
                }
                Health::Dead => census.dead += 1,
            }
        }
        census.mass_silence = MassSilence::found(silent, there, mesh.settings().presence_silent_percent_max);
        // Where no peer speaks at all, they need not: then silence says nothing.
        let speak = census.alive + census.suspect + census.dead > 0;
        let is_silent = |health| match health {
            Health::Alive => false,
            Health::Unknown => speak,
            Health::Suspect | Health::Dead => true,
        };
        let owners = mesh.peers_after(None).filter(|peer| is_silent(peer.health));
        census.shards_of_silent = owners.map(|peer| mesh.shards_owned(&peer.id)).sum();
        census
    }

    /// As this node says it. The leader goes by what it hears: it alone knows who said that it leaves, and counts those no
    /// longer. What the state tells the others is the same a moment later, but for those.
    #[must_use]
    pub fn heard(self, leads: bool, mass_silence: Option<MassSilence>) -> Self {
        match leads {
            true => Self { mass_silence, ..self },
            false => self,
        }
    }
}
