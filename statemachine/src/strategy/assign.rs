//! Preferences and a map before, made into a map whose loads are bounded.
//!
//! Owners first, then replicas; each alike, in rounds until nothing changes. What is within its bounds stays. A member above
//! its upper bound gives up what it is farthest from. Every empty seat goes to whom the strategy likes best among those with
//! room, those that hold the shard's data already first; where a copy became the owner, the old owner takes its place. A
//! member far below its share is then given seats of the fullest. Seats are filled less than they may be, and a member has
//! to lack more than it is filled short of: so that the next small change of the members does not move shards everywhere.

use std::collections::BTreeSet;

use super::{Map, Member, Pinned, Strategy};

/// A greedy round rarely leaves work for the next; more than so many are not tried.
const ROUNDS_MAX: usize = 8;

/// How many shards a member is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Below it, shards are taken from others for it.
    pub least: u64,
    /// What seats that are free anyway fill it to first.
    pub low: u64,
    /// What it is filled to.
    pub high: u64,
    /// Above it, it gives shards up.
    pub most: u64,
}

impl Bounds {
    /// Those of a member with `weight` of the `total`, where `seats` are to be had and nobody may be more than `slack` percent
    /// above its share.
    #[must_use]
    pub fn new(seats: u64, weight: u64, total: u64, slack: u64) -> Self {
        if total == 0 || weight == 0 {
            return Self::default();
        }
        let share = seats * weight;
        let (floor, ceiling) = (share / total, share.div_ceil(total));
        // In thousandths.
        let part = |thousandths: u64| share * thousandths / (total * 1000);
        Self {
            least: floor.min(part(1000 - 20 * slack)),
            low: floor.min(part(1000 - 8 * slack)),
            high: ceiling.max(part(1000 + 8 * slack)),
            most: ceiling.max(part(1000 + 10 * slack)),
        }
    }
}

/// The map of a namespace with `shards` (their [`super::shard_seed`]) and `replicas` of each, for these members in the
/// order of their ids. `before` is the map so far, in the same members' indexes; those that have left are none. A member that
/// takes nothing keeps what it has, and so does a shard that is pinned.
#[must_use]
pub fn assign<S: Strategy>(strategy: &S, members: &[Member], shards: &[u64], replicas: usize, before: &Map) -> Map {
    assign_while(&|| true, strategy, members, shards, replicas, before).unwrap_or_default()
}

/// The same for as long as it is `wanted`, which is asked for every seat: tens of thousands of shards with copies on thousands
/// of members take minutes. None where it was broken off.
#[must_use]
pub fn assign_while<S: Strategy>(
    wanted: &dyn Fn() -> bool,
    strategy: &S,
    members: &[Member],
    shards: &[u64],
    replicas: usize,
    before: &Map,
) -> Option<Map> {
    let mut map = Map {
        owners: vec![None; shards.len()],
        replicas: vec![None; shards.len() * replicas],
        pinned: Vec::new(),
    };
    let known = |seats: &[Option<usize>]| -> Vec<Option<usize>> {
        let seats = seats.iter();
        seats
            .map(|seat| seat.filter(|member| *member < members.len()))
            .collect()
    };
    let before = Map {
        owners: known(&before.owners),
        replicas: known(&before.replicas),
        pinned: before.pinned.clone(),
    };
    let width = if shards.is_empty() {
        0
    } else {
        before.replicas.len() / shards.len()
    };
    let copies_before = |shard: usize| {
        before
            .replicas
            .get(shard * width..(shard + 1) * width)
            .unwrap_or_default()
    };
    let had = |shard: usize| {
        let all = before.owners.get(shard).into_iter().chain(copies_before(shard));
        all.copied().flatten()
    };
    let holders: Vec<Vec<usize>> = (0..shards.len()).map(|shard| had(shard).collect()).collect();
    let pinned = |shard: usize| before.pinned.get(shard).copied().unwrap_or_default();
    let owner_stays = |shard: usize, member: usize| pinned(shard) != Pinned::Nothing || !members[member].takes;
    let copy_stays = |shard: usize, member: usize| pinned(shard) == Pinned::All || !members[member].takes;
    let weights = members.iter().map(|member| match member.takes {
        true => u64::from(member.weight.max(1)),
        false => 0,
    });
    let owning = weights.clone().enumerate();
    let owning = owning.map(|(member, weight)| if strategy.owns(member) { weight } else { 0 });
    let mut owners = Layer::new(wanted, strategy, shards, &holders, 1, owning.collect());
    owners.keep(&before.owners, owner_stays, |_, _| true);
    // An owner in a replica's zone would drive the replica away.
    let quiet = |shard: usize, member: usize| {
        let copies = copies_before(shard).iter().flatten();
        copies
            .filter(|copy| **copy != member)
            .all(|copy| !strategy.conflict(*copy, member))
    };
    map.owners = owners.settle(quiet, |_, _| true)?;
    let apart = |shard: usize, member: usize| map.owners[shard].is_none_or(|owner| !strategy.conflict(owner, member));
    let another = |shard: usize, member: usize| map.owners[shard] != Some(member);
    let mut kept = vec![None; shards.len() * replicas];
    for shard in 0..shards.len() {
        // An owner and a copy that change places move no data.
        let old = before.owners.get(shard).copied().flatten();
        let old = old.filter(|old| another(shard, *old));
        let copies = copies_before(shard).iter().flatten();
        let copies = copies.filter_map(|copy| if another(shard, *copy) { Some(*copy) } else { old });
        for (seat, member) in (shard * replicas..(shard + 1) * replicas).zip(copies) {
            kept[seat] = Some(member);
        }
    }
    let mut copies = Layer::new(wanted, strategy, shards, &holders, replicas, weights.collect());
    copies.keep(&kept, copy_stays, apart);
    map.replicas = copies.settle(apart, another)?;
    Some(map)
}

/// The seats of one kind: `width` for each shard.
struct Layer<'a, S> {
    wanted: &'a dyn Fn() -> bool,
    strategy: &'a S,
    shards: &'a [u64],
    /// Who holds each shard's data already.
    holders: &'a [Vec<usize>],
    width: usize,
    weights: Vec<u64>,
    bounds: Vec<Bounds>,
    seats: Vec<Option<usize>>,
    /// Seats that nobody is moved from.
    fixed: Vec<bool>,
    loads: Vec<u64>,
}

impl<'a, S: Strategy> Layer<'a, S> {
    fn new(
        wanted: &'a dyn Fn() -> bool,
        strategy: &'a S,
        shards: &'a [u64],
        holders: &'a [Vec<usize>],
        width: usize,
        weights: Vec<u64>,
    ) -> Self {
        let seats = shards.len() * width;
        Self {
            wanted,
            strategy,
            shards,
            holders,
            width,
            bounds: Vec::new(),
            loads: vec![0; weights.len()],
            weights,
            seats: vec![None; seats],
            fixed: vec![false; seats],
        }
    }

    /// Who has the other seats of a seat's shard.
    fn others(&self, seat: usize) -> impl Iterator<Item = usize> {
        let first = seat / self.width * self.width;
        let seats = first..first + self.width;
        seats
            .filter(move |other| *other != seat)
            .filter_map(|other| self.seats[other])
    }

    fn sit(&mut self, seat: usize, member: usize) {
        self.seats[seat] = Some(member);
        self.loads[member] += 1;
    }

    fn leave(&mut self, seat: usize) {
        if let Some(member) = self.seats[seat].take() {
            self.loads[member] -= 1;
        }
    }

    /// Seats those of `before` who have to stay, and those who may. What is left is shared among those who take.
    fn keep(
        &mut self,
        before: &[Option<usize>],
        stays: impl Fn(usize, usize) -> bool,
        may: impl Fn(usize, usize) -> bool,
    ) {
        for (seat, member) in before.iter().take(self.seats.len()).enumerate() {
            let Some(member) = *member else { continue };
            self.fixed[seat] = stays(seat / self.width, member) && self.others(seat).all(|other| other != member);
            if self.fixed[seat] || self.fits(seat, member, &may) {
                self.sit(seat, member);
            }
        }
        let idle = self.loads.iter().zip(&self.weights);
        let idle = idle.filter(|(_, weight)| **weight == 0).map(|(load, _)| load);
        let seats = self.seats.len() as u64 - idle.sum::<u64>();
        let total = self.weights.iter().sum();
        let bounds = self
            .weights
            .iter()
            .map(|weight| Bounds::new(seats, *weight, total, S::SLACK_PERCENT));
        self.bounds = bounds.collect();
    }

    /// Seats everybody: with members that are `apart` from the shard's others where there are such, else with any `another`.
    /// None where that is no longer wanted.
    fn settle(
        &mut self,
        apart: impl Fn(usize, usize) -> bool,
        another: impl Fn(usize, usize) -> bool,
    ) -> Option<Vec<Option<usize>>> {
        // Where all who sit have to stay, an empty seat is given once: whoever goes on from there with some of them filled comes to
        // the same.
        let kept = || self.seats.iter().zip(&self.fixed).filter(|(seat, _)| seat.is_some());
        let once = kept().next().is_some() && kept().all(|(_, fixed)| *fixed);
        for _ in 0..ROUNDS_MAX {
            let seats = self.seats.clone();
            // Where nothing is empty, those who lack are given what others have too much of, rather than that it goes anywhere.
            if seats.iter().all(Option::is_some) {
                self.lift(&apart)?;
            }
            self.relieve();
            self.fill(&apart, &another)?;
            if once {
                break;
            }
            self.lift(&apart)?;
            if self.seats == seats {
                break;
            }
        }
        Some(std::mem::take(&mut self.seats))
    }

    fn go_on(&self) -> Option<()> {
        (self.wanted)().then_some(())
    }

    fn fits(&self, seat: usize, member: usize, apart: impl Fn(usize, usize) -> bool) -> bool {
        let shard = seat / self.width;
        self.weights[member] > 0
            && apart(shard, member)
            && self.others(seat).all(|other| !self.strategy.conflict(other, member))
    }

    /// Takes from those above their upper bound what they are farthest from.
    fn relieve(&mut self) {
        if self
            .loads
            .iter()
            .zip(&self.bounds)
            .all(|(load, bounds)| *load <= bounds.most)
        {
            return;
        }
        for (member, mut seats) in self.held().into_iter().enumerate() {
            while self.loads[member] > self.bounds[member].most {
                let Some(seat) = seats.pop() else { break };
                self.leave(seat);
            }
        }
    }

    /// Gives those far below their share seats of the fullest.
    fn lift(&mut self, apart: impl Fn(usize, usize) -> bool) -> Option<()> {
        let poor = |layer: &Self, member: usize| layer.loads[member] < layer.bounds[member].least;
        let lifted: Vec<usize> = (0..self.loads.len()).filter(|member| poor(self, *member)).collect();
        if lifted.is_empty() {
            return Some(());
        }
        let mut held = self.held();
        let gives = |layer: &Self, member: usize| layer.loads[member] > layer.bounds[member].low;
        for member in lifted {
            self.go_on()?;
            let givers = (0..self.loads.len()).filter(|giver| gives(self, *giver));
            let mut fullest: BTreeSet<(u64, usize)> = givers.map(|giver| (self.fullness(giver), giver)).collect();
            while poor(self, member) {
                self.go_on()?;
                let Some((_, giver)) = fullest.pop_last() else { break };
                let farthest = held[giver].iter().rposition(|seat| self.fits(*seat, member, &apart));
                let Some(at) = farthest else { continue };
                let seat = held[giver].remove(at);
                self.leave(seat);
                self.sit(seat, member);
                if gives(self, giver) {
                    fullest.insert((self.fullness(giver), giver));
                }
            }
        }
        Some(())
    }

    fn fullness(&self, member: usize) -> u64 {
        (self.loads[member] << 32) / self.weights[member].max(1)
    }

    /// How many seats members lack to their lower bounds.
    fn lacking(&self) -> u64 {
        let lacks = self.loads.iter().zip(&self.bounds);
        lacks.map(|(load, bounds)| bounds.low.saturating_sub(*load)).sum()
    }

    /// The seats that each member may be moved from, the nearest first.
    fn held(&self) -> Vec<Vec<usize>> {
        let mut held: Vec<Vec<(u64, usize)>> = vec![Vec::new(); self.loads.len()];
        for (seat, member) in self.seats.iter().enumerate() {
            if let Some(member) = member.filter(|_| !self.fixed[seat]) {
                let distance = self.strategy.distance(self.shards[seat / self.width], member);
                held[member].push((distance, seat));
            }
        }
        let nearest_first = |mut seats: Vec<(u64, usize)>| {
            seats.sort_unstable();
            seats.into_iter().map(|(_, seat)| seat).collect()
        };
        held.into_iter().map(nearest_first).collect()
    }

    /// Fills the empty seats.
    fn fill(&mut self, apart: impl Fn(usize, usize) -> bool, another: impl Fn(usize, usize) -> bool) -> Option<()> {
        let empty: Vec<usize> = (0..self.seats.len())
            .filter(|seat| self.seats[*seat].is_none())
            .collect();
        let mut lacking = self.lacking();
        let mut left = empty.len() as u64;
        for seat in empty {
            self.go_on()?;
            let shard = seat / self.width;
            let strict = |member: usize| self.fits(seat, member, &apart);
            let loose = |member: usize| {
                self.weights[member] > 0 && another(shard, member) && self.others(seat).all(|other| other != member)
            };
            let lacks = |member: usize| self.loads[member] < self.bounds[member].low;
            let room = |member: usize| self.loads[member] < self.bounds[member].high;
            let found = (lacking >= left)
                .then(|| self.best(shard, |member| lacks(member) && strict(member)))
                .flatten()
                .or_else(|| self.best(shard, |member| room(member) && strict(member)))
                .or_else(|| self.best(shard, strict))
                .or_else(|| self.best(shard, |member| room(member) && loose(member)))
                .or_else(|| self.best(shard, loose));
            left -= 1;
            if let Some(member) = found {
                lacking -= u64::from(lacks(member));
                self.sit(seat, member);
            }
        }
        Some(())
    }

    /// The nearest of those that hold the shard already, else the nearest of all.
    fn best(&self, shard: usize, may: impl Fn(usize) -> bool) -> Option<usize> {
        let seed = self.shards[shard];
        let holders = self.holders[shard].iter().copied().filter(|member| may(*member));
        let nearest = holders.min_by_key(|member| self.strategy.distance(seed, *member));
        nearest.or_else(|| self.strategy.nearest(seed, may))
    }
}
