//! Dialling other nodes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use raft::env::{BoxStream, ConnInfo, Dial, Purpose, Target, Transport};

use super::Certificates;
use super::standing::Side;
use crate::certs::identity::Identity;
use crate::config::check::host_and_port;

/// The production [`Dial`]: TCP, then TLS with both sides' certificates.
#[derive(Debug)]
pub struct TlsDial {
    certificates: Arc<Certificates>,
    /// Bound on connecting and handshake together.
    timeout: Duration,
}

impl TlsDial {
    /// Dials with `certificates`; each attempt ends after `timeout`.
    pub fn new(certificates: Arc<Certificates>, timeout: Duration) -> Self {
        Self { certificates, timeout }
    }

    async fn connect(&self, to: &Target) -> io::Result<(BoxStream, ConnInfo)> {
        let (host, port) =
            host_and_port(&to.address).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let current = self.certificates.current();
        let config = match to.purpose {
            Purpose::Raft => current.dial_raft.clone(),
            Purpose::Api => current.dial_api.clone(),
        };
        // Sent for whoever routes by it; the verifier judges by identity.
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let identity = self
            .certificates
            .admit(Side::Dialled, stream.get_ref().1.peer_certificates(), &current)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "the other side showed no certificate"))?;
        if let Some(node) = to.node {
            let found = Identity::parse(&identity.uri);
            if !matches!(found, Some(Identity::Node { node: found, .. }) if found == node.0) {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("{} answers as {}, not as node {}", to.address, identity.uri, node.0),
                ));
            }
        }
        let transport = match to.purpose {
            Purpose::Raft => Transport::Raft,
            Purpose::Api => Transport::H2,
        };
        let info = ConnInfo {
            peer,
            identity: Some(identity),
            transport: Some(transport),
            tls: true,
        };
        Ok((Box::new(stream), info))
    }
}

impl Dial for TlsDial {
    fn dial<'a>(&'a self, to: &'a Target) -> BoxFuture<'a, io::Result<(BoxStream, ConnInfo)>> {
        async move {
            match tokio::time::timeout(self.timeout, self.connect(to)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection to {} within {:?}", to.address, self.timeout),
                )),
            }
        }
        .boxed()
    }
}
