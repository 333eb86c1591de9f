//! `peers.drain_many`

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    drain_peer::{check_active_left, check_deadline, make_room, terms},
    room,
};
use crate::{
    Effects, Event, Handler, MeshState, OperationId, PeerId, Record, Rejection, Rule, View, check,
    plan::drain_peers::{self, Choice},
    record::{
        Approvers, Kind, Meta, Operation, OperationKind, OperationState, Selected, SelectedState, Selection, Terms,
    },
    selector::Selector,
};

/// The longest selector of such an operation, in bytes: it is part of the operation's record.
pub const SELECTOR_BYTES_MAX: usize = 512;

/// Drains all peers that a selector selects when this is committed, a few at a time, as one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainPeers {
    /// Which peers, by their labels.
    pub selector: String,
    /// The most that are drained at the same time.
    pub at_once: u32,
    /// How long all of it may take, in ms of mesh time from now.
    pub deadline_ms: Option<u64>,
    /// Do not wait for what cannot be moved, nor keep a cluster's last peers.
    pub forced: bool,
    /// Where it is not empty: exactly these peers have to be selected, in order of id.
    pub expected: Vec<PeerId>,
}

super::level_2!(DrainPeers);

impl DrainPeers {
    fn check_form(&self, mesh: &MeshState) -> Result<Selector, Rejection> {
        if self.selector.trim().is_empty() {
            let why = "name the peers by their labels: an empty selector would select every peer of the mesh";
            return Err(Rejection::invalid("selector", why));
        }
        if self.selector.len() > SELECTOR_BYTES_MAX {
            let why = format!(
                "{} bytes are over the limit of {SELECTOR_BYTES_MAX}",
                self.selector.len()
            );
            return Err(Rejection::invalid("selector", why));
        }
        let max = mesh.settings().drain_at_once_max;
        if !(1..=max).contains(&u64::from(self.at_once)) {
            let why = format!("{} is not within 1 to {max} (`limits.drain_at_once`)", self.at_once);
            return Err(Rejection::invalid("atOnce", why));
        }
        check_deadline(self.deadline_ms)?;
        Selector::parse(&self.selector)
    }

    fn check_choice(&self, view: &View<'_>, choice: &Choice) -> Result<(), Rejection> {
        let selected = choice.peers.len() as u64;
        view.check(check::SOMETHING_SELECTED, selected, 1, selected > 0, || {
            Rejection::NothingSelected {
                selector: self.selector.clone(),
                set_aside: choice.set_aside,
            }
        })?;
        let limit = view.mesh.settings().drain_peers_max;
        view.check(check::SELECTION_BELOW_LIMIT, selected, limit, selected <= limit, || {
            Rejection::SelectionTooLarge { selected, limit }
        })?;
        if self.expected.is_empty() {
            return Ok(());
        }
        let same = self.expected == choice.peers;
        let expected = self.expected.len() as u64;
        view.check(check::SELECTION_AS_EXPECTED, selected, expected, same, || {
            let differs =
                |ids: &[PeerId], others: &[PeerId]| ids.iter().find(|id| !others.contains(id)).map(ToString::to_string);
            let first = differs(&choice.peers, &self.expected).or_else(|| differs(&self.expected, &choice.peers));
            Rejection::SelectionChanged {
                selected,
                expected,
                first: first.unwrap_or_default(),
            }
        })
    }
}

impl Handler for DrainPeers {
    fn action(&self) -> &'static str {
        if self.forced {
            "peers.drain_many_forced"
        } else {
            "peers.drain_many"
        }
    }

    fn target(&self) -> Option<(Kind, String)> {
        None
    }

    fn subject(&self) -> String {
        let mut subject = format!("peers/{}", self.selector);
        subject.truncate(subject.floor_char_boundary(SELECTOR_BYTES_MAX));
        subject
    }

    fn level(&self) -> u32 {
        2
    }

    /// Draining several is no way around those who have to agree to the drain of one.
    fn approvers(&self, mesh: &MeshState) -> Approvers {
        let settings = mesh.settings();
        let one = settings.approvers("peers.drain");
        one.max(settings.approvers("peers.drain_many"))
            .max(settings.approvers(self.action()))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::FORM,
            check::SOMETHING_SELECTED,
            check::SELECTION_BELOW_LIMIT,
            check::SELECTION_AS_EXPECTED,
            check::OPERATIONS_BELOW_LIMIT,
            check::ACTIVE_PEERS_LEFT,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let selector = self.check_form(view.mesh);
        view.check_form(check::FORM, selector.as_ref().map(|_| ()).map_err(Clone::clone))?;
        let choice = drain_peers::choose(view.mesh, &selector?);
        self.check_choice(view, &choice)?;
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
        if !self.forced {
            let going: BTreeSet<&PeerId> = choice.peers.iter().collect();
            check_active_left(view, &going, drain_peers::needed(view.mesh))?;
            super::show_held(view, going)?;
        }
        let operation = self.operation(view, choice.peers);
        Ok(make_room(view, 1)
            .event(Event::OperationStarted(operation.id.clone()))
            .put(Record::Operation(operation.into())))
    }
}

impl DrainPeers {
    fn operation(&self, view: &View<'_>, peers: Vec<PeerId>) -> Operation {
        let waiting = |peer| Selected {
            peer,
            state: SelectedState::Waiting,
            operation: None,
        };
        let total = peers.len();
        let selection = Selection {
            selector: self.selector.clone(),
            at_once: self.at_once,
            round: 0,
            peers: peers.into_iter().map(waiting).collect(),
        };
        Operation {
            id: OperationId::at(view.position),
            kind: OperationKind::DrainPeers(selection.into()),
            state: OperationState::Running,
            steps: drain_peers::steps(total, self.at_once),
            done: 0,
            total: u32::try_from(total).unwrap_or(u32::MAX),
            detail: "waits for the leader's controller to begin".to_owned(),
            actor: view.origin.actor.clone(),
            reason: view.origin.reason.clone(),
            ticket: view.origin.ticket.clone(),
            finished_wall_ms: None,
            meta: Meta::default(),
            terms: Terms {
                waiting_since_wall_ms: Some(view.stamp.wall_ms),
                ..terms(view, self.deadline_ms, self.forced)
            },
        }
    }
}
