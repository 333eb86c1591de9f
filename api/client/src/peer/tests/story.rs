//! The peer's rules against a mesh of one shard and two peers, in which everything may be late or lost.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const DRIFT: Duration = Duration::from_secs(1);
const SUSPECT: Duration = Duration::from_secs(5);

/// One of the two peers, and what is on its way to and from it.
struct Node {
    core: Core,
    /// The same, but for looking at every shard at every event.
    thorough: Core,
    name: &'static str,
    /// Revisions that it has not seen yet.
    coming: VecDeque<Event>,
    /// It asks for another watch in place of the one that those come by.
    asks: bool,
    /// Heartbeats on their way: when each was sent.
    beats: VecDeque<Duration>,
    /// Answers on their way.
    answers: VecDeque<Event>,
    acks: VecDeque<Acknowledgement>,
    stops: usize,
    preparations: VecDeque<u64>,
    // As the mesh sees it.
    heard: Duration,
    suspected: Option<Duration>,
    dead: bool,
}

impl Node {
    fn new(name: &'static str, shard: v1::Shard) -> Self {
        Self {
            core: Core::new(name),
            thorough: Core::new(name),
            name,
            coming: VecDeque::from([begun(1), whole(1, vec![shard])]),
            asks: false,
            beats: VecDeque::new(),
            answers: VecDeque::new(),
            acks: VecDeque::new(),
            stops: 0,
            preparations: VecDeque::new(),
            heard: Duration::ZERO,
            suspected: None,
            dead: false,
        }
    }

    fn tell(&mut self, now: Duration, event: Event) {
        self.thorough.touch_all();
        let actions = self.core.on(now, event.clone());
        assert_eq!(
            actions,
            self.thorough.on(now, event),
            "{} overlooked something",
            self.name
        );
        for action in actions {
            match action {
                Action::Beat { .. } => self.beats.push_back(now),
                Action::Stop { .. } => self.stops += 1,
                Action::Prepare { begun, .. } => self.preparations.push_back(begun),
                Action::Acknowledge(ack) => self.acks.push_back(ack),
                Action::Follow(_) => self.asks = true,
                Action::Start { .. } | Action::Abandon { .. } => {}
            }
        }
    }

    /// Whether it would serve a request now, by its own clock.
    fn serves(&self, now: Duration) -> Option<Token> {
        let held = self.core.serving().get(&key()).copied()?;
        self.core.lease_until().filter(|until| now < *until).map(|_| held)
    }
}

/// The mesh's side, as the state machine and the leader's loops have it.
struct World {
    now: Duration,
    mesh_epoch: u64,
    revision: u64,
    shard: v1::Shard,
    /// The shard as it was at each revision, from the first on.
    history: Vec<v1::Shard>,
    nodes: [Node; 2],
    /// Who served last, under which token.
    last: Option<(&'static str, Token)>,
}

#[derive(Debug, Clone)]
enum Happens {
    Time(u64),
    See(usize),
    Beat(usize),
    LoseBeat(usize),
    Answer(usize),
    LoseAnswer(usize),
    Stopped(usize),
    Prepared(usize),
    Ack(usize),
    LoseAck(usize),
    Restart(usize),
    Move,
    GiveUp,
    Judge,
    /// Another epoch, of which watches that run hear nothing.
    Promote,
    /// The mesh goes on from so many revisions before, with another epoch, after all leases are over.
    Restore(usize),
}

impl World {
    fn new() -> Self {
        let shard = shard("a", 1);
        Self {
            now: Duration::ZERO,
            mesh_epoch: 1,
            revision: 1,
            history: vec![shard.clone()],
            nodes: [Node::new("a", shard.clone()), Node::new("b", shard.clone())],
            shard,
            last: None,
        }
    }

    fn put(&mut self, shard: v1::Shard) {
        self.revision += 1;
        self.shard = self.of_now(shard);
        self.history.push(self.shard.clone());
        for node in &mut self.nodes {
            node.coming.push_back(is(self.revision, self.shard.clone()));
        }
    }

    /// A shard under the mesh's epoch of now.
    fn of_now(&self, mut shard: v1::Shard) -> v1::Shard {
        if let Some(token) = &mut shard.token {
            token.mesh_epoch = self.mesh_epoch;
        }
        shard
    }

    /// A watch from its beginning.
    fn watch(&self) -> [Event; 2] {
        let shard = self.of_now(self.shard.clone());
        [begun(self.mesh_epoch), whole(self.revision, vec![shard])]
    }

    fn restore(&mut self, back: usize) {
        let until = self.now + LEASE + SUSPECT;
        while self.now < until {
            self.step(Happens::Time(500));
        }
        self.history.truncate(self.history.len().saturating_sub(back).max(1));
        self.shard = self.history.last().unwrap().clone();
        self.revision = u64::try_from(self.history.len()).unwrap();
        self.mesh_epoch += 1;
        let watch = self.watch();
        for node in &mut self.nodes {
            // What was on its way of the watch before may still come.
            node.coming.extend(watch.clone());
        }
    }

    fn epoch(&self) -> u64 {
        Token::from(self.shard.token).shard_epoch
    }

    fn at(&self, name: &str) -> usize {
        usize::from(name == self.nodes[1].name)
    }

    fn step(&mut self, happens: Happens) {
        let now = self.now;
        match happens {
            Happens::Time(ms) => self.now += Duration::from_millis(ms),
            Happens::See(at) => {
                if let Some(event) = self.nodes[at].coming.pop_front() {
                    self.nodes[at].tell(now, event);
                }
            }
            Happens::Beat(at) => self.beat(at),
            Happens::LoseBeat(at) => {
                if self.nodes[at].beats.pop_front().is_some() {
                    self.nodes[at].tell(now, Event::Unanswered);
                }
            }
            Happens::Answer(at) => {
                if let Some(event) = self.nodes[at].answers.pop_front() {
                    self.nodes[at].tell(now, event);
                }
            }
            Happens::LoseAnswer(at) => {
                if self.nodes[at].answers.pop_front().is_some() {
                    self.nodes[at].tell(now, Event::Unanswered);
                }
            }
            Happens::Stopped(at) => {
                if self.nodes[at].stops > 0 {
                    self.nodes[at].stops -= 1;
                    self.nodes[at].tell(now, Event::Stopped { shard: key() });
                }
            }
            Happens::Prepared(at) => {
                if let Some(begun) = self.nodes[at].preparations.pop_front() {
                    self.nodes[at].tell(
                        now,
                        Event::Prepared {
                            shard: key(),
                            begun,
                            ready: true,
                        },
                    );
                }
            }
            Happens::Ack(at) => self.acknowledgement(at, true),
            Happens::LoseAck(at) => self.acknowledgement(at, false),
            Happens::Restart(at) => {
                let (shard, watch) = (self.shard.clone(), self.watch());
                let node = &mut self.nodes[at];
                let mut fresh = Node::new(node.name, shard);
                fresh.coming = watch.into();
                (fresh.heard, fresh.suspected, fresh.dead) = (node.heard, node.suspected, node.dead);
                // What the old process had sent still arrives, and what it acknowledged was true of it.
                fresh.acks = std::mem::take(&mut node.acks);
                *node = fresh;
            }
            Happens::Move => self.begin(),
            Happens::GiveUp => {
                if self.shard.moving.is_some() {
                    self.put(shard(&self.shard.owner.clone(), self.epoch()));
                }
            }
            Happens::Judge => self.judge(),
            Happens::Promote => {
                self.mesh_epoch += 1;
                self.revision += 1;
                self.history.push(self.shard.clone());
            }
            Happens::Restore(back) => self.restore(back),
        }
        for at in 0..2 {
            self.nodes[at].tell(self.now, Event::Tick);
            if std::mem::take(&mut self.nodes[at].asks) {
                self.nodes[at].coming = self.watch().into();
            }
        }
        self.check();
    }

    fn beat(&mut self, at: usize) {
        let (now, revision, epoch) = (self.now, self.revision, self.mesh_epoch);
        let node = &mut self.nodes[at];
        let Some(sent) = node.beats.pop_front() else { return };
        node.heard = now;
        let alive = node.suspected.is_none() && !node.dead;
        let lease = if alive { LEASE } else { Duration::ZERO };
        // Two in a row would make it alive again; one does here, which is harder on the peer.
        (node.suspected, node.dead) = (None, false);
        node.answers.push_back(answered_at(epoch, sent, lease, revision));
    }

    fn begin(&mut self) {
        if self.shard.moving.is_none() {
            let to = if self.shard.owner == "a" { "b" } else { "a" };
            if self.nodes[self.at(to)].dead {
                return;
            }
            let begun = self.revision + 1;
            let owner = self.shard.owner.clone();
            self.put(moving(&owner, self.epoch(), to, Step::Preparing, begun));
        }
    }

    /// The next acknowledgement of a node's is sent, and arrives or does not.
    fn acknowledgement(&mut self, at: usize, arrives: bool) {
        let Some(ack) = self.nodes[at].acks.pop_front() else {
            return;
        };
        let (begun, step) = (ack.begun, ack.step);
        if arrives {
            self.acknowledged(at, &ack);
        }
        let told = Event::Told {
            shard: key(),
            begun,
            step,
            done: arrives,
        };
        self.nodes[at].tell(self.now, told);
    }

    fn acknowledged(&mut self, at: usize, ack: &Acknowledgement) {
        let Some(current) = &self.shard.moving else { return };
        if current.begun != ack.begun
            || current.step() != ack.step
            || Token::from(self.of_now(self.shard.clone()).token) != ack.token
        {
            return;
        }
        let (to, owner, begun) = (current.to.clone(), self.shard.owner.clone(), current.begun);
        match ack.step {
            Step::Preparing if self.at(&to) == at => {
                if self.nodes[self.at(&owner)].dead {
                    self.put(shard(&to, self.epoch() + 1));
                } else {
                    self.put(moving(&owner, self.epoch(), &to, Step::Stopping, begun));
                }
            }
            Step::Stopping if self.at(&owner) == at => self.put(shard(&to, self.epoch() + 1)),
            Step::Unspecified | Step::Preparing | Step::Stopping => {}
        }
    }

    fn judge(&mut self) {
        let now = self.now;
        for node in &mut self.nodes {
            match node.suspected {
                None if !node.dead && now - node.heard >= SUSPECT => node.suspected = Some(now),
                Some(since) if now - since >= LEASE + DRIFT => (node.suspected, node.dead) = (None, true),
                _ => {}
            }
        }
        let owner = self.shard.owner.clone();
        let (owner, other) = (self.at(&owner), 1 - self.at(&owner));
        if self.nodes[owner].dead && !self.nodes[other].dead {
            let to = self.nodes[other].name;
            self.put(shard(to, self.epoch() + 1));
        }
    }

    fn check(&mut self) {
        let serves = [0, 1].map(|at| self.nodes[at].serves(self.now));
        assert!(
            serves.iter().flatten().count() < 2,
            "both serve at {:?}: {serves:?}, the mesh has {:?}",
            self.now,
            self.shard
        );
        for (at, served) in serves.iter().enumerate() {
            let (Some(token), name) = (served, self.nodes[at].name) else {
                continue;
            };
            if let Some((last, before)) = self.last {
                assert!(
                    *token > before || (last == name && *token == before),
                    "{last} {before}, then {name} {token}"
                );
            }
            self.last = Some((name, *token));
        }
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    let at = || 0..2_usize;
    prop_oneof![
        6 => (1_u64..3_000).prop_map(Happens::Time),
        1 => (3_000_u64..12_000).prop_map(Happens::Time),
        8 => at().prop_map(Happens::See),
        8 => at().prop_map(Happens::Beat),
        1 => at().prop_map(Happens::LoseBeat),
        8 => at().prop_map(Happens::Answer),
        1 => at().prop_map(Happens::LoseAnswer),
        5 => at().prop_map(Happens::Stopped),
        5 => at().prop_map(Happens::Prepared),
        5 => at().prop_map(Happens::Ack),
        1 => at().prop_map(Happens::LoseAck),
        1 => at().prop_map(Happens::Restart),
        3 => Just(Happens::Move),
        1 => Just(Happens::GiveUp),
        5 => Just(Happens::Judge),
        1 => Just(Happens::Promote),
        1 => (0..20_usize).prop_map(Happens::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is late or lost, no two serve at once, and tokens grow from owner to owner.
    #[test]
    fn no_two_serve_one_shard(story in prop::collection::vec(happens(), 1..200)) {
        let mut world = World::new();
        story.into_iter().for_each(|next| world.step(next));
    }

    /// Once everything arrives, the owner serves, whatever was before.
    #[test]
    fn in_the_end_somebody_serves(story in prop::collection::vec(happens(), 1..100)) {
        let mut world = World::new();
        story.into_iter().for_each(|next| world.step(next));
        for _ in 0..200 {
            world.step(Happens::Time(250));
            for at in [0, 1] {
                for next in [Happens::See(at), Happens::Beat(at), Happens::Answer(at), Happens::Stopped(at), Happens::Prepared(at), Happens::Ack(at)] {
                    world.step(next);
                }
            }
            world.step(Happens::Judge);
        }
        prop_assert!(world.last.is_some());
        let serving: Vec<_> = world.nodes.iter().filter(|node| node.serves(world.now).is_some()).collect();
        prop_assert_eq!(serving.len(), 1);
        prop_assert_eq!(serving[0].name, world.shard.owner.as_str());
    }
}
