//! A backup brought back: restored to empty disks as a new cluster's first node, as `meshkit-node restore` does it.

use raft::{
    Identity,
    engine::{Store, memory::Disk},
    restore::Restore,
};
use statemachine::{
    ClusterId, Conditions, Hash, MeshId, NodeId, Origin, Position, Proposal, RestoreMesh, Revision, Stamp, TimelineId,
    backup::{Check, Decoder, Part},
};

use crate::{
    clock,
    network::{CLUSTER, MESH},
    orders::{Taken, endpoint},
};

/// What a backup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The node that it was taken from.
    pub node: NodeId,
    /// What it has to hold: revision and audit chain that were acknowledged before it began.
    pub seen: (Revision, Hash),
    /// What it holds, and what was restored from it; or why that failed.
    pub outcome: Result<Held, String>,
}

/// What a good backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its position.
    pub position: Position,
    /// The audit chain there.
    pub chain: Hash,
    /// The digest of the state there, computed anew from its rows.
    pub digest: Hash,
    /// Where its history begins.
    pub floor: Revision,
    /// How many revisions of history are in it.
    pub revisions: u64,
    /// The position of the restored mesh's first command.
    pub to: Position,
    /// The position that the restored mesh says that it continues.
    pub from: Position,
}

/// Checks a backup and restores it.
#[must_use]
pub fn restored(taken: &Taken) -> Restored {
    Restored {
        node: taken.node,
        seen: taken.seen,
        outcome: restore(&taken.bytes),
    }
}

fn restore(bytes: &[u8]) -> Result<Held, String> {
    let (mut decoder, mut check) = (Decoder::new(), Check::new());
    let (mut all, mut end) = (Vec::new(), None);
    decoder.push(bytes);
    while let Some(part) = decoder.part().map_err(|damage| damage.to_string())? {
        check.part(&part).map_err(|wrong| wrong.to_string())?;
        match part {
            Part::Rows(rows) => all.push(rows),
            Part::End(found) => end = Some(found),
            Part::Header(_) => {}
        }
    }
    decoder.finish().map_err(|damage| damage.to_string())?;
    let end = end.ok_or("it has no end")?;
    let checked = check.finish(end).map_err(|wrong| wrong.to_string())?;
    let (contents, mesh) = (&checked.contents, &checked.state.mesh);

    let id = |error: statemachine::InvalidId| error.to_string();
    let own = Identity {
        mesh: MeshId::new(MESH).map_err(id)?,
        cluster: ClusterId::new(&format!("{CLUSTER}-restored")).map_err(id)?,
        node: NodeId(1),
    };
    let proposal = Proposal {
        stamp: Stamp {
            mesh_time_ms: contents.header.stamp.mesh_time_ms,
            wall_ms: clock::EPOCH_MS,
        },
        origin: Origin::default(),
        conditions: Conditions::default(),
        command: RestoreMesh {
            mesh: own.mesh.clone(),
            cluster: own.cluster.clone(),
            timeline: TimelineId(2),
        }
        .into(),
    };
    let disks = [Store::Log, Store::State].map(Disk::new);
    let [log, state] = [&disks[0], &disks[1]].map(Disk::open);
    let mut restore = Restore::begin(log, state, &own).map_err(|error| error.to_string())?;
    for rows in all {
        restore.rows(rows).map_err(|error| error.to_string())?;
    }
    let members = [(own.node, endpoint(own.node))];
    let done = restore.finish(&contents.header, &members, proposal);
    let done = done.map_err(|error| error.to_string())?;
    Ok(Held {
        position: mesh.position(),
        chain: mesh.chain(),
        digest: mesh.digest(),
        floor: mesh.floor(),
        revisions: contents.revisions,
        to: done.to,
        from: done.from,
    })
}
