//! Consistent hashing: members stand at many points of a ring, a shard belongs to the first it meets going up.

use super::{Member, Strategy, hash};

/// Points of a member of the usual weight.
const POINTS: u64 = 128;
/// The most points of a member.
const POINTS_MAX: u64 = 4_096;
/// As many points are walked; beyond them every member is asked for its own nearest point.
const STEPS_MAX: usize = 512;

/// Consistent hashing with virtual nodes (Karger et al., 1997). Loads are bounded by `assign`, as Mirrokni, Thorup and
/// Zadimoghaddam do it ("Consistent hashing with bounded loads", 2018).
#[derive(Debug, Clone)]
pub struct Ring {
    /// Where, and whose; in order.
    points: Vec<(u64, u32)>,
    /// Each member's own points, in order.
    own: Vec<Vec<u64>>,
}

impl Ring {
    /// Of members in the order of their ids.
    #[must_use]
    pub fn new(members: &[Member]) -> Self {
        let own: Vec<Vec<u64>> = members
            .iter()
            .map(|member| {
                let seed = hash::seed("meshkit.member", member.id.as_bytes());
                let count = (u64::from(member.weight) * POINTS / 100).clamp(1, POINTS_MAX);
                let mut points: Vec<u64> = (0..count).map(|index| hash::nth(seed, index)).collect();
                points.sort_unstable();
                points
            })
            .collect();
        let mut points: Vec<(u64, u32)> = (0_u32..)
            .zip(&own)
            .flat_map(|(member, own)| own.iter().map(move |point| (*point, member)))
            .collect();
        points.sort_unstable();
        Self { points, own }
    }
}

impl Strategy for Ring {
    const SLACK_PERCENT: u64 = 25;

    fn distance(&self, shard: u64, member: usize) -> u64 {
        let own = &self.own[member];
        let at = own.partition_point(|point| *point < shard);
        let next = own.get(at).or(own.first()).copied().unwrap_or_default();
        next.wrapping_sub(shard)
    }

    fn members(&self) -> usize {
        self.own.len()
    }

    fn nearest(&self, shard: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        let at = self.points.partition_point(|(point, _)| *point < shard);
        let (before, after) = self.points.split_at(at);
        let walk = after.iter().chain(before).take(STEPS_MAX);
        let mut members = walk.map(|(_, member)| *member as usize);
        members.find(|member| may(*member)).or_else(|| {
            let all = (0..self.own.len()).filter(|member| may(*member));
            all.min_by_key(|member| self.distance(shard, *member))
        })
    }
}
