//! A node that hears of no leader calls on the others.
//!
//! A voter does so anyhow, by asking for votes. A learner does not, and a node whom the others will have nothing to do
//! with, because it was removed or its data is an old copy, would wait for a leader for ever without learning why.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use statemachine::NodeId;
use tokio::time::{Instant, sleep};

use crate::net::message::Lane;
use crate::net::pool::Pool;
use crate::node::Raft;

/// How often it calls, and for how long on each.
const PERIOD: Duration = Duration::from_secs(1);

/// Runs until the task is ended. What comes of a call is noted by the link itself.
pub(crate) async fn run(own: NodeId, raft: Raft, pool: Pool) {
    loop {
        sleep(PERIOD).await;
        let others = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            if metrics.current_leader.is_some() {
                continue;
            }
            let others = metrics.membership_config.nodes().filter(|(id, _)| **id != own.0);
            others.map(|(id, at)| (*id, at.clone())).collect::<Vec<_>>()
        };
        for (node, endpoint) in others {
            let link = pool.link(node, &endpoint, Lane::Control);
            link.conn(Instant::now() + PERIOD).await.ok();
        }
    }
}
