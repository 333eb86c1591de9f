//! Nodes that are not well: a clock that jumps, a state that differs, a disk that fills. What runs is what ships, in
//! simulated time.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use api_client::Consistency;
use meshkit_chaos::{
    clock,
    history::{Call, History, Outcome},
    network::{Links, host},
    node::Machine,
    schedule::{NODES, rng},
    sdk::Session,
};
use parking_lot::Mutex;
use raft::testing::tamper;
use statemachine::{Command, Entry, NodeId, Revision, cluster::AlarmKind};
use turmoil::Sim;

const YEAR_MS: i64 = 365 * 86_400_000;
/// For whatever has to come about.
const SOON: Duration = Duration::from_secs(60);

/// What the client saw last.
#[derive(Default)]
struct Saw {
    /// Of the last write.
    write: String,
    /// Writes that took effect.
    written: u64,
    /// Of the last read of each node by itself.
    reads: BTreeMap<NodeId, String>,
    /// A write to be repeated under this key.
    repeat: Option<String>,
    /// What came of repeating it.
    repeated: Option<Outcome>,
}

struct World {
    sim: Sim<'static>,
    machines: BTreeMap<NodeId, Arc<Mutex<Arc<Machine>>>>,
    links: Arc<Links>,
    history: History,
    seed: u64,
    saw: Arc<Mutex<Saw>>,
}

impl World {
    /// Three nodes, and a client that writes and reads without end.
    fn new(seed: u64) -> Self {
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(std::time::UNIX_EPOCH + Duration::from_millis(clock::EPOCH_MS))
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(10))
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let mut world = Self {
            sim,
            machines: BTreeMap::new(),
            links: Arc::default(),
            history: History::default(),
            seed,
            saw: Arc::default(),
        };
        for id in (1..=NODES).map(NodeId) {
            let machine = Arc::new(Mutex::new(Arc::new(world.machine(id))));
            let software = machine.clone();
            world.sim.host(host(id), move || {
                let machine = software.lock().clone();
                machine.run()
            });
            world.machines.insert(id, machine);
        }
        let (saw, session) = (world.saw.clone(), Session::new(rng(seed, 1), NODES).unwrap());
        world.sim.client("c1", async move {
            work(session, saw).await;
            Ok(())
        });
        world.until("writes", |world| world.saw.lock().written > 3);
        world
    }

    fn machine(&self, id: NodeId) -> Machine {
        Machine::new(id, self.seed, self.links.clone(), self.history.clone(), None)
    }

    fn pass(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.sim.step().unwrap();
        }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.sim.elapsed() + SOON;
        while !holds(self) {
            assert!(
                self.sim.elapsed() < end,
                "not within {SOON:?}: {what}; {}",
                self.story()
            );
            self.sim.step().unwrap();
        }
    }

    fn story(&self) -> String {
        let saw = self.saw.lock();
        let nodes: Vec<_> = self
            .handles()
            .map(|(node, handle)| format!("{node}: {:?}", handle.status()))
            .collect();
        format!("last write {}, reads {:?}\n{}", saw.write, saw.reads, nodes.join("\n"))
    }

    fn on(&self, node: NodeId) -> Arc<Machine> {
        self.machines[&node].lock().clone()
    }

    fn handles(&self) -> impl Iterator<Item = (NodeId, raft::Handle)> {
        self.machines
            .iter()
            .filter_map(|(node, machine)| Some((*node, machine.lock().handle.lock().clone()?)))
    }

    fn leader(&self) -> Option<NodeId> {
        let leads = |(node, handle): (NodeId, raft::Handle)| {
            let status = handle.status();
            (status.is_leader() && status.quorum.ok).then_some((status.term, node))
        };
        self.handles().filter_map(leads).max().map(|(_, node)| node)
    }

    /// The leader, once there is one.
    fn led(&mut self) -> NodeId {
        self.until("a leader", |world| world.leader().is_some());
        self.leader().unwrap()
    }

    /// Whether every node that runs knows of this alarm.
    fn alarm(&self, node: NodeId, kind: AlarmKind) -> bool {
        self.handles()
            .all(|(_, handle)| handle.view().state().cluster.has_alarm(node, kind))
    }

    fn no_alarm(&self) -> bool {
        self.handles()
            .all(|(_, handle)| handle.view().state().cluster.alarms().next().is_none())
    }

    /// The latest mesh time that any node has applied.
    fn mesh_time_ms(&self) -> u64 {
        let times = self
            .handles()
            .map(|(_, handle)| handle.view().state().mesh.stamp().mesh_time_ms);
        times.max().unwrap()
    }

    /// What comes of a write that is repeated under a key.
    fn repeat(&mut self, key: &str) -> Outcome {
        let mut saw = self.saw.lock();
        (saw.repeat, saw.repeated) = (Some(key.to_owned()), None);
        drop(saw);
        self.until("an answer", |world| world.saw.lock().repeated.is_some());
        self.saw.lock().repeated.take().unwrap()
    }

    /// Waits for some more writes to take effect.
    fn goes_on(&mut self) {
        let before = self.saw.lock().written;
        self.until("more writes", |world| world.saw.lock().written > before + 5);
    }

    fn read_of(&self, node: NodeId) -> String {
        self.saw.lock().reads.get(&node).cloned().unwrap_or_default()
    }
}

async fn work(mut session: Session, saw: Arc<Mutex<Saw>>) {
    let mut count = 0;
    loop {
        count += 1;
        let call = if count == 1 {
            Call::Register("p1".to_owned())
        } else {
            Call::Write {
                peer: "p1".to_owned(),
                if_match: None,
            }
        };
        let ended = session.perform(&call, &format!("key-{count}")).await;
        if count == 1 && !ended.outcome.is_acknowledged() {
            count = 0;
        }
        {
            let mut saw = saw.lock();
            saw.written += u64::from(ended.outcome.is_acknowledged());
            saw.write = format!("{:?}", ended.outcome);
        }
        let repeat = saw.lock().repeat.take();
        if let Some(key) = repeat {
            let ended = session.perform(&Call::Cordon("p1".to_owned()), &key).await;
            match ended.outcome {
                Outcome::Failed(_) | Outcome::Unknown(_) => saw.lock().repeat = Some(key),
                outcome => saw.lock().repeated = Some(outcome),
            }
        }
        if count % 3 == 0 {
            for node in (1..=NODES).map(NodeId) {
                let ended = session.read_at(node, "p1", Consistency::Local).await;
                saw.lock().reads.insert(node, format!("{:?}", ended.outcome));
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A ULID of a moment in simulated time.
fn ulid(ms: u64, random: &str) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digits = (0..10)
        .rev()
        .map(|at| char::from(ALPHABET[usize::try_from((ms >> (5 * at)) & 31).unwrap()]));
    digits.collect::<String>() + random
}

/// Writes one more label than was asked for.
fn flip(entry: &mut Entry, by: &str) {
    if let Entry::Command(proposal) = entry
        && let Command::PatchPeer(patch) = &mut proposal.command
    {
        patch.labels.insert("flipped".to_owned(), by.to_owned());
    }
}

fn a_clock_jumps(seed: u64, by_ms: i64) {
    let mut world = World::new(seed);
    let old = world.led();
    let now = |world: &World| clock::EPOCH_MS + u64::try_from(world.sim.elapsed().as_millis()).unwrap();
    let key = ulid(now(&world), "ABCDEFGHJKMNPQRS");
    let Outcome::Applied(first, _) = world.repeat(&key) else {
        panic!("the first attempt was refused")
    };
    let (began, mesh_began) = (world.sim.elapsed(), world.mesh_time_ms());

    world.on(old).clock_ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    world.until("the alarm and another leader", |world| {
        world.alarm(old, AlarmKind::Clock) && world.leader().is_some_and(|leader| leader != old)
    });
    let given_up = world.sim.elapsed() - began;
    assert!(
        given_up < Duration::from_secs(10),
        "leadership was given up after {given_up:?}"
    );

    // Not expired early, although a year has passed on the clock of the one that led.
    world.pass(Duration::from_secs(30).saturating_sub(world.sim.elapsed() - began));
    assert!(matches!(world.repeat(&key), Outcome::Applied(at, _) if at == first));
    world.goes_on();
    let (passed, mesh_passed) = (world.sim.elapsed() - began, world.mesh_time_ms() - mesh_began);
    let off = i128::from(mesh_passed) - i128::try_from(passed.as_millis()).unwrap();
    assert!(off.abs() < 1_500, "mesh time is off by {off} ms after {passed:?}");
    assert!(world.alarm(old, AlarmKind::Clock) && world.leader() != Some(old));

    // Not frozen either: it expires when its time has come.
    world.pass(Duration::from_secs(70).saturating_sub(world.sim.elapsed() - began));
    let late = world.repeat(&key);
    assert!(
        matches!(&late, Outcome::Rejected(_, code) if code == "idempotency_key_expired"),
        "{late:?}"
    );

    world.on(old).clock_ahead_ms.fetch_sub(by_ms, Ordering::Relaxed);
    world.until("the alarm to go", World::no_alarm);
    world.goes_on();
}

#[test]
fn a_leader_whose_clock_jumps_a_year_ahead_hands_leadership_over() {
    a_clock_jumps(1, YEAR_MS);
}

#[test]
fn a_leader_whose_clock_jumps_a_year_back_hands_leadership_over() {
    a_clock_jumps(2, -YEAR_MS);
}

fn a_state_differs(seed: u64, hits_leader: bool) {
    let mut world = World::new(seed);
    let leader = world.led();
    let victim = if hits_leader {
        leader
    } else {
        NodeId(leader.0 % NODES + 1)
    };
    let handle = world.on(victim).handle.lock().clone().unwrap();
    tamper(&handle, |entry| flip(entry, "once"));
    world.until("the alarm", |world| world.alarm(victim, AlarmKind::Corrupt));
    world.until("another leader", |world| {
        world.leader().is_some_and(|leader| leader != victim)
    });
    world.until("the victim to refuse", |world| {
        world.read_of(victim).contains("unavailable")
    });
    world.goes_on();
    for other in (1..=NODES).map(NodeId).filter(|other| *other != victim) {
        world.until("the others to serve", |world| world.read_of(other).contains("Seen"));
        assert!(!world.alarm(other, AlarmKind::Corrupt), "node {other} is blamed");
    }

    // Its vote does not count: without one of the others nobody leads, least of all the victim.
    let leader = world.led();
    drop(world.on(leader).handle.lock().take());
    world.sim.crash(host(leader));
    for _ in 0..100 {
        world.pass(Duration::from_millis(100));
        assert_eq!(world.leader(), None, "{}", world.story());
    }
    world.sim.bounce(host(leader));
    world.goes_on();
    assert_ne!(world.led(), victim);

    // Wiped and built anew it is like the others.
    drop(world.on(victim).handle.lock().take());
    world.sim.crash(host(victim));
    let mut anew = world.machine(victim);
    (anew.directory, anew.founder) = (77, false);
    *world.machines[&victim].lock() = Arc::new(anew);
    world.sim.bounce(host(victim));
    world.until("it to serve again", |world| {
        world.handles().count() == 3 && world.no_alarm() && world.read_of(victim).contains("Seen")
    });
    world.goes_on();
}

#[test]
fn a_follower_whose_state_differs_stops_serving_until_it_is_built_anew() {
    a_state_differs(3, false);
}

#[test]
fn a_leader_whose_state_differs_stops_leading_and_serving_until_it_is_built_anew() {
    a_state_differs(4, true);
}

#[test]
fn without_a_majority_of_equal_states_mutations_are_refused() {
    let mut world = World::new(5);
    let leader = world.led();
    for other in (1..=NODES).map(NodeId).filter(|other| *other != leader) {
        let handle = world.on(other).handle.lock().clone().unwrap();
        tamper(&handle, move |entry| flip(entry, &other.to_string()));
    }
    world.until("mutations to be refused", |world| {
        world.saw.lock().write.contains("no majority")
    });
    let written = world.saw.lock().written;
    world.pass(Duration::from_secs(20));
    assert_eq!(world.saw.lock().written, written, "{}", world.story());
    assert!(world.no_alarm(), "nobody can be told to be the one that is wrong");
    let leader = world.led();
    assert!(world.read_of(leader).contains("Seen"), "reads go on: {}", world.story());
}

#[test]
fn a_full_disk_gives_leading_away_and_three_full_disks_stop_mutations_until_there_is_space() {
    let mut world = World::new(6);
    let first = world.led();
    let set = |world: &World, node, free| world.on(node).space.free_bytes.store(free, Ordering::Relaxed);
    set(&world, first, 1 << 20);
    world.until("another to lead", |world| {
        world.alarm(first, AlarmKind::NoSpace) && world.leader().is_some_and(|leader| leader != first)
    });
    world.goes_on();

    for node in (1..=NODES).map(NodeId) {
        set(&world, node, 1 << 20);
    }
    world.until("no_space", |world| world.saw.lock().write.contains("no_space"));
    world.pass(Duration::from_secs(5));
    let written = world.saw.lock().written;
    let revision = |world: &World| {
        world
            .handles()
            .map(|(_, handle)| handle.view().position().revision)
            .max()
    };
    let before = revision(&world);
    world.pass(Duration::from_secs(20));
    assert_eq!(world.saw.lock().written, written);
    assert!(
        revision(&world) <= before.map(|at| Revision(at.0 + 10)),
        "checkpoints alone go on"
    );
    assert!(world.leader().is_some(), "somebody leads, for reads: {}", world.story());
    for node in (1..=NODES).map(NodeId) {
        assert!(world.read_of(node).contains("Seen"), "{}", world.story());
        assert!(world.alarm(node, AlarmKind::NoSpace));
    }

    for node in (1..=NODES).map(NodeId) {
        set(&world, node, 1 << 40);
    }
    world.until("the alarms to go", World::no_alarm);
    world.goes_on();
}
