//! Whether the nodes are ready: `GET /readyz` over TLS, as any probe would ask.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::summary::DevNode;

const ASK_EVERY: Duration = Duration::from_millis(100);

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Waits until every node says that it is ready.
///
/// # Errors
/// After `within`, naming the nodes that are not and what they said last.
pub async fn all(nodes: &[DevNode], ca_file: &Path, within: Duration) -> Result<(), String> {
    let deadline = Instant::now() + within;
    let tls = connector(ca_file)?;
    let mut waiting: Vec<(&DevNode, String)> = nodes.iter().map(|node| (node, "not asked yet".to_owned())).collect();
    loop {
        let mut still = Vec::new();
        for (node, _) in waiting {
            let asked = tokio::time::timeout(ANSWER_WITHIN, ask(&tls, node.ports.api)).await;
            match asked {
                Ok(Ok(200)) => {}
                Ok(Ok(status)) => still.push((node, format!("answers {status}"))),
                Ok(Err(error)) => still.push((node, error.to_string())),
                Err(_) => still.push((node, "does not answer".to_owned())),
            }
        }
        if still.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let told: Vec<_> = still
                .iter()
                .map(|(node, why)| format!("node {} {why}", node.ports.node))
                .collect();
            return Err(format!("after {} s {}", within.as_secs(), told.join(", ")));
        }
        waiting = still;
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn connector(ca_file: &Path) -> Result<TlsConnector, String> {
    let wrong = |error: String| format!("{}: {error}", ca_file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).map_err(|error| wrong(format!("{error:?}")))? {
        let certificate = certificate.map_err(|error| wrong(format!("{error:?}")))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Asks once; answers the HTTP status.
async fn ask(tls: &TlsConnector, port: u16) -> std::io::Result<u16> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::from(std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST));
    let mut stream = tls.connect(name, stream).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    // `HTTP/1.1 200` is all that matters of the answer.
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await?;
    let status = std::str::from_utf8(&head)
        .ok()
        .and_then(|head| head.get(9..)?.parse().ok());
    status.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "not an HTTP answer"))
}
