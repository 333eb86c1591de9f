//! Everything that can be asked of a mesh: one command, one handler, one table.
//!
//! To add a mutation: write `handlers/<verb>.rs` with the command's fields and its [`Handler`], and add its name at the
//! end of the table below. The pipeline in `apply.rs` is not edited (docs/adding-a-command.md).

use serde::{Deserialize, Serialize};

#[cfg(not(feature = "previous-level"))]
use crate::handlers::{
    AdvanceDrainPeers, AdvanceReshape, ApproveStaged, BeginMoves, BeginSession, CompactHistory, CreateNamespace,
    DeleteNamespace, DrainPeerWithTerms, DrainPeers, EndMoveStep, EndSessions, EndStaged, ExpireDrain, HoldShard,
    MoveShard, ObservePeers, PatchPeerSpec, PlaceCopies, RecordChange, RejectStaged, ReshapeNamespace,
    SetNamespacePolicy, ShapeNamespace,
};
use crate::{
    Checks, Event, MeshState, Origin, Position, Record, Rejection, Rule, Stamp,
    handlers::{
        AdvanceDrain, ApplyCluster, CancelOperation, CheckpointAudit, CordonPeer, DemoteCluster, DeregisterPeer,
        DrainPeer, FinalizeUpgrade, InitMesh, PatchPeer, PromoteCluster, RecordBackup, RecordRefusals, RecoverMesh,
        RegisterPeer, RestoreMesh, RollbackConfig, SetConfig, UncordonPeer, UndrainPeer,
    },
    record::{Approvers, Kind},
};

/// What a command means to do, before it is known whether it may.
pub trait Handler {
    /// Its name in the audit trail: `peers.drain`.
    fn action(&self) -> &'static str;

    /// The record whose ETag `If-Match` speaks of, and which the audit trail names.
    fn target(&self) -> Option<(Kind, String)>;

    /// The first feature level at which it may be proposed: below it, there may be nodes that cannot read it.
    fn level(&self) -> u32 {
        1
    }

    /// Who has to agree to it beside whoever asks, by the rules as they are now.
    fn approvers(&self, mesh: &MeshState) -> Approvers {
        mesh.settings().approvers(self.action())
    }

    /// What the audit trail names where there is no one record to name: `peers/zone=a`.
    fn subject(&self) -> String {
        String::new()
    }

    /// The rules that [`Handler::validate`] states, in the order in which it looks at them.
    fn rules(&self) -> &'static [&'static Rule] {
        &[]
    }

    /// Decides. Reads the state, changes nothing, and needs nothing else: the same view gives the same answer on
    /// every node.
    ///
    /// # Errors
    /// Why it may not be done.
    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection>;
}

/// What a handler may look at.
pub struct View<'a> {
    /// The mesh as it is before the command.
    pub mesh: &'a MeshState,
    /// The position that the command takes.
    pub position: Position,
    /// The leader's clocks; mesh time is the one that apply settled on.
    pub stamp: Stamp,
    /// Who asks, and why.
    pub origin: &'a Origin,
    /// Where somebody wants to see the checks.
    pub checks: Option<&'a Checks>,
}

/// What a command does. Versions and times of the records are stamped by apply.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Effects {
    /// Records to put in place.
    pub puts: Vec<Record>,
    /// Records to take away.
    pub deletes: Vec<(Kind, String)>,
    /// What to tell observers.
    pub events: Vec<Event>,
}

impl Effects {
    /// Everything is as asked already.
    #[must_use]
    pub fn unchanged() -> Self {
        Self::default()
    }

    /// Puts a record in place.
    #[must_use]
    pub fn put(mut self, record: Record) -> Self {
        self.puts.push(record);
        self
    }

    /// Takes a record away.
    #[must_use]
    pub fn delete(mut self, kind: Kind, id: impl Into<String>) -> Self {
        self.deletes.push((kind, id.into()));
        self
    }

    /// Both: first these, then the others.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.puts.extend(more.puts);
        self.deletes.extend(more.deletes);
        self.events.extend(more.events);
        self
    }

    /// Tells observers.
    #[must_use]
    pub fn event(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }
}

macro_rules! table {
    ($($(#[$only:meta])* $name:ident),* $(,)?) => {
        /// Everything that can be asked of a mesh. The order is part of the encoding: add at the end, remove nothing.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Command {
            $(
                $(#[$only])*
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        impl Command {
            /// The command's handler.
            #[must_use]
            pub fn handler(&self) -> &dyn Handler {
                match self {
                    $($(#[$only])* Self::$name(handler) => handler,)*
                }
            }
        }

        $(
            $(#[$only])*
            impl From<$name> for Command {
                fn from(command: $name) -> Self {
                    Self::$name(command)
                }
            }
        )*
    };
}

table! {
    InitMesh,
    RegisterPeer,
    PatchPeer,
    DeregisterPeer,
    CordonPeer,
    UncordonPeer,
    DrainPeer,
    UndrainPeer,
    CancelOperation,
    AdvanceDrain,
    CheckpointAudit,
    RecordRefusals,
    ApplyCluster,
    PromoteCluster,
    DemoteCluster,
    SetConfig,
    RollbackConfig,
    FinalizeUpgrade,
    RestoreMesh,
    RecoverMesh,
    RecordBackup,
    // Feature level 2.
    #[cfg(not(feature = "previous-level"))]
    CompactHistory,
    #[cfg(not(feature = "previous-level"))]
    ApproveStaged,
    #[cfg(not(feature = "previous-level"))]
    RejectStaged,
    #[cfg(not(feature = "previous-level"))]
    EndStaged,
    #[cfg(not(feature = "previous-level"))]
    DrainPeerWithTerms,
    #[cfg(not(feature = "previous-level"))]
    DrainPeers,
    #[cfg(not(feature = "previous-level"))]
    AdvanceDrainPeers,
    #[cfg(not(feature = "previous-level"))]
    ExpireDrain,
    #[cfg(not(feature = "previous-level"))]
    BeginSession,
    #[cfg(not(feature = "previous-level"))]
    EndSessions,
    #[cfg(not(feature = "previous-level"))]
    RecordChange,
    #[cfg(not(feature = "previous-level"))]
    CreateNamespace,
    #[cfg(not(feature = "previous-level"))]
    SetNamespacePolicy,
    #[cfg(not(feature = "previous-level"))]
    DeleteNamespace,
    #[cfg(not(feature = "previous-level"))]
    ShapeNamespace,
    #[cfg(not(feature = "previous-level"))]
    ReshapeNamespace,
    #[cfg(not(feature = "previous-level"))]
    AdvanceReshape,
    #[cfg(not(feature = "previous-level"))]
    HoldShard,
    #[cfg(not(feature = "previous-level"))]
    MoveShard,
    #[cfg(not(feature = "previous-level"))]
    BeginMoves,
    #[cfg(not(feature = "previous-level"))]
    EndMoveStep,
    #[cfg(not(feature = "previous-level"))]
    ObservePeers,
    #[cfg(not(feature = "previous-level"))]
    PlaceCopies,
    #[cfg(not(feature = "previous-level"))]
    PatchPeerSpec,
}
