//! Properties over random histories: one door, dry run, retries, rebuilding elsewhere (M2, M6, F1, X1).

use meshkit_statemachine::{
    AdvanceDrain, Answer, ApplyCluster, BeginSession, CancelOperation, ClusterId, Command, CordonPeer, DemoteCluster,
    DeregisterPeer, DrainPeer, EndSessions, Entry, Hash, LoadError, Loader, NodeId, Outcome, PatchPeer, PromoteCluster,
    Proposal, Record, RecordBackup, Recorded, RecoverMesh, Replicated, ReplicationRefused, RestoreMesh, Revision,
    RollbackConfig, SetConfig, State, TimelineId, UncordonPeer, UndrainPeer, Unit, audit, check, dry_run, preview,
    record::{ApprovalState, Approvers, ClusterPhase, ClusterSpec, Fencing, Held},
    rows::Table,
};
use proptest::prelude::*;

use crate::backup;
use crate::world::{World, key, peer_id, register};

#[derive(Debug, Clone)]
enum Step {
    Register(u8),
    Deregister(u8),
    Cordon(u8),
    Uncordon(u8),
    Drain(u8),
    Undrain(u8),
    Label(u8, u8),
    /// Finishes the active step of the oldest running operation.
    Advance,
    Cancel,
    /// Writes a cluster's descriptor, with one of two priorities.
    Describe(u8, bool, Option<ClusterPhase>),
    Promote(u8),
    Demote(u8),
    Set(&'static str, u64),
    Reset(&'static str),
    /// Goes back to what was set at the n-th last revision.
    Rollback(u8),
    /// Signs the chain at the n-th last revision.
    Checkpoint(u8),
    /// Lets go of what is before the n-th last revision.
    Compact(u8),
    /// Goes on in another cluster, or in the same, on a timeline of its own.
    Restore(u8),
    Recover,
    NoteBackup,
    Wait(u32),
    /// Decides the oldest request that waits, in somebody's name.
    Decide(&'static str, bool),
    /// Ends requests that wait in vain.
    EndStaged,
    /// Has one of some browsers act for somebody.
    BeginSession(u8),
    /// Ends that of one of them, or all.
    EndSessions(Option<u8>),
}

/// Values within range, which make a mesh smaller than what is in it, and one that is out of range.
const SETTINGS: [(&str, u64); 8] = [
    ("limits.peers", 2),
    ("limits.operations", 1),
    ("retention.idempotency_key", 60_000),
    ("limits.peers", 0),
    ("limits.approvals", 2),
    ("approvals.peers.drain", 1),
    ("approvals.peers.deregister", 3),
    ("approvals.config.set", 2),
];

fn cluster_step() -> impl Strategy<Value = Step> {
    let cluster = 1_u8..4;
    let phase = prop_oneof![
        Just(None),
        Just(Some(ClusterPhase::Active)),
        Just(Some(ClusterPhase::Passive)),
        Just(Some(ClusterPhase::Maintenance)),
    ];
    prop_oneof![
        3 => (cluster.clone(), any::<bool>(), phase).prop_map(|(n, high, to)| Step::Describe(n, high, to)),
        1 => cluster.clone().prop_map(Step::Promote),
        1 => cluster.prop_map(Step::Demote),
    ]
}

fn config_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::sample::select(&SETTINGS[..]).prop_map(|(name, value)| Step::Set(name, value)),
        prop::sample::select(&SETTINGS[..]).prop_map(|(name, _)| Step::Reset(name)),
        (0_u8..30).prop_map(Step::Rollback),
    ]
}

fn history_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0_u8..12).prop_map(Step::Checkpoint),
        2 => (0_u8..12).prop_map(Step::Compact),
        1 => (1_u8..9).prop_map(Step::Restore),
        1 => Just(Step::Recover),
        1 => Just(Step::NoteBackup),
        1 => (900_000_u32..2_000_000).prop_map(Step::Wait),
    ]
}

fn step() -> impl Strategy<Value = (Step, Option<u8>)> {
    let peer = 0_u8..4;
    let step = prop_oneof![
        2 => peer.clone().prop_map(Step::Register),
        1 => peer.clone().prop_map(Step::Deregister),
        1 => peer.clone().prop_map(Step::Cordon),
        1 => peer.clone().prop_map(Step::Uncordon),
        1 => peer.clone().prop_map(Step::Drain),
        1 => peer.clone().prop_map(Step::Undrain),
        1 => (peer, any::<u8>()).prop_map(|(peer, value)| Step::Label(peer, value)),
        1 => Just(Step::Advance),
        1 => Just(Step::Cancel),
        1 => (0_u32..120_000).prop_map(Step::Wait),
        2 => cluster_step(),
        2 => config_step(),
        4 => history_step(),
        3 => (prop::sample::select(&["alice", "bob", "carol"][..]), any::<bool>())
            .prop_map(|(actor, agrees)| Step::Decide(actor, agrees)),
        1 => Just(Step::EndStaged),
        2 => (0_u8..40).prop_map(Step::BeginSession),
        1 => proptest::option::of(0_u8..40).prop_map(Step::EndSessions),
    ];
    (step, proptest::option::weighted(0.3, 0_u8..6))
}

fn cluster_id(n: u8) -> ClusterId {
    ClusterId::new(&format!("c{n}")).unwrap()
}

/// The revision that is so many before the newest, as far back as history is kept.
fn back(world: &World, n: u8) -> Revision {
    let head = world.state.mesh.position().revision;
    Revision(head.0.saturating_sub(u64::from(n)).max(1))
}

/// One that no earlier step has begun.
fn next_timeline(world: &World) -> TimelineId {
    TimelineId(1000 + u128::from(world.state.mesh.position().revision.0))
}

fn describe(n: u8, high: bool, state: Option<ClusterPhase>) -> Command {
    let spec = ClusterSpec {
        region: "eu".into(),
        priority: if high { 1 } else { 500 },
        fencing: Fencing::Manual,
        replication_endpoints: vec![],
        owners: vec!["sre".into()],
        annotations: Default::default(),
    };
    let id = cluster_id(n);
    ApplyCluster { id, spec, state }.into()
}

fn rollback(world: &World, to: Revision) -> Command {
    let units = world.rows[&Table::History]
        .values()
        .map(|row| Recorded::decode(row).unwrap());
    let config = units
        .filter(|recorded| recorded.unit.position.revision <= to)
        .flat_map(|recorded| recorded.unit.changes().to_vec())
        .filter_map(|change| match change.after {
            Some(Record::Config(config)) => Some(config.overrides.clone()),
            _ => None,
        });
    let overrides = config.last().unwrap();
    RollbackConfig { to, overrides }.into()
}

#[cfg(not(feature = "previous-level"))]
fn compact(world: &World, to: Revision) -> Option<Command> {
    let command = meshkit_statemachine::CompactHistory {
        mesh: world.state.mesh.mesh()?.id.clone(),
        to,
        to_mesh_time_ms: world.unit(to)?.unit.stamp.mesh_time_ms,
    };
    Some(command.into())
}

#[cfg(not(feature = "previous-level"))]
fn decide(world: &World, agrees: bool) -> Option<Command> {
    use meshkit_statemachine::{ApproveStaged, RejectStaged, record::Scope};
    let id = world.state.mesh.pending_approvals().next()?.id.clone();
    let scope = Scope::Admin;
    Some(match agrees {
        true => ApproveStaged { id, scope }.into(),
        false => RejectStaged { id, scope }.into(),
    })
}

#[cfg(feature = "previous-level")]
fn decide(_: &World, _: bool) -> Option<Command> {
    None
}

#[cfg(feature = "previous-level")]
fn compact(_: &World, _: Revision) -> Option<Command> {
    None
}

fn command(step: &Step, world: &World) -> Option<Command> {
    let state = &world.state;
    let running = state.mesh.running().next();
    Some(match step {
        Step::Register(n) => register(*n),
        Step::Deregister(n) => DeregisterPeer { id: peer_id(*n) }.into(),
        Step::Cordon(n) => CordonPeer { id: peer_id(*n) }.into(),
        Step::Uncordon(n) => UncordonPeer { id: peer_id(*n) }.into(),
        Step::Drain(n) => DrainPeer { id: peer_id(*n) }.into(),
        Step::Undrain(n) => UndrainPeer { id: peer_id(*n) }.into(),
        Step::Label(n, value) => PatchPeer {
            id: peer_id(*n),
            labels: [("l".to_owned(), value.to_string())].into(),
            metadata: Default::default(),
            remove_labels: vec![],
            remove_metadata: vec![],
        }
        .into(),
        Step::Advance => {
            let running = running?;
            let step = u32::try_from(running.active_step()?).ok()?;
            AdvanceDrain {
                operation: running.id.clone(),
                step,
            }
            .into()
        }
        Step::Cancel => CancelOperation {
            id: running?.id.clone(),
        }
        .into(),
        Step::Describe(n, high, state) => describe(*n, *high, *state),
        Step::Promote(n) => PromoteCluster { id: cluster_id(*n) }.into(),
        Step::Demote(n) => DemoteCluster { id: cluster_id(*n) }.into(),
        Step::Set(name, value) => SetConfig {
            set: [((*name).to_owned(), *value)].into(),
            reset: vec![],
        }
        .into(),
        Step::Reset(name) => SetConfig {
            set: Default::default(),
            reset: vec![(*name).to_owned()],
        }
        .into(),
        Step::Rollback(n) => rollback(world, back(world, *n)),
        Step::Checkpoint(n) => world.checkpoint(back(world, *n)),
        Step::Compact(n) => compact(world, back(world, *n))?,
        Step::Restore(n) => RestoreMesh {
            mesh: state.mesh.mesh()?.id.clone(),
            cluster: cluster_id(*n),
            timeline: next_timeline(world),
        }
        .into(),
        Step::Recover => RecoverMesh {
            mesh: state.mesh.mesh()?.id.clone(),
            cluster: state.mesh.mesh()?.timeline()?.cluster.clone(),
            timeline: next_timeline(world),
        }
        .into(),
        Step::NoteBackup => RecordBackup {
            mesh: state.mesh.mesh()?.id.clone(),
            node: NodeId(1),
        }
        .into(),
        Step::Decide(_, agrees) => decide(world, *agrees)?,
        Step::EndStaged => meshkit_statemachine::EndStaged {}.command().ok()?,
        Step::BeginSession(n) => BeginSession {
            id: Hash([*n; 32]),
            held: Held::Operate,
            expires_ms: world.now_ms + 60_000,
        }
        .command()
        .ok()?,
        Step::EndSessions(n) => EndSessions {
            subject: "alice".into(),
            id: n.map(|n| Hash([n; 32])),
        }
        .command()
        .ok()?,
        Step::Wait(_) => return None,
    })
}

/// Plays steps; `each` sees every proposal before it is applied and the world after it.
fn play(
    steps: &[(Step, Option<u8>)],
    mut each: impl FnMut(&State, &Proposal, &World, &Recorded),
) -> (World, Vec<Proposal>) {
    let mut world = World::new();
    let mut proposals = Vec::new();
    for (step, idempotency) in steps {
        if let Step::Wait(ms) = step {
            world.now_ms += u64::from(*ms);
        }
        let Some(command) = command(step, &world) else {
            continue;
        };
        let mut proposal = world.proposal(command);
        proposal.origin.idempotency = idempotency.and_then(|n| key(&format!("k{n}"), n));
        proposal.origin.reason = "why".into();
        if let Step::Decide(actor, _) = step {
            proposal.origin.actor = (*actor).to_owned();
        }
        let before = world.state.clone();
        let recorded = world.propose(proposal.clone());
        each(&before, &proposal, &world, &recorded);
        proposals.push(proposal);
    }
    (world, proposals)
}

fn units(world: &World) -> Vec<Recorded> {
    world.rows[&Table::History]
        .values()
        .map(|row| Recorded::decode(row).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What a dry run shows is what apply looked at: a refusal by a rule is the one check that failed, the last; what is
    /// applied passed all; and no check is made that the command does not say it makes.
    #[test]
    fn a_refusal_is_the_check_that_failed(steps in prop::collection::vec(step(), 1..40)) {
        play(&steps, |before, proposal, _, recorded| {
            let seen = preview(before, proposal);
            let Answer::Recorded(again) = &seen.answer else { panic!("{:?}", seen.answer) };
            // What waits for somebody to agree is shown as it would be afterwards.
            if !matches!(recorded.unit.outcome, Outcome::Staged { .. }) {
                assert_eq!(again.unit, recorded.unit, "looking changes nothing");
            }
            if proposal.command.handler().action() == "approvals.approve" {
                // The checks of the request that is approved are made as well.
                return;
            }
            let rules = proposal.command.handler().rules();
            let failed: Vec<_> = seen.checks.iter().filter(|check| !check.passed).collect();
            match &recorded.unit.outcome {
                Outcome::Rejected(rejection) if !rules.is_empty() && !rejection.code().starts_with("idempotency") => {
                    assert_eq!(failed.len(), 1, "{rejection:?}");
                    assert_eq!(seen.checks.last().unwrap(), failed[0]);
                    assert_eq!(failed[0].rule.code, rejection.code());
                    assert!(!rejection.hint().is_empty() && !rejection.detail().is_empty());
                }
                Outcome::Applied { .. } => assert!(failed.is_empty(), "{failed:?}"),
                _ => {}
            }
            let pipeline = [check::FEATURE_LEVEL_REACHED, check::REVISION_IS, check::ETAG_IS, check::RECORD_ABSENT];
            for made in &seen.checks {
                let known = rules.contains(&made.rule) || pipeline.contains(&made.rule);
                assert!(known || rules.is_empty(), "{}: {}", proposal.command.handler().action(), made.rule.name);
            }
        });
    }

    #[test]
    fn dry_run_equals_the_commit_at_that_position(steps in prop::collection::vec(step(), 1..40)) {
        play(&steps, |before, proposal, _, recorded| {
            let digest = before.mesh.digest();
            let Answer::Recorded(preview) = dry_run(before, proposal) else { panic!() };
            match &recorded.unit.outcome {
                // What it will do is shown, not that it waits.
                Outcome::Staged { .. } => assert!(matches!(preview.unit.outcome, Outcome::Applied { .. })),
                Outcome::Applied { .. } | Outcome::Rejected(_) | Outcome::Replayed { .. } => {
                    assert_eq!(&*preview, recorded);
                }
            }
            assert_eq!(before.mesh.digest(), digest, "a dry run changes nothing");
        });
    }

    #[test]
    fn a_state_read_back_at_any_point_goes_on_alike(
        steps in prop::collection::vec(step(), 1..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let (world, proposals) = play(&steps, |_, _, _, _| {});
        let cut = cut.index(proposals.len() + 1);
        let mut other = World::new();
        for (at, proposal) in proposals.iter().enumerate() {
            if at == cut {
                other.state = other.reload();
            }
            other.propose(proposal.clone());
        }
        prop_assert_eq!(other.state.mesh.digest(), world.state.mesh.digest());
        prop_assert_eq!(other.reload().head_row(), world.state.head_row());
        prop_assert_eq!(&other.rows, &world.rows);
        let head = world.state.mesh.position().revision;
        prop_assert_eq!(other.reload().mesh.recent_at(head), world.state.mesh.recent_at(head));
    }

    #[test]
    fn a_backup_at_any_point_is_the_state(steps in prop::collection::vec(step(), 1..60)) {
        let (world, _) = play(&steps, |_, _, _, _| {});
        let checked = backup::check(&backup::save(&world)).unwrap();
        prop_assert_eq!(checked.state.mesh.digest(), world.state.mesh.digest());
        let mesh = &world.state.mesh;
        prop_assert_eq!(checked.contents.header.epoch, mesh.epoch());
        prop_assert_eq!(checked.contents.first_revision, mesh.floor());
        // Whatever the floor: it is the first revision, or follows what was signed.
        prop_assert!(checked.contents.anchored);
        // Where the mesh goes on from there, it goes on alike.
        let head = mesh.position().revision;
        prop_assert_eq!(checked.state.mesh.recent_at(head), mesh.recent_at(head));
    }

    #[test]
    fn a_retry_equals_one_application(steps in prop::collection::vec(step(), 1..40)) {
        play(&steps, |_, proposal, world, recorded| {
            if proposal.origin.idempotency.is_none() {
                return;
            }
            let mut again = world.clone();
            let retry = again.propose(proposal.clone());
            match &recorded.unit.outcome {
                Outcome::Applied { .. } | Outcome::Staged { .. } => {
                    assert_eq!(retry.unit.outcome, Outcome::Replayed { of: recorded.unit.position.revision });
                }
                Outcome::Rejected(_) | Outcome::Replayed { .. } => {}
            }
            assert!(retry.unit.changes().is_empty());
        });
    }

    #[test]
    fn changes_rebuild_the_state_in_a_second_cluster(steps in prop::collection::vec(step(), 1..40)) {
        let (world, _) = play(&steps, |_, _, _, _| {});
        let mut passive = World::default();
        for recorded in units(&world) {
            let entry = Entry::Replicated(Replicated { unit: recorded.bytes.to_vec(), chain: recorded.chain });
            let Answer::Recorded(repeated) = passive.apply(&entry) else { panic!() };
            prop_assert_eq!(&*repeated, &recorded);
            prop_assert!(matches!(passive.apply(&entry), Answer::AlreadyHere), "never applied twice");
        }
        prop_assert_eq!(passive.state.mesh.digest(), world.state.mesh.digest());
        prop_assert_eq!(&passive.rows[&Table::Records], &world.rows[&Table::Records]);
        prop_assert_eq!(passive.state.head_row(), world.state.head_row());
    }

    #[test]
    fn reverting_units_shows_the_past(steps in prop::collection::vec(step(), 1..40)) {
        let mut past = vec![World::new().state];
        let (world, _) = play(&steps, |_, _, world, _| past.push(world.state.clone()));
        let mut state = world.state.clone();
        for (recorded, was) in units(&world).iter().rev().zip(past.iter().rev()) {
            prop_assert_eq!(state.mesh.position(), was.mesh.position());
            let peers = |state: &State| state.mesh.peers_after(None).cloned().collect::<Vec<_>>();
            prop_assert_eq!(peers(&state), peers(was));
            let operations = |state: &State| state.mesh.operations_before(None).cloned().collect::<Vec<_>>();
            prop_assert_eq!(operations(&state), operations(was));
            let clusters = |state: &State| state.mesh.clusters_after(None).cloned().collect::<Vec<_>>();
            prop_assert_eq!(clusters(&state), clusters(was));
            let approvals = |state: &State| state.mesh.approvals_before(None).cloned().collect::<Vec<_>>();
            prop_assert_eq!(approvals(&state), approvals(was));
            prop_assert_eq!(state.mesh.approvals_pending(), was.mesh.approvals_pending());
            prop_assert_eq!(state.mesh.config(), was.mesh.config());
            prop_assert_eq!(state.mesh.settings(), was.mesh.settings());
            prop_assert_eq!(state.mesh.floor(), was.mesh.floor());
            state.mesh.revert(&recorded.unit);
        }
    }

    #[test]
    fn the_chain_can_be_recomputed_and_shows_any_change(
        steps in prop::collection::vec(step(), 1..20),
        at in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let (world, _) = play(&steps, |_, _, _, _| {});
        let units = units(&world);
        let recompute = |units: &[Vec<u8>]| units.iter().fold(Hash::default(), |chain, unit| audit::extend(chain, unit));
        let mut bytes: Vec<Vec<u8>> = units.iter().map(|recorded| recorded.bytes.to_vec()).collect();
        prop_assert_eq!(recompute(&bytes), world.state.mesh.chain());
        let unit = at.get_mut(&mut bytes[..]);
        let bit = bit.index(unit.len() * 8);
        unit[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(recompute(&bytes), world.state.mesh.chain());
    }

    /// There is one active cluster, only the floor's own command moves it and only up, and right below it is a
    /// checkpoint that says what the chain was.
    #[test]
    fn clusters_and_floor_are_as_they_may_be(steps in prop::collection::vec(step(), 1..60)) {
        play(&steps, |before, proposal, world, recorded| {
            let mesh = &world.state.mesh;
            let active = mesh.clusters_after(None).filter(|cluster| cluster.state == ClusterPhase::Active);
            assert_eq!(active.count(), 1);
            let floor = mesh.floor();
            assert!(floor >= before.mesh.floor());
            if floor > before.mesh.floor() {
                assert_eq!(proposal.command.handler().action(), "history.compact");
                assert!(floor <= recorded.unit.position.revision);
            }
            if floor > Revision(1) {
                let anchor = mesh.checkpoints_below(floor).next_back().unwrap();
                assert_eq!(anchor.revision.next(), floor);
                assert_eq!(anchor.hash, world.unit(anchor.revision).unwrap().chain);
            }
        });
    }

    /// Whatever happens, nothing that falls under a rule takes effect but in the commit of its last approval, given by
    /// as many others as the rule asked for.
    #[test]
    fn nothing_passes_its_rule(steps in prop::collection::vec(step(), 1..60)) {
        play(&steps, |before, proposal, world, recorded| {
            let asked = proposal.command.handler().approvers(&before.mesh);
            if asked != Approvers::None && matches!(recorded.unit.outcome, Outcome::Applied { .. }) {
                assert!(recorded.unit.changes().is_empty(), "{recorded:?}");
            }
            for approval in world.state.mesh.ended_approvals().filter(|one| one.state == ApprovalState::Approved) {
                let mut persons: Vec<_> = approval.decisions.iter().map(|decision| &decision.actor).collect();
                persons.sort_unstable();
                persons.dedup();
                assert!(persons.len() >= approval.approvers.count(), "{approval:?}");
                assert!(persons.iter().all(|person| *person != approval.requester()), "{approval:?}");
            }
        });
    }

    #[test]
    fn a_flipped_bit_in_a_record_is_found(
        steps in prop::collection::vec(step(), 1..20),
        at in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let (mut world, _) = play(&steps, |_, _, _, _| {});
        let head = world.state.head_row();
        let records = world.rows.get_mut(&Table::Records).unwrap();
        let key = at.get(&records.keys().cloned().collect::<Vec<_>>()).clone();
        let value = records.get_mut(&key).unwrap();
        let bit = bit.index(value.len() * 8);
        value[bit / 8] ^= 1 << (bit % 8);
        let mut loader = Loader::new();
        let mut read = || -> Result<(), LoadError> {
            for (table, rows) in &world.rows {
                for (key, value) in rows {
                    loader.row(*table, key, value)?;
                }
            }
            Ok(())
        };
        if read().is_ok() {
            let found = matches!(loader.finish(Some(&head)), Err(LoadError::Digest { .. }));
            prop_assert!(found);
        }
    }

    #[test]
    fn decoders_withstand_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Unit::decode(&bytes);
        let _ = Recorded::decode(&bytes);
        let _ = meshkit_statemachine::codec::decode::<Entry>(meshkit_statemachine::codec::Format::Entry, &bytes);
        let mut framed = vec![1, 1];
        framed.extend(&bytes);
        let _ = meshkit_statemachine::codec::decode::<Entry>(meshkit_statemachine::codec::Format::Entry, &framed);
    }
}

#[test]
fn replicated_units_have_to_follow() {
    let mut world = World::new();
    (1..4).for_each(|n| {
        world.run(register(n)).unwrap();
    });
    let units = units(&world);
    let entry = |at: usize| {
        Entry::Replicated(Replicated {
            unit: units[at].bytes.to_vec(),
            chain: units[at].chain,
        })
    };
    let mut passive = World::default();
    let gap = ReplicationRefused::Gap {
        expected: Revision(1),
        found: Revision(2),
    };
    assert!(matches!(passive.apply(&entry(1)), Answer::ReplicationRefused(refused) if refused == gap));
    assert!(matches!(passive.apply(&entry(0)), Answer::Recorded(_)));
    let gap = ReplicationRefused::Gap {
        expected: Revision(2),
        found: Revision(4),
    };
    assert!(matches!(passive.apply(&entry(3)), Answer::ReplicationRefused(refused) if refused == gap));
    let mut forged = units[1].clone();
    forged.unit.parent.timeline.0 ^= 1;
    let forged = Entry::Replicated(Replicated {
        unit: forged.unit.encode(),
        chain: forged.chain,
    });
    assert!(matches!(
        passive.apply(&forged),
        Answer::ReplicationRefused(ReplicationRefused::Diverged { .. })
    ));
    let mut forged = units[1].clone();
    forged.unit.action = "peers.forged".into();
    let forged = Entry::Replicated(Replicated {
        unit: forged.unit.encode(),
        chain: forged.chain,
    });
    assert!(matches!(
        passive.apply(&forged),
        Answer::ReplicationRefused(ReplicationRefused::Damaged(_))
    ));
    assert_eq!(
        passive.state.mesh.position().revision,
        Revision(1),
        "nothing was changed"
    );
}
