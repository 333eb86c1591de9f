//! When a peer serves which shard: a value with events in and actions out, without IO and without a clock of its own.
//!
//! Times are durations since the peer began, on a clock that never steps back.

mod settle;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proto::v1::{
    self,
    shard::{Status, r#move::Step},
};

use super::event::{Action, Event, ShardKey, Why};
use crate::shards::{Change, Known, Token, Update};

/// How soon what was not answered is tried again.
pub const RETRY: Duration = Duration::from_millis(500);
/// The first pause between heartbeats, until the mesh names one.
const NEXT: Duration = Duration::from_secs(1);
/// The shortest pause that is kept, whatever the mesh says.
const NEXT_MIN: Duration = Duration::from_millis(50);

/// A shard as the view has it.
#[derive(Debug, Clone)]
struct Seen {
    mine: bool,
    status: Status,
    token: Token,
    moving: Option<Moving>,
}

#[derive(Debug, Clone, Copy)]
struct Moving {
    begun: u64,
    step: Step,
    to_me: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preparation {
    Running,
    Ready,
    Failed,
}

/// A place in the mesh's history. After a restore revisions are counted from an earlier one: the epoch goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct At {
    epoch: u64,
    revision: u64,
}

/// The right to serve, which only a leader of the epoch gives that is known.
#[derive(Debug, Clone, Copy)]
struct Lease {
    until: Duration,
    epoch: u64,
}

/// An acknowledgement that has to be made.
#[derive(Debug, Clone, Copy)]
struct Ack {
    begun: u64,
    step: Step,
    sent: Sent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    OnItsWay,
    /// It was not taken, and is sent again then.
    Again(Duration),
    /// It was taken, or is of no use.
    Done,
}

/// A peer that stops.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    since: Duration,
    /// Whether the mesh has been told, or does not want to hear of it.
    told: bool,
}

/// What a peer knows and does.
#[derive(Debug)]
pub struct Core {
    id: String,
    /// The mesh, and the latest epoch that anybody spoke of.
    known: Known,
    /// Since when it is this mesh; who was asked before answers for another.
    known_since: Duration,
    /// The epoch of the watch that runs; none before it begins.
    stream: Option<u64>,
    view: BTreeMap<ShardKey, Seen>,
    /// Where the view is whole; none before there is one.
    seen: Option<At>,
    /// How late the view has to be.
    floor: At,
    lease: Option<Lease>,
    beat_due: Option<Duration>,
    serving: BTreeMap<ShardKey, Token>,
    stopping: BTreeSet<ShardKey>,
    /// Those that it failed to stop: never said to be stopped, and served again once the mesh gives their move up.
    unsure: BTreeSet<ShardKey>,
    preparing: BTreeMap<ShardKey, (u64, Preparation)>,
    /// Those of which a preparation has not ended, be it of use or not: nothing else is begun on them.
    busy: BTreeSet<ShardKey>,
    acks: BTreeMap<ShardKey, Ack>,
    leaving: Option<Leaving>,
    /// What was last looked at all shards for.
    gate: Gate,
    /// What was changed or ended since then. What follows for a shard depends on it and on the gate alone, so that one of
    /// thousands costs as much as one of a few.
    touched: Touched,
}

/// What every shard's lot depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Gate {
    epoch: u64,
    leaving: bool,
    leased: bool,
    /// Whether the view is of the epoch that is known.
    of_this_epoch: bool,
    /// Whether it is as late as it has to be.
    late_enough: bool,
}

#[derive(Debug)]
enum Touched {
    All,
    Some(BTreeSet<ShardKey>),
}

impl Touched {
    fn add(&mut self, shard: &ShardKey) {
        if let Self::Some(shards) = self {
            shards.insert(shard.clone());
        }
    }
}

impl Core {
    /// A peer that begins now, with a heartbeat.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            known: Known::default(),
            known_since: Duration::ZERO,
            stream: None,
            view: BTreeMap::new(),
            seen: None,
            floor: At::default(),
            lease: None,
            beat_due: Some(Duration::ZERO),
            serving: BTreeMap::new(),
            stopping: BTreeSet::new(),
            unsure: BTreeSet::new(),
            preparing: BTreeMap::new(),
            busy: BTreeSet::new(),
            acks: BTreeMap::new(),
            leaving: None,
            gate: Gate::default(),
            touched: Touched::All,
        }
    }

    /// Has the next event look at every shard.
    #[cfg(test)]
    pub(super) fn touch_all(&mut self) {
        self.touched = Touched::All;
    }

    /// Until when it may serve, where nothing more is heard.
    pub fn lease_until(&self) -> Option<Duration> {
        let lease = self.lease.filter(|lease| lease.epoch == self.known.epoch);
        lease.map(|lease| lease.until)
    }

    /// The mesh, and the latest epoch that anybody spoke of.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// What it serves, and under which token.
    pub fn serving(&self) -> &BTreeMap<ShardKey, Token> {
        &self.serving
    }

    /// Whether no work on any shard is under way.
    pub fn is_idle(&self) -> bool {
        self.serving.is_empty() && self.stopping.is_empty()
    }

    /// Whether nobody waits for anything that a peer which stops has to say: that it does, and what it has done.
    pub fn has_said_all(&self) -> bool {
        let told = self.leaving.is_none_or(|leaving| leaving.told);
        told && self.acks.values().all(|ack| ack.sent == Sent::Done)
    }

    /// When it has to be told the time next.
    pub fn wake(&self) -> Option<Duration> {
        let lease = self.lease_until().filter(|_| !self.serving.is_empty());
        let acks = self.acks.values().filter_map(|ack| match ack.sent {
            Sent::Again(at) => Some(at),
            Sent::OnItsWay | Sent::Done => None,
        });
        self.beat_due.into_iter().chain(lease).chain(acks).min()
    }

    /// Takes an event, and answers what follows from it.
    pub fn on(&mut self, now: Duration, event: Event) -> Vec<Action> {
        match event {
            Event::Tick => {}
            Event::Answered {
                sent,
                lease,
                view_revision,
                epoch,
                next,
            } => {
                let revision = view_revision;
                if let Some(leaving) = self.leaving.as_mut().filter(|leaving| sent >= leaving.since) {
                    leaving.told = true;
                }
                self.answered(now, sent, lease, At { epoch, revision }, next);
            }
            Event::Unanswered => self.beat_due = Some(now + RETRY),
            Event::Refused => {
                self.lease = None;
                self.beat_due = Some(now + NEXT);
                if let Some(leaving) = &mut self.leaving {
                    leaving.told = true;
                }
            }
            Event::Begun { mesh, epoch } => self.begun(now, mesh, epoch),
            Event::View(update) => {
                self.take(update);
                self.hear_of(now, self.stream.unwrap_or_default());
            }
            Event::Prepared { shard, begun, ready } => {
                self.touched.add(&shard);
                self.busy.remove(&shard);
                if let Some(preparation) = self.preparing.get_mut(&shard).filter(|(move_, _)| *move_ == begun) {
                    preparation.1 = if ready { Preparation::Ready } else { Preparation::Failed };
                }
            }
            Event::Stopped { shard } => {
                self.touched.add(&shard);
                self.stopping.remove(&shard);
            }
            Event::StopFailed { shard } => {
                self.touched.add(&shard);
                if self.stopping.remove(&shard) {
                    self.unsure.insert(shard);
                }
            }
            Event::Told {
                shard,
                begun,
                step,
                done,
            } => {
                if let Some(ack) = self
                    .acks
                    .get_mut(&shard)
                    .filter(|ack| (ack.begun, ack.step) == (begun, step))
                {
                    ack.sent = if done { Sent::Done } else { Sent::Again(now + RETRY) };
                }
            }
            Event::Leave => {
                let (since, told) = (now, false);
                self.leaving = Some(Leaving { since, told });
                self.beat_due = Some(now);
            }
        }
        self.settle(now)
    }

    fn answered(&mut self, now: Duration, sent: Duration, lease: Duration, at: At, next: Duration) {
        if sent < self.known_since {
            return;
        }
        self.beat_due = Some(sent.saturating_add(next.max(NEXT_MIN)).max(now));
        if at.epoch < self.known.epoch {
            // Of a leader that was: its lease says nothing about what is now.
            return;
        }
        self.known.epoch = at.epoch;
        if lease.is_zero() {
            self.lease = None;
            return;
        }
        if !self.has_lease(now) {
            // Meanwhile the mesh may have given away what this view still calls its own.
            self.floor = self.floor.max(at);
        }
        let until = sent.saturating_add(lease);
        self.lease = Some(Lease {
            until: self.lease_until().map_or(until, |held| held.max(until)),
            epoch: at.epoch,
        });
    }

    /// Whether it has one that lasts, of the epoch that is known.
    fn has_lease(&self, now: Duration) -> bool {
        self.lease_until().is_some_and(|until| now < until)
    }

    fn begun(&mut self, now: Duration, mesh: String, epoch: u64) {
        if !self.known.mesh.is_empty() && self.known.mesh != mesh {
            // Nothing that is known says anything about another mesh, not even its epoch.
            self.known.epoch = 0;
            self.known_since = now;
            self.view.clear();
            self.touched = Touched::All;
            (self.seen, self.floor, self.lease) = (None, At::default(), None);
            self.beat_due = Some(now);
        }
        self.known.mesh = mesh;
        self.stream = Some(epoch);
        self.hear_of(now, epoch);
    }

    /// The mesh is at this epoch, or at a later one. A lease of before is none any more, and another is asked for at once.
    fn hear_of(&mut self, now: Duration, epoch: u64) {
        if epoch > self.known.epoch {
            self.known.epoch = epoch;
            if self.lease.is_some() {
                self.beat_due = Some(now);
            }
        }
    }

    /// What the watch that runs has come to.
    fn at(&self, revision: u64) -> At {
        let epoch = self.stream.unwrap_or_default();
        At { epoch, revision }
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Whole { revision, shards } => {
                self.view.clear();
                self.touched = Touched::All;
                shards.into_iter().for_each(|shard| self.put(shard));
                self.seen = Some(self.at(revision));
            }
            Update::Revision { revision, changes } => {
                for change in changes {
                    match change {
                        Change::Is(shard) => self.put(shard),
                        Change::Gone { namespace, shard } => {
                            let namespace = Arc::from(namespace);
                            let key = ShardKey { namespace, shard };
                            self.touched.add(&key);
                            self.view.remove(&key);
                        }
                    }
                }
                self.reached(revision);
            }
            Update::Reached { revision } => self.reached(revision),
        }
    }

    /// Everything up to a revision is known. Says nothing before there is a whole view.
    ///
    /// A watch of a later epoch that goes on without a snapshot shows that the view is part of that epoch's history: what was
    /// cut off cannot be gone on from.
    fn reached(&mut self, revision: u64) {
        let at = self.at(revision);
        self.seen = self.seen.map(|seen| seen.max(at));
    }

    fn put(&mut self, shard: v1::Shard) {
        let status = shard.status();
        let key = ShardKey {
            namespace: Arc::from(shard.namespace),
            shard: shard.shard,
        };
        let moving = shard.moving.map(|moving| Moving {
            begun: moving.begun,
            step: moving.step(),
            to_me: moving.to == self.id,
        });
        let token = Token::from(shard.token);
        // It came to a later epoch while the watch ran.
        self.stream = self.stream.max(Some(token.mesh_epoch));
        let seen = Seen {
            mine: shard.owner == self.id,
            status,
            token,
            moving,
        };
        self.touched.add(&key);
        self.view.insert(key, seen);
    }

    /// A shard's token: whatever did not change since has the mesh's epoch of now all the same.
    fn token(&self, seen: &Seen) -> Token {
        Token {
            mesh_epoch: seen.token.mesh_epoch.max(self.known.epoch),
            ..seen.token
        }
    }

    /// Whether the view is of the epoch that is known.
    fn is_of_this_epoch(&self) -> bool {
        self.seen.is_some_and(|seen| seen.epoch >= self.known.epoch)
    }

    /// What every shard's lot depends on, now.
    fn gate(&self, now: Duration) -> Gate {
        Gate {
            epoch: self.known.epoch,
            leaving: self.leaving.is_some(),
            leased: self.has_lease(now),
            of_this_epoch: self.is_of_this_epoch(),
            late_enough: self.seen.is_some_and(|seen| seen >= self.floor),
        }
    }

    /// The token to serve a shard under; none where it is not to be served.
    fn may_serve(&self, gate: Gate, key: &ShardKey) -> Option<Token> {
        let Gate {
            epoch: _,
            leaving,
            leased,
            of_this_epoch,
            late_enough,
        } = gate;
        if leaving || !leased || !of_this_epoch || !late_enough {
            return None;
        }
        self.view
            .get(key)
            .filter(|seen| seen.is_served_by_owner())
            .map(|seen| self.token(seen))
    }

    fn why_not(&self, now: Duration, key: &ShardKey) -> Why {
        let of_before = self.lease.is_some_and(|lease| lease.epoch < self.known.epoch);
        match self.view.get(key) {
            _ if self.leaving.is_some() => Why::Leaving,
            _ if of_before || !self.is_of_this_epoch() => Why::Epoch,
            _ if !self.has_lease(now) => Why::Lease,
            Some(seen) if seen.mine && seen.moving.is_some() => Why::Moving,
            Some(seen) if seen.is_served_by_owner() => Why::Token,
            Some(_) | None => Why::Lost,
        }
    }
}

impl Seen {
    /// Whether its owner serves it, as far as the mesh is concerned.
    fn is_served_by_owner(&self) -> bool {
        let served = match self.status {
            Status::Active | Status::Paused => true,
            Status::Moving => self.moving.is_some_and(|moving| moving.step == Step::Preparing),
            Status::Unspecified | Status::Disabled => false,
        };
        self.mine && served
    }
}
