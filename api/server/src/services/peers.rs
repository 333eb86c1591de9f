//! `PeerService`

use proto::v1::{self, peer_service_server::PeerService};
use statemachine::{
    ClusterId, Command, CordonPeer, DeregisterPeer, DrainPeer, PatchPeer, PeerId, RegisterPeer, UncordonPeer,
    UndrainPeer,
    record::{PeerSpec, WEIGHT_DEFAULT},
    selector::Selector,
};
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{Error, convert, cursor::Filter, listing::Page};

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
                labels: message.labels,
                metadata: message.metadata,
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
            Ok(PatchPeer {
                id: peer_id(&message.id)?,
                labels: message.labels,
                metadata: message.metadata,
                remove_labels: message.remove_labels,
                remove_metadata: message.remove_metadata,
            }
            .into())
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
        let command = |message: v1::DrainPeerRequest| {
            Ok(DrainPeer {
                id: peer_id(&message.id)?,
            }
            .into())
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
        let wanted =
            v1::peer::Status::try_from(*status).map_err(|_| Error::invalid("status", "there is no such status"))?;
        let wanted = convert::peer_status(wanted);
        let selected = Selector::parse(selector)?;
        let filter = Filter::new("ListPeers", &[&status.to_string(), cluster, selector]);
        let view = self.view(&received).await?;
        let page = Page::begin(&self.core, view, *limit, cursor, filter)?;
        let after = page.after.as_deref().map(peer_id).transpose()?;
        let mesh = page.mesh(&self.core, &received.call).await?;
        let matching = mesh.peers_after(after.as_ref()).filter(|peer| {
            wanted.is_none_or(|wanted| peer.status == wanted)
                && (cluster.is_empty() || peer.spec.cluster.as_str() == cluster)
                && selected.matches(&peer.spec.labels)
        });
        let (found, more) = page.take(matching);
        let (items, more) = page.fit(found.iter().map(|peer| convert::peer(peer)).collect(), more);
        let next_cursor = match items.last() {
            Some(last) if more => page.next(&self.core, Some(&mesh), last.id.clone()),
            _ => String::new(),
        };
        let answer = v1::ListPeersResponse {
            items,
            next_cursor,
            revision: page.revision().0,
            epoch: mesh.epoch().0,
            version_vector: convert::version_vector(&mesh),
        };
        Ok(self.at(page.revision(), answer))
    }
}
