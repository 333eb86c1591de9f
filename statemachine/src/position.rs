//! Where in the mesh's history something is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClusterId, Epoch, Revision, TimelineId};

/// A revision on a timeline. Revisions are unique within a timeline only.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The timeline.
    pub timeline: TimelineId,
    /// The revision on it.
    pub revision: Revision,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.revision, self.timeline)
    }
}

/// The position of a record's last change, as an opaque token for clients.
///
/// Since it names the timeline, a record that was deleted and made again, or that lives on after a fork or a
/// restore, never has an ETag that it had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Etag(pub Position);

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.0.timeline, self.0.revision.0)
    }
}

/// A line of history: minted by `init`, each promotion and each restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Random, 128 bits.
    pub id: TimelineId,
    /// The mesh's fencing number while this timeline is written.
    pub epoch: Epoch,
    /// The timeline that it forked from.
    pub parent: Option<TimelineId>,
    /// The last revision that it shares with its parent; 0 for the first.
    pub fork: Revision,
    /// The cluster that is active on it.
    pub cluster: ClusterId,
}
