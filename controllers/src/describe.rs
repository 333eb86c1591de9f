//! Each node keeps what the cluster knows of it up to date.

use std::time::Duration;

use raft::Error;
use statemachine::{
    ClusterId, Stamp,
    cluster::{Command, NodeFacts},
};

use crate::controller::{Controller, Node, Pass};

/// Proposes this node's facts until the cluster has them.
pub(crate) struct Describe {
    pub cluster: ClusterId,
    pub facts: NodeFacts,
}

impl Controller for Describe {
    fn name(&self) -> &'static str {
        "describe"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        let view = node.handle.view();
        let cluster = &view.state().cluster;
        if cluster.is_removed(node.handle.node()) || cluster.node(node.handle.node()) == Some(&self.facts) {
            return Ok(Pass::Idle);
        }
        let command = Command::DescribeNode {
            stamp: Stamp::default(),
            cluster: self.cluster.clone(),
            node: node.handle.node(),
            facts: self.facts.clone(),
        };
        node.handle.propose_cluster_anywhere(command, node.deadline()).await?;
        Ok(Pass::Idle)
    }
}
