//! Which faults a story has, and when: all of it follows from the seed.

use std::{fmt, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use statemachine::NodeId;

/// How many nodes there are at first.
pub const NODES: u64 = 3;
/// The node that joins later.
pub const NEWCOMER: NodeId = NodeId(NODES + 1);
/// How many machines there are, the newcomer's included.
pub const MACHINES: u64 = NODES + 1;

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// This node.
    Node(NodeId),
    /// Whoever leads when it begins.
    Leader,
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The newcomer is invited and joins.
    Join,
    /// It is made a voter.
    Promote,
    /// One of the first nodes is taken out for good.
    Remove(NodeId),
    /// Leadership is handed over.
    Transfer,
    /// History is compacted.
    Compact,
    /// A backup is made of what this node has.
    Backup(NodeId),
}

/// What goes wrong while a change is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amid {
    /// The leader's process dies.
    KillLeader,
    /// The leader is cut off.
    CutLeader,
    /// The process of the node that the change is about dies.
    KillSubject,
    /// The node that the change is about is cut off.
    CutSubject,
    /// All machines lose power.
    PowerLossOfAll,
}

impl Amid {
    /// Its name in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::KillLeader => "amid-kill-leader",
            Self::CutLeader => "amid-partition-leader",
            Self::KillSubject => "amid-kill-subject",
            Self::CutSubject => "amid-partition-subject",
            Self::PowerLossOfAll => "amid-power-loss-all",
        }
    }
}

/// What goes wrong, or is done.
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
    /// An operator changes something, and maybe something goes wrong amid it.
    Change(Change, Option<Amid>),
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
            Self::Change(Change::Join, _) => "join",
            Self::Change(Change::Promote, _) => "promote",
            Self::Change(Change::Remove(_), _) => "remove",
            Self::Change(Change::Transfer, _) => "transfer",
            Self::Change(Change::Compact, _) => "compact",
            Self::Change(Change::Backup(_), _) => "backup",
        }
    }

    /// What goes wrong amid it.
    #[must_use]
    pub fn amid(self) -> Option<Amid> {
        match self {
            Self::Change(_, amid) => amid,
            Self::Kill(_) | Self::PowerLoss(_) | Self::PowerLossOfAll | Self::Partition(_) => None,
        }
    }

    fn hits_leader(self) -> bool {
        match self {
            Self::Kill(target) | Self::PowerLoss(target) | Self::Partition(target) => target == Target::Leader,
            Self::PowerLossOfAll => false,
            Self::Change(_, amid) => matches!(amid, Some(Amid::KillLeader | Amid::CutLeader)),
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
            Self::Change(Change::Remove(node) | Change::Backup(node), _) => write!(f, " n{node}"),
            Self::Kill(Target::Leader)
            | Self::PowerLoss(Target::Leader)
            | Self::PowerLossOfAll
            | Self::Partition(Target::Leader)
            | Self::Change(Change::Join | Change::Promote | Change::Transfer | Change::Compact, _) => Ok(()),
        }?;
        self.amid().map_or(Ok(()), |amid| write!(f, ", {}", amid.word()))
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
        mix(&mut kinds, changes(seed), &mut rng);
        let faults = kinds.into_iter().map(|kind| {
            // Short enough for the leader to come back as one, or long enough for another to be elected.
            let longest = if kind.hits_leader() { 6_000 } else { 2_500 };
            let calm = match kind {
                Kind::Change(..) => 200..1_000,
                Kind::Kill(_) | Kind::PowerLoss(_) | Kind::PowerLossOfAll | Kind::Partition(_) => 1_000..2_500,
            };
            Fault {
                after: Duration::from_millis(rng.random_range(calm)),
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

/// What operators do in the story of a seed, in order: the newcomer takes the place of one of the first nodes, and the
/// rest comes anywhere between. Every second change has something go wrong amid it.
fn changes(seed: u64) -> Vec<Kind> {
    let mut rng = rng(seed, u64::from_be_bytes(*b"changes."));
    let one = |rng: &mut StdRng| NodeId(rng.random_range(1..=NODES));
    let mut changes = vec![Change::Join, Change::Promote, Change::Remove(one(&mut rng))];
    let mut others = vec![Change::Transfer, Change::Backup(one(&mut rng)), Change::Compact];
    match rng.random_range(0..3) {
        0 => others.push(Change::Transfer),
        1 => others.push(Change::Backup(one(&mut rng))),
        _ => others.push(Change::Compact),
    }
    for other in others {
        let place = rng.random_range(0..=changes.len());
        changes.insert(place, other);
    }
    let hurt = rng.random_range(0..2);
    changes
        .into_iter()
        .enumerate()
        .map(|(number, change)| {
            let amid = (number % 2 == hurt).then(|| amid(change, &mut rng));
            Kind::Change(change, amid)
        })
        .collect()
}

fn amid(change: Change, rng: &mut StdRng) -> Amid {
    let has_subject = match change {
        Change::Join | Change::Promote | Change::Remove(_) => true,
        // Who is asked for a backup and dies makes none.
        Change::Backup(_) | Change::Transfer | Change::Compact => false,
    };
    match rng.random_range(0..if has_subject { 5 } else { 3 }) {
        0 => Amid::KillLeader,
        1 => Amid::CutLeader,
        2 => Amid::PowerLossOfAll,
        3 => Amid::KillSubject,
        _ => Amid::CutSubject,
    }
}

/// Puts changes among faults, and keeps the order of both.
fn mix(kinds: &mut Vec<Kind>, changes: Vec<Kind>, rng: &mut StdRng) {
    let mut place = 0;
    let mut left = changes.len();
    for change in changes {
        // Leaves room for the others, and so spreads them.
        let room = (kinds.len() - place).div_ceil(left.max(1));
        place += rng.random_range(0..=room);
        kinds.insert(place.min(kinds.len()), change);
        place = (place + 1).min(kinds.len());
        left -= 1;
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
    fn every_schedule_has_each_change_and_the_newcomer_joins_before_it_votes_and_another_goes() {
        let mut amid = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let kinds: Vec<_> = Schedule::of(seed).faults.iter().map(|fault| fault.kind).collect();
            let at = |word: &str| kinds.iter().position(|kind| kind.word() == word);
            for required in ["join", "promote", "remove", "transfer", "compact", "backup"] {
                assert!(at(required).is_some(), "seed {seed} lacks {required}: {kinds:?}");
            }
            assert!(at("join") < at("promote") && at("promote") < at("remove"), "{kinds:?}");
            let hurt: Vec<_> = kinds.iter().filter_map(|kind| kind.amid()).collect();
            assert!(hurt.len() >= 3, "seed {seed}: {kinds:?}");
            amid.extend(hurt.iter().map(|amid| amid.word()));
        }
        assert_eq!(amid.len(), 5, "{amid:?}");
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
