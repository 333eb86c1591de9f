//! What the server needs of the rest of the node, apart from consensus.

use statemachine::Refusal;

/// Takes note of requests by known callers that were refused before they became commands. The node's loops commit
/// them to the audit trail in batches.
pub trait Refusals: Send + Sync + 'static {
    /// Takes one refusal. Must not block; may count instead of keep when there are too many.
    fn note(&self, refusal: Refusal);
}

/// Facts about this node that consensus does not know.
pub trait NodeFacts: Send + Sync + 'static {
    /// Version of the running program.
    fn version(&self) -> String;

    /// Alarms that this node raises at the moment.
    fn alarms(&self) -> Vec<Alarm>;

    /// Whether the node takes client mutations now; otherwise why not. A node that is short of disk space says
    /// `no_space` here.
    fn accepts_mutations(&self) -> Result<(), Pause>;
}

/// Something about this node that somebody has to see to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// `NOSPACE`, `CLOCK`, `CORRUPT`, `CERTIFICATE` and so on.
    pub name: String,
    /// What was seen, for people.
    pub detail: String,
}

/// Why a node takes no client mutations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pause {
    /// Its disk is nearly full.
    NoSpace {
        /// What was measured, for people.
        measured: String,
        /// The mark that it passed.
        limit: String,
    },
    /// It is stopping.
    Stopping,
}
