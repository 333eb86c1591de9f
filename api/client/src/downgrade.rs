//! Why a client that would rather speak HTTP/3 speaks HTTP/2.

use std::fmt;

/// Why HTTP/3 could not be had. Sent with every request that goes over HTTP/2 for it, so that the mesh can count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downgrade {
    /// No answer over UDP in the time that HTTP/3 is given.
    Timeout,
    /// Nothing listens there on UDP, or the node takes no more connections.
    Refused,
    /// There is no way for UDP to that address.
    Unreachable,
    /// The handshake failed.
    Handshake,
    /// There was a connection, and then nothing was heard of it any more.
    Lost,
}

impl Downgrade {
    /// The word for it in `Mesh-Transport-Downgrade`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Handshake => "handshake",
            Self::Lost => "lost",
        }
    }

    /// The same for people: "no answer over UDP".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Timeout => "no answer over UDP",
            Self::Refused => "nothing takes UDP there",
            Self::Unreachable => "no way there for UDP",
            Self::Handshake => "the handshake failed",
            Self::Lost => "the connection fell silent",
        }
    }
}

impl fmt::Display for Downgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
