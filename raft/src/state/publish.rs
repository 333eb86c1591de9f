//! How what was applied reaches readers: one view and one broadcast per batch.

use std::sync::Arc;

use arc_swap::ArcSwap;
use statemachine::{Recorded, State};
use tokio::sync::{broadcast, watch};

use crate::state::history::History;
use crate::traces::Traces;
use crate::types::LogId;
use crate::view::{Published, View};

/// Where readers look.
#[derive(Clone)]
pub(crate) struct Publisher {
    view: Arc<ArcSwap<Published>>,
    applied: Arc<watch::Sender<Option<u64>>>,
    units: broadcast::Sender<Arc<Recorded>>,
    traces: Traces,
}

impl Publisher {
    pub(crate) fn new(state: State, applied: Option<LogId>, history: History, capacity: usize) -> Self {
        let applied_index = applied.map(|id| id.index);
        let published = Published {
            state,
            applied_index,
            history,
        };
        Self {
            view: Arc::new(ArcSwap::from_pointee(published)),
            applied: Arc::new(watch::Sender::new(applied_index)),
            units: broadcast::Sender::new(capacity.max(1)),
            traces: Traces::default(),
        }
    }

    /// Publishes the state after a batch, then what happened in it.
    pub(crate) fn publish(&self, state: State, applied: Option<LogId>, history: History, units: Vec<Arc<Recorded>>) {
        let applied_index = applied.map(|id| id.index);
        self.view.store(Arc::new(Published {
            state,
            applied_index,
            history,
        }));
        self.applied.send_replace(applied_index);
        for unit in units {
            // Nobody may be listening.
            self.units.send(unit).ok();
        }
    }

    pub(crate) fn view(&self) -> View {
        View {
            inner: self.view.load_full(),
        }
    }

    /// Proposals of this node that are part of traces.
    pub(crate) fn traces(&self) -> &Traces {
        &self.traces
    }

    /// The log index of the last entry that a view contains.
    pub(crate) fn applied(&self) -> watch::Receiver<Option<u64>> {
        self.applied.subscribe()
    }

    pub(crate) fn units(&self) -> broadcast::Receiver<Arc<Recorded>> {
        self.units.subscribe()
    }
}
