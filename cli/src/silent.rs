//! Peers that may not be there.

use std::collections::BTreeSet;

use proto::v1::{Peer, peer::Health};

/// Peers by whether they are heard.
#[derive(Debug, Default)]
pub struct Silence {
    silent: BTreeSet<String>,
    never_heard: BTreeSet<String>,
    /// Whether any was ever heard.
    speak: bool,
}

impl Silence {
    /// Takes note of one more.
    pub fn add(&mut self, peer: &Peer) {
        match peer.health() {
            Health::Alive => self.speak = true,
            Health::Suspect | Health::Dead => {
                self.speak = true;
                self.silent.insert(peer.id.clone());
            }
            Health::Unknown => {
                self.never_heard.insert(peer.id.clone());
            }
            Health::Unspecified => {}
        }
    }

    /// The ids of those that are suspect or dead, or were never heard of while others were.
    pub fn peers(mut self) -> BTreeSet<String> {
        // Where no peer speaks at all, they need not: then silence says nothing.
        if self.speak {
            self.silent.append(&mut self.never_heard);
        }
        self.silent
    }
}
