//! Which faults a story has, and when: all of it follows from the seed.

use std::{fmt, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use statemachine::NodeId;

/// How many nodes there are.
pub const NODES: u64 = 3;

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// This node.
    Node(NodeId),
    /// Whoever leads when it begins.
    Leader,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A process dies; its machine lives on.
    Kill(Target),
    /// A machine loses power: what was not synced is gone.
    PowerLoss(Target),
    /// All machines lose power at once.
    PowerLossOfAll,
    /// A node is cut off from the others. Clients still reach it.
    Partition(Target),
}

impl Kind {
    /// Its name in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill(Target::Node(_)) => "kill",
            Self::Kill(Target::Leader) => "kill-leader",
            Self::PowerLoss(Target::Node(_)) => "power-loss",
            Self::PowerLoss(Target::Leader) => "power-loss-leader",
            Self::PowerLossOfAll => "power-loss-all",
            Self::Partition(Target::Node(_)) => "partition",
            Self::Partition(Target::Leader) => "partition-leader",
        }
    }

    fn hits_leader(self) -> bool {
        match self {
            Self::Kill(target) | Self::PowerLoss(target) | Self::Partition(target) => target == Target::Leader,
            Self::PowerLossOfAll => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Kill(Target::Node(node))
            | Self::PowerLoss(Target::Node(node))
            | Self::Partition(Target::Node(node)) => {
                write!(f, " n{node}")
            }
            Self::Kill(Target::Leader)
            | Self::PowerLoss(Target::Leader)
            | Self::PowerLossOfAll
            | Self::Partition(Target::Leader) => Ok(()),
        }
    }
}

/// One fault of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Calm before it.
    pub after: Duration,
    /// What goes wrong.
    pub kind: Kind,
    /// How long until it is mended.
    pub lasts: Duration,
}

/// All faults of a story, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// In order.
    pub faults: Vec<Fault>,
    /// Calm after the last.
    pub calm_after: Duration,
}

/// A stream of random numbers for one purpose, so that one purpose's use does not shift another's.
#[must_use]
pub fn rng(seed: u64, purpose: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose)
}

impl Schedule {
    /// The schedule of a seed: each kind of fault at least once, a few more, in any order.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = rng(seed, u64::from_be_bytes(*b"schedule"));
        let one = |rng: &mut StdRng| Target::Node(NodeId(rng.random_range(1..=NODES)));
        let mut kinds = vec![
            Kind::Kill(one(&mut rng)),
            Kind::Kill(Target::Leader),
            Kind::PowerLossOfAll,
            Kind::Partition(one(&mut rng)),
            Kind::Partition(Target::Leader),
        ];
        for _ in 0..rng.random_range(1..=3) {
            let more = match rng.random_range(0..5) {
                0 => Kind::PowerLoss(one(&mut rng)),
                1 => Kind::PowerLoss(Target::Leader),
                2 => Kind::PowerLossOfAll,
                3 => Kind::Partition(one(&mut rng)),
                _ => Kind::Kill(one(&mut rng)),
            };
            kinds.push(more);
        }
        kinds.shuffle(&mut rng);
        let faults = kinds.into_iter().map(|kind| {
            // Short enough for the leader to come back as one, or long enough for another to be elected.
            let longest = if kind.hits_leader() { 6_000 } else { 2_500 };
            Fault {
                after: Duration::from_millis(rng.random_range(1_000..2_500)),
                kind,
                lasts: Duration::from_millis(rng.random_range(300..longest)),
            }
        });
        Self {
            faults: faults.collect(),
            calm_after: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_schedule_and_seeds_differ() {
        assert_eq!(Schedule::of(7), Schedule::of(7));
        assert_ne!(Schedule::of(7), Schedule::of(8));
    }

    #[test]
    fn every_schedule_has_each_required_fault() {
        for seed in 0..200 {
            let words: Vec<_> = Schedule::of(seed)
                .faults
                .iter()
                .map(|fault| fault.kind.word())
                .collect();
            for required in ["kill", "kill-leader", "power-loss-all", "partition", "partition-leader"] {
                assert!(words.contains(&required), "seed {seed} lacks {required}: {words:?}");
            }
        }
    }
}
