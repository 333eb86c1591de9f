//! `clusters.promote`

use serde::{Deserialize, Serialize};

use super::cluster;
use crate::{
    ClusterId, Effects, Handler, Rejection, Rule, View, check,
    record::{ClusterPhase, Kind},
};

/// Makes a passive cluster the active one. Refused for a cluster that is not known to follow the active one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromoteCluster {
    /// The cluster.
    pub id: ClusterId,
}

impl Handler for PromoteCluster {
    fn action(&self) -> &'static str {
        "clusters.promote"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Cluster, self.id.to_string()))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::CLUSTER_EXISTS,
            check::CLUSTER_STEP_ALLOWED,
            check::CLUSTER_FOLLOWS,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = cluster(view, &self.id)?;
        let from = before.state;
        let may = matches!(from, ClusterPhase::Active | ClusterPhase::Passive);
        view.check(check::CLUSTER_STEP_ALLOWED, from.word(), "passive", may, || {
            Rejection::ClusterTransition {
                cluster: self.id.clone(),
                from,
                to: ClusterPhase::Active,
            }
        })?;
        let active = from == ClusterPhase::Active;
        let readiness = if active { "ready" } else { "unknown" };
        view.check(check::CLUSTER_FOLLOWS, readiness, "ready", active, || {
            Rejection::ReplicationNotConfigured {
                cluster: self.id.clone(),
            }
        })?;
        Ok(Effects::unchanged())
    }
}
