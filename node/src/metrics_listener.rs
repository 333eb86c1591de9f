//! `telemetry.metrics_listen`: `/metrics` without TLS, on this machine only.
//!
//! A dozen lines of HTTP/1.1 on purpose: it answers one question, to one kind of caller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api_server::metrics::Shared;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::exit::{Exit, Failure};

/// Callers at once; further ones wait.
const CALLERS_MAX: usize = 8;

/// A caller gets this long in all.
const CALL_WITHIN: Duration = Duration::from_secs(10);

const HEAD_BYTES_MAX: usize = 8_192;

const PAUSE: Duration = Duration::from_millis(100);

/// Serves the metrics in `registry` until the handle is dropped. Does nothing without an address.
///
/// # Errors
/// The address cannot be listened on.
pub async fn start(address: Option<SocketAddr>, registry: Shared) -> Result<Option<AbortOnDropHandle<()>>, Failure> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("`telemetry.metrics_listen`: {address} cannot be listened on: {error}"),
        )
    })?;
    Ok(Some(AbortOnDropHandle::new(tokio::spawn(serve(listener, registry)))))
}

async fn serve(listener: TcpListener, registry: Shared) {
    let places = Arc::new(Semaphore::new(CALLERS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let registry = registry.clone();
                tokio::spawn(async move {
                    // Whoever hangs up or dawdles gets nothing; there is nobody to tell.
                    let _ = tokio::time::timeout(CALL_WITHIN, answer(stream, &registry)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting for metrics failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, registry: &Shared) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, body) = if line.starts_with(b"GET /metrics ") || line.starts_with(b"GET /metrics?") {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry.lock()) {
            Ok(()) => ("200 OK", text),
            Err(error) => ("500 Internal Server Error", format!("{error}\n")),
        }
    } else {
        ("404 Not Found", "only GET /metrics is served here\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
