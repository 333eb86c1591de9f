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
];

/// A change of members or leadership that a rule stands against.
pub(super) fn refused(refusal: MembershipRefusal, detail: String) -> Error {
    let (name, hint) = match refusal {
        MembershipRefusal::NotAMember => {
            return Error::new(Code::NotFound, detail).hint("`mesh members list` shows the members");
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
            "start the nodes that do not answer, or remove them first; `force` takes the node out all the same, and \
             nothing is written then until enough of the others answer",
        ),
        MembershipRefusal::ChangeUnderWay => (
            "membership_changing",
            "wait until the change before is done: `mesh members list` shows the members",
        ),
        MembershipRefusal::Other => ("membership_refused", "`mesh status` shows the members and how they are"),
    };
    Error::rule(name, detail).hint(hint)
}

/// The refusal to have anything more to do with a node.
#[must_use]
pub fn removed_for_good(node: statemachine::NodeId) -> Error {
    let detail = format!("node {node} was removed for good: a new node needs a new id");
    refused(MembershipRefusal::NodeRemoved, detail)
}
