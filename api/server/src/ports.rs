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

    /// What ends first among the certificate of this node and those of the authorities that it trusts, as of the last
    /// time that the files were read. None where the node has none, as in a simulation.
    fn nearest_certificate_expiry(&self) -> Option<CertificateExpiry> {
        None
    }
}

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// `node` for the node's own, `ca` for an authority's.
    pub of: &'static str,
    /// The first 16 hexadecimal digits of its SHA-256 fingerprint.
    pub fingerprint: String,
    /// The last second that counts, since 1970.
    pub not_after_s: u64,
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
