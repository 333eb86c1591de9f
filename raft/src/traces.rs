//! The spans of proposals that are on their way on this node, so that their application is part of the same trace.
//!
//! Whoever collects traces lets the target [`TARGET`] through; where nobody does, nothing is kept here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use statemachine::Entry;
use tracing::Span;

/// The target of spans that are made for traces and for nothing else.
pub const TARGET: &str = "meshkit::trace";

/// Proposals that are followed at once; further ones are applied outside of their traces.
const FOLLOWED_MAX: usize = 4096;

/// Spans by request id.
#[derive(Clone, Default)]
pub(crate) struct Traces(Arc<Inner>);

#[derive(Default)]
struct Inner {
    spans: Mutex<HashMap<String, Span>>,
    /// How many there are: looked at for every entry that is applied.
    count: AtomicUsize,
}

/// A proposal that is followed until this is dropped.
pub(crate) struct Followed {
    traces: Traces,
    request_id: String,
}

/// The span of a proposal that is made for a request; a disabled one for what the node proposes by itself.
pub(crate) fn proposing() -> Span {
    let current = Span::current();
    if current.metadata().is_some_and(|of| of.target() == TARGET) {
        tracing::error_span!(target: TARGET, "propose")
    } else {
        Span::none()
    }
}

impl Traces {
    /// Follows a proposal, where anybody collects traces. Never blocks for long, never grows beyond its bound.
    pub(crate) fn follow(&self, entry: &Entry, span: &Span) -> Option<Followed> {
        let request_id = request_of(entry).filter(|_| !span.is_disabled())?;
        let mut spans = self.0.spans.lock();
        if spans.len() >= FOLLOWED_MAX || spans.contains_key(request_id) {
            return None;
        }
        spans.insert(request_id.to_owned(), span.clone());
        self.0.count.store(spans.len(), Ordering::Relaxed);
        Some(Followed {
            traces: self.clone(),
            request_id: request_id.to_owned(),
        })
    }

    /// The span in which an entry is applied; a disabled one where its proposal is not followed here.
    pub(crate) fn applying(&self, entry: &Entry, log_index: u64) -> Span {
        if self.0.count.load(Ordering::Relaxed) == 0 {
            return Span::none();
        }
        let followed = request_of(entry).and_then(|request_id| self.0.spans.lock().get(request_id).cloned());
        match followed {
            Some(parent) => tracing::error_span!(target: TARGET, parent: &parent, "apply", log_index),
            None => Span::none(),
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let mut spans = self.traces.0.spans.lock();
        spans.remove(&self.request_id);
        self.traces.0.count.store(spans.len(), Ordering::Relaxed);
    }
}

fn request_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Command(proposal) => Some(proposal.origin.request_id.as_str()).filter(|id| !id.is_empty()),
        Entry::Replicated(_) | Entry::Cluster(_) => None,
    }
}
