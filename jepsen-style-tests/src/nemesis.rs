//! Faults: the leader is killed, or everybody is; and what operators do on an ordinary day: leadership is handed over, a
//! node joins, votes and goes.

use std::time::{Duration, Instant};

use api_client::Client;
use node_harness::Mesh;
use proto::v1::TransferLeadershipRequest;
use rand::{Rng as _, rngs::StdRng};
use tokio::runtime::Handle;

use crate::{
    Result,
    cluster::{Cluster, Leader},
    error::Doing as _,
    history::Recorder,
};

/// How long a new leader may take before the run is given up: far above what is promised, so that being late is
/// measured and not taken for a broken run.
const LEADER_WITHIN: Duration = Duration::from_secs(30);

/// How long a node that was started again may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(45);

/// Between two attempts at what is refused while the cluster is busy with something else.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the leader; it is started again after the others have a new one.
    KillLeader,
    /// `kill -9` of all nodes at once; then all are started again.
    KillAll,
    /// Leadership is handed to another node.
    HandOver,
    /// A new node is invited, joins, is made a voter, and is taken out again for good.
    JoinAndLeave,
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
    /// How many nodes have joined and left.
    pub joined: u64,
}

impl Nemesis<'_> {
    /// Strikes, and sees to it that everybody is back before it returns.
    ///
    /// # Errors
    /// Where a process cannot be killed or started, or the cluster does not come back.
    pub fn strike(&mut self, fault: Fault, rng: &mut StdRng) -> Result<Fired> {
        let before = self.leader(0)?;
        let after = match fault {
            Fault::KillLeader => self.kill(vec![before.node], before, rng)?,
            Fault::KillAll => self.kill(self.mesh.ids(), before, rng)?,
            Fault::HandOver => self.hand_over(before)?,
            Fault::JoinAndLeave => self.join_and_leave()?,
        };
        Ok(Fired { fault, before, after })
    }

    fn kill(&mut self, killed: Vec<u64>, before: Leader, rng: &mut StdRng) -> Result<Leader> {
        self.recorder.fault(format!(
            "kill -9 of {killed:?}; node {} leads term {}",
            before.node, before.term
        ));
        let all = killed.len() == self.mesh.ids().len();
        if all {
            self.mesh.kill_all()?;
        } else {
            for node in &killed {
                self.mesh.kill(*node)?;
            }
        }
        self.recorder.fault(format!("{killed:?} are gone"));
        if !all {
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
        Ok(after)
    }

    fn hand_over(&mut self, before: Leader) -> Result<Leader> {
        self.recorder
            .fault(format!("node {} of term {} hands over", before.node, before.term));
        let request = TransferLeadershipRequest {
            reason: "a test".to_owned(),
            ..Default::default()
        };
        let handed = self.runtime.block_on(self.client.transfer_leadership(request));
        handed.doing("handing leadership over")?;
        let after = self.leader(before.term)?;
        self.recorder
            .fault(format!("node {} leads term {}", after.node, after.term));
        Ok(after)
    }

    /// The clients do not know of the new node: what it does for them is to vote.
    fn join_and_leave(&mut self) -> Result<Leader> {
        self.joined += 1;
        let node = self.joined + u64::try_from(self.cluster.nodes().len()).unwrap_or(u64::MAX);
        let number = node.to_string();
        self.mesh.new_node(node)?;
        let token = self.mesh.scratch().join(format!("token-{node}"));
        let file = token.display().to_string();
        self.recorder.fault(format!("node {node} is invited"));
        self.mesh.mesh(["members", "invite", &number, "--out", &file]).ok()?;
        self.mesh.join(node, &token)?;
        self.insist(&["members", "promote", &number])?;
        self.recorder.fault(format!("node {node} votes"));
        self.insist(&["members", "remove", &number, "--yes"])?;
        self.mesh.wait_ended(node, READY_WITHIN)?;
        self.mesh.forget(node)?;
        self.recorder.fault(format!("node {node} is removed, and gone"));
        self.leader(0)
    }

    /// A command that is refused for a while: the new node has to be there and to catch up, or a leader to be elected.
    fn insist(&self, arguments: &[&str]) -> Result<()> {
        let start = Instant::now();
        loop {
            let ran = self.mesh.mesh(arguments);
            if ran.success() {
                return Ok(());
            }
            if start.elapsed() >= READY_WITHIN {
                ran.ok()?;
            }
            std::thread::sleep(AGAIN_AFTER);
        }
    }

    fn leader(&self, above: u64) -> Result<Leader> {
        self.runtime
            .block_on(self.cluster.wait_leader(self.client, above, LEADER_WITHIN))
    }
}
