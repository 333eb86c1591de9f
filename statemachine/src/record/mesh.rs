//! The mesh itself: what holds for all of it.

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::{Epoch, MeshId, Revision, Timeline};

/// The one record of the mesh itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// The mesh's name; also the audience of its tokens.
    pub id: MeshId,
    /// Every timeline from the first to the one being written.
    pub timelines: Vec<Timeline>,
    /// The oldest revision whose history is kept.
    pub floor: Revision,
    /// The level of behaviour that every node has to follow.
    pub feature_level: u32,
    /// Changes of the record.
    pub meta: Meta,
}

impl Mesh {
    /// The timeline being written.
    #[must_use]
    pub fn timeline(&self) -> Option<&Timeline> {
        self.timelines.last()
    }

    /// The mesh's fencing number now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.timeline().map_or(Epoch(0), |timeline| timeline.epoch)
    }
}
