//! `upgrade.finalize`

use serde::{Deserialize, Serialize};

use super::FEATURE_LEVEL;
use crate::{
    Effects, Event, Handler, MeshId, Record, Rejection, Rule, View, check,
    record::{Kind, Mesh},
};

/// Raises the feature level by one or more. Whoever proposes it has seen that every node of the cluster can follow; from
/// here on no older program can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalizeUpgrade {
    /// The mesh.
    pub mesh: MeshId,
    /// The level to raise to.
    pub to: u32,
}

impl Handler for FinalizeUpgrade {
    fn action(&self) -> &'static str {
        "upgrade.finalize"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Mesh, self.mesh.to_string()))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::FEATURE_LEVEL_KNOWN]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let Some(before) = view.mesh.mesh() else {
            return Err(Rejection::MeshNotInitialized);
        };
        let current = before.feature_level;
        if self.to == current {
            return Ok(Effects::unchanged());
        }
        let is_known = (current..=FEATURE_LEVEL).contains(&self.to);
        let known = format_args!("{current} to {FEATURE_LEVEL}").to_string();
        view.check(check::FEATURE_LEVEL_KNOWN, self.to, known, is_known, || {
            Rejection::FeatureLevelUnknown {
                asked: self.to,
                current,
                known: FEATURE_LEVEL,
            }
        })?;
        let after = Mesh {
            feature_level: self.to,
            ..before.clone()
        };
        Ok(Effects::default()
            .put(Record::Mesh(after.into()))
            .event(Event::FeatureLevelRaised(self.to)))
    }
}
