//! Rendezvous that looks where members are: owners in a region, no two holders of a shard in one zone.

use super::{Member, Rendezvous, Strategy};

/// Weighted rendezvous with a preferred region for owners, and with holders spread over zones. Where the region has no
/// member, or there are fewer zones than holders, it does what can be done.
#[derive(Debug, Clone)]
pub struct Locality {
    order: Rendezvous,
    /// Whether the member is in the preferred region.
    preferred: Vec<bool>,
    /// The member's region and zone, as a number.
    zones: Vec<usize>,
}

impl Locality {
    /// Of members in the order of their ids; owners in `region`, or anywhere where it is empty.
    #[must_use]
    pub fn new(members: &[Member], region: &str) -> Self {
        let place = |member: &Member| (member.region.clone(), member.zone.clone());
        let mut places: Vec<_> = members.iter().map(place).collect();
        places.sort_unstable();
        places.dedup();
        let there = |member: &Member| region.is_empty() || member.region == region;
        let anyone = members.iter().any(there);
        Self {
            order: Rendezvous::new(members),
            preferred: members.iter().map(|member| !anyone || there(member)).collect(),
            zones: members
                .iter()
                .map(|member| places.partition_point(|other| *other < place(member)))
                .collect(),
        }
    }
}

impl Strategy for Locality {
    const SLACK_PERCENT: u64 = Rendezvous::SLACK_PERCENT;

    fn distance(&self, shard: u64, member: usize) -> u64 {
        self.order.distance(shard, member)
    }

    fn members(&self) -> usize {
        self.order.members()
    }

    fn owns(&self, member: usize) -> bool {
        self.preferred[member]
    }

    fn conflict(&self, one: usize, other: usize) -> bool {
        self.zones[one] == self.zones[other]
    }
}
