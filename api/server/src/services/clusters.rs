//! `ClusterDescriptorService`

use proto::v1::{self, cluster_descriptor_service_server::ClusterDescriptorService};
use statemachine::{
    ApplyCluster, ClusterId, DemoteCluster, PromoteCluster,
    record::{ClusterSpec, Fencing, PRIORITY_DEFAULT},
};
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{Error, convert, cursor::Filter, filter, listing::Page};

fn cluster_id(text: &str) -> Result<ClusterId, Error> {
    ClusterId::new(text).map_err(|error| Error::invalid("id", error.to_string()))
}

#[tonic::async_trait]
impl ClusterDescriptorService for Api {
    async fn list_clusters(
        &self,
        request: Request<v1::ListClustersRequest>,
    ) -> Result<Response<v1::ListClustersResponse>, Status> {
        self.answer(request, |received| self.list_clusters_page(received)).await
    }

    async fn get_cluster(&self, request: Request<v1::GetClusterRequest>) -> Result<Response<v1::Cluster>, Status> {
        self.answer(request, async |received: Received<v1::GetClusterRequest>| {
            let id = cluster_id(&received.message.id)?;
            let view = self.view(&received).await?;
            let mesh = &view.state().mesh;
            let cluster = mesh
                .cluster(&id)
                .ok_or_else(|| Error::not_found("cluster", id.as_str()))?;
            Ok(self.record(mesh.position().revision, cluster.meta.etag(), convert::cluster(cluster)))
        })
        .await
    }

    async fn apply_cluster(&self, request: Request<v1::ApplyClusterRequest>) -> Result<Response<v1::Cluster>, Status> {
        let command = |message: v1::ApplyClusterRequest| {
            let unknown = |field| move |_| Error::invalid(field, "there is no such value");
            let state = v1::cluster::State::try_from(message.state).map_err(unknown("state"))?;
            let fencing = match v1::cluster::Fencing::try_from(message.fencing).map_err(unknown("fencing"))? {
                v1::cluster::Fencing::Unspecified | v1::cluster::Fencing::Manual => Fencing::Manual,
                v1::cluster::Fencing::Lease => Fencing::Lease,
            };
            let spec = ClusterSpec {
                region: message.region,
                priority: message.priority.unwrap_or(PRIORITY_DEFAULT),
                fencing,
                replication_endpoints: message.replication_endpoints,
                owners: message.owners,
                annotations: message.annotations.into(),
            };
            Ok(ApplyCluster {
                id: cluster_id(&message.id)?,
                spec,
                state: convert::cluster_phase(state),
            }
            .into())
        };
        self.core.mutate(request, command).await
    }

    async fn promote_cluster(
        &self,
        request: Request<v1::PromoteClusterRequest>,
    ) -> Result<Response<v1::Cluster>, Status> {
        let command = |message: v1::PromoteClusterRequest| {
            Ok(PromoteCluster {
                id: cluster_id(&message.id)?,
            }
            .into())
        };
        self.core.mutate(request, command).await
    }

    async fn demote_cluster(
        &self,
        request: Request<v1::DemoteClusterRequest>,
    ) -> Result<Response<v1::Cluster>, Status> {
        let command = |message: v1::DemoteClusterRequest| {
            Ok(DemoteCluster {
                id: cluster_id(&message.id)?,
            }
            .into())
        };
        self.core.mutate(request, command).await
    }
}

impl Api {
    async fn list_clusters_page(
        &self,
        received: Received<v1::ListClustersRequest>,
    ) -> Result<Response<v1::ListClustersResponse>, Error> {
        let v1::ListClustersRequest { limit, cursor, state } = &received.message;
        let wanted = filter::Clusters::new(*state)?;
        let filter = Filter::new("ListClusters", &[&state.to_string()]);
        let view = self.view(&received).await?;
        let page = Page::begin(&self.core, view, *limit, cursor, filter)?;
        let after = page.after.as_deref().map(cluster_id).transpose()?;
        let mesh = page.mesh(&self.core, &received.call).await?;
        let matching = mesh
            .clusters_after(after.as_ref())
            .filter(|cluster| wanted.selects(cluster));
        let records = matching.map(|cluster| convert::cluster(cluster));
        let (items, next_cursor) = page.fill(&self.core, Some(&mesh), records, |last| last.id.clone());
        let answer = v1::ListClustersResponse {
            items,
            next_cursor,
            revision: page.revision().0,
            epoch: mesh.epoch().0,
            version_vector: convert::version_vector(&mesh),
        };
        Ok(self.page(&page, answer))
    }
}
