//! The one door into the state.
//!
//! `apply` takes an entry and the state, and nothing else: no clock, no randomness, no IO. Every node that applies the
//! same entries in the same order has the same state, however the entries were batched.

use std::sync::Arc;

use crate::{
    Change, Checks, Conditions, Effects, Entry, Event, Handler, Hash, Idempotency, MeshState, Origin, Outcome,
    Position, Preview, Proposal, Recorded, RecoverMesh, Rejection, Replicated, ReplicationRefused, RestoreMesh,
    Revision, Rule, Stamp, State, TimelineId, Unit, View, audit, check, cluster,
    command::Command,
    idempotency::Verdict,
    record::{Kind, Meta},
    rows::RowChange,
    staging::{self, Staged},
};

/// The most records that one entry may change.
pub const CHANGES_MAX: usize = 1000;
/// The most bytes that one entry's unit may have.
pub const UNIT_BYTES_MAX: usize = 1024 * 1024;

/// What came of an entry, and the rows that store it.
#[derive(Debug)]
pub struct Applied {
    /// What came of it.
    pub answer: Answer,
    /// What has to be stored, together with [`State::head_row`].
    pub rows: Vec<RowChange>,
}

/// What came of an entry.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It took a revision; the unit says whether it took effect.
    Recorded(Arc<Recorded>),
    /// It took no revision, because the mesh is not initialized.
    Refused(Rejection),
    /// A replicated unit that is part of the state already.
    AlreadyHere,
    /// A replicated unit that does not fit.
    ReplicationRefused(ReplicationRefused),
    /// A change of the cluster partition.
    Cluster(cluster::Outcome),
}

/// Applies one entry.
pub fn apply(state: &mut State, entry: &Entry) -> Applied {
    let mut rows = Vec::new();
    let answer = match entry {
        Entry::Command(proposal) => command(&mut state.mesh, proposal, &mut rows, Run::ToCommit),
        Entry::Replicated(replicated) => repeat(&mut state.mesh, replicated, &mut rows),
        Entry::Cluster(command) => Answer::Cluster(state.cluster.apply(command, &mut rows)),
    };
    Applied { answer, rows }
}

/// What a command would come to once everybody agrees who has to: the same code, on a clone.
#[must_use]
pub fn dry_run(state: &State, proposal: &Proposal) -> Answer {
    command(&mut state.mesh.clone(), proposal, &mut Vec::new(), Run::ToShow(None))
}

/// The same with every check that was made on the way.
#[must_use]
pub fn preview(state: &State, proposal: &Proposal) -> Preview {
    let checks = Checks::default();
    let answer = command(
        &mut state.mesh.clone(),
        proposal,
        &mut Vec::new(),
        Run::ToShow(Some(&checks)),
    );
    let checks = checks.into_inner();
    let is_made = |rule: &Rule| checks.iter().any(|check| *check.rule == *rule);
    let rules = proposal.command.handler().rules().iter();
    let not_made = rules.filter(|rule| !is_made(rule)).copied().collect();
    Preview {
        answer,
        checks,
        not_made,
        approvers: staging::asked(&state.mesh, proposal),
    }
}

/// What a command is run for.
#[derive(Clone, Copy)]
enum Run<'a> {
    /// To take effect, or to wait for who has to agree.
    ToCommit,
    /// To show what it would do, with the checks where somebody wants to see them.
    ToShow(Option<&'a Checks>),
}

fn command(mesh: &mut MeshState, proposal: &Proposal, rows: &mut Vec<RowChange>, run: Run<'_>) -> Answer {
    let Proposal {
        stamp,
        origin,
        conditions: _,
        command,
    } = proposal;
    let Some(position) = next_position(mesh, command) else {
        return Answer::Refused(Rejection::MeshNotInitialized);
    };
    let stamp = Stamp {
        mesh_time_ms: stamp.mesh_time_ms.max(mesh.stamp.mesh_time_ms),
        wall_ms: stamp.wall_ms,
    };
    let handler = command.handler();
    let view = View {
        mesh,
        position,
        stamp,
        origin,
        checks: match run {
            Run::ToCommit => None,
            Run::ToShow(checks) => checks,
        },
    };
    let outcome = decide(&view, proposal, run)
        .and_then(|decision| outcome(&view, decision))
        .unwrap_or_else(Outcome::Rejected);
    let target = handler
        .target()
        .map_or_else(|| handler.subject(), |(kind, id)| format!("{}/{id}", kind.word()));
    let action = handler.action().to_owned();
    let mut unit = Unit {
        position: taken(mesh, position, &outcome),
        parent: mesh.position,
        stamp,
        origin: bounded(origin),
        action,
        target,
        outcome,
    };
    let mut bytes = unit.encode();
    if bytes.len() > UNIT_BYTES_MAX {
        let measured = bytes.len() as u64;
        let what = "bytes changed by one command".to_owned();
        let limit = UNIT_BYTES_MAX as u64;
        unit.outcome = Outcome::Rejected(Rejection::ResourceExhausted { what, measured, limit });
        unit.position = taken(mesh, position, &unit.outcome);
        bytes = unit.encode();
    }
    Answer::Recorded(Arc::new(mesh.commit(unit, bytes, rows)))
}

/// The position that a command takes if it takes effect: the next on the timeline or on the one that it begins, or the
/// first of the mesh. None before that.
fn next_position(mesh: &MeshState, command: &Command) -> Option<Position> {
    let timeline = match (mesh.mesh(), command) {
        (None, Command::InitMesh(init)) => init.timeline,
        (None, _) => return None,
        (
            Some(_),
            Command::RestoreMesh(RestoreMesh { timeline, .. }) | Command::RecoverMesh(RecoverMesh { timeline, .. }),
        ) => *timeline,
        (Some(_), _) => mesh.position.timeline,
    };
    Some(Position {
        timeline,
        revision: mesh.position.revision.next(),
    })
}

/// The position that a unit has: only what took effect begins a timeline.
fn taken(mesh: &MeshState, position: Position, outcome: &Outcome) -> Position {
    match outcome {
        Outcome::Rejected(_) | Outcome::Replayed { .. } if mesh.mesh().is_some() => Position {
            timeline: mesh.position.timeline,
            ..position
        },
        Outcome::Applied { .. } | Outcome::Staged { .. } | Outcome::Rejected(_) | Outcome::Replayed { .. } => position,
    }
}

enum Decision {
    Do(Staged),
    Replay(Revision),
}

fn outcome(view: &View<'_>, decision: Decision) -> Result<Outcome, Rejection> {
    match decision {
        Decision::Do(Staged::Not(effects)) => {
            let (changes, events) = changes(view, effects)?;
            Ok(Outcome::Applied { changes, events })
        }
        Decision::Do(Staged::As(approval, effects)) => {
            let (changes, events) = changes(view, effects)?;
            Ok(Outcome::Staged {
                approval,
                changes,
                events,
            })
        }
        Decision::Replay(of) => Ok(Outcome::Replayed { of }),
    }
}

/// Idempotency, then ETag, then the handler's own rules; and then whether somebody has to agree.
fn decide(view: &View<'_>, proposal: &Proposal, run: Run<'_>) -> Result<Decision, Rejection> {
    let (command, conditions) = (&proposal.command, &proposal.conditions);
    let handler = command.handler();
    let (needed, current) = (handler.level(), view.mesh.feature_level());
    view.check(check::FEATURE_LEVEL_REACHED, current, needed, needed <= current, || {
        Rejection::FeatureLevelTooLow { needed, current }
    })?;
    check_origin(view.origin)?;
    if let Some(given) = &view.origin.idempotency {
        let settings = view.mesh.settings();
        match view
            .mesh
            .idempotency
            .judge(&view.origin.actor, given, view.stamp.mesh_time_ms, settings)
        {
            Verdict::New { .. } => {}
            Verdict::Seen(of) => return Ok(Decision::Replay(of)),
            Verdict::Refused(rejection) => return Err(rejection),
        }
    }
    check_conditions(view, handler, conditions)?;
    let effects = handler.validate(view)?;
    Ok(Decision::Do(match run {
        Run::ToCommit => staging::stage(view, command, conditions, effects)?,
        Run::ToShow(_) => Staged::Not(effects),
    }))
}

fn check_origin(origin: &Origin) -> Result<(), Rejection> {
    let longest = [
        ("reason", origin.reason.len(), Origin::REASON_BYTES_MAX),
        ("ticket", origin.ticket.len(), Origin::TICKET_BYTES_MAX),
    ];
    for (field, length, limit) in longest {
        if length > limit {
            return Err(Rejection::invalid(
                field,
                format!("{length} bytes are over the limit of {limit}"),
            ));
        }
    }
    if !origin.idempotency.as_ref().is_none_or(is_key) {
        let limit = Idempotency::KEY_BYTES_MAX;
        return Err(Rejection::invalid(
            "idempotencyKey",
            format!("1 to {limit} bytes without NUL"),
        ));
    }
    Ok(())
}

fn is_key(given: &Idempotency) -> bool {
    (1..=Idempotency::KEY_BYTES_MAX).contains(&given.key.len()) && !given.key.contains('\0')
}

/// The origin as it is recorded: nothing in it is longer than its limit, whoever proposed it.
fn bounded(origin: &Origin) -> Origin {
    let mut origin = origin.clone();
    truncate(&mut origin.reason, Origin::REASON_BYTES_MAX);
    truncate(&mut origin.ticket, Origin::TICKET_BYTES_MAX);
    // A key that is refused for its form is not recorded: cut short, it could stand for another one.
    origin.idempotency = origin.idempotency.filter(is_key);
    origin
}

fn truncate(text: &mut String, limit: usize) {
    text.truncate(text.floor_char_boundary(limit));
}

fn check_conditions(view: &View<'_>, handler: &dyn Handler, conditions: &Conditions) -> Result<(), Rejection> {
    let Conditions {
        if_match,
        if_absent,
        if_revision,
    } = conditions;
    let current = view.mesh.position.revision;
    if let Some(given) = *if_revision {
        view.check(check::REVISION_IS, current, given, given == current, || {
            Rejection::RevisionMismatch { given, current }
        })?;
    }
    let Some((kind, id)) = handler.target() else {
        return Ok(());
    };
    let current = view.mesh.meta(kind, &id).as_ref().map(Meta::etag);
    if let Some(given) = if_match {
        let matches = current.is_some_and(|current| given == "*" || *given == current.to_string());
        let mut given = given.clone();
        truncate(&mut given, 128);
        let measured = current.map_or_else(|| "no record".to_owned(), |etag| etag.to_string());
        view.check(check::ETAG_IS, measured, given.clone(), matches, || {
            Rejection::EtagMismatch { given, current }
        })?;
    }
    if !*if_absent {
        return Ok(());
    }
    let Some(current) = current else {
        return view.check(check::RECORD_ABSENT, 0, 0, true, || Rejection::MeshNotInitialized);
    };
    view.check(check::RECORD_ABSENT, 1, 0, false, || Rejection::AlreadyExists {
        kind: kind.word().to_owned(),
        id,
        current,
    })
}

/// Turns effects into changes: before and after, with version and times stamped. What does not differ is no change.
fn changes(view: &View<'_>, effects: Effects) -> Result<(Vec<Change>, Vec<Event>), Rejection> {
    let Effects { puts, deletes, events } = effects;
    let measured = puts.len() + deletes.len();
    if measured > CHANGES_MAX {
        let what = "records changed by one command".to_owned();
        return Err(Rejection::ResourceExhausted {
            what,
            measured: measured as u64,
            limit: CHANGES_MAX as u64,
        });
    }
    let mut changes = Vec::with_capacity(measured);
    for mut after in puts {
        let before = view.mesh.record(after.kind(), &after.id());
        after.set_meta(next_meta(view, before.as_ref().map(|record| record.meta())));
        after.set_epoch(view.mesh.epoch());
        changes.push(Change {
            before,
            after: Some(after),
        });
    }
    for (kind, id) in deletes {
        if let Some(before) = view.mesh.record(kind, &id) {
            changes.push(Change {
                before: Some(before),
                after: None,
            });
        }
    }
    Ok((changes, events))
}

fn next_meta(view: &View<'_>, before: Option<&Meta>) -> Meta {
    let first = Meta {
        version: 0,
        created: view.position,
        changed: view.position,
        created_wall_ms: view.stamp.wall_ms,
        changed_wall_ms: view.stamp.wall_ms,
    };
    let before = before.copied().unwrap_or(first);
    Meta {
        version: before.version.saturating_add(1),
        changed: view.position,
        changed_wall_ms: view.stamp.wall_ms,
        ..before
    }
}

/// Repeats what another cluster's apply decided.
fn repeat(mesh: &mut MeshState, replicated: &Replicated, rows: &mut Vec<RowChange>) -> Answer {
    let unit = match Unit::decode(&replicated.unit) {
        Ok(unit) => unit,
        Err(error) => return Answer::ReplicationRefused(ReplicationRefused::Damaged(error.to_string())),
    };
    let here = mesh.position;
    if unit.position.timeline == here.timeline && unit.position.revision <= here.revision {
        return Answer::AlreadyHere;
    }
    if let Err(refused) = follows(here, &unit) {
        return Answer::ReplicationRefused(refused);
    }
    let chain: Hash = audit::extend(mesh.chain, &replicated.unit);
    if chain != replicated.chain {
        let why = format!("the chain here comes to {chain}, at the origin to {}", replicated.chain);
        return Answer::ReplicationRefused(ReplicationRefused::Damaged(why));
    }
    Answer::Recorded(Arc::new(mesh.commit(unit, replicated.unit.clone(), rows)))
}

fn follows(here: Position, unit: &Unit) -> Result<(), ReplicationRefused> {
    if unit.parent == here {
        return Ok(());
    }
    let same_line = unit.parent.timeline == here.timeline || here.timeline == TimelineId::default();
    if same_line && unit.parent.revision > here.revision {
        let found = unit.position.revision;
        return Err(ReplicationRefused::Gap {
            expected: here.revision.next(),
            found,
        });
    }
    Err(ReplicationRefused::Diverged {
        expected: here.timeline,
        found: unit.parent.timeline,
        at: here.revision,
    })
}

/// The kind and id that an audit target names: `peer/p1`.
#[must_use]
pub fn target_of(kind: Kind, id: &str) -> String {
    format!("{}/{id}", kind.word())
}
