//! `clusters.apply`

use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, Effects, Event, Handler, Record, Rejection, Rule, View, check,
    record::{Cluster, ClusterPhase, ClusterSpec, Kind, Meta},
};

/// Writes a cluster's descriptor, whole. A cluster that is new begins passive; only promoting and demoting make one
/// active or take that away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyCluster {
    /// The cluster.
    pub id: ClusterId,
    /// What is said about it.
    pub spec: ClusterSpec,
    /// What it shall be; as it is where absent.
    pub state: Option<ClusterPhase>,
}

impl Handler for ApplyCluster {
    fn action(&self) -> &'static str {
        "clusters.apply"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Cluster, self.id.to_string()))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::FORM,
            check::ACTIVE_CLUSTER_LEFT,
            check::CLUSTER_STEP_ALLOWED,
            check::CLUSTERS_BELOW_LIMIT,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        view.check_form(check::FORM, self.spec.check())?;
        let before = view.mesh.cluster(&self.id);
        let from = before.map_or(ClusterPhase::Passive, |before| before.state);
        let to = self.state.unwrap_or(from);
        let cluster = || self.id.clone();
        // There is one active cluster at any time.
        let stays = is_legal(from, to) || from != ClusterPhase::Active;
        let others = view.mesh.clusters_after(None);
        let others = others.filter(|other| other.id != self.id && other.state == ClusterPhase::Active);
        let last = || Rejection::LastActiveCluster { cluster: cluster() };
        view.check(
            check::ACTIVE_CLUSTER_LEFT,
            others.count() + usize::from(stays),
            1,
            stays,
            last,
        )?;
        let transition = || Rejection::ClusterTransition {
            cluster: cluster(),
            from,
            to,
        };
        view.check(
            check::CLUSTER_STEP_ALLOWED,
            from.word(),
            to.word(),
            is_legal(from, to),
            transition,
        )?;
        let (measured, limit) = (view.mesh.cluster_count(), view.mesh.settings().clusters_max);
        if before.is_none() {
            super::room(view, check::CLUSTERS_BELOW_LIMIT, "clusters", measured, limit)?;
        }
        if before.is_some_and(|before| before.spec == self.spec && before.state == to) {
            return Ok(Effects::unchanged());
        }
        let after = Cluster {
            id: self.id.clone(),
            spec: self.spec.clone(),
            state: to,
            ticket: view.origin.ticket.clone(),
            meta: Meta::default(),
        };
        Ok(Effects::default()
            .put(Record::Cluster(after.into()))
            .event(Event::ClusterDescribed(self.id.clone())))
    }
}

/// What an operator may do to a cluster's state by writing its descriptor.
fn is_legal(from: ClusterPhase, to: ClusterPhase) -> bool {
    match (from, to) {
        (ClusterPhase::Passive, ClusterPhase::Maintenance) | (ClusterPhase::Maintenance, ClusterPhase::Passive) => true,
        (ClusterPhase::Active | ClusterPhase::Passive | ClusterPhase::Draining | ClusterPhase::Maintenance, to) => {
            from == to
        }
    }
}
