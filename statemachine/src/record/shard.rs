//! One part of a namespace's keys, and who owns it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{HandOff, Meta};
use crate::{Epoch, NamespaceId, OperationId, PeerId, Revision};

/// Which shard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId {
    /// Its namespace.
    pub namespace: NamespaceId,
    /// From 0.
    pub index: u32,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.index)
    }
}

impl FromStr for ShardId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is not a shard: write NAMESPACE/NUMBER",
                text.chars().take(80).collect::<String>()
            )
        };
        let (namespace, index) = text.split_once('/').ok_or_else(wrong)?;
        let namespace = NamespaceId::new(namespace).map_err(|error| error.to_string())?;
        let index: u32 = index.parse().map_err(|_| wrong())?;
        let id = Self { namespace, index };
        // One way to write each: no sign, no zeros in front.
        if id.to_string() == text { Ok(id) } else { Err(wrong()) }
    }
}

/// What may be done with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ShardStatus {
    /// Its owner serves it; it may be moved.
    Active,
    /// It is on its way to another owner.
    Moving,
    /// Its owner serves it; it stays where it is.
    Paused,
    /// Nobody is to serve it.
    Disabled,
}

impl ShardStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Active, Self::Moving, Self::Paused, Self::Disabled];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Moving => "moving",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }
}

/// How far a move is. After the last step the shard has its new owner, and there is no move any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MoveStep {
    /// The target gets ready.
    Preparing,
    /// The source stops: only an exclusive move waits for it.
    Stopping,
}

impl MoveStep {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Stopping => "stopping",
        }
    }
}

/// Why a shard gets another owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// Its namespace was made or changed.
    Placed,
    /// Somebody asked for it.
    Asked,
    /// Its owner is being drained.
    Drained,
    /// Its owner is dead or gone.
    Died,
}

impl Cause {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Asked => "asked",
            Self::Drained => "drained",
            Self::Died => "died",
        }
    }
}

/// A shard on its way to another owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Names the move: where it began.
    pub begun: Revision,
    /// Where it goes.
    pub to: PeerId,
    /// How far it is.
    pub step: MoveStep,
    /// How it is done, as the policy was when it began.
    pub hand_off: HandOff,
    /// Why.
    pub cause: Cause,
    /// The operation that it is a part of.
    pub operation: Option<OperationId>,
    /// When its step has taken too long, in mesh time.
    pub deadline_ms: u64,
    /// Subject of who asked for it.
    pub actor: String,
}

/// One part of a namespace's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which.
    pub id: ShardId,
    /// Who serves it.
    pub owner: Option<PeerId>,
    /// Who holds its data beside the owner.
    pub replicas: Vec<PeerId>,
    /// What may be done with it.
    pub status: ShardStatus,
    /// Counts its owners; the second half of the fencing token.
    pub epoch: u64,
    /// The mesh's epoch when the record changed last, stamped by apply. The token's first half is the mesh's epoch now: this
    /// one, or a later one.
    pub mesh_epoch: Epoch,
    /// Where it is going. Present while moving.
    pub moving: Option<Move>,
    /// The change ticket of the last change.
    pub ticket: String,
    /// Changes of the record.
    pub meta: Meta,
}

/// The right to serve a shard: greater than every one before it, also after a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FencingToken {
    /// The mesh's epoch.
    pub mesh: Epoch,
    /// The shard's epoch.
    pub shard: u64,
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.mesh, self.shard)
    }
}

impl Shard {
    /// Whether a peer is its owner, one of its replicas, or about to be its owner.
    #[must_use]
    pub fn involves(&self, peer: &PeerId) -> bool {
        let target = self.moving.as_ref().map(|moving| &moving.to);
        self.owner
            .iter()
            .chain(&self.replicas)
            .chain(target)
            .any(|other| other == peer)
    }

    /// The same shard with another owner, under the next epoch. An owner who was a replica swaps seats with the one before.
    #[must_use]
    pub fn handed_to(&self, owner: PeerId) -> Self {
        let mut replicas = self.replicas.clone();
        if let Some(seat) = replicas.iter().position(|replica| *replica == owner) {
            match &self.owner {
                Some(before) => replicas[seat] = before.clone(),
                None => drop(replicas.remove(seat)),
            }
        }
        let owner = Some(owner);
        Self {
            owner,
            replicas,
            status: ShardStatus::Active,
            epoch: self.epoch.saturating_add(1),
            moving: None,
            ..self.clone()
        }
    }
}
