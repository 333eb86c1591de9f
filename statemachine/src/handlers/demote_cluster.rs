//! `clusters.demote`

use serde::{Deserialize, Serialize};

use super::cluster;
use crate::{
    ClusterId, Effects, Handler, Rejection, Rule, View, check,
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

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::CLUSTER_EXISTS,
            check::CLUSTER_STEP_ALLOWED,
            check::ACTIVE_CLUSTER_LEFT,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = cluster(view, &self.id)?;
        let from = before.state;
        let may = matches!(from, ClusterPhase::Active | ClusterPhase::Passive);
        view.check(
            check::CLUSTER_STEP_ALLOWED,
            from.word(),
            "active or passive",
            may,
            || Rejection::ClusterTransition {
                cluster: self.id.clone(),
                from,
                to: ClusterPhase::Passive,
            },
        )?;
        // There is one active cluster at any time.
        view.check(
            check::ACTIVE_CLUSTER_LEFT,
            u8::from(from != ClusterPhase::Active),
            1,
            from != ClusterPhase::Active,
            || Rejection::LastActiveCluster {
                cluster: self.id.clone(),
            },
        )?;
        Ok(Effects::unchanged())
    }
}
