//! Lists page over one revision: the first page picks it, later pages show the mesh as it was then, on any node.
//!
//! A node keeps the state of a list that it has begun for a while (a clone of persistent maps), so that the next page
//! costs as much as the first. Where it has none - another node answered the first page, or time has passed - the
//! state is rebuilt from history.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use raft::View;
use statemachine::{MeshState, Position, Revision};
use tokio::time::Instant;

use crate::{
    Error,
    context::Call,
    core::Core,
    cursor::{self, Cursor, Filter},
    history::{self, Wanted},
};

/// The most bytes of items on a page, encoded: half of what gRPC clients take in one message by default.
pub(crate) const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// States of lists that have been begun, oldest first.
pub(crate) struct Pins {
    kept: Mutex<VecDeque<Pin>>,
    max: usize,
    keep: Duration,
}

struct Pin {
    position: Position,
    mesh: MeshState,
    until: Instant,
}

impl Pins {
    pub(crate) fn new(max: usize, keep: Duration) -> Self {
        Self {
            kept: Mutex::default(),
            max,
            keep,
        }
    }

    fn get(&self, position: Position) -> Option<MeshState> {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        kept.retain(|pin| pin.until > now);
        let pin = kept.iter_mut().find(|pin| pin.position == position)?;
        pin.until = now + self.keep;
        Some(pin.mesh.clone())
    }

    fn put(&self, position: Position, mesh: &MeshState) {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        kept.retain(|pin| pin.until > now && pin.position != position);
        if kept.len() >= self.max {
            kept.pop_front();
        }
        if self.max > 0 {
            kept.push_back(Pin {
                position,
                mesh: mesh.clone(),
                until: now + self.keep,
            });
        }
    }
}

/// What a page answers: two that answer the same show the same at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) filter: Filter,
    /// The last item of the page before.
    pub(crate) after: Option<String>,
    /// The most items.
    pub(crate) limit: usize,
}

/// One page that is being made.
pub(crate) struct Page {
    /// The view that was read; history is read through it.
    pub(crate) view: View,
    /// What all pages of the list show.
    pub(crate) position: Position,
    /// The last item of the page before.
    pub(crate) after: Option<String>,
    /// The most items.
    pub(crate) limit: usize,
    filter: Filter,
}

impl Page {
    /// Reads `limit` and `cursor` of a list request against a fresh view.
    ///
    /// # Errors
    /// `invalid_argument` for the limit, and all that can be wrong with a cursor.
    pub(crate) fn begin(core: &Core, view: View, limit: u32, token: &str, filter: Filter) -> Result<Self, Error> {
        let limits = &core.config.limits;
        let limit = match limit {
            0 => limits.page_items_default,
            given if given <= limits.page_items_max => given,
            _ => {
                return Err(Error::invalid(
                    "limit",
                    format!("at most {} items are on a page", limits.page_items_max),
                ));
            }
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let position = view.position();
        if token.is_empty() {
            return Ok(Self {
                view,
                position,
                after: None,
                limit,
                filter,
            });
        }
        let Cursor { position, last } = Cursor::decode(token, core.mesh(), filter)?;
        cursor::check(position, &view.state().mesh)?;
        Ok(Self {
            view,
            position,
            after: Some(last),
            limit,
            filter,
        })
    }

    /// The mesh as all pages show it.
    ///
    /// # Errors
    /// History cannot be read in time.
    pub(crate) async fn mesh(&self, core: &Core, call: &Call) -> Result<MeshState, Error> {
        if self.view.position() == self.position {
            return Ok(self.view.state().mesh.clone());
        }
        if let Some(mesh) = core.pins.get(self.position) {
            return Ok(mesh);
        }
        let (view, revision) = (self.view.clone(), self.position.revision);
        let read = move |wanted: &Wanted| history::as_of(&view, revision, wanted);
        let mesh = core.history.read(&call.request_id, call.deadline, read).await?;
        core.pins.put(self.position, &mesh);
        Ok(mesh)
    }

    /// The page's items from all that are left, and the cursor of the next page; empty on the last. `name` is an item's
    /// place in the list.
    pub(crate) fn fill<M: prost::Message>(
        &self,
        core: &Core,
        mesh: Option<&MeshState>,
        left: impl Iterator<Item = M>,
        name: impl Fn(&M) -> String,
    ) -> (Vec<M>, String) {
        let (items, last) = self.fit(left, name);
        (items, last.map(|last| self.next(core, mesh, last)).unwrap_or_default())
    }

    /// The page's items from all that are left, as many as clients take in one message (one always fits), and the name of the
    /// last of them where there are more.
    pub(crate) fn fit<M: prost::Message>(
        &self,
        left: impl Iterator<Item = M>,
        name: impl Fn(&M) -> String,
    ) -> (Vec<M>, Option<String>) {
        let mut items: Vec<M> = left.take(self.limit.saturating_add(1)).collect();
        let mut bytes = 0;
        let fits = items.iter().take(self.limit).take_while(|item| {
            bytes += item.encoded_len();
            bytes <= PAGE_BYTES_MAX
        });
        let count = fits.count().max(1);
        let more = items.len() > count;
        items.truncate(count);
        let last = items.last().filter(|_| more).map(name);
        (items, last)
    }

    /// The cursor of the next page, after an item with this id. Keeps the state for it.
    pub(crate) fn next(&self, core: &Core, mesh: Option<&MeshState>, last: String) -> String {
        if let Some(mesh) = mesh {
            core.pins.put(self.position, mesh);
        }
        Cursor {
            position: self.position,
            last,
        }
        .encode(core.mesh(), self.filter)
    }

    /// What the page answers, at whatever revision.
    pub(crate) fn question(&self) -> Question {
        Question {
            filter: self.filter,
            after: self.after.clone(),
            limit: self.limit,
        }
    }

    /// What the page is known by: all of one question, one place in its list and one position shows the same.
    pub(crate) fn etag(&self) -> String {
        let place = Cursor {
            position: self.position,
            last: self.after.clone().unwrap_or_default(),
        };
        place.etag(self.filter, self.limit, self.after.is_some())
    }

    /// The revision that all pages show.
    pub(crate) fn revision(&self) -> Revision {
        self.position.revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statemachine::TimelineId;

    fn at(revision: u64) -> Position {
        Position {
            timeline: TimelineId(1),
            revision: Revision(revision),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pins_are_bounded_in_number_and_time() {
        let pins = Pins::new(2, Duration::from_secs(10));
        for revision in 1..=3 {
            pins.put(at(revision), &MeshState::default());
        }
        assert!(pins.get(at(1)).is_none());
        assert!(pins.get(at(2)).is_some());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(pins.get(at(3)).is_some());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(pins.get(at(2)).is_none());
        assert!(pins.get(at(3)).is_some());
    }
}
