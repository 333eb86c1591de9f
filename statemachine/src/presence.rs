//! Who is there: what a leader makes of heartbeats, and of their absence.
//!
//! Soft state of one leader, without IO: the caller says what time it is and what came in, and proposes what comes out. Only
//! the transitions are replicated ([`crate::ObservePeers`]), each with its mesh time, so that another leader goes on from
//! there and elections postpone nothing, however many there are.
//!
//! A peer may serve while it holds a lease. A heartbeat renews it only after leadership was confirmed, and only while the peer
//! counts as alive and nothing is under way that says otherwise; the peer counts it from when it sent the heartbeat. So
//! whoever is suspected at mesh time `t` has stopped by `t` + lease + drift, whoever leads, and is then declared dead.
//!
//! Where too many are silent at once, that is put off, since it is more likely the network, and until those that were silent
//! have had time to be heard again: they do not come back all in one moment. Not of peers that are on their way out: their
//! silence is expected, so it says nothing of the network, and what they own is to go elsewhere anyway.
//!
//! Where the history was cut off and goes on from an earlier place, leases may be out that it knows nothing of: none is given,
//! and nobody is declared dead, until the longest of them is over.

mod census;

use std::collections::{BTreeMap, BTreeSet};

pub use census::{Census, Known, MASS_SILENCE, MassSilence};

use crate::{
    PeerId, Revision,
    clock::SLEW_MS_PER_S,
    record::{Health, Settings},
};

/// The most figures that a peer says of itself.
pub const TELEMETRY_MAX: usize = 32;
/// The longest name of such a figure, in bytes.
pub const TELEMETRY_NAME_BYTES_MAX: usize = 64;

/// By what periods peers are judged; all in ms of mesh time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long a peer may serve after it sent a heartbeat that was answered.
    pub lease_ms: u64,
    /// How long a peer may be silent before it is suspected.
    pub suspect_after_ms: u64,
    /// By how much clocks may run apart during a lease.
    pub drift_ms: u64,
    /// How many heartbeats in a row, none of them late, make a suspected or dead peer alive again.
    pub steady_beats: u32,
    /// If more than this share of the peers that were there is silent at once, in percent, nobody is declared dead but those
    /// on their way out.
    pub silent_percent_max: u64,
}

impl Terms {
    /// As the mesh is set.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            lease_ms: settings.presence_lease_ms,
            suspect_after_ms: settings.presence_suspect_after_ms,
            drift_ms: settings.presence_drift_ms,
            steady_beats: u32::try_from(settings.presence_steady_beats).unwrap_or(u32::MAX),
            silent_percent_max: settings.presence_silent_percent_max,
        }
    }

    /// How long after the last heartbeat by which a lease of `lease_ms` was given nobody serves by it any more, in ms of mesh
    /// time, which may run ahead by the slew.
    #[must_use]
    pub fn over_ms(&self, lease_ms: u64) -> u64 {
        let real_ms = lease_ms.saturating_add(self.drift_ms);
        real_ms.saturating_add(real_ms.saturating_mul(SLEW_MS_PER_S).div_ceil(1_000))
    }

    /// From one heartbeat to the next: several fit into a lease, and before a peer is late.
    #[must_use]
    pub fn beat_every_ms(&self) -> u64 {
        (self.lease_ms / 4).min(self.suspect_after_ms / 3).max(1)
    }

    /// The same for a peer that is not alive yet: it is not kept waiting for long.
    #[must_use]
    pub fn beat_soonest_ms(&self) -> u64 {
        (self.beat_every_ms() / 4).max(1)
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self::of(&Settings::default())
    }
}

/// How a peer is, in its own words.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// It serves.
    #[default]
    Ready,
    /// It asks to be given nothing more.
    Busy,
    /// It is about to stop, so its lease is not renewed.
    Leaving,
}

/// What a peer says of itself with a heartbeat.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it is.
    pub condition: Condition,
    /// What it can carry, in its own unit.
    pub capacity: u64,
    /// What it carries, in the same unit.
    pub load: u64,
    /// At most [`TELEMETRY_MAX`] figures.
    pub telemetry: BTreeMap<String, u64>,
    /// The revision that its view of its shards is at.
    pub seen_revision: Revision,
}

/// What is to be replicated, and what keeps the rest from it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Which peer, how it was seen, and how it is.
    pub seen: Vec<(PeerId, Health, Health)>,
    /// Too many are silent at once for all of them to be dead: of those that stay, nobody is declared so.
    pub mass_silence: Option<MassSilence>,
}

/// Leases that may still be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Out {
    /// The longest that any leader may have given: shortening the term shortens none that was given.
    pub longest_ms: u64,
    /// When the history was last cut off, in mesh time: what followed there may have given leases as well.
    pub forked_ms: Option<u64>,
}

/// What one leader has heard.
#[derive(Debug)]
pub struct Table {
    terms: Terms,
    out: Out,
    /// When this leader began to listen: nobody is suspected before it has had time to hear of them.
    since_ms: u64,
    heard: BTreeMap<PeerId, Heard>,
    /// Peers about to be suspected: it was proposed, and what came of that is not known yet. The mesh time that it was
    /// proposed at counts, so none of them gets a lease after it.
    accused: BTreeSet<PeerId>,
}

/// What was heard of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When, in mesh time.
    pub last_ms: u64,
    /// What it said.
    pub report: Report,
    /// Heartbeats in a row, none of them late. Of those that come faster than a peer is ever told to send them, one counts.
    steady: u32,
    /// When the last of them came in, in mesh time.
    counted_ms: u64,
}

impl Table {
    /// Of a leader that begins now.
    #[must_use]
    pub fn new(terms: Terms, now_ms: u64) -> Self {
        Self {
            terms,
            out: Out {
                longest_ms: terms.lease_ms,
                forked_ms: None,
            },
            since_ms: now_ms,
            heard: BTreeMap::new(),
            accused: BTreeSet::new(),
        }
    }

    /// Goes by other terms from now on, with those leases of before.
    pub fn set_terms(&mut self, terms: Terms, out: Out) {
        self.terms = terms;
        self.out = Out {
            longest_ms: out.longest_ms.max(terms.lease_ms),
            ..out
        };
    }

    /// By what peers are judged.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Takes a heartbeat that came in at `received_ms`, after leadership was confirmed since. `known` is how the state has
    /// the peer that this confirmation covers. Answers for how long the peer may serve, counted from when it sent it: 0
    /// until it counts as alive, once it is about to stop, and while leases may be out of a history that was cut off.
    pub fn beat(&mut self, peer: &PeerId, known: Known, received_ms: u64, report: Report) -> u64 {
        let leaving = report.condition == Condition::Leaving;
        let before = self.heard.get(peer);
        let last_ms = before.map_or(received_ms, |heard| heard.last_ms);
        let in_time = received_ms.saturating_sub(last_ms) < self.terms.suspect_after_ms;
        let (steady, counted_ms) = match before {
            Some(heard) if in_time => {
                let since_ms = received_ms.saturating_sub(heard.counted_ms);
                if since_ms >= self.terms.beat_soonest_ms() / 2 {
                    (heard.steady.saturating_add(1), received_ms)
                } else {
                    (heard.steady, heard.counted_ms)
                }
            }
            Some(_) | None => (1, received_ms),
        };
        let heard = Heard {
            last_ms: last_ms.max(received_ms),
            report,
            steady,
            counted_ms,
        };
        self.heard.insert(peer.clone(), heard);
        let over = self
            .out
            .forked_ms
            .is_none_or(|forked_ms| self.is_over(forked_ms, received_ms));
        match known.health {
            Health::Alive if over && !leaving && !self.accused.contains(peer) => self.terms.lease_ms,
            Health::Alive | Health::Unknown | Health::Suspect | Health::Dead => 0,
        }
    }

    /// What was heard of a peer, if anything.
    #[must_use]
    pub fn heard(&self, peer: &PeerId) -> Option<&Heard> {
        self.heard.get(peer)
    }

    /// Forgets peers that are no longer registered.
    pub fn retain(&mut self, is_there: impl Fn(&PeerId) -> bool) {
        self.heard.retain(|peer, _| is_there(peer));
        self.accused.retain(|peer| is_there(peer));
    }

    /// What follows from the time, for all registered peers as the replicated state sees them. Whoever is to be suspected
    /// gets no lease from here on, until [`Table::settled`] or the state says what became of it.
    #[must_use]
    pub fn judge<'a>(&mut self, now_ms: u64, known: impl Iterator<Item = (&'a PeerId, Known)>) -> Findings {
        let mut findings = Findings::default();
        let (mut silent, mut back_again, mut there) = (0_u64, 0_u64, 0_u64);
        let mut over = Vec::new();
        for (peer, known) in known {
            let quiet = self.is_silent(peer, known.health, now_ms);
            let back = !quiet && self.is_steady(peer);
            let going = known.going || self.is_leaving(peer);
            if known.health != Health::Alive {
                self.accused.remove(peer);
            }
            match known.health {
                Health::Alive | Health::Suspect if !going => {
                    there += 1;
                    silent += u64::from(quiet);
                    back_again += u64::from(!quiet && self.was_silent(known, now_ms));
                }
                Health::Alive | Health::Suspect | Health::Unknown | Health::Dead => {}
            }
            match known.health {
                Health::Alive => {
                    if quiet || self.accused.contains(peer) {
                        self.accused.insert(peer.clone());
                        findings.seen.push((peer.clone(), Health::Alive, Health::Suspect));
                    }
                }
                Health::Suspect => {
                    if back {
                        findings.seen.push((peer.clone(), Health::Suspect, Health::Alive));
                    } else if quiet && self.is_over(known.since_ms.max(self.out.forked_ms.unwrap_or_default()), now_ms)
                    {
                        over.push((going, (peer.clone(), Health::Suspect, Health::Dead)));
                    }
                }
                Health::Unknown | Health::Dead => {
                    if back {
                        findings.seen.push((peer.clone(), known.health, Health::Alive));
                    }
                }
            }
        }
        let found = |silent| MassSilence::found(silent, there, self.terms.silent_percent_max);
        let spares = over.iter().any(|(going, _)| !going);
        // Those that have just been heard again count for as long as there is somebody who would be dead otherwise.
        findings.mass_silence = found(silent).or_else(|| found(silent + back_again).filter(|_| spares));
        let held_back = findings.mass_silence.is_some();
        let dead = over.into_iter().filter(|(going, _)| *going || !held_back);
        findings.seen.extend(dead.map(|(_, seen)| seen));
        findings
    }

    /// What was proposed of these peers has become of whatever it could: the state says how they are.
    pub fn settled<'a>(&mut self, peers: impl Iterator<Item = &'a PeerId>) {
        for peer in peers {
            self.accused.remove(peer);
        }
    }

    /// Whether nobody serves any more by a lease that was given up to `since_ms`.
    fn is_over(&self, since_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(since_ms) >= self.terms.over_ms(self.out.longest_ms)
    }

    /// Whether a peer that is heard was silent until so shortly ago that others may still be on their way back.
    fn was_silent(&self, known: Known, now_ms: u64) -> bool {
        match known.health {
            Health::Suspect => true,
            Health::Alive => now_ms.saturating_sub(known.since_ms) < self.terms.suspect_after_ms,
            Health::Unknown | Health::Dead => false,
        }
    }

    /// Whether a peer has been silent for too long, as far as this leader can tell. Of one that is suspected already a
    /// leader before has found it: then there is no new term, or leaders that do not last would put it off for ever.
    fn is_silent(&self, peer: &PeerId, health: Health, now_ms: u64) -> bool {
        let last_ms = match (self.heard.get(peer), health) {
            (Some(heard), _) => heard.last_ms,
            (None, Health::Suspect) => return true,
            (None, Health::Unknown | Health::Alive | Health::Dead) => self.since_ms,
        };
        now_ms.saturating_sub(last_ms) >= self.terms.suspect_after_ms
    }

    /// Whether the last that a peer said is that it is about to stop.
    fn is_leaving(&self, peer: &PeerId) -> bool {
        let heard = self.heard.get(peer);
        heard.is_some_and(|heard| heard.report.condition == Condition::Leaving)
    }

    fn is_steady(&self, peer: &PeerId) -> bool {
        let heard = self.heard.get(peer);
        heard.is_some_and(|heard| heard.steady >= self.terms.steady_beats)
    }
}

#[cfg(test)]
mod tests;
