#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

/// A fleet, its leader, and what is replicated.
struct Fleet {
    table: Table,
    known: BTreeMap<PeerId, Known>,
    /// Until when each may serve, by its own clock.
    leases: BTreeMap<PeerId, u64>,
    now_ms: u64,
    mass: bool,
}

impl Fleet {
    fn new(peers: usize) -> Self {
        let unknown = Known {
            health: Health::Unknown,
            since_ms: 0,
            going: false,
        };
        let ids = (0..peers).map(|peer| PeerId::new(&format!("p{peer}")).unwrap());
        Self {
            table: Table::new(Terms::default(), 0),
            known: ids.map(|id| (id, unknown)).collect(),
            leases: BTreeMap::new(),
            now_ms: 0,
            mass: false,
        }
    }

    /// A second in which these peers are heard.
    fn second(&mut self, speaks: impl Fn(usize) -> bool) {
        self.second_of(|at| speaks(at).then(Report::default));
    }

    /// A second in which peers are heard with what they say.
    fn second_of(&mut self, says: impl Fn(usize) -> Option<Report>) {
        self.now_ms += 1_000;
        let ids: Vec<PeerId> = self.known.keys().cloned().collect();
        for (at, id) in ids.iter().enumerate() {
            let Some(report) = says(at) else { continue };
            let lease = self.table.beat(id, self.known[id], self.now_ms, report);
            if lease > 0 {
                self.leases.insert(id.clone(), self.now_ms + lease);
            }
        }
        let findings = self
            .table
            .judge(self.now_ms, self.known.iter().map(|(id, known)| (id, *known)));
        self.mass = findings.mass_silence.is_some();
        self.table.settled(findings.seen.iter().map(|(id, ..)| id));
        for (id, from, to) in findings.seen {
            let known = self.known.get_mut(&id).unwrap();
            assert_eq!(known.health, from);
            (known.health, known.since_ms) = (to, self.now_ms);
            if to == Health::Dead {
                let lease = self.leases.get(&id).copied().unwrap_or_default();
                assert!(lease < self.now_ms, "{id} is declared dead while it may serve");
            }
        }
    }

    fn seconds(&mut self, count: usize, speaks: impl Fn(usize) -> bool) {
        (0..count).for_each(|_| self.second(&speaks));
    }

    fn count(&self, health: Health) -> usize {
        self.known.values().filter(|known| known.health == health).count()
    }

    /// These peers are drained.
    fn drain(&mut self, drained: impl Fn(usize) -> bool) {
        for (at, known) in self.known.values_mut().enumerate() {
            known.going |= drained(at);
        }
    }

    fn elect(&mut self) {
        self.table = Table::new(Terms::default(), self.now_ms);
    }
}

fn out(longest_ms: u64, forked_ms: Option<u64>) -> Out {
    Out { longest_ms, forked_ms }
}

#[test]
fn a_silent_peer_is_suspected_then_dead_then_alive_again() {
    let mut fleet = Fleet::new(10);
    fleet.seconds(3, |_| true);
    assert_eq!(fleet.count(Health::Alive), 10);
    fleet.seconds(6, |peer| peer != 3);
    assert_eq!((fleet.count(Health::Suspect), fleet.count(Health::Dead)), (1, 0));
    fleet.seconds(13, |peer| peer != 3);
    assert_eq!(fleet.count(Health::Dead), 1);
    fleet.seconds(1, |_| true);
    assert_eq!(
        fleet.count(Health::Dead),
        1,
        "one heartbeat is not yet a peer that is back"
    );
    fleet.seconds(2, |_| true);
    assert_eq!(fleet.count(Health::Alive), 10);
}

#[test]
fn nobody_dies_of_a_mass_silence() {
    let mut fleet = Fleet::new(10);
    fleet.seconds(3, |_| true);
    fleet.seconds(120, |peer| peer < 6);
    assert!(fleet.mass);
    assert_eq!((fleet.count(Health::Suspect), fleet.count(Health::Dead)), (4, 0));
    // It was the network: it is back for all but one. That one has as long to be heard as it took to miss it, and is dead then.
    fleet.seconds(3, |peer| peer != 9);
    assert!(fleet.mass);
    assert_eq!((fleet.count(Health::Alive), fleet.count(Health::Suspect)), (9, 1));
    fleet.seconds(5, |peer| peer != 9);
    assert!(!fleet.mass);
    assert_eq!((fleet.count(Health::Alive), fleet.count(Health::Dead)), (9, 1));
}

#[test]
fn who_comes_back_last_from_a_mass_silence_is_not_declared_dead() {
    let mut fleet = Fleet::new(100);
    fleet.seconds(3, |_| true);
    for round in 0..2 {
        fleet.seconds(30, |peer| peer < 55);
        assert!(fleet.mass);
        // They come back in the course of some seconds, and not all under the leader that saw them go.
        for second in 0..6 {
            fleet.seconds(1, |peer| peer < 55 + second * 8);
            if round == 1 && second == 3 {
                fleet.elect();
            }
        }
        assert_eq!(fleet.count(Health::Dead), 0);
        fleet.seconds(4, |_| true);
        assert_eq!(fleet.count(Health::Alive), 100);
        assert!(!fleet.mass);
    }
}

#[test]
fn a_fleet_that_begins_is_no_mass_silence() {
    let mut fleet = Fleet::new(10);
    for _ in 0..4 {
        fleet.second(|_| true);
        assert!(!fleet.mass);
    }
    fleet.second(|peer| peer != 3);
    assert!(!fleet.mass);
}

#[test]
fn where_the_history_was_cut_off_leases_wait_for_those_that_it_does_not_know_of() {
    let mut fleet = Fleet::new(3);
    fleet.seconds(3, |_| true);
    fleet.seconds(6, |peer| peer != 2);
    assert_eq!((fleet.count(Health::Alive), fleet.count(Health::Suspect)), (2, 1));
    // A leader of what is left, long after: it has the peers as they were at the cut.
    fleet.now_ms += 3_600_000;
    fleet.elect();
    let (terms, forked_ms) = (Terms::default(), fleet.now_ms);
    fleet.table.set_terms(terms, out(terms.lease_ms, Some(forked_ms)));
    fleet.leases.clear();
    let over_ms = terms.over_ms(terms.lease_ms);
    while fleet.now_ms + 1_000 - forked_ms < over_ms {
        fleet.second(|peer| peer != 2);
        assert!(fleet.leases.is_empty(), "after {} ms", fleet.now_ms - forked_ms);
        assert_eq!(fleet.count(Health::Dead), 0);
    }
    fleet.second(|peer| peer != 2);
    assert_eq!((fleet.leases.len(), fleet.count(Health::Dead)), (2, 1));
}

#[test]
fn a_drained_zone_that_is_switched_off_keeps_nobody_elsewhere_alive() {
    let mut fleet = Fleet::new(99);
    fleet.seconds(3, |_| true);
    let in_zone = |peer| peer < 33;
    fleet.drain(in_zone);
    fleet.seconds(30, |peer| !in_zone(peer));
    assert!(!fleet.mass);
    assert_eq!((fleet.count(Health::Alive), fleet.count(Health::Dead)), (66, 33));
    // One dies in another zone.
    fleet.seconds(30, |peer| !in_zone(peer) && peer != 50);
    assert!(!fleet.mass);
    assert_eq!((fleet.count(Health::Alive), fleet.count(Health::Dead)), (65, 34));
    // The network breaks for half of the others.
    fleet.seconds(30, |peer| peer > 66);
    assert!(fleet.mass);
    assert_eq!((fleet.count(Health::Suspect), fleet.count(Health::Dead)), (33, 34));
}

#[test]
fn those_who_said_that_they_leave_are_no_mass_silence() {
    let mut fleet = Fleet::new(10);
    fleet.seconds(3, |_| true);
    let leaving = |peer: usize| Report {
        condition: match peer < 5 {
            true => Condition::Leaving,
            false => Condition::Ready,
        },
        ..Report::default()
    };
    fleet.second_of(|peer| Some(leaving(peer)));
    fleet.seconds(30, |peer| peer > 5);
    assert!(!fleet.mass);
    assert_eq!((fleet.count(Health::Alive), fleet.count(Health::Dead)), (4, 6));
    // They are back, and count again.
    fleet.seconds(3, |_| true);
    fleet.seconds(30, |peer| peer > 5);
    assert!(fleet.mass);
    assert_eq!((fleet.count(Health::Alive), fleet.count(Health::Suspect)), (4, 6));
}

#[test]
fn a_silent_peer_that_is_drained_is_declared_dead_even_in_a_mass_silence() {
    let mut fleet = Fleet::new(10);
    fleet.seconds(3, |_| true);
    fleet.seconds(6, |peer| peer < 3);
    assert!(fleet.mass);
    // Just suspected: its lease may still be good, and `second_of` sees to it that nobody dies before it is over.
    fleet.drain(|peer| peer == 3);
    fleet.seconds(5, |peer| peer < 3);
    assert_eq!((fleet.count(Health::Suspect), fleet.count(Health::Dead)), (7, 0));
    fleet.seconds(10, |peer| peer < 3);
    assert!(fleet.mass);
    assert_eq!((fleet.count(Health::Suspect), fleet.count(Health::Dead)), (6, 1));
    // Once few enough of those that stay are silent, the rest is believed to be dead as well.
    fleet.drain(|peer| (4..9).contains(&peer));
    fleet.seconds(1, |peer| peer < 3);
    assert!(!fleet.mass);
    assert_eq!((fleet.count(Health::Suspect), fleet.count(Health::Dead)), (0, 7));
}

#[test]
fn elections_postpone_nothing_once_a_peer_is_suspected() {
    let mut fleet = Fleet::new(10);
    fleet.seconds(3, |_| true);
    fleet.seconds(6, |peer| peer != 3);
    assert_eq!(fleet.count(Health::Suspect), 1);
    // No leader lasts for as long as it takes to find anybody late.
    for _ in 0..5 {
        fleet.elect();
        fleet.seconds(3, |peer| peer != 3);
    }
    assert_eq!((fleet.count(Health::Dead), fleet.count(Health::Alive)), (1, 9));
}

#[test]
fn who_is_about_to_be_suspected_gets_no_lease_until_it_is_known_what_came_of_it() {
    let mut fleet = Fleet::new(2);
    fleet.seconds(3, |_| true);
    let id = PeerId::new("p0").unwrap();
    let alive = fleet.known[&id];
    let late = fleet.now_ms + 5_000;
    let others = [(&id, alive)];
    let findings = fleet.table.judge(late, others.into_iter());
    assert_eq!(findings.seen, [(id.clone(), Health::Alive, Health::Suspect)]);
    // It speaks again while the proposal is under way, which may still be committed with the time that it has.
    let beat = |fleet: &mut Fleet| fleet.table.beat(&id, alive, late + 1, Report::default());
    assert_eq!(beat(&mut fleet), 0);
    let again = fleet.table.judge(late + 2, others.into_iter());
    assert_eq!(again.seen, findings.seen, "what was begun is gone through with");
    fleet.table.settled([&id].into_iter());
    assert_eq!(beat(&mut fleet), 10_000);
}

#[test]
fn a_peer_that_leaves_is_heard_and_gets_no_lease() {
    let mut fleet = Fleet::new(1);
    fleet.seconds(3, |_| true);
    let id = PeerId::new("p0").unwrap();
    let leaving = Report {
        condition: Condition::Leaving,
        ..Report::default()
    };
    let known = fleet.known[&id];
    assert_eq!(fleet.table.beat(&id, known, fleet.now_ms + 1, leaving.clone()), 0);
    assert_eq!(fleet.table.heard(&id).unwrap().report, leaving);
    assert_eq!(
        fleet.table.beat(&id, known, fleet.now_ms + 2, Report::default()),
        10_000
    );
}

#[test]
fn a_burst_of_heartbeats_makes_nobody_steady() {
    let terms = Terms::default();
    let (mut table, peer) = (Table::new(terms, 0), PeerId::new("p1").unwrap());
    let known = Known {
        health: Health::Dead,
        since_ms: 0,
        going: false,
    };
    let alive = |table: &mut Table, now_ms: u64| {
        table.beat(&peer, known, now_ms, Report::default());
        let findings = table.judge(now_ms, std::iter::once((&peer, known)));
        !findings.seen.is_empty()
    };
    assert!((0..1_000).all(|beat| !alive(&mut table, 100 + beat / 100)));
    let paced = (1..).find(|beat| alive(&mut table, 200 + beat * terms.beat_soonest_ms()));
    assert_eq!(paced, Some(u64::from(terms.steady_beats) - 1));
}

#[test]
fn a_shorter_lease_shortens_none_that_was_given() {
    let mut fleet = Fleet::new(10);
    fleet.seconds(3, |_| true);
    let short = Terms {
        lease_ms: 1_000,
        suspect_after_ms: 1_500,
        ..Terms::default()
    };
    fleet.table.set_terms(short, out(10_000, None));
    fleet.seconds(12, |peer| peer != 3);
    assert_eq!(fleet.count(Health::Dead), 0);
    fleet.table.set_terms(short, out(1_000, None));
    fleet.seconds(1, |peer| peer != 3);
    assert_eq!(fleet.count(Health::Dead), 1);
}

#[test]
fn a_new_leader_waits_before_it_finds_anybody_late() {
    let mut fleet = Fleet::new(10);
    fleet.seconds(3, |_| true);
    fleet.elect();
    fleet.seconds(4, |peer| peer != 3);
    assert_eq!(fleet.count(Health::Alive), 10);
}
