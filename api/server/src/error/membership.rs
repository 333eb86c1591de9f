//! Why the members of a cluster stay as they are.

use proto::codes::Code;
use raft::MembershipRefusal;

use super::Error;

/// Names that rules of this crate have, beside those of the state machine.
pub const RULES: &[&str] = &[
    "last_voter",
    "learner_lagging",
    "member_exists",
    "membership_changing",
    "membership_refused",
    "no_other_voter",
    "node_removed",
    "not_a_voter",
    "quorum_at_risk",
    "upgrade_incomplete",
];

/// A change of members or leadership that a rule stands against.
pub(super) fn refused(refusal: MembershipRefusal, detail: String, (measured, limit): (String, String)) -> Error {
    let (name, hint) = match refusal {
        MembershipRefusal::NotAMember => {
            return Error::new(Code::NotFound, detail)
                .measured(measured, limit)
                .hint("`mesh members list` shows the members");
        }
        MembershipRefusal::NodeRemoved => ("node_removed", "give the node an id that was never used"),
        MembershipRefusal::MemberExists => (
            "member_exists",
            "choose an id that was never used, or remove the member first",
        ),
        MembershipRefusal::NotAVoter => (
            "not_a_voter",
            "promote it first, or choose a voter from `mesh members list`",
        ),
        MembershipRefusal::NoOtherVoter => ("no_other_voter", "add a node and promote it first"),
        MembershipRefusal::LastVoter => ("last_voter", "add a node and promote it first"),
        MembershipRefusal::QuorumAtRisk => (
            "quorum_at_risk",
            "start the nodes that do not answer, or remove them first. Where a majority is gone for good, see \
             docs/runbooks/recover-lost-quorum.md",
        ),
        MembershipRefusal::ChangeUnderWay => (
            "membership_changing",
            "wait until the change before is done: `mesh members list --consistency local` shows how it stands",
        ),
        MembershipRefusal::Other => ("membership_refused", "`mesh status` shows the members and how they are"),
    };
    Error::rule(name, detail, (measured, limit)).hint(hint)
}

/// The refusal to have anything more to do with a node.
#[must_use]
pub fn removed_for_good(node: statemachine::NodeId) -> Error {
    let detail = format!("node {node} was removed for good: a new node needs a new id");
    let measure = ("removed for good".to_owned(), "an id that was never used".to_owned());
    refused(MembershipRefusal::NodeRemoved, detail, measure)
}
