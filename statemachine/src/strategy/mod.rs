//! Who owns which shard: pure functions of the members, the strategy and the map before.
//!
//! A strategy is an order of preference: for every shard, which member is nearest. [`assign`] turns preferences into a map
//! whose loads are bounded, and changes of the map before only what has to change. Whole numbers only, so that any client
//! computes the same; `tests/golden/strategies` holds vectors to try one against.

mod assign;
mod hash;
mod locality;
mod rendezvous;
mod ring;

pub use self::{
    assign::{Bounds, assign, assign_while},
    locality::Locality,
    rendezvous::Rendezvous,
    ring::Ring,
};

/// The most shards of a namespace.
pub const SHARDS_MAX: u32 = 65_536;

/// A peer that may hold shards, as strategies see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Share of work relative to others, at least 1.
    pub weight: u32,
    /// May be empty.
    pub region: String,
    /// May be empty.
    pub zone: String,
    /// Whether it is given shards. One that is not keeps what it has.
    pub takes: bool,
}

/// What stays of a shard.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// Nothing has to.
    #[default]
    Nothing,
    /// Its owner.
    Owner,
    /// Its owner and its replicas.
    All,
}

/// Who holds each shard: the index of a member, or none where nobody can.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Map {
    /// One per shard.
    pub owners: Vec<Option<usize>>,
    /// For each shard as many as its namespace wants, one after another, in no order of rank.
    pub replicas: Vec<Option<usize>>,
    /// Shards whose owner stays whatever its load. Only of a map before; those that it does not reach are not.
    pub pinned: Vec<Pinned>,
}

/// An order of preference. Clients compute it too (`tests/golden/strategies.txt`), so what orders anything differently is
/// another strategy.
pub trait Strategy {
    /// By how many percent of its share a member may be above or below it.
    const SLACK_PERCENT: u64;

    /// How far a member is from a shard. The nearest is liked best; of two equally near ones, the first.
    fn distance(&self, shard: u64, member: usize) -> u64;

    /// The number of members.
    fn members(&self) -> usize;

    /// The nearest member that may take the shard.
    fn nearest(&self, shard: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        (0..self.members())
            .filter(|member| may(*member))
            .min_by_key(|member| self.distance(shard, *member))
    }

    /// Whether owners are chosen among such as this; where none is left, among all.
    fn owns(&self, _member: usize) -> bool {
        true
    }

    /// Whether one shard is better not held by both.
    fn conflict(&self, one: usize, other: usize) -> bool {
        one == other
    }
}

/// The number that a shard of a namespace has for strategies.
#[must_use]
pub fn shard_seed(namespace: &str, shard: u32) -> u64 {
    hash::nth(hash::seed("meshkit.shard", namespace.as_bytes()), u64::from(shard))
}

/// The shard that a key belongs to: its hash, scaled to the number of shards (Lemire, "Fast random integer generation in
/// an interval", 2019). Does not depend on the strategy, nor on who is there.
#[must_use]
pub fn shard_of(key: &[u8], shards: u32) -> u32 {
    ((u128::from(hash::seed("meshkit.key", key)) * u128::from(shards)) >> 64) as u32
}
