//! One seed as a story: set up, faults one after another, calm, and then the questions.

mod changes;

use std::{collections::BTreeSet, error::Error, sync::Arc, sync::atomic::Ordering, time::Duration};

use raft::engine::memory::{Fault as DiskFault, Lost};
use rand::{Rng, rngs::StdRng};
use statemachine::{Hash, NodeId};
use turmoil::Sim;

use crate::{
    clock,
    coverage::{Coverage, Happened},
    evidence::{Evidence, Node},
    history::History,
    invariants::{self, Findings},
    network::{Links, host},
    node::Machine,
    orders::Taken,
    plant::Plant,
    restored::restored,
    schedule::{Fault, Kind, MACHINES, NEWCOMER, NODES, Schedule, Target, rng},
    workload::{CLIENTS, Client, Signals},
};

/// How long each part of a story may take, in simulated time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much longer than planned a partition lasts where it has cost nothing yet.
const FELT_WITHIN: Duration = Duration::from_secs(2);
/// How often the disks' speed changes.
const DISKS_CHANGE: Duration = Duration::from_millis(400);
/// How long the nodes have to agree before they are believed to.
const AGREED: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// A bug to put in.
    pub plant: Option<Plant>,
}

/// A story that was told.
pub struct Story {
    /// What was run.
    pub options: Options,
    /// The faults as they happened.
    pub faults: Vec<Happened>,
    /// What there is to judge by.
    pub evidence: Evidence,
    /// What each invariant found.
    pub findings: Vec<(&'static str, Findings)>,
    /// What was covered.
    pub coverage: Coverage,
    /// How long it took, in simulated time.
    pub simulated: Duration,
    /// Hash of its log.
    pub hash: Hash,
}

impl Story {
    /// Whether every invariant held.
    #[must_use]
    pub fn held(&self) -> bool {
        self.findings.iter().all(|(_, findings)| findings.violations.is_empty())
    }
}

/// Tells the story of a seed.
///
/// # Errors
/// The simulation itself failed; what it found wrong is in the story.
pub fn run(options: Options) -> Result<Story, Box<dyn Error>> {
    let mut world = World::new(options);
    let mut faults = Vec::new();
    let begun = world.until(PATIENCE, |world| world.signals.ready.load(Ordering::Relaxed))?;
    if begun {
        let schedule = Schedule::of(options.seed);
        for fault in &schedule.faults {
            faults.push(world.suffer(fault)?);
        }
        world.pass(schedule.calm_after)?;
    }
    world.signals.stop.store(true, Ordering::Relaxed);
    let ended = world.until(PATIENCE, |world| world.clients_ended)?;
    let agreed = world.agree()?;
    let mut evidence = world.evidence();
    for (holds, what) in [
        (begun, "the cluster did not begin"),
        (ended, "the clients did not end"),
        (agreed, "the nodes did not come to agree"),
    ] {
        if !holds {
            evidence.missing.push(format!("{what} within {PATIENCE:?}"));
        }
    }
    let findings: Vec<_> = invariants::ALL
        .iter()
        .map(|(name, check)| (*name, check(&evidence)))
        .collect();
    let mut coverage = Coverage::of(&evidence.record, &faults, &findings);
    let slow = world
        .machines
        .iter()
        .map(|machine| machine.log.fired(DiskFault::Slow))
        .sum();
    coverage.background("slow-disk", slow);
    Ok(Story {
        options,
        faults,
        findings,
        coverage,
        simulated: world.sim.elapsed(),
        hash: evidence.record.hash(),
        evidence,
    })
}

struct World {
    sim: Sim<'static>,
    machines: Vec<Arc<Machine>>,
    links: Arc<Links>,
    history: History,
    signals: Signals,
    rng: StdRng,
    clients_ended: bool,
    disks_change: Duration,
    /// Who votes, as far as it was acknowledged.
    voters: BTreeSet<NodeId>,
    removed: Vec<(NodeId, Duration)>,
    backups: Vec<Taken>,
}

impl World {
    fn new(options: Options) -> Self {
        let Options { seed, plant } = options;
        let mut rng = rng(seed, u64::from_be_bytes(*b"network."));
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(std::time::UNIX_EPOCH + Duration::from_millis(clock::EPOCH_MS))
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(rng.random_range(2..20)))
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let (history, links, signals) = (History::default(), Arc::new(Links::default()), Signals::default());
        let machine = |id| Arc::new(Machine::new(NodeId(id), seed, links.clone(), history.clone(), plant));
        let machines: Vec<_> = (1..=MACHINES).map(machine).collect();
        for machine in &machines {
            let software = machine.clone();
            sim.host(host(machine.id), move || software.clone().run());
        }
        for number in 1..=CLIENTS {
            let client = Client::new(number, seed, history.clone(), signals.clone());
            sim.client(format!("c{number}"), async move { Ok(client?.run().await?) });
        }
        Self {
            sim,
            machines,
            links,
            history,
            signals,
            rng,
            clients_ended: false,
            disks_change: Duration::ZERO,
            voters: (1..=NODES).map(NodeId).collect(),
            removed: Vec::new(),
            backups: Vec::new(),
        }
    }

    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        if self.sim.elapsed() >= self.disks_change {
            self.disks_change = self.sim.elapsed() + DISKS_CHANGE;
            self.change_disks();
        }
        self.clients_ended = self.sim.step()?;
        Ok(())
    }

    /// Most disks sync within a few milliseconds, now and then one takes long: what others have synced, and so what is
    /// acknowledged, is then often not yet on this one.
    fn change_disks(&mut self) {
        for machine in &self.machines {
            let slow = self.rng.random_ratio(1, 6);
            let ms = if slow {
                self.rng.random_range(30..150)
            } else {
                self.rng.random_range(0..4)
            };
            machine.log.set_delay(Duration::from_millis(ms));
        }
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    /// Lets time pass until something is so, or too much of it has passed; answers which.
    fn until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Result<bool, Box<dyn Error>> {
        let end = self.sim.elapsed() + limit;
        while self.sim.elapsed() < end {
            if holds(self) {
                return Ok(true);
            }
            self.step()?;
        }
        Ok(false)
    }

    fn note(&self, text: String) {
        self.history.line(self.sim.elapsed(), text);
    }

    /// The node that leads in the highest term, as far as any node knows.
    fn leader(&self) -> Option<NodeId> {
        let leads = |machine: &Arc<Machine>| {
            let status = machine.handle.lock().as_ref()?.status();
            status.is_leader().then_some((status.term, machine.id))
        };
        self.machines.iter().filter_map(leads).max().map(|(_, node)| node)
    }

    fn resolve(&mut self, target: Target) -> Result<Option<NodeId>, Box<dyn Error>> {
        match target {
            Target::Node(node) => Ok(Some(self.present(node))),
            Target::Leader => {
                self.until(PATIENCE, |world| world.leader().is_some())?;
                Ok(self.leader())
            }
        }
    }

    /// One fault, from the calm before it until it is mended.
    fn suffer(&mut self, fault: &Fault) -> Result<Happened, Box<dyn Error>> {
        let Fault { after, kind, lasts } = *fault;
        self.pass(after)?;
        let hit = match kind {
            Kind::Kill(target) | Kind::PowerLoss(target) | Kind::Partition(target) => self.resolve(target)?,
            Kind::PowerLossOfAll | Kind::Change(..) => None,
        };
        let from = self.sim.elapsed();
        let name = hit.map_or_else(String::new, |node| format!(" (n{node})"));
        self.note(format!("fault begins: {kind}{name}"));
        let (fired, effect) = match (kind, hit) {
            (Kind::PowerLossOfAll, _) => self.power_loss(self.members(), lasts)?,
            (Kind::Change(change, amid), _) => self.change(change, amid, lasts)?,
            (Kind::PowerLoss(_), Some(node)) => self.power_loss(vec![node], lasts)?,
            (Kind::Kill(_), Some(node)) => self.kill(node, lasts)?,
            (Kind::Partition(_), Some(node)) => self.partition(node, lasts)?,
            (_, None) => (false, "there was no leader to hit".to_owned()),
        };
        self.note(format!("fault ends: {kind}{name}: {effect}"));
        Ok(Happened {
            kind,
            from,
            to: self.sim.elapsed(),
            effect,
            fired,
        })
    }

    /// The nodes that run: all that were not removed.
    fn members(&self) -> Vec<NodeId> {
        let all = (1..=MACHINES).map(NodeId);
        all.filter(|node| self.removed.iter().all(|(gone, _)| gone != node))
            .collect()
    }

    /// A node, or who took its place.
    fn present(&self, node: NodeId) -> NodeId {
        if self.members().contains(&node) { node } else { NEWCOMER }
    }

    fn machine(&self, node: NodeId) -> Option<Arc<Machine>> {
        self.machines.iter().find(|machine| machine.id == node).cloned()
    }

    /// Ends a node's process; answers whether there was one.
    fn stop(&mut self, machine: &Machine) -> bool {
        let running = self.sim.is_host_running(host(machine.id));
        drop(machine.handle.lock().take());
        self.sim.crash(host(machine.id));
        running
    }

    fn kill(&mut self, node: NodeId, lasts: Duration) -> Result<(bool, String), Box<dyn Error>> {
        let Some(machine) = self.machine(node) else {
            return Ok((false, "no such node".to_owned()));
        };
        let running = self.stop(&machine);
        machine.log.process_death();
        machine.state.process_death();
        self.pass(lasts)?;
        self.sim.bounce(host(node));
        Ok((
            running,
            if running { "it ran, and died" } else { "it did not run" }.to_owned(),
        ))
    }

    /// Cuts the power of some machines at once. Fired only if something that was not synced is really gone.
    fn power_loss(&mut self, nodes: Vec<NodeId>, lasts: Duration) -> Result<(bool, String), Box<dyn Error>> {
        let machines: Vec<_> = nodes.iter().filter_map(|node| self.machine(*node)).collect();
        // What was applied and not flushed is always lost; of the log, all may happen to survive.
        let at_stake = |machine: &Arc<Machine>| machine.state.unsynced() > 0;
        self.until(PATIENCE, |_| machines.iter().any(at_stake))?;
        let running = machines.iter().filter(|machine| self.stop(machine)).count();
        let mut lost = 0;
        for machine in &machines {
            for disk in [&machine.log, &machine.state] {
                let rng = &mut self.rng;
                let Lost { logged, unlogged } = disk.power_loss(|logged| rng.random_range(0..=logged));
                lost += logged + unlogged;
            }
        }
        self.pass(lasts)?;
        for machine in &machines {
            self.sim.bounce(host(machine.id));
            let apart = Duration::from_millis(self.rng.random_range(0..150));
            self.pass(apart)?;
        }
        Ok((
            running == machines.len() && lost > 0,
            format!("{running} running nodes lost {lost} writes"),
        ))
    }

    fn partition(&mut self, node: NodeId, lasts: Duration) -> Result<(bool, String), Box<dyn Error>> {
        let others: Vec<_> = (1..=MACHINES).map(NodeId).filter(|other| *other != node).collect();
        for other in &others {
            self.sim.partition(host(node), host(*other));
            self.links.cut(node, *other);
        }
        self.pass(lasts)?;
        // A node that had nothing to say meanwhile was not cut off from anything yet.
        self.until(FELT_WITHIN, |world| world.links.lost(node) > 0)?;
        let mut lost = 0;
        for other in &others {
            lost += self.links.heal(node, *other);
            self.sim.repair(host(node), host(*other));
        }
        Ok((lost > 0, format!("{lost} sends were lost")))
    }

    /// Waits until all nodes have applied the same, and go on to have.
    fn agree(&mut self) -> Result<bool, Box<dyn Error>> {
        let applied = |world: &Self| {
            let members = world.members();
            let machines = world.machines.iter().filter(|machine| members.contains(&machine.id));
            let all: Vec<_> = machines
                .filter_map(|machine| machine.handle.lock().as_ref()?.view().applied_index())
                .collect();
            let same = all.len() == members.len() && all.windows(2).all(|pair| pair[0] == pair[1]);
            if same { all.first().copied() } else { None }
        };
        let end = self.sim.elapsed() + PATIENCE;
        let mut since = (None, self.sim.elapsed());
        while self.sim.elapsed() < end {
            let now = applied(self);
            if now != since.0 || now.is_none() {
                since = (now, self.sim.elapsed());
            } else if self.sim.elapsed().saturating_sub(since.1) >= AGREED {
                return Ok(true);
            }
            self.step()?;
        }
        Ok(false)
    }

    fn evidence(&self) -> Evidence {
        let mut evidence = Evidence {
            record: self.history.take(),
            voters: self.voters.clone(),
            removed: self.removed.clone(),
            backups: self.backups.iter().map(restored).collect(),
            ..Evidence::default()
        };
        let members = self.members();
        for machine in self.machines.iter().filter(|machine| members.contains(&machine.id)) {
            let handle = machine.handle.lock().clone();
            match handle.map(|handle| Node::read(&handle, &evidence.record.archive)) {
                Some(Ok(node)) => evidence.nodes.push(node),
                Some(Err(error)) => evidence.missing.push(format!("n{}: {error}", machine.id)),
                None => evidence.missing.push(format!("n{} does not run", machine.id)),
            }
        }
        evidence
    }
}
