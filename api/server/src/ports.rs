//! What the server needs of the rest of the node, apart from consensus.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use api_quic::quinn;
use futures::future::BoxFuture;
use raft::env::ConnInfo;
use statemachine::{
    PeerId, Refusal,
    presence::{Heard, Known, MassSilence, Report},
};

/// Accepts QUIC connections, for HTTP/3. A node in a simulation has none.
pub trait QuicListen: Send + 'static {
    /// The next connection whose handshake is complete and whose protocol is HTTP/3. An error is about one connection
    /// or a passing lack of resources. Dropping the future loses no connection that was not yet returned.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(quinn::Connection, ConnInfo)>>;
}

/// Takes note of requests by known callers that were refused before they became commands. The node's loops commit
/// them to the audit trail in batches.
pub trait Refusals: Send + Sync + 'static {
    /// Takes one refusal. Must not block; may count instead of keep when there are too many.
    fn note(&self, refusal: Refusal);
}

/// What this node hears of peers while it leads.
pub trait Presence: Send + Sync + 'static {
    /// Takes a heartbeat that came in at `received_ms` of mesh time. Leadership was confirmed since, and `known` is how the
    /// state then had the peer. None while this node does not listen: it does not lead, or has only begun to.
    fn beat(&self, peer: &PeerId, known: Known, received_ms: u64, report: Report) -> Option<Beat>;

    /// What was heard of each of these peers, in their order.
    fn heard(&self, peers: &[PeerId]) -> Vec<Option<Heard>>;

    /// Why none of the peers that stay is declared dead at the moment, if anything keeps this node from it.
    fn mass_silence(&self) -> Option<MassSilence>;
}

/// What a heartbeat is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// For how long the peer may serve, in ms from when it sent the heartbeat; 0: it may not.
    pub lease_ms: u64,
    /// When it is to send the next, in ms.
    pub next_ms: u64,
}

/// Facts about this node that consensus does not know.
pub trait NodeFacts: Send + Sync + 'static {
    /// Version of the running program.
    fn version(&self) -> String;

    /// Alarms that this node raises at the moment.
    fn alarms(&self) -> Vec<Alarm>;

    /// Whether what this node holds may be shown to anybody; otherwise what is wrong with it.
    ///
    /// # Errors
    /// Its state is not what the others have, in one line.
    fn serves(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether the node takes client mutations now; otherwise why not. A node that is short of disk space says
    /// `no_space` here.
    fn accepts_mutations(&self) -> Result<(), Pause>;

    /// What ends first among the certificate of this node and those of the authorities that it trusts, as of the last
    /// time that the files were read. None where the node has none, as in a simulation.
    fn nearest_certificate_expiry(&self) -> Option<CertificateExpiry> {
        None
    }

    /// SHA-256 of the certificate of each authority that this node trusts, in hexadecimal digits. None where the node
    /// has none, as in a simulation.
    fn authorities(&self) -> Vec<String> {
        Vec::new()
    }

    /// What there is to look into and to turn on this node. None where there is nothing, as in a simulation.
    fn inspect(&self) -> Option<Arc<dyn Inspect>> {
        None
    }
}

/// Looks into the running node, for whoever wants to know what is wrong with it.
pub trait Inspect: Send + Sync + 'static {
    /// What only the node knows of itself, without keys and tokens: configuration, disk, certificates, log. Reads the
    /// disk, so it blocks.
    fn sections(&self) -> Vec<Section>;

    /// Logs by another filter for a while, or goes back to the configured one at once. Answers what is in force then.
    ///
    /// # Errors
    /// What is wrong with the filter; everything then stays as it was.
    fn log_level(&self, change: Option<(&str, Duration)>) -> Result<LogLevel, String>;
}

/// One part of what a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// A file name.
    pub name: &'static str,
    /// What it holds.
    pub text: String,
    /// Whether there would be more.
    pub truncated: bool,
}

impl Section {
    /// The first `bytes_max` bytes of a text, at most.
    pub fn head(name: &'static str, mut text: String, bytes_max: usize) -> Self {
        let truncated = text.len() > bytes_max;
        if truncated {
            text.truncate(text.floor_char_boundary(bytes_max));
        }
        Self { name, text, truncated }
    }

    /// The last `bytes_max` bytes of a text, at most, from the beginning of a line on.
    pub fn tail(name: &'static str, text: String, bytes_max: usize) -> Self {
        if text.len() <= bytes_max {
            let truncated = false;
            return Self { name, text, truncated };
        }
        let kept = &text[text.ceil_char_boundary(text.len() - bytes_max)..];
        let kept = kept.split_once('\n').map_or(kept, |(_, whole)| whole);
        Self {
            name,
            text: kept.to_owned(),
            truncated: true,
        }
    }
}

/// How much a node logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel {
    /// The filter in force.
    pub filter: String,
    /// What it goes back to, and when; none where the filter is the configured one.
    pub until: Option<(String, SystemTime)>,
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
    /// It leads, and no majority of the voters agrees on the state.
    Divided {
        /// Who has what.
        detail: String,
    },
    /// It is stopping.
    Stopping,
}
