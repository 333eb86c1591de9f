//! Server-sent events of one watch, over HTTP/2, as a browser or a script reads them.

use std::{io::BufRead as _, sync::Arc, time::Duration};

use api_client::{Connect as _, Endpoint, TlsConnect};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http2, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// How long opening a stream may take.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// How long a stream may say nothing: it tells of progress every second.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Where events are read, and as whom.
#[derive(Clone)]
pub struct Source {
    /// TLS of the mesh.
    pub tls: Arc<TlsConnect>,
    /// The nodes, in the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// The token.
    pub bearer: String,
}

/// A stream of events that is open.
pub struct Events {
    body: Incoming,
    arrived: BytesMut,
    /// The stream ends with it.
    _send: SendRequest<Empty<Bytes>>,
}

/// One event, as it arrived.
pub struct Event {
    text: Bytes,
}

impl Events {
    /// Opens the watch of everything at a node, behind `token` where there is one.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn open(source: &Source, at: usize, token: &str) -> Result<Self, String> {
        let endpoint = source.endpoints.get(at % source.endpoints.len().max(1));
        let endpoint = endpoint.ok_or("no endpoint")?.clone();
        let opening = async {
            let stream = source.tls.connect(&endpoint).await.map_err(|error| error.to_string())?;
            let handshake = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(8 << 20)
                .handshake(TokioIo::new(stream));
            let (mut send, connection) = handshake.await.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            let mut request = http::Request::get(format!("https://{}/meshkit/watch", endpoint.authority()))
                .header("authorization", &source.bearer);
            if !token.is_empty() {
                request = request.header("last-event-id", token);
            }
            let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
            let response = send.send_request(request).await.map_err(|error| error.to_string())?;
            if response.status() != http::StatusCode::OK {
                return Err(response.status().to_string());
            }
            Ok(Self {
                body: response.into_body(),
                arrived: BytesMut::new(),
                _send: send,
            })
        };
        match tokio::time::timeout(OPEN_WITHIN, opening).await {
            Ok(opened) => opened,
            Err(_) => Err("no answer".to_owned()),
        }
    }

    /// The next event. Safe to be dropped while it waits.
    ///
    /// # Errors
    /// The stream ended, or nothing came for long.
    pub async fn next(&mut self) -> Result<Event, String> {
        loop {
            if let Some(end) = end_of_event(&self.arrived) {
                let text = self.arrived.split_to(end).freeze();
                return Ok(Event { text });
            }
            match tokio::time::timeout(SILENCE_MAX, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.arrived.extend_from_slice(&data);
                    }
                }
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(None) => return Err("the stream ended".to_owned()),
                Err(_) => return Err("silence".to_owned()),
            }
        }
    }
}

/// Behind the empty line that ends an event. Line by line, since lines are long.
fn end_of_event(arrived: &[u8]) -> Option<usize> {
    let mut rest = arrived;
    loop {
        let line = rest.skip_until(b'\n').ok()?;
        let at = arrived.len() - rest.len();
        if line <= 1 {
            return (line == 1 && arrived.get(at - 1) == Some(&b'\n')).then_some(at);
        }
    }
}

impl Event {
    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.text
    }

    fn field(&self, name: &str) -> &str {
        let text = std::str::from_utf8(&self.text).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_default()
    }

    /// `begun`, `unit`, `progress`, `error`.
    pub fn name(&self) -> &str {
        self.field("event: ")
    }

    /// Where to go on behind it.
    pub fn id(&self) -> &str {
        self.field("id: ")
    }

    /// The message in JSON.
    pub fn data(&self) -> &str {
        self.field("data: ")
    }

    /// The revision that it is about: the message's last field.
    pub fn revision(&self) -> Option<u64> {
        let (_, behind) = self.data().rsplit_once("\"revision\":")?;
        let digits = behind.trim_end_matches('}');
        digits.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_with_an_empty_line() {
        for (arrived, end) in [
            ("", None),
            ("a", None),
            ("a: b\n", None),
            ("a: b\n\n", Some(6)),
            ("a\nb\n\nc\n\n", Some(5)),
        ] {
            assert_eq!(end_of_event(arrived.as_bytes()), end, "{arrived:?}");
        }
    }

    #[test]
    fn an_event_is_taken_apart() {
        let text = "event: unit\nid: abc\ndata: {\"unit\":{\"revision\":3},\"token\":\"abc\",\"revision\":17}\n\n";
        let event = Event { text: text.into() };
        assert_eq!((event.name(), event.id(), event.revision()), ("unit", "abc", Some(17)));
        assert!(event.data().starts_with("{\"unit\""));
        let event = Event {
            text: "event: error\ndata: {\"code\":\"unavailable\"}\n\n".into(),
        };
        assert_eq!((event.name(), event.id(), event.revision()), ("error", "", None));
    }
}
