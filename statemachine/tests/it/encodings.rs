//! Golden bytes of everything that is stored: what a feature level writes must be readable for ever.

use std::{fmt::Write as _, fs, path::PathBuf};

#[cfg(not(feature = "previous-level"))]
use meshkit_statemachine::CordonPeer;
use meshkit_statemachine::{
    ApplyCluster, ClusterId, Command, DrainPeer, Entry, Idempotency, Outcome, Revision, RollbackConfig, SetConfig,
    codec::{self, Format},
    record::{ClusterSpec, Fencing, Overrides},
    rows::Table,
};

use crate::world::{World, key, peer_id, register};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Compares with the golden file; `MESHKIT_BLESS=1` writes it.
fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("MESHKIT_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text,
        "{} differs; an encoding changed:\n{text}",
        path.display()
    );
}

/// Every entry that was proposed, then what it left behind.
struct Transcript {
    world: World,
    text: String,
}

impl Transcript {
    fn at_level(level: u32) -> Self {
        Self {
            world: World::at_level(level),
            text: String::new(),
        }
    }

    fn propose(&mut self, command: Command, reason: &str, key: Option<Idempotency>) {
        let mut proposal = self.world.proposal(command);
        proposal.origin.reason = reason.into();
        proposal.origin.ticket = "OPS-1".into();
        proposal.origin.idempotency = key;
        let entry = Entry::Command(Box::new(proposal.clone()));
        let bytes = codec::encode(Format::Entry, &entry);
        writeln!(self.text, "entry {}", hex(&bytes)).unwrap();
        assert_eq!(codec::decode::<Entry>(Format::Entry, &bytes), Ok(entry));
        let recorded = self.world.propose(proposal);
        assert!(matches!(recorded.unit.outcome, Outcome::Applied { .. }), "{recorded:?}");
    }

    /// What every level can do.
    fn basics(&mut self) {
        self.propose(register(1), "", None);
        let spec = ClusterSpec {
            region: "eu".into(),
            priority: 7,
            fencing: Fencing::Lease,
            replication_endpoints: vec!["eu.example:7500".into()],
            owners: vec!["sre".into()],
            annotations: [("tier".to_owned(), "1".to_owned())].into(),
        };
        let apply = ApplyCluster {
            id: ClusterId::new("c2").unwrap(),
            spec,
            state: None,
        };
        self.propose(apply.into(), "", None);
        let set = SetConfig {
            set: [("limits.peers".to_owned(), 7)].into(),
            reset: vec!["limits.clusters".into()],
        };
        self.propose(set.into(), "", None);
        let rollback = RollbackConfig {
            to: Revision(1),
            overrides: Overrides::new(),
        };
        self.propose(rollback.into(), "", None);
        let checkpoint = self.world.checkpoint(Revision(4));
        self.propose(checkpoint, "", None);
        self.propose(DrainPeer { id: peer_id(1) }.into(), "kernel", key("key-1", 7));
    }

    fn golden(mut self, name: &str) {
        for table in Table::ALL {
            for (key, value) in self.world.rows.get(&table).into_iter().flatten() {
                writeln!(self.text, "{table:?} {} {}", hex(key), hex(value)).unwrap();
            }
        }
        writeln!(self.text, "head {}", hex(&self.world.state.head_row())).unwrap();
        assert_eq!(self.world.reload().mesh.digest(), self.world.state.mesh.digest());
        golden(name, &self.text);
    }
}

/// What a mesh of level 1 writes, which programs of level 1 read, whichever program writes it.
#[test]
fn level_1() {
    let mut transcript = Transcript::at_level(1);
    transcript.basics();
    let peer = transcript.world.state.mesh.peer(&peer_id(1)).unwrap();
    assert_eq!(peer.status_reason, "", "level 1 has no place for it");
    transcript.golden("level-1.txt");
}

#[cfg(not(feature = "previous-level"))]
mod level_2 {
    use meshkit_statemachine::{CompactHistory, FinalizeUpgrade, MeshId};

    use super::*;

    fn compact(world: &World, to: Revision) -> Command {
        CompactHistory {
            mesh: MeshId::new("m1").unwrap(),
            to,
            to_mesh_time_ms: world.unit(to).unwrap().unit.stamp.mesh_time_ms,
        }
        .into()
    }

    #[test]
    fn encodings() {
        let mut transcript = Transcript::at_level(2);
        transcript.basics();
        let peer = transcript.world.state.mesh.peer(&peer_id(1)).unwrap();
        assert_eq!(peer.status_reason, "kernel");
        transcript.world.now_ms += 900_000;
        let command = compact(&transcript.world, Revision(5));
        transcript.propose(command, "room", None);
        assert_eq!(transcript.world.state.mesh.floor(), Revision(5));
        transcript.golden("level-2.txt");
    }

    /// From the very next command on a raised mesh does what the new level does, and before it nothing of that.
    #[test]
    fn behaviour_changes_where_the_level_is_raised() {
        let mut world = World::at_level(1);
        world.run(register(1)).unwrap();
        world.run(register(2)).unwrap();
        let checkpoint = world.checkpoint(Revision(2));
        world.run(checkpoint).unwrap();
        world.now_ms += 900_000;
        let cordon = |world: &mut World, n| {
            let mut proposal = world.proposal(CordonPeer { id: peer_id(n) }.into());
            proposal.origin.reason = "fan".into();
            world.propose(proposal);
            world.state.mesh.peer(&peer_id(n)).unwrap().status_reason.clone()
        };
        assert_eq!(cordon(&mut world, 1), "");
        let command = compact(&world, Revision(3));
        assert_eq!(world.run(command.clone()).unwrap_err().code(), "feature_level_too_low");
        let finalize = FinalizeUpgrade {
            mesh: MeshId::new("m1").unwrap(),
            to: 2,
        };
        world.run(finalize.into()).unwrap();
        assert_eq!(cordon(&mut world, 2), "fan");
        world.run(command).unwrap();
        assert_eq!(world.state.mesh.floor(), Revision(3));
        assert_eq!(world.reload().head_row(), world.state.head_row());
    }
}
