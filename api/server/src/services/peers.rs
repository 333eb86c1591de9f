//! `PeerService`

use proto::v1::{self, peer_service_server::PeerService};
use statemachine::{
    ClusterId, Command, CordonPeer, DeregisterPeer, DrainPeer, DrainPeerWithTerms, DrainPeers, PatchPeer,
    PatchPeerSpec, PeerId, RegisterPeer, UncordonPeer, UndrainPeer,
    record::{PeerSpec, WEIGHT_DEFAULT},
};
use tonic::{Request, Response, Status};

use super::{Api, Received, length_ms};
use crate::{Error, context::Call, convert, cursor::Filter, filter, listing::Page};

/// What was named, as far as it goes into the audit trail without having been looked at.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

fn peer_id(text: &str) -> Result<PeerId, Error> {
    PeerId::new(text).map_err(|error| Error::invalid("id", error.to_string()))
}

#[tonic::async_trait]
impl PeerService for Api {
    async fn list_peers(
        &self,
        request: Request<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersResponse>, Status> {
        self.answer(request, |received| self.list_peers_page(received)).await
    }

    async fn get_peer(&self, request: Request<v1::GetPeerRequest>) -> Result<Response<v1::Peer>, Status> {
        self.answer(request, async |received: Received<v1::GetPeerRequest>| {
            let id = peer_id(&received.message.id)?;
            let view = self.view(&received).await?;
            let mesh = &view.state().mesh;
            let peer = mesh.peer(&id).ok_or_else(|| Error::not_found("peer", id.as_str()))?;
            Ok(self.record(mesh.position().revision, peer.meta.etag(), convert::peer(peer)))
        })
        .await
    }

    async fn register_peer(&self, request: Request<v1::RegisterPeerRequest>) -> Result<Response<v1::Peer>, Status> {
        let command = |message: v1::RegisterPeerRequest| {
            let cluster = match message.cluster.as_str() {
                "" => self.core.cluster.clone(),
                given => ClusterId::new(given).map_err(|error| Error::invalid("cluster", error.to_string()))?,
            };
            let spec = PeerSpec {
                cluster,
                role: message.role,
                region: message.region,
                zone: message.zone,
                endpoints: message.endpoints,
                labels: message.labels.into(),
                metadata: message.metadata.into(),
                weight: if message.weight == 0 {
                    WEIGHT_DEFAULT
                } else {
                    message.weight
                },
            };
            Ok(RegisterPeer {
                id: peer_id(&message.id)?,
                spec,
            }
            .into())
        };
        self.core.mutate(request, command).await
    }

    async fn patch_peer(&self, request: Request<v1::PatchPeerRequest>) -> Result<Response<v1::Peer>, Status> {
        let command = |message: v1::PatchPeerRequest| {
            let attributes = PatchPeer {
                id: peer_id(&message.id)?,
                labels: message.labels.into(),
                metadata: message.metadata.into(),
                remove_labels: message.remove_labels,
                remove_metadata: message.remove_metadata,
            };
            let words = [&message.role, &message.region, &message.zone];
            let attributes_only = words.iter().all(|word| word.is_none()) && message.weight.is_none();
            if attributes_only && message.endpoints.is_empty() {
                return Ok(attributes.into());
            }
            let command = PatchPeerSpec {
                attributes,
                role: message.role,
                region: message.region,
                zone: message.zone,
                endpoints: message.endpoints,
                weight: message.weight,
            };
            Ok(command.command()?)
        };
        self.core.mutate(request, command).await
    }

    async fn deregister_peer(&self, request: Request<v1::DeregisterPeerRequest>) -> Result<Response<v1::Peer>, Status> {
        let command = |message: v1::DeregisterPeerRequest| {
            Ok(DeregisterPeer {
                id: peer_id(&message.id)?,
            }
            .into())
        };
        self.core.mutate(request, command).await
    }

    async fn cordon_peer(&self, request: Request<v1::CordonPeerRequest>) -> Result<Response<v1::Peer>, Status> {
        let command = |message: v1::CordonPeerRequest| {
            Ok(CordonPeer {
                id: peer_id(&message.id)?,
            }
            .into())
        };
        self.core.mutate(request, command).await
    }

    async fn uncordon_peer(&self, request: Request<v1::UncordonPeerRequest>) -> Result<Response<v1::Peer>, Status> {
        let command = |message: v1::UncordonPeerRequest| {
            Ok(UncordonPeer {
                id: peer_id(&message.id)?,
            }
            .into())
        };
        self.core.mutate(request, command).await
    }

    async fn drain_peer(&self, request: Request<v1::DrainPeerRequest>) -> Result<Response<v1::Peer>, Status> {
        let call = Call::of(&request)?;
        if request.get_ref().force {
            let target = format!("peer/{}", shown(&request.get_ref().id));
            let may = self.core.may_force(&call, "peers.drain_forced", target);
            may.map_err(|error| error.into_status(&call.request_id))?;
        }
        let command = |message: v1::DrainPeerRequest| {
            let id = peer_id(&message.id)?;
            let deadline_ms = length_ms("deadline", message.deadline)?;
            if deadline_ms.is_none() && !message.force {
                return Ok(DrainPeer { id }.into());
            }
            let forced = message.force;
            Ok(DrainPeerWithTerms {
                id,
                deadline_ms,
                forced,
            }
            .command()?)
        };
        self.core.mutate(request, command).await
    }

    async fn drain_peers(&self, request: Request<v1::DrainPeersRequest>) -> Result<Response<v1::Operation>, Status> {
        let call = Call::of(&request)?;
        if request.get_ref().force {
            let target = format!("peers/{}", shown(&request.get_ref().selector));
            let may = self.core.may_force(&call, "peers.drain_many_forced", target);
            may.map_err(|error| error.into_status(&call.request_id))?;
        }
        let command = |message: v1::DrainPeersRequest| {
            let mut expected = message
                .expected
                .iter()
                .map(|id| peer_id(id))
                .collect::<Result<Vec<_>, _>>()?;
            expected.sort();
            expected.dedup();
            let command = DrainPeers {
                selector: message.selector,
                at_once: message.at_once.max(1),
                deadline_ms: length_ms("deadline", message.deadline)?,
                forced: message.force,
                expected,
            };
            Ok(command.command()?)
        };
        self.core.mutate(request, command).await
    }

    async fn undrain_peer(&self, request: Request<v1::UndrainPeerRequest>) -> Result<Response<v1::Peer>, Status> {
        let command = |message: v1::UndrainPeerRequest| -> Result<Command, Error> {
            Ok(UndrainPeer {
                id: peer_id(&message.id)?,
            }
            .into())
        };
        self.core.mutate(request, command).await
    }
}

impl Api {
    async fn list_peers_page(
        &self,
        received: Received<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersResponse>, Error> {
        let v1::ListPeersRequest {
            limit,
            cursor,
            status,
            cluster,
            selector,
        } = &received.message;
        let wanted = filter::Peers::new(*status, cluster, selector)?;
        let filter = Filter::new("ListPeers", &[&status.to_string(), cluster, selector]);
        let view = self.view(&received).await?;
        let page = Page::begin(&self.core, view, *limit, cursor, filter)?;
        let after = page.after.as_deref().map(peer_id).transpose()?;
        let mesh = page.mesh(&self.core, &received.call).await?;
        let matching = mesh.peers_after(after.as_ref()).filter(|peer| wanted.selects(peer));
        let records = matching.map(|peer| convert::peer(peer));
        let (items, next_cursor) = page.fill(&self.core, Some(&mesh), records, |last| last.id.clone());
        let answer = v1::ListPeersResponse {
            items,
            next_cursor,
            revision: page.revision().0,
            epoch: mesh.epoch().0,
            version_vector: convert::version_vector(&mesh),
        };
        Ok(self.page(&page, answer))
    }
}
