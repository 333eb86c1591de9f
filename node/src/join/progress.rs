//! How far a new member is.

use std::time::Duration;

use raft::{Handle, Status};
use statemachine::NodeId;
use tokio::time::{Instant, timeout};

/// Between two lines, where something has changed.
const PERIOD: Duration = Duration::from_secs(2);

/// Prints how a new member catches up, until it has, or the node ends.
pub(super) async fn show(node: NodeId, handle: &Handle) {
    let mut status = handle.watch_status();
    let mut said = String::new();
    let mut next = Instant::now();
    loop {
        let now = status.borrow_and_update().clone();
        if let Some((line, done)) = line(node, &now) {
            if done || (line != said && Instant::now() >= next) {
                println!("{line}");
                next = Instant::now() + PERIOD;
                said = line;
            }
            if done {
                return;
            }
        }
        if let Ok(Err(_)) = timeout(PERIOD, status.changed()).await {
            return;
        }
    }
}

/// What to say, and whether it is the last.
fn line(node: NodeId, status: &Status) -> Option<(String, bool)> {
    let committed = status.committed_index?;
    status.leader.as_ref()?;
    let own = status.members.iter().find(|member| member.node == node);
    let Some(own) = own else {
        return Some((format!("node {node} waits for the log, or a snapshot"), false));
    };
    match status.applied_index {
        Some(applied) if applied >= committed => {
            let next = if own.voter {
                "It votes".to_owned()
            } else {
                format!("It does not vote yet: `mesh members promote {node}`")
            };
            Some((
                format!("node {node} has caught up, at log index {applied}. {next}"),
                true,
            ))
        }
        applied => {
            let applied = applied.unwrap_or(0);
            Some((format!("node {node} is at log index {applied} of {committed}"), false))
        }
    }
}
