//! Whether a change of the voters can be committed by those who answer now.
//!
//! Raft goes from the old voters to the new ones by way of both: from the moment at which the leader has appended the
//! change, nothing at all is committed without a majority of each set, and the leader cannot take it back. A change that
//! cannot be committed is therefore not just late. It stops every write until enough voters have come back, so it is
//! refused before it is begun.
//!
//! Who answers is known from heartbeats that were sent after the change was asked for: one that was answered a moment
//! before says nothing of a node that has died since.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use statemachine::NodeId;
use tokio::time::{Instant, sleep};

use crate::error::{Error, MembershipRefusal};
use crate::handle::Handle;

/// Between two looks at who answers.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is to become of the voters.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// One more votes.
    Add(NodeId),
    /// One fewer; none fewer where it does not vote. `force`: also where nobody could be spared afterwards.
    Remove { node: NodeId, force: bool },
}

impl Handle {
    /// Waits until enough voters have answered for a change to be committed, for as long as two elections may take: a
    /// leader that was only just elected has not heard of everybody yet, and a busy one hears late.
    ///
    /// # Errors
    /// [`Error::Membership`]: too few answer, or nobody would vote any more. Nothing was changed.
    pub(super) async fn foresee(&self, change: Change, deadline: Instant) -> Result<(), Error> {
        let asked = Instant::now();
        let give_up = deadline.min(asked + self.node.config.election_timeout_max * 2);
        loop {
            let waited = asked.elapsed();
            let status = self.status();
            if !status.is_leader() {
                return Err(Error::NotLeader { leader: status.leader });
            }
            let fresh = |since: Option<Duration>| since.is_some_and(|since| since <= waited);
            let answering = status.members.iter().filter(|member| fresh(member.last_contact));
            let answering = answering.map(|member| member.node.0).collect();
            match judge(&self.voters(), &answering, change) {
                Err(Error::Membership {
                    refusal: MembershipRefusal::QuorumAtRisk,
                    ..
                }) if Instant::now() + LOOK_AGAIN < give_up => sleep(LOOK_AGAIN).await,
                judged => return judged,
            }
        }
    }

    /// Who votes; while a change is under way, who will once it is through.
    fn voters(&self) -> BTreeSet<u64> {
        let metrics = self.node.raft.metrics();
        let metrics = metrics.borrow_watched();
        let sets = metrics.membership_config.membership().get_joint_config();
        sets.last().cloned().unwrap_or_default()
    }
}

/// Whether a change of the voters `now` can be committed by `answering`, and leaves a cluster that can be relied on.
fn judge(now: &BTreeSet<u64>, answering: &BTreeSet<u64>, change: Change) -> Result<(), Error> {
    let mut then = now.clone();
    let (what, spared) = match change {
        Change::Add(node) => {
            then.insert(node.0);
            (format!("With node {node}"), None)
        }
        Change::Remove { node, force } => {
            then.remove(&node.0);
            let lives = now.contains(&node.0) && answering.contains(&node.0);
            (format!("Without node {node}"), Some(node).filter(|_| lives && !force))
        }
    };
    if then.is_empty() {
        return Err(Error::membership(
            MembershipRefusal::LastVoter,
            format!("{what} nobody would vote"),
            ("0 voters left", "1 voter left"),
        ));
    }
    let at_risk = |reason: String, voters: &BTreeSet<u64>, limit: usize| {
        let measured = format!("{} voters answer", voters.intersection(answering).count());
        let measure = (measured, format!("at least {limit} of {}", voters.len()));
        Err(Error::membership(MembershipRefusal::QuorumAtRisk, reason, measure))
    };
    if let Some(lack) = lacks(now, answering) {
        let reason = format!("Nothing can be committed now: {lack}");
        return at_risk(reason, now, needed(now));
    }
    if let Some(lack) = lacks(&then, answering) {
        let reason = format!("{what} nothing could be committed, the change itself included: {lack}");
        return at_risk(reason, &then, needed(&then));
    }
    let silent: BTreeSet<u64> = then.difference(answering).copied().collect();
    if spared.is_some() && !silent.is_empty() && then.len() - silent.len() == needed(&then) {
        let reason = format!(
            "{what} every voter that answers would be needed, since {} of the others does not: remove it first, or start it",
            listed(&silent)
        );
        return at_risk(reason, &then, needed(&then) + 1);
    }
    Ok(())
}

fn needed(voters: &BTreeSet<u64>) -> usize {
    voters.len() / 2 + 1
}

/// What a set of voters lacks of a majority, in words.
fn lacks(voters: &BTreeSet<u64>, answering: &BTreeSet<u64>) -> Option<String> {
    let answer: BTreeSet<u64> = voters.intersection(answering).copied().collect();
    let silent: BTreeSet<u64> = voters.difference(answering).copied().collect();
    (answer.len() < needed(voters)).then(|| {
        format!(
            "of the voters {} {} have to answer, and {} do. Node {} does not",
            listed(voters),
            needed(voters),
            answer.len(),
            listed(&silent)
        )
    })
}

/// `1, 2, 3`
pub(super) fn listed<'a>(nodes: impl IntoIterator<Item = &'a u64>) -> String {
    let nodes: Vec<String> = nodes.into_iter().map(u64::to_string).collect();
    nodes.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused(now: &[u64], answering: &[u64], change: Change) -> Option<String> {
        let set = |nodes: &[u64]| nodes.iter().copied().collect();
        match judge(&set(now), &set(answering), change) {
            Ok(()) => None,
            Err(Error::Membership {
                refusal,
                reason,
                measured,
                limit,
            }) => Some(format!("{refusal:?}: {reason} ({measured}; {limit})")),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn remove(node: u64) -> Change {
        Change::Remove {
            node: NodeId(node),
            force: false,
        }
    }

    fn force(node: u64) -> Change {
        Change::Remove {
            node: NodeId(node),
            force: true,
        }
    }

    #[test]
    fn a_change_needs_a_majority_before_and_after() {
        assert_eq!(refused(&[1, 2, 3], &[1, 2, 3], remove(3)), None);
        assert_eq!(refused(&[1, 2, 3], &[1, 2], remove(3)), None, "the dead one goes");
        assert_eq!(refused(&[1, 2, 3, 4, 5], &[1, 2, 3], remove(5)), None);
        for change in [remove(2), force(2)] {
            let said = refused(&[1, 2, 3], &[1, 2], change).unwrap();
            assert!(said.starts_with("QuorumAtRisk: Without node 2"), "{said}");
            assert!(
                said.contains("voters 1, 3 2 have to answer, and 1 do. Node 3"),
                "{said}"
            );
            assert!(said.ends_with("(1 voters answer; at least 2 of 2)"), "{said}");
        }
        for change in [remove(4), force(4), Change::Add(NodeId(5))] {
            let said = refused(&[1, 2, 3, 4], &[1, 2, 5], change).unwrap();
            assert!(
                said.starts_with("QuorumAtRisk: Nothing can be committed now") && said.contains("Node 3, 4 does"),
                "{said}"
            );
        }
        for change in [remove(1), force(1)] {
            assert!(refused(&[1], &[1], change).unwrap().starts_with("LastVoter"));
        }
        // A learner takes nothing with it.
        assert_eq!(refused(&[1, 2, 3], &[1, 2], remove(9)), None);
    }

    #[test]
    fn a_new_voter_that_does_not_answer_may_be_one_too_many() {
        assert_eq!(refused(&[1, 2, 3], &[1, 2, 4], Change::Add(NodeId(4))), None);
        assert_eq!(refused(&[1], &[1, 2], Change::Add(NodeId(2))), None);
        let said = refused(&[1, 2, 3], &[1, 2], Change::Add(NodeId(4))).unwrap();
        assert!(said.contains("Without") || said.contains("With node 4"), "{said}");
        assert!(refused(&[1], &[1], Change::Add(NodeId(2))).is_some());
    }

    #[test]
    fn the_living_do_not_go_before_the_dead_unless_forced() {
        let said = refused(&[1, 2, 3, 4], &[1, 2, 3], remove(3)).unwrap();
        assert!(said.contains("since 4 of the others does not"), "{said}");
        assert!(said.ends_with("(2 voters answer; at least 3 of 3)"), "{said}");
        assert_eq!(refused(&[1, 2, 3, 4], &[1, 2, 3], force(3)), None);
        assert_eq!(refused(&[1, 2, 3, 4], &[1, 2, 3], remove(4)), None);
        assert!(refused(&[1, 2, 3, 4, 5], &[1, 2, 3, 4], remove(4)).is_some());
    }
}
