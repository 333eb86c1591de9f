//! Counts how moves of shards end, from what the node applies: the state knows only those that are under way.

use std::sync::Arc;

use prometheus_client::metrics::{counter::Counter, family::Family};
use statemachine::{Event, Outcome, Recorded};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::metrics::MoveLabels;

/// Reads the broadcast of applied units until the server stops. What is lost to a slow reader is not counted.
pub(crate) async fn count(
    moves: Family<MoveLabels, Counter>,
    mut units: broadcast::Receiver<Arc<Recorded>>,
    stop: CancellationToken,
) {
    loop {
        let received = tokio::select! {
            received = units.recv() => received,
            () = stop.cancelled() => return,
        };
        match received {
            Ok(recorded) => {
                for end in ends(&recorded) {
                    moves.get_or_create(&MoveLabels { end }).inc();
                }
            }
            Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "ends of moves may not have been counted"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// How each move ended that a unit has ended.
fn ends(recorded: &Recorded) -> impl Iterator<Item = &'static str> {
    let unit = &recorded.unit;
    let events = match &unit.outcome {
        Outcome::Applied { events, .. } => events.as_slice(),
        Outcome::Rejected(_) | Outcome::Replayed { .. } | Outcome::Staged { .. } => &[],
    };
    let given_up = match unit.action.as_str() {
        "shards.time_out" => "timed_out",
        _ => "cancelled",
    };
    events.iter().filter_map(move |event| match event {
        Event::ShardMoved { .. } => Some("moved"),
        Event::ShardMoveGivenUp { .. } => Some(given_up),
        _ => None,
    })
}
