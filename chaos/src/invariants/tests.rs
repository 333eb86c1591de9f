//! Each invariant holds of a good story, and finds what is wrong with one that was tampered with.

use std::{sync::Arc, time::Duration};

use statemachine::{
    Answer, ClusterId, Command, Conditions, Entry, Hash, Idempotency, InitMesh, MeshId, NodeId, Origin, PatchPeer,
    PeerId, Position, Proposal, Recorded, RegisterPeer, Revision, Stamp, State, TimelineId, apply,
    record::{Attributes, Overrides, PeerSpec},
};

use super::{ALL, Findings};
use crate::{
    evidence::{Evidence, Node},
    history::{Call, Led, Operation, Outcome, Published, Stopped},
    port::PeerSeen,
    restored::{Held, Restored},
    workload::VALUE,
};

struct Story {
    state: State,
    units: Vec<Arc<Recorded>>,
    operations: Vec<Operation>,
}

impl Story {
    fn commit(&mut self, key: &str, command: impl Into<Command>) -> Arc<Recorded> {
        let origin = Origin {
            actor: "c1".to_owned(),
            idempotency: Some(Idempotency {
                key: key.to_owned(),
                request: Hash::default(),
            }),
            ..Origin::default()
        };
        let stamp = Stamp {
            mesh_time_ms: 1_000,
            wall_ms: 1_000,
        };
        let proposal = Proposal {
            stamp,
            origin,
            conditions: Conditions::default(),
            command: command.into(),
        };
        match apply(&mut self.state, &Entry::Command(Box::new(proposal))).answer {
            Answer::Recorded(recorded) => {
                self.units.push(recorded.clone());
                recorded
            }
            other => panic!("{other:?}"),
        }
    }

    fn operation(&mut self, key: &str, call: Call, outcome: Outcome) {
        let at = 2 * self.operations.len() as u64;
        self.operations.push(Operation {
            client: "c1".to_owned(),
            key: key.to_owned(),
            call,
            invoked: at,
            completed: Some(at + 1),
            began: Duration::from_millis(at),
            ended: Duration::from_millis(at + 1),
            node: Some(NodeId(1)),
            attempts: 1,
            outcome,
        });
    }

    fn write(&mut self, key: &str) {
        let labels = Attributes::from([(VALUE.to_owned(), key.to_owned())]);
        let command = PatchPeer {
            id: PeerId::new("r0").unwrap(),
            labels,
            metadata: Attributes::new(),
            remove_labels: Vec::new(),
            remove_metadata: Vec::new(),
        };
        let recorded = self.commit(key, command);
        let call = Call::Write {
            peer: "r0".to_owned(),
            if_match: None,
        };
        self.operation(
            key,
            call,
            Outcome::Applied(recorded.unit.position.revision, Some(recorded.chain)),
        );
    }

    fn read(&mut self, key: &str) {
        let mesh = &self.state.mesh;
        let seen = mesh.peer(&PeerId::new("r0").unwrap()).map(PeerSeen::from);
        let outcome = Outcome::Seen(mesh.position().revision, Some(mesh.chain()), seen);
        self.operation(key, Call::Read("r0".to_owned()), outcome);
    }

    fn evidence(self) -> Evidence {
        let node = |id| Node {
            id: NodeId(id),
            position: self.state.mesh.position(),
            digest: self.state.mesh.digest(),
            chain: self.state.mesh.chain(),
            cluster: self.state.cluster.audit_head(),
            units: self.units.clone(),
            floor: Revision(3),
            first_row: Some(Revision(3)),
            shows_below_floor: false,
            voters: (1..=3).map(NodeId).collect(),
            removed: vec![NodeId(4)],
        };
        let last = self.units.last().unwrap();
        let (position, chain, digest) = (last.unit.position, last.chain, last.digest);
        let after = Position {
            revision: position.revision.next(),
            timeline: TimelineId(9),
        };
        let held = Held {
            position,
            chain,
            digest,
            floor: Revision(3),
            revisions: position.revision.0 - 2,
            from: position,
            to: after,
        };
        let mut evidence = Evidence {
            nodes: (1..=3).map(node).collect(),
            voters: (1..=3).map(NodeId).collect(),
            removed: vec![(NodeId(4), Duration::from_secs(5))],
            backups: vec![Restored {
                node: NodeId(2),
                seen: (position.revision, chain),
                outcome: Ok(held),
            }],
            ..Evidence::default()
        };
        evidence.record.operations = self.operations;
        evidence.record.leaders.insert(1, vec![NodeId(1)]);
        evidence.record.led.push(led(1, 4));
        evidence.record.stopped.push(stopped(4, true));
        evidence
    }
}

fn led(seconds: u64, node: u64) -> Led {
    Led {
        at: Duration::from_secs(seconds),
        term: seconds,
        node: NodeId(node),
    }
}

fn stopped(node: u64, removed: bool) -> Stopped {
    Stopped {
        node: NodeId(node),
        why: "for a reason".to_owned(),
        removed,
    }
}

fn good() -> Evidence {
    let mut story = Story {
        state: State::default(),
        units: Vec::new(),
        operations: Vec::new(),
    };
    let cluster = ClusterId::new("c").unwrap();
    story.commit(
        "init",
        InitMesh {
            mesh: MeshId::new("m").unwrap(),
            cluster: cluster.clone(),
            timeline: TimelineId(7),
            settings: Overrides::new(),
            feature_level: statemachine::FEATURE_LEVEL,
        },
    );
    let spec = PeerSpec {
        cluster,
        role: String::new(),
        region: String::new(),
        zone: String::new(),
        endpoints: vec!["p:1".to_owned()],
        labels: Attributes::new(),
        metadata: Attributes::new(),
        weight: 1,
    };
    story.commit(
        "register",
        RegisterPeer {
            id: PeerId::new("r0").unwrap(),
            spec,
        },
    );
    for round in 0..5 {
        story.write(&format!("w{round}"));
        story.read(&format!("r{round}"));
    }
    story.evidence()
}

fn findings(evidence: &Evidence, name: &str) -> Findings {
    let (_, check) = ALL.iter().find(|(known, _)| *known == name).unwrap();
    check(evidence)
}

fn assert_found(evidence: &Evidence, name: &str) {
    let found = findings(evidence, name);
    assert!(
        !found.violations.is_empty(),
        "{name} found nothing in {} checks",
        found.checked
    );
}

#[test]
fn a_good_story_violates_nothing_and_every_invariant_checks_something() {
    let evidence = good();
    for (name, check) in ALL {
        let found = check(&evidence);
        assert_eq!(found.violations, Vec::<String>::new(), "{name}");
        assert!(found.checked > 0, "{name}");
    }
}

#[test]
fn a_lost_write_is_found() {
    let mut evidence = good();
    for node in &mut evidence.nodes {
        node.units.truncate(4);
    }
    assert_found(&evidence, "acknowledged");
    assert_found(&evidence, "audit-chain");
}

#[test]
fn an_altered_row_breaks_the_chain() {
    let mut evidence = good();
    let mut altered = (*evidence.nodes[1].units[3]).clone();
    altered.unit.origin.actor = "mallory".to_owned();
    altered.bytes = altered.unit.encode().into();
    evidence.nodes[1].units[3] = Arc::new(altered);
    assert_found(&evidence, "audit-chain");
    assert_found(&evidence, "digests");
    assert_found(&evidence, "acknowledged");
}

#[test]
fn diverged_nodes_are_found() {
    let mut evidence = good();
    evidence.nodes[2].digest = Hash([1; 32]);
    assert_found(&evidence, "digests");
    evidence.nodes.remove(2);
    assert_found(&evidence, "digests");
}

#[test]
fn a_key_that_took_effect_twice_is_found() {
    let mut evidence = good();
    let twice = evidence.nodes[0].units[3].clone();
    evidence.nodes[0].units.push(twice);
    assert_found(&evidence, "exactly-once");
}

#[test]
fn a_write_that_was_said_to_have_failed_is_found() {
    let mut evidence = good();
    evidence.record.operations[0].outcome = Outcome::Failed("no".to_owned());
    assert_found(&evidence, "exactly-once");
}

#[test]
fn two_leaders_of_one_term_are_found() {
    let mut evidence = good();
    evidence.record.leaders.insert(2, vec![NodeId(1), NodeId(3)]);
    assert_found(&evidence, "leaders");
}

#[test]
fn a_stale_read_is_found() {
    let mut evidence = good();
    // The second read answers what the first did, though a write was acknowledged in between.
    let stale = evidence.record.operations[1].outcome.clone();
    evidence.record.operations[3].outcome = stale;
    assert_found(&evidence, "linearizable");
}

#[test]
fn a_read_of_what_never_was_is_found() {
    let mut evidence = good();
    if let Outcome::Seen(_, _, Some(peer)) = &mut evidence.record.operations[3].outcome {
        peer.value = Some("never".to_owned());
    }
    assert_found(&evidence, "linearizable");
}

#[test]
fn writes_in_the_wrong_order_are_found() {
    let mut evidence = good();
    let first = evidence.record.operations[0].outcome.clone();
    let second = std::mem::replace(&mut evidence.record.operations[2].outcome, first);
    evidence.record.operations[0].outcome = second;
    assert_found(&evidence, "linearizable");
}

#[test]
fn a_node_that_stopped_and_a_last_write_without_answer_are_found() {
    let mut evidence = good();
    evidence.record.stopped.push(stopped(1, false));
    assert_found(&evidence, "liveness");
    let mut evidence = good();
    evidence.record.stopped.push(stopped(1, true));
    assert_found(&evidence, "liveness");
    let mut evidence = good();
    evidence.record.operations[8].outcome = Outcome::Unknown("no answer".to_owned());
    assert_found(&evidence, "liveness");
}

#[test]
fn a_revision_that_meant_something_else_once_is_found() {
    let mut evidence = good();
    let published = Published {
        node: NodeId(2),
        life: 1,
        revision: Revision(3),
        chain: Hash([9; 32]),
    };
    evidence.record.published.push(published);
    assert_found(&evidence, "positions");
}

#[test]
fn changes_that_do_not_add_up_are_found() {
    let mut evidence = good();
    evidence.nodes.truncate(1);
    evidence.nodes[0].units.remove(3);
    assert_found(&evidence, "rebuild");
}

#[test]
fn history_that_begins_elsewhere_or_shows_more_is_found() {
    let mut evidence = good();
    evidence.nodes[1].floor = Revision(2);
    evidence.nodes[1].first_row = Some(Revision(2));
    assert_found(&evidence, "floors");
    let mut evidence = good();
    evidence.nodes[1].first_row = Some(Revision(4));
    assert_found(&evidence, "floors");
    let mut evidence = good();
    evidence.nodes[1].shows_below_floor = true;
    assert_found(&evidence, "floors");
}

#[test]
fn a_member_too_many_and_a_removed_node_that_goes_on_are_found() {
    let mut evidence = good();
    evidence.nodes[1].voters.insert(NodeId(4));
    assert_found(&evidence, "members");
    let mut evidence = good();
    evidence.nodes[1].removed.clear();
    assert_found(&evidence, "members");
    let mut evidence = good();
    evidence.record.stopped.clear();
    assert_found(&evidence, "members");
    let mut evidence = good();
    evidence.record.led.push(led(6, 4));
    assert_found(&evidence, "members");
}

#[test]
fn a_backup_that_is_short_or_other_or_damaged_is_found() {
    let spoil = |change: fn(&mut Held)| {
        let mut evidence = good();
        change(evidence.backups[0].outcome.as_mut().unwrap());
        assert_found(&evidence, "backups");
    };
    spoil(|held| held.digest = Hash([1; 32]));
    spoil(|held| held.chain = Hash([1; 32]));
    spoil(|held| held.revisions -= 1);
    spoil(|held| held.to.revision = held.position.revision);
    spoil(|held| held.to.timeline = held.position.timeline);
    // What was acknowledged before it began is not in it.
    let mut evidence = good();
    let before = evidence.nodes[0].units[5].clone();
    let held = evidence.backups[0].outcome.as_mut().unwrap();
    (held.position, held.chain, held.digest) = (before.unit.position, before.chain, before.digest);
    assert_found(&evidence, "backups");
    let mut evidence = good();
    evidence.backups[0].outcome = Err("damaged".to_owned());
    assert_found(&evidence, "backups");
}
