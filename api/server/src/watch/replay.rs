//! What happened before a watch, from history.

use std::{collections::VecDeque, sync::Arc};

use proto::codes::Code;
use raft::View;
use statemachine::{Position, Revision};

use super::{feed::Feed, frames::Event};
use crate::{
    Error,
    core::Core,
    cursor,
    history::{self, Chained, Wanted},
};

/// How many revisions are taken from the store at once.
const CHUNK: u64 = 256;
/// How many revisions one read looks at, where the watch selects nothing of them.
const LOOKED_AT_MAX: u64 = 4096;
/// How many bytes of messages one read brings, about.
const BYTES_MAX: usize = 512 * 1024;

/// A piece of the past.
pub(crate) struct Past {
    pub(crate) events: VecDeque<Arc<Event>>,
    /// Everything that the watch selects up to here is in `events`.
    pub(crate) upto: Position,
}

/// What comes after a position, or as much of it as is good at once: nothing where there is nothing yet.
///
/// # Errors
/// `compacted` and `diverged`: it cannot be gone on from there. Or history cannot be read.
pub(crate) async fn past(core: Arc<Core>, feed: Arc<Feed>, at: Position, request_id: String) -> Result<Past, Error> {
    let limit = usize::try_from(CHUNK).unwrap_or(usize::MAX);
    if let Some(units) = core.watches.recent(at, limit) {
        return Ok(selected(&feed, at, units));
    }
    let view = core.handle.view();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(core.config.deadlines.request_max_ms);
    let read = move |wanted: &Wanted| {
        check(at, &view)?;
        let mut past = Past {
            events: VecDeque::new(),
            upto: at,
        };
        let (mut bytes, mut looked_at) = (0, 0);
        while bytes < BYTES_MAX && looked_at < LOOKED_AT_MAX && !wanted.is_over() {
            let units = read(&view, past.upto.revision)?;
            if units.is_empty() {
                break;
            }
            looked_at += CHUNK;
            let more = selected(&feed, past.upto, units);
            bytes += more.events.iter().map(|event| event.cost()).sum::<usize>();
            past.events.extend(more.events);
            past.upto = more.upto;
        }
        Ok(past)
    };
    core.history.read(&request_id, deadline, read).await
}

/// Whether a watch can go on from a position in a view.
///
/// # Errors
/// `diverged`, `future` or `compacted`, which names the oldest position that can be gone on from.
pub(crate) fn check(at: Position, view: &View) -> Result<(), Error> {
    let anew = "begin anew with a snapshot; what happened in between cannot be told";
    // Before the first revision there is no timeline.
    if at.revision > Revision(0) {
        cursor::on_line(at, &view.state().mesh).map_err(|error| match error.code() {
            Code::Diverged => error.hint(anew),
            _ => error,
        })?;
    }
    let oldest = view.oldest();
    if at.revision.next() < oldest {
        return Err(cursor::compacted(at.revision, oldest).hint(anew));
    }
    Ok(())
}

/// The next revisions after one, up to the view's head.
///
/// # Errors
/// `compacted`, or history cannot be read.
pub(crate) fn read(view: &View, after: Revision) -> Result<Chained, Error> {
    let first = after.next();
    let last = Revision(after.0.saturating_add(CHUNK)).min(view.position().revision);
    if first > last {
        return Ok(Chained::new());
    }
    history::chained(view, first, last)
}

fn selected(feed: &Feed, after: Position, units: Chained) -> Past {
    let upto = units.last().map_or(after, |(recorded, _)| recorded.unit.position);
    let events = units
        .iter()
        .filter_map(|(recorded, previous)| feed.subject.event(recorded, *previous, &feed.mesh))
        .map(Arc::new)
        .collect();
    Past { events, upto }
}
