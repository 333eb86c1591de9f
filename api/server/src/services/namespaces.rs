//! `NamespaceService`

use proto::v1::{self, namespace_service_server::NamespaceService};
use raft::Consistency;
use statemachine::{
    CreateNamespace, DeleteNamespace, NamespaceId, Rejection, ReshapeNamespace, SetNamespacePolicy,
    plan::reshape,
    record::{HandOff, NamespacePolicy, NamespaceSpec, StrategyKind},
};
use tonic::{Request, Response, Status};

use super::{
    Api, Received, length_ms,
    shards::{check_ceiling, late},
};
use crate::{Error, context::Call, convert, cursor::Filter, filter, headers, history::Wanted, listing::Page};

pub(super) fn namespace_id(field: &str, text: &str) -> Result<NamespaceId, Error> {
    NamespaceId::new(text).map_err(|error| Error::invalid(field, error.to_string()))
}

/// The strategy that is named; none where none is.
pub(super) fn strategy(strategy: i32) -> Result<Option<StrategyKind>, Error> {
    let strategy = v1::namespace::Strategy::try_from(strategy)
        .map_err(|_| Error::invalid("strategy", "there is no such strategy"))?;
    Ok(match strategy {
        v1::namespace::Strategy::Unspecified => None,
        v1::namespace::Strategy::Ring => Some(StrategyKind::Ring),
        v1::namespace::Strategy::Rendezvous => Some(StrategyKind::Rendezvous),
        v1::namespace::Strategy::Locality => Some(StrategyKind::Locality),
    })
}

/// A policy, with what is usual in the place of what is absent. Ranges are the state machine's to judge.
fn policy(given: Option<&v1::namespace::Policy>) -> Result<NamespacePolicy, Error> {
    let usual = NamespacePolicy::default();
    let Some(given) = given else { return Ok(usual) };
    let hand_off = v1::namespace::HandOff::try_from(given.hand_off)
        .map_err(|_| Error::invalid("policy.handOff", "there is no such way"))?;
    Ok(NamespacePolicy {
        hand_off: match hand_off {
            v1::namespace::HandOff::Unspecified => usual.hand_off,
            v1::namespace::HandOff::Exclusive => HandOff::Exclusive,
            v1::namespace::HandOff::Overlap => HandOff::Overlap,
        },
        moves_max: given.moves_max.unwrap_or(usual.moves_max),
        step_ms: length_ms("policy.step", given.step)?.unwrap_or(usual.step_ms),
        moved_permille_max: given.moved_permille_max.unwrap_or(usual.moved_permille_max),
    })
}

#[tonic::async_trait]
impl NamespaceService for Api {
    async fn list_namespaces(
        &self,
        request: Request<v1::ListNamespacesRequest>,
    ) -> Result<Response<v1::ListNamespacesResponse>, Status> {
        self.answer(request, |received| self.list_namespaces_page(received))
            .await
    }

    async fn get_namespace(
        &self,
        request: Request<v1::GetNamespaceRequest>,
    ) -> Result<Response<v1::Namespace>, Status> {
        self.answer(request, async |received: Received<v1::GetNamespaceRequest>| {
            let id = namespace_id("id", &received.message.id)?;
            let view = self.view(&received).await?;
            let mesh = &view.state().mesh;
            let namespace = mesh
                .namespace(&id)
                .ok_or_else(|| Error::not_found("namespace", id.as_str()))?;
            Ok(self.record(
                mesh.position().revision,
                namespace.meta.etag(),
                convert::namespace(namespace),
            ))
        })
        .await
    }

    async fn create_namespace(
        &self,
        request: Request<v1::CreateNamespaceRequest>,
    ) -> Result<Response<v1::Namespace>, Status> {
        let command = |message: v1::CreateNamespaceRequest| {
            let spec = NamespaceSpec {
                strategy: strategy(message.strategy)?.unwrap_or(StrategyKind::Rendezvous),
                region: message.region,
                peers: message.selector,
                shards: message.shards,
                replicas: message.replicas,
                policy: policy(message.policy.as_ref())?,
            };
            let id = namespace_id("id", &message.id)?;
            Ok(CreateNamespace { id, spec }.command()?)
        };
        self.core.mutate(request, command).await
    }

    async fn reshape_namespace(
        &self,
        request: Request<v1::ReshapeNamespaceRequest>,
    ) -> Result<Response<v1::Namespace>, Status> {
        let call = Call::of(&request)?;
        let planned = match self.plans(request.metadata().as_ref(), request.get_ref()) {
            Ok(()) => self.reshaping(&call, request.get_ref()).await,
            Err(error) => Err(error),
        };
        let planned = planned.map_err(|error| error.into_status(&call.request_id))?;
        self.core.mutate(request, |_| Ok(planned.command()?)).await
    }

    async fn set_namespace_policy(
        &self,
        request: Request<v1::SetNamespacePolicyRequest>,
    ) -> Result<Response<v1::Namespace>, Status> {
        let command = |message: v1::SetNamespacePolicyRequest| {
            if message.policy.is_none() {
                return Err(Error::invalid("policy", "the whole policy is needed"));
            }
            let policy = policy(message.policy.as_ref())?;
            let id = namespace_id("id", &message.id)?;
            Ok(SetNamespacePolicy { id, policy }.command()?)
        };
        self.core.mutate(request, command).await
    }

    async fn delete_namespace(
        &self,
        request: Request<v1::DeleteNamespaceRequest>,
    ) -> Result<Response<v1::Namespace>, Status> {
        let command = |message: v1::DeleteNamespaceRequest| {
            let id = namespace_id("id", &message.id)?;
            Ok(DeleteNamespace {
                id,
                forced: message.force,
            }
            .command()?)
        };
        self.core.mutate(request, command).await
    }
}

impl Api {
    async fn list_namespaces_page(
        &self,
        received: Received<v1::ListNamespacesRequest>,
    ) -> Result<Response<v1::ListNamespacesResponse>, Error> {
        let v1::ListNamespacesRequest { limit, cursor, phase } = &received.message;
        let wanted = filter::Namespaces::new(*phase)?;
        let filter = Filter::new("ListNamespaces", &[&phase.to_string()]);
        let view = self.view(&received).await?;
        let page = Page::begin(&self.core, view, *limit, cursor, filter)?;
        let after = page.after.as_deref().map(|after| namespace_id("cursor", after));
        let after = after.transpose()?;
        let mesh = page.mesh(&self.core, &received.call).await?;
        let matching = mesh.namespaces_after(after.as_ref());
        let matching = matching.filter(|namespace| wanted.selects(namespace));
        let records = matching.map(|namespace| convert::namespace(namespace));
        let (items, next_cursor) = page.fill(&self.core, Some(&mesh), records, |last| last.id.clone());
        let answer = v1::ListNamespacesResponse {
            items,
            next_cursor,
            revision: page.revision().0,
            epoch: mesh.epoch().0,
            version_vector: convert::version_vector(&mesh),
        };
        Ok(self.page(&page, answer))
    }

    /// Whether a reshaping is planned here: a dry run is, anywhere; what is to be done, where it can be proposed.
    fn plans(&self, headers: &http::HeaderMap, message: &v1::ReshapeNamespaceRequest) -> Result<(), Error> {
        match headers::dry_run(headers, message.dry_run)? || self.core.leads() {
            true => Ok(()),
            false => Err(Error::not_leader(self.core.leader().as_ref())),
        }
    }

    /// A reshaping as it is asked for, planned on the mesh as it is now: apply holds it against the mesh as it is then.
    async fn reshaping(&self, call: &Call, message: &v1::ReshapeNamespaceRequest) -> Result<ReshapeNamespace, Error> {
        let id = namespace_id("id", &message.id)?;
        let strategy = strategy(message.strategy)?;
        check_ceiling(message.moved_permille_max)?;
        let view = self.core.handle.read(Consistency::Linearizable, call.deadline).await?;
        let Some(before) = view.state().mesh.namespace(&id).cloned() else {
            return Err(Error::not_found("namespace", id.as_str()));
        };
        let spec = NamespaceSpec {
            strategy: strategy.unwrap_or(before.spec.strategy),
            region: message.region.clone().unwrap_or_else(|| before.spec.region.clone()),
            peers: message.selector.clone().unwrap_or_else(|| before.spec.peers.clone()),
            shards: message.shards.unwrap_or(before.spec.shards),
            replicas: message.replicas.unwrap_or(before.spec.replicas),
            policy: before.spec.policy,
        };
        // Before anything is laid out by it.
        spec.check()?;
        // How many shards there are cannot change; apply says so.
        let laid_out = NamespaceSpec {
            shards: before.spec.shards,
            ..spec.clone()
        };
        let planned = move |wanted: &Wanted| {
            reshape::target(&view.state().mesh, &before, &laid_out, &|| !wanted.is_over()).ok_or_else(late)
        };
        let target = self.worked_out(call, planned).await?;
        Ok(ReshapeNamespace {
            id,
            spec,
            target,
            moved_permille_max: message.moved_permille_max,
        })
    }
}

/// A namespace that is asked about.
pub(super) fn existing<'a>(
    mesh: &'a statemachine::MeshState,
    id: &NamespaceId,
) -> Result<&'a statemachine::record::Namespace, Error> {
    let missing = || Rejection::NotFound {
        kind: "namespace".to_owned(),
        id: id.to_string(),
    };
    mesh.namespace(id).ok_or_else(|| missing().into())
}
