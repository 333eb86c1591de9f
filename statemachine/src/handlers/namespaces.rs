//! `namespaces.create`, `namespaces.set_policy`, `namespaces.delete`

use serde::{Deserialize, Serialize};

use super::{drain_peer::make_room, namespace, room};
use crate::{
    Effects, Event, Handler, NamespaceId, OperationId, Record, Rejection, Rule, View, check,
    record::{
        Kind, Meta, Namespace, NamespacePhase, NamespacePolicy, NamespaceSpec, Operation, OperationKind,
        OperationState, Phase, ShardStatus, Step, Terms,
    },
};

/// Makes a namespace. Its shards are made by an operation that begins with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateNamespace {
    /// Unique in the mesh.
    pub id: NamespaceId,
    /// What is said about it.
    pub spec: NamespaceSpec,
}

/// Changes what the moves of a namespace are held to. Those that run go on as they began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetNamespacePolicy {
    /// The namespace.
    pub id: NamespaceId,
    /// What its moves are held to from now on.
    pub policy: NamespacePolicy,
}

/// Takes a namespace away, with all its shards, by an operation. Unless it is forced, every shard has to be disabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteNamespace {
    /// The namespace.
    pub id: NamespaceId,
    /// Although shards are served.
    pub forced: bool,
}

super::level_2!(CreateNamespace, SetNamespacePolicy, DeleteNamespace);

impl Handler for CreateNamespace {
    fn action(&self) -> &'static str {
        "namespaces.create"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Namespace, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::FORM,
            check::RECORD_ABSENT,
            check::NAMESPACES_BELOW_LIMIT,
            check::SHARDS_BELOW_LIMIT,
            check::OPERATIONS_BELOW_LIMIT,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        view.check_form(check::FORM, self.spec.check())?;
        let taken = view.mesh.namespace(&self.id).map(|there| Rejection::AlreadyExists {
            kind: "namespace".to_owned(),
            id: self.id.to_string(),
            current: there.meta.etag(),
        });
        view.check_form(check::RECORD_ABSENT, taken.map_or(Ok(()), Err))?;
        let settings = view.mesh.settings();
        let (measured, limit) = (view.mesh.namespace_count(), settings.namespaces_max);
        room(view, check::NAMESPACES_BELOW_LIMIT, "namespaces", measured, limit)?;
        // What other namespaces will have when they are whole counts too.
        let promised = view.mesh.namespaces_after(None);
        let promised: u64 = promised.map(|other| u64::from(other.spec.shards)).sum();
        let (measured, limit) = (promised + u64::from(self.spec.shards), settings.shards_max);
        let exhausted = || Rejection::ResourceExhausted {
            what: "shards".to_owned(),
            measured,
            limit,
        };
        view.check(check::SHARDS_BELOW_LIMIT, measured, limit, measured <= limit, exhausted)?;
        let steps = ["make its shards"];
        let (effects, operation) = begin(view, &self.id, &steps, self.spec.shards)?;
        let namespace = Namespace {
            id: self.id.clone(),
            spec: self.spec.clone(),
            phase: NamespacePhase::Creating,
            operation: Some(operation),
            target: None,
            ticket: view.origin.ticket.clone(),
            meta: Meta::default(),
        };
        Ok(effects
            .put(Record::Namespace(namespace.into()))
            .event(Event::NamespaceCreated(self.id.clone())))
    }
}

impl Handler for SetNamespacePolicy {
    fn action(&self) -> &'static str {
        "namespaces.set_policy"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Namespace, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::NAMESPACE_EXISTS, check::FORM]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = namespace(view, &self.id)?;
        let spec = NamespaceSpec {
            policy: self.policy,
            ..before.spec.clone()
        };
        view.check_form(check::FORM, spec.check())?;
        if spec == before.spec {
            return Ok(Effects::unchanged());
        }
        let after = Namespace {
            spec,
            ticket: view.origin.ticket.clone(),
            ..before.clone()
        };
        Ok(Effects::default()
            .put(Record::Namespace(after.into()))
            .event(Event::NamespaceChanged(self.id.clone())))
    }
}

impl Handler for DeleteNamespace {
    fn action(&self) -> &'static str {
        if self.forced {
            "namespaces.delete_forced"
        } else {
            "namespaces.delete"
        }
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Namespace, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::NAMESPACE_EXISTS,
            check::NAMESPACE_AT_REST,
            check::NAMESPACE_UNUSED,
            check::OPERATIONS_BELOW_LIMIT,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = namespace(view, &self.id)?;
        if before.phase == NamespacePhase::Deleting {
            return Ok(Effects::unchanged());
        }
        at_rest(view, before)?;
        let served =
            view.mesh.shards_of(&self.id).count() as u64 - view.mesh.shards_in(&self.id, ShardStatus::Disabled);
        let unused = served == 0 || self.forced;
        view.check(check::NAMESPACE_UNUSED, served, 0, unused, || {
            Rejection::NamespaceInUse {
                namespace: self.id.clone(),
                served,
            }
        })?;
        let (effects, operation) = begin(view, &self.id, &["take its shards away"], before.spec.shards)?;
        let after = Namespace {
            phase: NamespacePhase::Deleting,
            operation: Some(operation),
            ticket: view.origin.ticket.clone(),
            ..before.clone()
        };
        Ok(effects.put(Record::Namespace(after.into())))
    }
}

/// Refuses where an operation works on the namespace.
pub(super) fn at_rest(view: &View<'_>, namespace: &Namespace) -> Result<(), Rejection> {
    let rests = namespace.phase == NamespacePhase::Active;
    view.check(
        check::NAMESPACE_AT_REST,
        namespace.phase.word(),
        "active",
        rests,
        || Rejection::NamespaceBusy {
            namespace: namespace.id.clone(),
            phase: namespace.phase,
            operation: namespace.operation.clone(),
        },
    )
}

/// Begins an operation that walks over the shards of a namespace.
pub(super) fn begin(
    view: &View<'_>,
    namespace: &NamespaceId,
    steps: &[&str],
    total: u32,
) -> Result<(Effects, OperationId), Rejection> {
    let (measured, limit) = (
        view.mesh.operations_running(),
        view.mesh.settings().operations_running_max,
    );
    room(
        view,
        check::OPERATIONS_BELOW_LIMIT,
        "running operations",
        measured,
        limit,
    )?;
    let id = OperationId::at(view.position);
    let steps = steps.iter().enumerate().map(|(at, name)| Step {
        name: (*name).to_owned(),
        phase: if at == 0 { Phase::Active } else { Phase::Pending },
    });
    let operation = Operation {
        id: id.clone(),
        kind: OperationKind::ShapeNamespace(namespace.clone()),
        state: OperationState::Running,
        steps: steps.collect(),
        done: 0,
        total,
        detail: String::new(),
        actor: view.origin.actor.clone(),
        reason: view.origin.reason.clone(),
        ticket: view.origin.ticket.clone(),
        finished_wall_ms: None,
        meta: Meta::default(),
        terms: Terms::default(),
    };
    let effects = make_room(view, 1)
        .put(Record::Operation(operation.into()))
        .event(Event::OperationStarted(id.clone()));
    Ok((effects, id))
}
