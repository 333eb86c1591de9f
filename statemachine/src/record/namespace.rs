//! A set of keys that is split into shards.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{Meta, peer::check_word};
use crate::{NamespaceId, OperationId, PeerId, Rejection, selector::Selector, strategy::SHARDS_MAX};

/// The most replicas of a shard beside its owner.
pub const REPLICAS_MAX: u32 = 6;
/// The longest selector of a namespace's peers, in bytes: it is part of its record.
pub const SELECTOR_BYTES_MAX: usize = 512;
/// How long one step of a move may take, in ms: a second to a day.
pub const STEP_MS: RangeInclusive<u64> = 1_000..=86_400_000;
/// The most moves of one namespace at a time.
pub const MOVES_MAX: u32 = 10_000;

/// By which preference shards are given to peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StrategyKind {
    /// Consistent hashing with virtual nodes.
    Ring,
    /// Weighted rendezvous hashing.
    Rendezvous,
    /// Rendezvous that prefers a region and spreads over zones.
    Locality,
}

impl StrategyKind {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Rendezvous => "rendezvous",
            Self::Locality => "locality",
        }
    }
}

/// How a shard goes from one owner to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HandOff {
    /// The old owner has stopped, or its lease has run out, before the new one begins.
    Exclusive,
    /// The new owner begins first; for data planes that check the fencing token on every write.
    Overlap,
}

/// What moves of a namespace are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespacePolicy {
    /// How a shard goes from one owner to the next.
    pub hand_off: HandOff,
    /// The most of its shards that move at the same time.
    pub moves_max: u32,
    /// How long one step of a move may take, in ms of mesh time.
    pub step_ms: u64,
    /// The largest share of its shards that one change may move beyond what has to move, in tenths of a percent.
    pub moved_permille_max: u32,
}

impl Default for NamespacePolicy {
    fn default() -> Self {
        Self {
            hand_off: HandOff::Exclusive,
            moves_max: 16,
            step_ms: 60_000,
            moved_permille_max: 100,
        }
    }
}

/// What an operator says about a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceSpec {
    /// By which preference shards are given to peers.
    pub strategy: StrategyKind,
    /// Where owners are preferred, by the strategy that looks at it; may be empty.
    pub region: String,
    /// Which peers may hold its shards, by their labels; empty: any.
    pub peers: String,
    /// Into how many shards its keys are split.
    pub shards: u32,
    /// How many peers hold each shard beside its owner.
    pub replicas: u32,
    /// What its moves are held to.
    pub policy: NamespacePolicy,
}

impl NamespaceSpec {
    /// Checks every field against its form and limit.
    ///
    /// # Errors
    /// [`Rejection::InvalidArgument`] naming the first field that is wrong, and why.
    pub fn check(&self) -> Result<(), Rejection> {
        let within = |field: &str, value: u64, range: RangeInclusive<u64>| {
            let why = || format!("{value} is not within {} to {}", range.start(), range.end());
            if range.contains(&value) {
                Ok(())
            } else {
                Err(Rejection::invalid(field, why()))
            }
        };
        within("shards", self.shards.into(), 1..=SHARDS_MAX.into())?;
        within("replicas", self.replicas.into(), 0..=REPLICAS_MAX.into())?;
        within("policy.movesMax", self.policy.moves_max.into(), 1..=MOVES_MAX.into())?;
        within("policy.step", self.policy.step_ms, STEP_MS)?;
        within(
            "policy.movedPermilleMax",
            self.policy.moved_permille_max.into(),
            0..=1_000,
        )?;
        check_word("region", &self.region)?;
        if self.peers.len() > SELECTOR_BYTES_MAX {
            let why = format!("{} bytes are over the limit of {SELECTOR_BYTES_MAX}", self.peers.len());
            return Err(Rejection::invalid("selector", why));
        }
        Selector::parse(&self.peers).map(drop)
    }
}

/// What is being done to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NamespacePhase {
    /// Its shards are being made.
    Creating,
    /// It has all its shards.
    Active,
    /// Its shards are being taken away.
    Deleting,
    /// Its shards are going where another description of it wants them.
    Reshaping,
}

impl NamespacePhase {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Active => "active",
            Self::Deleting => "deleting",
            Self::Reshaping => "reshaping",
        }
    }
}

/// A set of keys that is split into shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Unique in the mesh.
    pub id: NamespaceId,
    /// What was said about it.
    pub spec: NamespaceSpec,
    /// What is being done to it.
    pub phase: NamespacePhase,
    /// The operation that does it.
    pub operation: Option<OperationId>,
    /// Where its shards go. Present while it is being reshaped.
    pub target: Option<Box<Target>>,
    /// The change ticket of the last change.
    pub ticket: String,
    /// Changes of the record.
    pub meta: Meta,
}

/// Where the shards of a namespace are to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What was said about the namespace before: what giving up returns to.
    pub before: NamespaceSpec,
    /// The peers that shards may go to.
    pub peers: Vec<PeerId>,
    /// The owner of each shard, in order of number, as its place in `peers`; [`Target::NOBODY`] where it has none.
    pub owners: Vec<u16>,
}

impl Target {
    /// Stands for no owner.
    pub const NOBODY: u16 = u16::MAX;

    /// Who is to own a shard; none where nobody could.
    #[must_use]
    pub fn owner(&self, shard: u32) -> Option<&PeerId> {
        let index = *self.owners.get(usize::try_from(shard).ok()?)?;
        self.peers.get(usize::from(index))
    }

    /// Whether it is a target for so many shards.
    ///
    /// # Errors
    /// [`Rejection::InvalidArgument`].
    pub fn check(&self, shards: u32) -> Result<(), Rejection> {
        let peers = self.peers.len();
        let known = |index: &u16| *index == Self::NOBODY || usize::from(*index) < peers;
        let why = if self.owners.len() as u64 != u64::from(shards) {
            format!("{} owners for {shards} shards", self.owners.len())
        } else if peers > usize::from(Self::NOBODY) || !self.owners.iter().all(known) {
            format!("an owner is not among its {peers} peers")
        } else {
            return Ok(());
        };
        Err(Rejection::invalid("target", why))
    }
}
