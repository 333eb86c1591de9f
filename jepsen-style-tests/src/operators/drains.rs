//! Drains as the trail tells of them: a mass drain keeps to its bound, and does each peer once.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::{
    Operation,
    operation::{Kind, State, item},
};

/// A mass drain.
#[derive(Debug, Clone, Default)]
struct Mass {
    at_once: usize,
    /// The drains of its peers that run.
    running: BTreeSet<String>,
    /// Every peer that it began to drain, and by which operation.
    begun: BTreeMap<String, String>,
    /// How many of them succeeded.
    drained: usize,
    last: Operation,
}

/// All drains.
#[derive(Debug, Clone, Default)]
pub struct Drains {
    masses: BTreeMap<String, Mass>,
    /// Drains that run by themselves.
    running: BTreeSet<String>,
    /// All drains of one peer that succeeded.
    succeeded: BTreeSet<String>,
    complaints: Vec<String>,
}

impl Drains {
    /// Takes an operation as a revision left it.
    pub fn take(&mut self, revision: u64, operation: &Operation) {
        let running = operation.state() == State::Running;
        if operation.kind() == Kind::DrainPeers {
            let mass = self.masses.entry(operation.id.clone()).or_default();
            mass.at_once = operation.at_once as usize;
            mass.last = operation.clone();
            return;
        }
        let succeeded = operation.state() == State::Succeeded && self.succeeded.insert(operation.id.clone());
        if operation.parent.is_empty() {
            if running {
                self.running.insert(operation.id.clone());
            } else {
                self.running.remove(&operation.id);
            }
            return;
        }
        let mass = self.masses.entry(operation.parent.clone()).or_default();
        let other = mass.begun.insert(operation.target.clone(), operation.id.clone());
        if other.is_some_and(|other| other != operation.id) {
            let (parent, target) = (&operation.parent, &operation.target);
            self.complaints
                .push(format!("revision {revision}: {parent} drains {target} a second time"));
        }
        if running {
            mass.running.insert(operation.id.clone());
        } else {
            mass.running.remove(&operation.id);
        }
        mass.drained += usize::from(succeeded);
    }

    /// What is wrong once all of a revision was taken.
    pub fn at_end_of(&mut self, revision: u64) -> Vec<String> {
        for (id, mass) in &self.masses {
            if mass.running.len() > mass.at_once {
                let (running, most) = (mass.running.len(), mass.at_once);
                self.complaints.push(format!(
                    "revision {revision}: {id} drains {running} peers at once, not {most}"
                ));
            }
        }
        std::mem::take(&mut self.complaints)
    }

    /// How many mass drains succeeded, and how many peers they drained.
    pub fn succeeded(&self) -> (usize, usize) {
        let done = self
            .masses
            .values()
            .filter(|mass| mass.last.state() == State::Succeeded);
        done.fold((0, 0), |(masses, peers), mass| (masses + 1, peers + mass.drained))
    }

    /// What is wrong once everything has ended.
    pub fn at_the_end(&self) -> Vec<String> {
        let mut complaints: Vec<_> = self.running.iter().map(|id| format!("{id} has not ended")).collect();
        for (id, mass) in &self.masses {
            if mass.last.state() == State::Running {
                complaints.push(format!("{id} has not ended: {}", mass.last.detail));
            }
            complaints.extend(
                mass.running
                    .iter()
                    .map(|child| format!("{child} of {id} has not ended")),
            );
            for item in &mass.last.items {
                let succeeded = self.succeeded.contains(&item.operation);
                let fits = match item.state() {
                    item::State::Drained => succeeded,
                    // It was drained, and somebody took that back.
                    item::State::Returned => true,
                    item::State::Failed | item::State::Gone | item::State::Skipped => !succeeded,
                    item::State::Waiting | item::State::Draining | item::State::Unspecified => false,
                };
                if !fits {
                    let (peer, state) = (&item.peer, item.state());
                    complaints.push(format!(
                        "{id} says that {peer} is {state:?}; its drain succeeded: {succeeded}"
                    ));
                }
            }
        }
        complaints
    }
}
