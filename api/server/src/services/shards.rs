//! `ShardService`

mod diff;
mod history;
mod list;
mod pages;
mod simulate;

pub(super) use pages::Pages;
pub(super) use simulate::{check_ceiling, late};

use http::HeaderMap;
use proto::v1::{self, shard_service_server::ShardService};
use raft::{Consistency, View};
use statemachine::{
    EndMoveStep, Epoch, Hold, HoldShard, MeshState, MoveShard, NamespaceId, PeerId, Record, Revision, StepEnd,
    record::{FencingToken, Kind, MoveStep, Shard, ShardId},
    strategy,
};
use tonic::{Request, Response, Status};

use super::{
    Api, Received,
    namespaces::{existing, namespace_id},
};
use crate::{Error, context::Call, convert, cursor, headers, history::Wanted, rest::Renewed};
use proto::methods::Scope;

fn shard_id(namespace: &str, index: u32) -> Result<ShardId, Error> {
    let namespace = namespace_id("namespace", namespace)?;
    Ok(ShardId { namespace, index })
}

/// A shard that is not there: of a namespace that is not, beyond its last one, or not made yet.
fn missing(mesh: &MeshState, id: &ShardId) -> Error {
    let namespace = match existing(mesh, &id.namespace) {
        Ok(namespace) => namespace,
        Err(error) => return error,
    };
    let (id, shards) = (id.to_string(), namespace.spec.shards);
    let limit = format!("0 to {}", shards.saturating_sub(1));
    let hint = format!(
        "namespace `{0}` is split into shards {limit}, and is {1}; `mesh shards list --namespace {0}` shows them",
        namespace.id,
        namespace.phase.word()
    );
    Error::not_found("shard", &id).measured(id, limit).hint(hint)
}

/// A revision that is to be looked at: the newest where 0.
///
/// # Errors
/// `compacted`. Of one that has not happened: `future` from a node that may be behind, and `invalid_argument` where this is
/// the newest that there is, since trying again is of no use then.
fn revision(view: &View, headers: &HeaderMap, field: &str, asked: u64) -> Result<Revision, Error> {
    let head = view.position().revision;
    let revision = if asked == 0 { head } else { Revision(asked) };
    if revision > head {
        return Err(match headers::consistency(headers)? {
            Consistency::Local => cursor::future(revision, head),
            Consistency::Linearizable => {
                let why = format!("revision {revision} has not happened; the newest is {head}");
                Error::invalid(field, why).with(|problem| problem.revision = head.0)
            }
        });
    }
    if revision < view.oldest() {
        return Err(raft::Error::Compacted { oldest: view.oldest() }.into());
    }
    Ok(revision)
}

#[tonic::async_trait]
impl ShardService for Api {
    async fn list_shards(
        &self,
        request: Request<v1::ListShardsRequest>,
    ) -> Result<Response<v1::ListShardsResponse>, Status> {
        self.answer(request, |received| self.list_shards_page(received)).await
    }

    async fn get_shard(&self, request: Request<v1::GetShardRequest>) -> Result<Response<v1::Shard>, Status> {
        self.answer(request, async |received: Received<v1::GetShardRequest>| {
            let v1::GetShardRequest {
                namespace,
                shard,
                at_revision,
            } = &received.message;
            let id = shard_id(namespace, *shard)?;
            let view = self.view(&received).await?;
            if *at_revision != 0 {
                let at = revision(&view, &received.headers, "atRevision", *at_revision)?;
                return self.shard_at(&received.call, view, id, at).await;
            }
            let mesh = &view.state().mesh;
            let shard = mesh.shard(&id).ok_or_else(|| missing(mesh, &id))?;
            Ok(self.shard(mesh.position().revision, shard, mesh.epoch()))
        })
        .await
    }

    async fn locate_shard(&self, request: Request<v1::LocateShardRequest>) -> Result<Response<v1::Shard>, Status> {
        self.answer(request, async |received: Received<v1::LocateShardRequest>| {
            let v1::LocateShardRequest { namespace, key } = &received.message;
            let namespace = namespace_id("namespace", namespace)?;
            if key.is_empty() {
                return Err(Error::invalid("key", "name a key: no shard is asked for"));
            }
            let view = self.view(&received).await?;
            let mesh = &view.state().mesh;
            let shards = existing(mesh, &namespace)?.spec.shards;
            let index = strategy::shard_of(key.as_bytes(), shards);
            let id = ShardId { namespace, index };
            let shard = mesh.shard(&id).ok_or_else(|| missing(mesh, &id))?;
            Ok(self.shard(mesh.position().revision, shard, mesh.epoch()))
        })
        .await
    }

    async fn list_shard_history(
        &self,
        request: Request<v1::ListShardHistoryRequest>,
    ) -> Result<Response<v1::ListShardHistoryResponse>, Status> {
        self.answer(request, |received| self.shard_history_page(received)).await
    }

    async fn diff_shards(
        &self,
        request: Request<v1::DiffShardsRequest>,
    ) -> Result<Response<v1::DiffShardsResponse>, Status> {
        self.answer(request, |received| self.shards_diff(received)).await
    }

    async fn simulate_shards(
        &self,
        request: Request<v1::SimulateShardsRequest>,
    ) -> Result<Response<v1::SimulateShardsResponse>, Status> {
        self.answer(request, |received| self.shards_simulated(received)).await
    }

    async fn move_shard(&self, request: Request<v1::MoveShardRequest>) -> Result<Response<v1::Shard>, Status> {
        let command = |message: v1::MoveShardRequest| {
            let to = PeerId::new(&message.to).map_err(|error| Error::invalid("to", error.to_string()))?;
            let id = shard_id(&message.namespace, message.shard)?;
            Ok(MoveShard { id, to }.command()?)
        };
        self.core
            .mutate(request, command)
            .await
            .map(|shard| self.renewed(shard))
    }

    async fn cancel_move(&self, request: Request<v1::CancelMoveRequest>) -> Result<Response<v1::Shard>, Status> {
        let call = Call::of(&request)?;
        let asked = request.get_ref();
        let ended = self.move_of(&call, &asked.namespace, asked.shard).await;
        let ended = ended.map_err(|error| error.into_status(&call.request_id))?;
        let command = |_| Ok(ended.command()?);
        self.core
            .mutate(request, command)
            .await
            .map(|shard| self.renewed(shard))
    }

    async fn acknowledge_move(
        &self,
        request: Request<v1::AcknowledgeMoveRequest>,
    ) -> Result<Response<v1::Shard>, Status> {
        let call = Call::of(&request)?;
        let command = |message: v1::AcknowledgeMoveRequest| Ok(acknowledged(&call, &message)?.command()?);
        self.core
            .mutate(request, command)
            .await
            .map(|shard| self.renewed(shard))
    }

    async fn pause_shard(&self, request: Request<v1::PauseShardRequest>) -> Result<Response<v1::Shard>, Status> {
        let command = |message: v1::PauseShardRequest| held(&message.namespace, message.shard, Hold::Pause);
        self.core
            .mutate(request, command)
            .await
            .map(|shard| self.renewed(shard))
    }

    async fn resume_shard(&self, request: Request<v1::ResumeShardRequest>) -> Result<Response<v1::Shard>, Status> {
        let command = |message: v1::ResumeShardRequest| held(&message.namespace, message.shard, Hold::Resume);
        self.core
            .mutate(request, command)
            .await
            .map(|shard| self.renewed(shard))
    }

    async fn disable_shard(&self, request: Request<v1::DisableShardRequest>) -> Result<Response<v1::Shard>, Status> {
        let command = |message: v1::DisableShardRequest| held(&message.namespace, message.shard, Hold::Disable);
        self.core
            .mutate(request, command)
            .await
            .map(|shard| self.renewed(shard))
    }

    async fn enable_shard(&self, request: Request<v1::EnableShardRequest>) -> Result<Response<v1::Shard>, Status> {
        let command = |message: v1::EnableShardRequest| held(&message.namespace, message.shard, Hold::Enable);
        self.core
            .mutate(request, command)
            .await
            .map(|shard| self.renewed(shard))
    }
}

fn held(namespace: &str, index: u32, hold: Hold) -> Result<statemachine::Command, Error> {
    let id = shard_id(namespace, index)?;
    Ok(HoldShard { id, hold }.command()?)
}

/// What a peer says of a move, in its own name.
fn acknowledged(call: &Call, message: &v1::AcknowledgeMoveRequest) -> Result<EndMoveStep, Error> {
    let peer = call.principal.peer.clone().ok_or_else(|| {
        let held = format!("`{}` is no peer", call.principal.subject);
        Error::scope_missing(Scope::Peer, &held)
    })?;
    let step = v1::shard::r#move::Step::try_from(message.step);
    let step = match step.map_err(|_| Error::invalid("step", "there is no such step"))? {
        v1::shard::r#move::Step::Preparing => MoveStep::Preparing,
        v1::shard::r#move::Step::Stopping => MoveStep::Stopping,
        v1::shard::r#move::Step::Unspecified => return Err(Error::invalid("step", "name the step that is done")),
    };
    let token = message.token.as_ref();
    let token = token.ok_or_else(|| Error::invalid("token", "the token that the shard had when the move began"))?;
    Ok(EndMoveStep {
        id: shard_id(&message.namespace, message.shard)?,
        begun: Revision(message.begun),
        step,
        end: match message.failed {
            true => StepEnd::Cancelled,
            false => StepEnd::Acknowledged,
        },
        by: Some((
            peer,
            FencingToken {
                mesh: Epoch(token.mesh_epoch),
                shard: token.shard_epoch,
            },
        )),
    })
}

impl Api {
    /// The end of the move that a shard is on, whichever that is. Where it is on none, one that apply refuses: a retry has to
    /// get that far to be known as one.
    async fn move_of(&self, call: &Call, namespace: &str, index: u32) -> Result<EndMoveStep, Error> {
        let id = shard_id(namespace, index)?;
        let view = self.core.handle.read(Consistency::Linearizable, call.deadline).await?;
        let shard = view.state().mesh.shard(&id);
        let moving = shard.and_then(|shard| shard.moving.as_ref());
        Ok(EndMoveStep {
            begun: moving.map_or(Revision(0), |moving| moving.begun),
            step: moving.map_or(MoveStep::Preparing, |moving| moving.step),
            id,
            end: StepEnd::Cancelled,
            by: None,
        })
    }

    /// An answer that is one shard, under the token that it has in this epoch.
    fn shard(&self, revision: Revision, shard: &Shard, epoch: Epoch) -> Response<v1::Shard> {
        let mut response = self.record(revision, shard.meta.etag(), convert::shard_in(shard, epoch));
        if shard.mesh_epoch != epoch {
            // The ETag is that of the record, which a new epoch of the mesh does not change; what is shown does.
            response.extensions_mut().insert(Renewed);
        }
        response
    }

    /// An answer to a mutation that did not have to change the shard shows it under the token that it has now.
    fn renewed(&self, mut response: Response<v1::Shard>) -> Response<v1::Shard> {
        let epoch = self.core.handle.view().state().mesh.epoch();
        if let Some(token) = &mut response.get_mut().token {
            token.mesh_epoch = token.mesh_epoch.max(epoch.0);
        }
        response
    }

    /// A shard as it was.
    async fn shard_at(&self, call: &Call, view: View, id: ShardId, at: Revision) -> Result<Response<v1::Shard>, Error> {
        let mesh = self.core.mesh().to_string();
        let read = {
            let (view, id) = (view.clone(), id.to_string());
            move |_: &Wanted| {
                let shard = view.record_at(Kind::Shard, &id, at)?;
                Ok((shard, view.record_at(Kind::Mesh, &mesh, at)?))
            }
        };
        let found = self.core.history.read(&call.request_id, call.deadline, read).await?;
        let epoch = match &found.1 {
            Some(Record::Mesh(mesh)) => mesh.epoch(),
            _ => return Err(Error::internal("history has no record of the mesh")),
        };
        match &found.0 {
            Some(Record::Shard(shard)) => Ok(self.shard(at, shard, epoch)),
            _ => Err(gone(&view, &id, at)),
        }
    }
}

/// A shard that was not there at a revision, whatever is there now.
fn gone(view: &View, id: &ShardId, at: Revision) -> Error {
    match view.state().mesh.shard(id) {
        Some(_) => {
            let hint = format!("`mesh shards history {id}` shows since when it is there");
            Error::not_found("shard", &id.to_string())
                .hint(hint)
                .with(|problem| problem.detail = format!("at revision {at} there was no shard `{id}`"))
        }
        None => missing(&view.state().mesh, id),
    }
}

/// The namespaces that a question is about: one, or all.
fn asked_about(mesh: &MeshState, namespace: Option<&NamespaceId>) -> Vec<NamespaceId> {
    match namespace {
        Some(id) => vec![id.clone()],
        None => mesh
            .namespaces_after(None)
            .map(|namespace| namespace.id.clone())
            .collect(),
    }
}

/// The changes that fit into one message, and whether these are not all.
fn bounded(changes: Vec<v1::ShardChange>) -> (Vec<v1::ShardChange>, bool) {
    let mut bytes = 0;
    let fits = changes.iter().take_while(|change| {
        // Key and length of each beside it.
        bytes += prost::Message::encoded_len(*change) + 4;
        bytes <= crate::listing::PAGE_BYTES_MAX
    });
    let count = fits.count();
    let truncated = count < changes.len();
    let mut changes = changes;
    changes.truncate(count);
    (changes, truncated)
}
