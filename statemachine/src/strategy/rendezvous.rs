//! Weighted rendezvous hashing: every member draws a number for the shard, the lowest wins.

use super::{Member, Strategy, hash};

/// Highest random weight (Thaler and Ravishankar, 1998), with weights as the logarithmic method has them (Schindelhauer and
/// Schomaker, "Weighted distributed hash tables", 2005): the draw is exponentially distributed with the weight as its rate.
#[derive(Debug, Clone)]
pub struct Rendezvous {
    seeds: Vec<u64>,
    /// 2^30 / weight.
    scales: Vec<u64>,
}

impl Rendezvous {
    /// Of members in the order of their ids.
    #[must_use]
    pub fn new(members: &[Member]) -> Self {
        Self {
            seeds: members
                .iter()
                .map(|member| hash::seed("meshkit.member", member.id.as_bytes()))
                .collect(),
            scales: members
                .iter()
                .map(|member| (1 << 30) / u64::from(member.weight.max(1)))
                .collect(),
        }
    }
}

impl Strategy for Rendezvous {
    const SLACK_PERCENT: u64 = 10;

    fn distance(&self, shard: u64, member: usize) -> u64 {
        let draw = hash::exponential(hash::mix(shard ^ self.seeds[member]));
        ((u128::from(draw) * u128::from(self.scales[member])) >> 6) as u64
    }

    fn members(&self) -> usize {
        self.seeds.len()
    }
}
