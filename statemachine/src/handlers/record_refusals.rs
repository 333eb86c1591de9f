//! `audit.refusals`: requests that were refused before they became commands.

use serde::{Deserialize, Serialize};

use crate::{Effects, Event, Handler, Rejection, View, event::Refusal, record::Kind};

/// The most refusals of one command.
pub const REFUSALS_MAX: usize = 256;

/// Puts refusals into the trail, many at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRefusals {
    /// Each refusal that is recorded.
    pub refusals: Vec<Refusal>,
    /// How many more there were.
    pub suppressed: u64,
}

impl Handler for RecordRefusals {
    fn action(&self) -> &'static str {
        "audit.refusals"
    }

    fn target(&self) -> Option<(Kind, String)> {
        None
    }

    fn validate(&self, _view: &View<'_>) -> Result<Effects, Rejection> {
        if self.refusals.len() > REFUSALS_MAX {
            return Err(Rejection::invalid(
                "refusals",
                format!("at most {REFUSALS_MAX} at a time"),
            ));
        }
        Ok(Effects::default().event(Event::RequestsRefused {
            refusals: self.refusals.clone(),
            suppressed: self.suppressed,
        }))
    }
}
