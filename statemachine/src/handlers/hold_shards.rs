//! `shards.pause`, `shards.resume`, `shards.disable`, `shards.enable`

use serde::{Deserialize, Serialize};

use super::shard;
use crate::{
    Effects, Event, Handler, Record, Rejection, Rule, View, check,
    record::{Kind, Shard, ShardId, ShardStatus},
};

/// What is to be done with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// It stays where it is, and is served.
    Pause,
    /// It may be moved again.
    Resume,
    /// Nobody serves it: the token of its owner is no longer good.
    Disable,
    /// Its owner serves it again, under a new token.
    Enable,
}

/// Pauses, resumes, disables or enables a shard. Asking for what is so already changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldShard {
    /// The shard.
    pub id: ShardId,
    /// What is to be done with it.
    pub hold: Hold,
}

super::level_2!(HoldShard);

impl Handler for HoldShard {
    fn action(&self) -> &'static str {
        match self.hold {
            Hold::Pause => "shards.pause",
            Hold::Resume => "shards.resume",
            Hold::Disable => "shards.disable",
            Hold::Enable => "shards.enable",
        }
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Shard, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::SHARD_EXISTS, check::SHARD_STEP_ALLOWED]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = shard(view, &self.id)?;
        let from = before.status;
        let to = match (self.hold, from) {
            (Hold::Pause, ShardStatus::Active | ShardStatus::Paused) => Some(ShardStatus::Paused),
            (Hold::Resume, ShardStatus::Active | ShardStatus::Paused) => Some(ShardStatus::Active),
            (Hold::Disable, ShardStatus::Active | ShardStatus::Paused | ShardStatus::Disabled) => {
                Some(ShardStatus::Disabled)
            }
            (Hold::Enable, ShardStatus::Active | ShardStatus::Disabled) => Some(ShardStatus::Active),
            (_, ShardStatus::Moving)
            | (Hold::Pause | Hold::Resume, ShardStatus::Disabled)
            | (Hold::Enable, ShardStatus::Paused) => None,
        };
        let refused = || Rejection::ShardTransition {
            shard: self.id.clone(),
            status: from,
            action: self.action().to_owned(),
        };
        let leads = match self.hold {
            Hold::Pause | Hold::Resume => "active or paused",
            Hold::Disable => "active, paused or disabled",
            Hold::Enable => "active or disabled",
        };
        view.check(check::SHARD_STEP_ALLOWED, from.word(), leads, to.is_some(), refused)?;
        let Some(to) = to.filter(|to| *to != from) else {
            return Ok(Effects::unchanged());
        };
        let fences = to == ShardStatus::Disabled || from == ShardStatus::Disabled;
        let after = Shard {
            status: to,
            epoch: before.epoch.saturating_add(u64::from(fences)),
            ticket: view.origin.ticket.clone(),
            ..before.clone()
        };
        Ok(Effects::default()
            .put(Record::Shard(after.into()))
            .event(Event::ShardHeld {
                shard: self.id.clone(),
                status: to,
            }))
    }
}
