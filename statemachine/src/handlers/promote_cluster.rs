//! `clusters.promote`

use serde::{Deserialize, Serialize};

use super::cluster;
use crate::{
    ClusterId, Effects, Handler, Rejection, View,
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

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = cluster(view.mesh, &self.id)?;
        match before.state {
            ClusterPhase::Active => Ok(Effects::unchanged()),
            ClusterPhase::Passive => Err(Rejection::ReplicationNotConfigured {
                cluster: self.id.clone(),
            }),
            from @ (ClusterPhase::Draining | ClusterPhase::Maintenance) => Err(Rejection::ClusterTransition {
                cluster: self.id.clone(),
                from,
                to: ClusterPhase::Active,
            }),
        }
    }
}
