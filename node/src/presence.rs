//! Carries heartbeats from the API to the loop of the leader that listens to them.

use api_server::ports::{self, Beat};
use controllers::Hearing;
use statemachine::PeerId;
use statemachine::presence::{Heard, Known, MassSilence, Report};

/// What this node hears of peers, for the API.
pub struct Presence(pub Hearing);

impl ports::Presence for Presence {
    fn beat(&self, peer: &PeerId, known: Known, received_ms: u64, report: Report) -> Option<Beat> {
        let answer = self.0.beat(peer, known, received_ms, report)?;
        Some(Beat {
            lease_ms: answer.lease_ms,
            next_ms: answer.next_ms,
        })
    }

    fn heard(&self, peers: &[PeerId]) -> Vec<Option<Heard>> {
        self.0.of(peers)
    }

    fn mass_silence(&self) -> Option<MassSilence> {
        self.0.mass_silence()
    }
}
