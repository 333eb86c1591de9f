//! The leader hears the peers: it keeps what they say of themselves, and has replicated how they are.
//!
//! What is heard is soft state of one leader ([`statemachine::presence::Table`]); only transitions become commands, so that the
//! next leader goes on from there.

mod leases;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use raft::Error;
use statemachine::{
    Change, Conditions, MeshState, ObservePeers, Outcome, PeerId, Request,
    presence::{Findings, Heard, Known, MassSilence, Out, Report, Table, Terms},
    record::{Health, Record},
};
use tokio::time::Instant;

use self::leases::{Forked, Leases};
use crate::controller::{Controller, Node, Pass};

/// From one look at the peers to the next. The state changes all the time, and lateness is no matter of milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The most peers of one command, so that applying it takes a few milliseconds at the most.
const BATCH_MAX: usize = 250;
/// The most bytes of records in one command, each counted as often as history has it: before and after. Far below what a
/// command may change, and above twice the largest record, so that one always fits.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// The most commands of one pass.
const BATCHES_MAX: usize = 4;
/// How long a peer of whom nothing could be recorded is left out, the first time; it doubles each time after that.
const PAUSE: Duration = Duration::from_secs(1);
/// How long at the most.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Which peer, how it was seen, and how it is.
type Seen = (PeerId, Health, Health);

/// What this node hears of peers while it leads. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Hearing(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// While this node leads.
    table: Option<Table>,
    mass_silence: Option<MassSilence>,
    /// How peers were found to be, and how many of them, since the start.
    transitions: BTreeMap<Health, u64>,
}

/// What a heartbeat is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// For how long the peer may serve, in ms from when it sent the heartbeat; 0: it may not.
    pub lease_ms: u64,
    /// When it is to send the next.
    pub next_ms: u64,
}

impl Hearing {
    /// Takes a heartbeat that came in at `received_ms` of mesh time. Leadership was confirmed since, and `known` is how the
    /// state then had the peer. None while this node does not listen.
    #[must_use]
    pub fn beat(&self, peer: &PeerId, known: Known, received_ms: u64, report: Report) -> Option<Answer> {
        let mut inner = self.0.lock();
        let table = inner.table.as_mut()?;
        let lease_ms = table.beat(peer, known, received_ms, report);
        let every_ms = table.terms().beat_every_ms();
        // Whoever waits to be alive is not kept waiting for long.
        let next_ms = match known.health {
            Health::Alive => every_ms,
            Health::Unknown | Health::Suspect | Health::Dead => table.terms().beat_soonest_ms(),
        };
        Some(Answer { lease_ms, next_ms })
    }

    /// What was heard of each of these peers; nothing while this node does not listen.
    #[must_use]
    pub fn of(&self, peers: &[PeerId]) -> Vec<Option<Heard>> {
        let inner = self.0.lock();
        let heard = |peer| inner.table.as_ref().and_then(|table| table.heard(peer)).cloned();
        peers.iter().map(heard).collect()
    }

    /// Why none of the peers that stay is declared dead at the moment, if anything keeps this node from it.
    #[must_use]
    pub fn mass_silence(&self) -> Option<MassSilence> {
        self.0.lock().mass_silence
    }

    /// How many peers were found to be in each health since the start.
    #[must_use]
    pub fn transitions(&self) -> BTreeMap<Health, u64> {
        self.0.lock().transitions.clone()
    }

    /// Takes note that what was proposed of these peers was applied, and what it changed: a peer that was seen otherwise by
    /// then is left out.
    fn settle(&self, proposed: &[Seen], changes: &[Change]) {
        let mut inner = self.0.lock();
        if let Some(table) = inner.table.as_mut() {
            table.settled(proposed.iter().map(|(peer, ..)| peer));
        }
        for change in changes {
            if let Some(Record::Peer(peer)) = &change.after {
                *inner.transitions.entry(peer.health).or_default() += 1;
            }
        }
    }
}

/// Looks who is there while this node leads, and who is not.
pub(crate) struct Presence {
    hearing: Hearing,
    next: Instant,
    /// Whether the state is known to have everything that leaders before have decided, and what this one has proposed.
    settled: bool,
    leases: Leases,
    forked: Forked,
    refused: Refused,
}

impl Presence {
    pub fn new(hearing: Hearing) -> Self {
        Self {
            hearing,
            next: Instant::now(),
            settled: false,
            leases: Leases::default(),
            forked: Forked::default(),
            refused: Refused::default(),
        }
    }

    /// What follows from what was heard by now.
    fn judge(&self, mesh: &MeshState, terms: Terms, out: Out, now_ms: u64) -> Findings {
        let mut inner = self.hearing.0.lock();
        let table = inner.table.get_or_insert_with(|| Table::new(terms, now_ms));
        table.set_terms(terms, out);
        table.retain(|peer| mesh.peer(peer).is_some());
        let known = mesh.peers_after(None).map(|peer| (&peer.id, Known::of(peer)));
        let findings = table.judge(now_ms, known);
        let before = std::mem::replace(&mut inner.mass_silence, findings.mass_silence);
        match (before, findings.mass_silence) {
            (None, Some(MassSilence { silent, of })) => tracing::warn!(
                silent,
                of,
                "too many peers are silent at once: it is the network or this node, and of those that stay nobody is declared dead"
            ),
            (Some(_), None) => tracing::info!("the peers are heard again, or few enough are silent"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        findings
    }

    /// Has it replicated how these peers are. False where it was refused: then nothing of it was.
    async fn propose(&self, node: &Node, seen: &[Seen]) -> Result<bool, Error> {
        // A program of the level before has no such command, and proposes none.
        let Ok(command) = (ObservePeers { seen: seen.to_vec() }).command() else {
            return Ok(true);
        };
        let request = Request {
            origin: node.origin("presence"),
            conditions: Conditions::default(),
            command,
        };
        let committed = node.handle.propose(request, node.deadline()).await?;
        let why = match committed.unit().map(|recorded| &recorded.unit.outcome) {
            Some(Outcome::Applied { changes, events: _ }) => {
                self.hearing.settle(seen, changes);
                return Ok(true);
            }
            Some(Outcome::Rejected(rejection)) => rejection.detail(),
            Some(Outcome::Staged { .. }) => "it waits for a second person".to_owned(),
            Some(Outcome::Replayed { .. }) | None => "it took no effect".to_owned(),
        };
        let (peers, first) = (seen.len(), seen.first().map(|(peer, ..)| peer.as_str()));
        tracing::warn!(peers, first, reason = %why, "how peers are seen could not be recorded; it is tried again later");
        Ok(false)
    }
}

/// Peers of whom nothing could be recorded: each is left out for a while, so that it is not tried all the time, and nobody
/// else waits for it. A command is refused as a whole, so its peers are tried in fewer and fewer until it is one alone.
#[derive(Debug)]
struct Refused {
    peers: BTreeMap<PeerId, Pause>,
    /// The most peers of the next command.
    most: usize,
}

/// For how long a peer is left out.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    /// How often it was refused in a row.
    times: u32,
}

impl Default for Refused {
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
            most: BATCH_MAX,
        }
    }
}

impl Refused {
    /// Leaves out of what was found those whose time has not come. Whoever is not in it any more is forgotten.
    fn leave_out(&mut self, seen: &mut Vec<Seen>, now: Instant) {
        let found: BTreeSet<&PeerId> = seen.iter().map(|(peer, ..)| peer).collect();
        self.peers.retain(|peer, _| found.contains(peer));
        seen.retain(|(peer, ..)| self.peers.get(peer).is_none_or(|pause| pause.until <= now));
    }

    /// Takes note of what became of a command. Answers how many of its peers, from the first on, the next one goes without.
    fn note(&mut self, proposed: &[Seen], recorded: bool, now: Instant) -> usize {
        match proposed {
            _ if recorded => self.most = self.most.saturating_mul(2).min(BATCH_MAX),
            [(peer, ..)] => self.set_aside(peer, now),
            several => {
                self.most = (several.len() / 2).max(1);
                return 0;
            }
        }
        proposed.len()
    }

    fn set_aside(&mut self, peer: &PeerId, now: Instant) {
        let times = self.peers.get(peer).map_or(0, |before| before.times);
        let pause = PAUSE.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX));
        let pause = Pause {
            until: now + pause.min(PAUSE_MAX),
            times: times.saturating_add(1),
        };
        self.peers.insert(peer.clone(), pause);
    }
}

/// How many of these make the next command, of `most` at the most: one at least, if there is one.
fn batch(seen: &[Seen], most: usize, bytes_of: impl Fn(&PeerId) -> usize) -> usize {
    let mut bytes = 0_usize;
    let fits = seen.iter().take(most).take_while(|(peer, ..)| {
        bytes = bytes.saturating_add(bytes_of(peer).saturating_mul(2));
        bytes <= BATCH_BYTES_MAX
    });
    fits.count().max(1).min(seen.len())
}

/// How large a peer's record is in history.
fn record_bytes(mesh: &MeshState, peer: &PeerId) -> usize {
    mesh.peer(peer)
        .map_or(0, |peer| Record::Peer(Arc::new(peer.clone())).encode().len())
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut inner = self.hearing.0.lock();
        (inner.table, inner.mass_silence) = (None, None);
    }
}

impl Controller for Presence {
    fn name(&self) -> &'static str {
        "presence"
    }

    fn period(&self) -> Duration {
        LOOK_EVERY
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        let wait = self.next.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            return Ok(Pass::Again(wait));
        }
        self.next = Instant::now() + LOOK_EVERY;
        // Whether a suspicion is old enough to be a death is judged by the state, so it has to be all of it.
        let view = match self.settled {
            true => node.handle.view(),
            false => node.handle.confirm_leadership(node.deadline()).await?,
        };
        let mesh = &view.state().mesh;
        if mesh.feature_level() < 2 {
            return Ok(Pass::Idle);
        }
        self.settled = false;
        let now_ms = node.handle.mesh_time_ms()?;
        let terms = Terms::of(mesh.settings());
        let out = Out {
            longest_ms: self.leases.longest_ms(&view, now_ms)?,
            forked_ms: self.forked.at_ms(&view)?,
        };
        let mut seen = self.judge(mesh, terms, out, now_ms).seen;
        self.refused.leave_out(&mut seen, Instant::now());
        let (mut rest, mut refused) = (seen.as_slice(), false);
        for _ in 0..BATCHES_MAX {
            let most = self.refused.most;
            let (now, _) = rest.split_at(batch(rest, most, |peer| record_bytes(mesh, peer)));
            if now.is_empty() {
                break;
            }
            for (peer, from, to) in now {
                tracing::info!(%peer, from = from.word(), to = to.word(), "a peer is seen otherwise");
            }
            let recorded = self.propose(node, now).await?;
            refused |= !recorded;
            rest = rest.split_at(self.refused.note(now, recorded, Instant::now())).1;
        }
        self.settled = true;
        // What was refused is not tried again at once: it may be refused whoever it is about.
        if !rest.is_empty() && !refused {
            self.next = Instant::now();
        }
        let wait = self.next.saturating_duration_since(Instant::now());
        Ok(Pass::Again(wait))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use statemachine::{
        ClusterId,
        record::{Attributes, Meta, Peer, PeerSpec, PeerStatus},
    };

    use super::*;

    fn id(number: usize) -> PeerId {
        PeerId::new(&format!("p{number}")).unwrap()
    }

    fn seen(count: usize) -> Vec<Seen> {
        let of = |number| (id(number), Health::Alive, Health::Suspect);
        (0..count).map(of).collect()
    }

    fn record(id: PeerId, health: Health) -> Record {
        let spec = PeerSpec {
            cluster: ClusterId::new("c1").unwrap(),
            role: String::new(),
            region: String::new(),
            zone: String::new(),
            endpoints: vec!["p.example:7000".to_owned()],
            labels: Attributes::default(),
            metadata: Attributes::default(),
            weight: 100,
        };
        Record::Peer(Arc::new(Peer {
            id,
            spec,
            status: PeerStatus::Active,
            status_before_drain: None,
            health,
            health_since_ms: 1,
            operation: None,
            status_reason: String::new(),
            meta: Meta::default(),
        }))
    }

    #[test]
    fn a_command_is_bounded_by_number_and_by_bytes() {
        assert_eq!(batch(&seen(1_000), BATCH_MAX, |_| 100), BATCH_MAX);
        assert_eq!(batch(&seen(3), BATCH_MAX, |_| 100), 3);
        assert_eq!(batch(&[], BATCH_MAX, |_| 100), 0);
        // Counted twice, as history has it.
        assert_eq!(batch(&seen(1_000), BATCH_MAX, |_| BATCH_BYTES_MAX / 8), 4);
        // One always goes, and none is left behind by those before it.
        assert_eq!(batch(&seen(1_000), BATCH_MAX, |_| BATCH_BYTES_MAX), 1);
        let all = seen(1_000);
        let (mut rest, mut commands) = (all.as_slice(), 0);
        while !rest.is_empty() {
            rest = &rest[batch(rest, BATCH_MAX, |_| 70_000)..];
            commands += 1;
        }
        assert_eq!(commands, 1_000);
        const { assert!(BATCH_BYTES_MAX < statemachine::UNIT_BYTES_MAX) };
    }

    #[test]
    fn only_what_was_applied_is_settled_and_counted() {
        let hearing = Hearing::default();
        let terms = Terms::default();
        let known = Known {
            health: Health::Alive,
            since_ms: 0,
            going: false,
        };
        let mut table = Table::new(terms, 0);
        let ids = [id(0), id(1)];
        let proposed = table
            .judge(terms.suspect_after_ms, ids.iter().map(|id| (id, known)))
            .seen;
        assert_eq!(proposed.len(), 2);
        hearing.0.lock().table = Some(table);
        let lease_ms = || {
            let now_ms = terms.suspect_after_ms + 1;
            let answer = hearing.beat(&id(0), known, now_ms, Report::default());
            answer.unwrap().lease_ms
        };
        assert_eq!(lease_ms(), 0, "it is not known yet what came of it");
        // The other one was seen otherwise by then, so nothing was changed of it.
        let change = Change {
            before: Some(record(id(0), Health::Alive)),
            after: Some(record(id(0), Health::Suspect)),
        };
        hearing.settle(&proposed, &[change]);
        assert_eq!(hearing.transitions(), BTreeMap::from([(Health::Suspect, 1)]));
        assert_eq!(lease_ms(), terms.lease_ms);
    }

    #[test]
    fn a_refused_command_costs_only_the_peer_that_it_is_refused_for() {
        let (mut refused, now) = (Refused::default(), Instant::now());
        let (all, odd) = (seen(1_000), id(700));
        let (mut rest, mut commands, mut recorded) = (all.as_slice(), 0, 0);
        while !rest.is_empty() {
            let next = &rest[..batch(rest, refused.most, |_| 100)];
            let goes = next.iter().all(|(peer, ..)| *peer != odd);
            let gone = refused.note(next, goes, now);
            recorded += if goes { gone } else { 0 };
            rest = &rest[gone..];
            commands += 1;
            assert!(commands < 40, "{recorded} are recorded");
        }
        assert_eq!(recorded, 999);
        assert_eq!(refused.peers.keys().collect::<Vec<_>>(), [&odd]);
        assert_eq!(refused.most, BATCH_MAX, "as many as ever go again");
    }

    #[test]
    fn who_is_refused_is_left_out_for_longer_each_time_and_holds_up_nobody() {
        let mut refused = Refused::default();
        let mut now = Instant::now();
        let alone = |number| [(id(number), Health::Alive, Health::Suspect)];
        let left = |refused: &mut Refused, now| {
            let mut all = seen(3);
            refused.leave_out(&mut all, now);
            all.len()
        };
        let mut pauses = Vec::new();
        for _ in 0..40 {
            assert_eq!(left(&mut refused, now), 3);
            assert_eq!(refused.note(&alone(1), false, now), 1);
            assert_eq!(left(&mut refused, now), 2);
            let until = refused.peers[&id(1)].until;
            pauses.push(until - now);
            now = until;
        }
        let expected: Vec<Duration> = [1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs).into();
        assert_eq!(pauses[..7], expected);
        assert_eq!(pauses.last(), Some(&PAUSE_MAX));
        // Another one waits for itself alone.
        assert_eq!(refused.note(&alone(2), false, now), 1);
        assert_eq!(refused.peers[&id(2)].until, now + PAUSE);
        assert_eq!(left(&mut refused, now), 2);
        // It went well, so that nothing of it was left to be recorded: the next time it is a second again.
        refused.leave_out(&mut Vec::new(), now);
        refused.note(&alone(1), false, now);
        assert_eq!(refused.peers[&id(1)].until, now + PAUSE);
    }
}
