//! `clusters.demote`

use serde::{Deserialize, Serialize};

use super::cluster;
use crate::{
    ClusterId, Effects, Handler, Rejection, View,
    record::{ClusterPhase, Kind},
};

/// Makes the active cluster a passive one. Refused while there is no other that could take over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoteCluster {
    /// The cluster.
    pub id: ClusterId,
}

impl Handler for DemoteCluster {
    fn action(&self) -> &'static str {
        "clusters.demote"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Cluster, self.id.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = cluster(view.mesh, &self.id)?;
        match before.state {
            ClusterPhase::Active => Err(Rejection::LastActiveCluster {
                cluster: self.id.clone(),
            }),
            ClusterPhase::Passive => Ok(Effects::unchanged()),
            from @ (ClusterPhase::Draining | ClusterPhase::Maintenance) => Err(Rejection::ClusterTransition {
                cluster: self.id.clone(),
                from,
                to: ClusterPhase::Passive,
            }),
        }
    }
}
