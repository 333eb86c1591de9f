//! Faults: the leader is killed, or everybody is.

use std::time::Duration;

use api_client::Client;
use node_harness::Mesh;
use rand::{Rng as _, rngs::StdRng};
use tokio::runtime::Handle;

use crate::{
    Result,
    cluster::{Cluster, Leader},
    history::Recorder,
};

/// How long a new leader may take before the run is given up: far above what is promised, so that being late is
/// measured and not taken for a broken run.
const LEADER_WITHIN: Duration = Duration::from_secs(30);

/// How long a node that was started again may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(45);

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the leader; it is started again after the others have a new one.
    KillLeader,
    /// `kill -9` of all nodes at once; then all are started again.
    KillAll,
}

/// A fault that fired.
#[derive(Debug, Clone, Copy)]
pub struct Fired {
    /// Which.
    pub fault: Fault,
    /// Who led before.
    pub before: Leader,
    /// Who leads now.
    pub after: Leader,
}

/// Brings faults about.
pub struct Nemesis<'a> {
    /// The processes.
    pub mesh: &'a mut Mesh,
    /// Where they are.
    pub cluster: &'a Cluster,
    /// A client of its own.
    pub client: &'a Client,
    /// What it does is written here.
    pub recorder: &'a Recorder,
    /// Runs what is asynchronous.
    pub runtime: &'a Handle,
}

impl Nemesis<'_> {
    /// Strikes, and sees to it that everybody is back before it returns.
    ///
    /// # Errors
    /// Where a process cannot be killed or started, or the cluster does not come back.
    pub fn strike(&mut self, fault: Fault, rng: &mut StdRng) -> Result<Fired> {
        let before = self.leader(0)?;
        let killed = match fault {
            Fault::KillLeader => vec![before.node],
            Fault::KillAll => self.mesh.ids(),
        };
        self.recorder.fault(format!(
            "kill -9 of {killed:?}; node {} leads term {}",
            before.node, before.term
        ));
        match fault {
            Fault::KillLeader => self.mesh.kill(before.node)?,
            Fault::KillAll => self.mesh.kill_all()?,
        }
        self.recorder.fault(format!("{killed:?} are gone"));
        if fault == Fault::KillLeader {
            // Started again only after the others went on without it, a while longer each time.
            let next = self.leader(before.term)?;
            self.recorder
                .fault(format!("node {} leads term {}", next.node, next.term));
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..1_500)));
        for node in &killed {
            self.mesh.restart(*node)?;
        }
        self.recorder.fault(format!("started {killed:?}"));
        for node in &killed {
            self.mesh.wait_ready(*node, READY_WITHIN)?;
        }
        let after = self.leader(before.term)?;
        self.recorder.fault(format!(
            "{killed:?} are ready; node {} leads term {}",
            after.node, after.term
        ));
        Ok(Fired { fault, before, after })
    }

    fn leader(&self, above: u64) -> Result<Leader> {
        self.runtime
            .block_on(self.cluster.wait_leader(self.client, above, LEADER_WITHIN))
    }
}
