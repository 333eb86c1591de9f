//! Shards.

use proto::v1;
use statemachine::record::{Cause, Move, MoveStep, Shard, ShardStatus};

use crate::{hand_off, time};

/// A shard. Its token's first half is the mesh's epoch when it changed last: whoever knows of a later one puts that in.
#[must_use]
pub fn shard(shard: &Shard) -> v1::Shard {
    let meta = &shard.meta;
    v1::Shard {
        namespace: shard.id.namespace.as_str().to_owned(),
        shard: shard.id.index,
        owner: shard
            .owner
            .as_ref()
            .map(|peer| peer.as_str().to_owned())
            .unwrap_or_default(),
        replicas: shard.replicas.iter().map(|peer| peer.as_str().to_owned()).collect(),
        status: status(shard.status).into(),
        token: Some(v1::FencingToken {
            mesh_epoch: shard.mesh_epoch.0,
            shard_epoch: shard.epoch,
        }),
        moving: shard.moving.as_ref().map(moving),
        ticket: shard.ticket.clone(),
        version: meta.version,
        etag: meta.etag().to_string(),
        created_revision: meta.created.revision.0,
        changed_revision: meta.changed.revision.0,
        created_at: Some(time(meta.created_wall_ms)),
        changed_at: Some(time(meta.changed_wall_ms)),
    }
}

/// The status that a filter names; none where it names none.
#[must_use]
pub fn shard_status(status: v1::shard::Status) -> Option<ShardStatus> {
    match status {
        v1::shard::Status::Unspecified => None,
        v1::shard::Status::Active => Some(ShardStatus::Active),
        v1::shard::Status::Moving => Some(ShardStatus::Moving),
        v1::shard::Status::Paused => Some(ShardStatus::Paused),
        v1::shard::Status::Disabled => Some(ShardStatus::Disabled),
    }
}

fn status(status: ShardStatus) -> v1::shard::Status {
    match status {
        ShardStatus::Active => v1::shard::Status::Active,
        ShardStatus::Moving => v1::shard::Status::Moving,
        ShardStatus::Paused => v1::shard::Status::Paused,
        ShardStatus::Disabled => v1::shard::Status::Disabled,
    }
}

fn moving(moving: &Move) -> v1::shard::Move {
    let step = match moving.step {
        MoveStep::Preparing => v1::shard::r#move::Step::Preparing,
        MoveStep::Stopping => v1::shard::r#move::Step::Stopping,
    };
    let cause = match moving.cause {
        Cause::Placed => v1::shard::r#move::Cause::Placed,
        Cause::Asked => v1::shard::r#move::Cause::Asked,
        Cause::Drained => v1::shard::r#move::Cause::Drained,
        Cause::Died => v1::shard::r#move::Cause::Died,
    };
    v1::shard::Move {
        begun: moving.begun.0,
        to: moving.to.to_string(),
        step: step.into(),
        hand_off: hand_off(moving.hand_off).into(),
        cause: cause.into(),
        operation: moving.operation.as_ref().map(ToString::to_string).unwrap_or_default(),
        actor: moving.actor.clone(),
    }
}
