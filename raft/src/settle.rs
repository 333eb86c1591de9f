//! Completes a change of the voters that nobody completes any more.
//!
//! A change takes two steps: to both sets of voters, then to the new one alone. Who asked for it may have given up
//! waiting for the first, or the leader that took it may have died in between; then majorities of both sets would be
//! needed until somebody changes the members again.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{ChangeMembers, ServerState};
use tokio::time::{sleep, timeout};

use crate::node::Raft;
use crate::types::LogId;

/// A change that stands after its first step for this long has been left: the second follows at once otherwise.
const LEFT_AFTER: Duration = Duration::from_secs(2);

/// For the second step to be committed, before it is looked again.
const WITHIN: Duration = Duration::from_secs(10);

/// Runs until the task is ended. Does something on the leader only.
pub(crate) async fn run(raft: Raft) {
    let mut seen = None;
    loop {
        sleep(LEFT_AFTER).await;
        let found = halfway(&raft);
        if found.is_none() || found != seen {
            seen = found;
            continue;
        }
        // Nobody is added; the step alone. A voter that is none any more stays as a learner: whether it was to be
        // removed is for whoever asked to repeat.
        let step = ChangeMembers::AddVoterIds(std::collections::BTreeSet::new());
        match timeout(WITHIN, raft.change_membership(step, true)).await {
            Ok(Ok(_)) => tracing::info!("a change of voters that was left halfway is completed"),
            Ok(Err(error)) => tracing::info!(%error, "a change of voters stays halfway"),
            Err(_) => tracing::info!("a change of voters waits for its second step"),
        }
    }
}

/// The entry of the first step, where this node leads and the step is committed.
fn halfway(raft: &Raft) -> Option<LogId> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let effective = &metrics.membership_config;
    let committed = effective.log_id() == metrics.committed_membership_config.log_id();
    let joint = effective.membership().get_joint_config().len() > 1;
    let leads = metrics.state == ServerState::Leader;
    (leads && joint && committed).then(|| *effective.log_id()).flatten()
}
