//! Connections whose other side has shown a certificate, so that they can be told when it does not count any more.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustls::pki_types::CertificateDer;

use raft::env::{PeerIdentity, Standing, Withdraw};

use super::expiry;
use crate::certs::identity;

/// Connections that have ended are forgotten when at least this many are remembered.
const FORGET_FROM: usize = 64;

/// Who began a connection, which decides how the other side's certificate is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// They did.
    Accepted,
    /// We did.
    Dialled,
}

/// The standings of all connections that are up. Bounded by the listeners' own limits on connections.
#[derive(Default)]
pub(super) struct Standings(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    /// At how many entries those of ended connections are looked for: twice what was left the last time.
    forget_at: usize,
}

struct Entry {
    side: Side,
    chain: Vec<CertificateDer<'static>>,
    withdraw: Withdraw,
}

impl Standings {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a connection; `chain` begins with the leaf.
    ///
    /// # Errors
    /// The leaf names nobody, or more than one.
    pub(super) fn admit(&self, side: Side, chain: &[CertificateDer<'_>]) -> io::Result<PeerIdentity> {
        let denied = |why: String| io::Error::new(io::ErrorKind::PermissionDenied, why);
        let leaf = chain
            .first()
            .ok_or_else(|| denied("no certificate was shown".to_owned()))?;
        let uri = identity::of_certificate(leaf).map_err(denied)?;
        let not_after = expiry::not_after(leaf).map_err(denied)?;
        let (withdraw, standing) = Standing::revocable();
        let identity = PeerIdentity {
            uri,
            certificate: Bytes::copy_from_slice(leaf),
            not_after_s: Some(not_after.as_secs()),
            standing,
        };
        let entry = Entry {
            side,
            chain: chain
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            withdraw,
        };
        let mut kept = self.kept();
        if kept.entries.len() >= kept.forget_at.max(FORGET_FROM) {
            kept.entries.retain(|entry| !entry.withdraw.is_over());
            kept.forget_at = kept.entries.len() * 2;
        }
        kept.entries.push(entry);
        Ok(identity)
    }

    /// Withdraws the standing of every connection that is `lost`. Answers how many these are.
    pub(super) fn withdraw(&self, lost: impl Fn(Side, &[CertificateDer<'static>]) -> bool) -> usize {
        let mut kept = self.kept();
        let mut withdrawn = 0;
        kept.entries.retain(|entry| {
            if entry.withdraw.is_over() {
                return false;
            }
            if lost(entry.side, &entry.chain) {
                entry.withdraw.withdraw();
                withdrawn += 1;
                return false;
            }
            true
        });
        withdrawn
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept().entries.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::certs::identity::Identity;
    use crate::certs::{authority, issue};

    #[test]
    fn ended_connections_are_forgotten_and_lost_ones_are_told() {
        let made = authority::create("m", 10).unwrap();
        let (file, key) = (std::path::Path::new("ca.crt"), std::path::Path::new("ca.key"));
        let ca = authority::Authority::from_pem(&made.certificate, &made.key, file, key).unwrap();
        let who = Identity::Client {
            mesh: "m".into(),
            name: "ops".into(),
        };
        let leaf = issue::issue(&ca, &who, &[], 5).unwrap().certificate;
        let chain = [CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap()];
        let standings = Standings::default();
        let kept = standings.admit(Side::Accepted, &chain).unwrap();
        assert_eq!(kept.uri, "spiffe://m/client/ops");
        assert!(kept.not_after_s.is_some());
        for _ in 0..10 * FORGET_FROM {
            drop(standings.admit(Side::Accepted, &chain).unwrap());
        }
        assert!(standings.len() <= FORGET_FROM, "{}", standings.len());
        let dialled = standings.admit(Side::Dialled, &chain).unwrap();
        assert_eq!(standings.withdraw(|side, _| side == Side::Accepted), 1);
        assert!(kept.standing.is_withdrawn() && !dialled.standing.is_withdrawn());
    }
}
