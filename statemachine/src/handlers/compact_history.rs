//! `history.compact`

use serde::{Deserialize, Serialize};

use crate::{
    Effects, Event, Handler, MeshId, Record, Rejection, Revision, Rule, View, check,
    record::{Checkpoint, Kind, Mesh},
};

/// The most checkpoints that one command takes away; those that are left go with the next.
const CHECKPOINTS_PER_COMMAND_MAX: usize = 900;

/// Lets go of history and audit below a revision. The floor comes to rest right above a signed checkpoint, at or below
/// what was asked for, so that what is kept can still be verified from a signature on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactHistory {
    /// The mesh.
    pub mesh: MeshId,
    /// The oldest revision that has to be kept.
    pub to: Revision,
    /// The mesh time of that revision, as whoever proposes this read it from the history.
    pub to_mesh_time_ms: u64,
}

/// A length of time as checks show it.
struct Ms(u64);

impl std::fmt::Display for Ms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

super::level_2!(CompactHistory);

impl Handler for CompactHistory {
    fn action(&self) -> &'static str {
        "history.compact"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Mesh, self.mesh.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::REVISION_IS_THERE, check::HISTORY_FREE]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let Some(before) = view.mesh.mesh() else {
            return Err(Rejection::MeshNotInitialized);
        };
        let newest = view.mesh.position().revision;
        view.check(check::REVISION_IS_THERE, self.to, newest, self.to <= newest, || {
            let why = format!("revision {} is not there yet; the newest is {newest}", self.to);
            Rejection::invalid("revision", why)
        })?;
        let settings = view.mesh.settings();
        let needed_ms = settings.idempotency_ulid_ttl_ms.max(settings.idempotency_key_ttl_ms);
        let age_ms = view.stamp.mesh_time_ms.saturating_sub(self.to_mesh_time_ms);
        let free = self.to <= before.floor || age_ms >= needed_ms;
        view.check(check::HISTORY_FREE, Ms(age_ms), Ms(needed_ms), free, || {
            let to = self.to;
            Rejection::HistoryInUse { to, age_ms, needed_ms }
        })?;
        let Some(anchor) = view.mesh.checkpoints_below(self.to).next_back() else {
            return Ok(Effects::unchanged());
        };
        let floor = anchor.revision.next();
        let stale = view.mesh.checkpoints_below(anchor.revision).map(Checkpoint::row_id);
        let effects = stale
            .take(CHECKPOINTS_PER_COMMAND_MAX)
            .fold(Effects::default(), |effects, id| effects.delete(Kind::Checkpoint, id));
        if floor <= before.floor {
            return Ok(effects);
        }
        let after = Mesh {
            floor,
            ..before.clone()
        };
        Ok(effects
            .put(Record::Mesh(after.into()))
            .event(Event::HistoryCompacted { floor }))
    }
}
