//! Whether a node asks for votes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::health::{Soundness, unfit_to_lead};
use crate::node::Raft;
use crate::recovery::Recovery;
use crate::status::Status;

/// What decides whether this node campaigns.
pub(crate) struct Campaign {
    pub raft: Raft,
    pub soundness: Soundness,
    pub recovery: Arc<Recovery>,
    /// A node that had better not lead leaves it to others for this long, and then campaigns all the same: it may be
    /// the only one that can.
    pub patience: Duration,
    pub heard: Arc<Heard>,
}

/// When a leader was heard from last. openraft goes on naming a leader that is gone until somebody else campaigns.
pub(crate) struct Heard(Mutex<Instant>);

impl Heard {
    /// As if one had been heard from just now.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// A leader was heard from.
    pub(crate) fn note(&self) {
        *self.0.lock() = Instant::now();
    }

    /// For how long none was, or this node itself did not lead a majority.
    pub(crate) fn silence(&self) -> Duration {
        self.0.lock().elapsed()
    }
}

impl Campaign {
    /// Has openraft campaign, or not.
    pub(crate) fn update(&self, status: &Status) {
        let Soundness { own, health, publisher } = &self.soundness;
        let view = publisher.view();
        let cluster = &view.state().cluster;
        let fit = |node| unfit_to_lead(cluster, node).is_none();
        let others = status
            .members
            .iter()
            .filter(|member| member.voter && member.node != *own);
        let own = fit(*own) && !health.is_short();
        let leaves_it = !own && others.map(|member| member.node).any(fit);
        if status.is_leader() && status.quorum.ok {
            self.heard.note();
        }
        let campaigns = !self.recovery.is_recovering()
            && self.soundness.corrupt().is_none()
            && (!leaves_it || self.heard.silence() >= self.patience);
        self.raft.runtime_config().elect(campaigns);
    }
}
