//! One connection: HTTP/2 or HTTP/1.1 as the client speaks, with a bound on everything that can be left hanging.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use parking_lot::Mutex;
use raft::env::{BoxStream, ConnInfo, Standing};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    activity::{Activity, Busy, Watched},
    body::Arriving,
    config::Deadlines,
    metrics::CutLabels,
    shares::Share,
    stack::Stack,
};

/// How long a connection that was told to close may take.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A connection and what is under way on it.
pub(crate) struct Connection {
    pub(crate) info: ConnInfo,
    activity: Arc<Activity>,
    /// Its part of its address's share, until it has carried an authenticated request.
    anonymous: Mutex<Option<Share<IpAddr>>>,
}

/// What is to become of a connection.
pub(crate) enum Verdict {
    /// Nothing; to be looked at again then.
    Fine(Instant),
    /// Nothing has been under way for too long.
    Idle,
    /// The client does not take what it asked for.
    Stalled,
}

impl Connection {
    pub(crate) fn new(info: ConnInfo, anonymous: Share<IpAddr>) -> Self {
        Self {
            info,
            activity: Activity::new(),
            anonymous: Mutex::new(Some(anonymous)),
        }
    }

    /// Something begins.
    pub(crate) fn begin(&self) -> Busy {
        self.activity.begin()
    }

    /// A request on the connection came from somebody who is known.
    pub(crate) fn authenticated(&self) {
        let share = self.anonymous.lock().take();
        drop(share);
    }

    /// Whether what the client proved in the handshake still counts.
    pub(crate) fn standing(&self) -> Standing {
        let identity = self.info.identity.as_ref();
        identity.map_or_else(Standing::default, |identity| identity.standing.clone())
    }

    /// What is to become of it, by what is under way on it.
    pub(crate) fn look(&self, deadlines: &Deadlines) -> Verdict {
        let now = Instant::now();
        let write = Duration::from_millis(deadlines.write_ms);
        let written_by = self.activity.stalled_since().unwrap_or(now) + write;
        if written_by <= now {
            return Verdict::Stalled;
        }
        let idle = match *self.anonymous.lock() {
            Some(_) => deadlines.idle_ms.min(deadlines.idle_anonymous_ms),
            None => deadlines.idle_ms,
        };
        let over = self.activity.idle_since().unwrap_or(now) + Duration::from_millis(idle);
        if over <= now {
            Verdict::Idle
        } else {
            Verdict::Fine(over.min(written_by))
        }
    }
}

/// How connections of a server are served.
pub(crate) fn builder(config: &Config) -> Builder<TokioExecutor> {
    let ms = Duration::from_millis;
    let (limits, deadlines) = (&config.limits, &config.deadlines);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper counts from the end of the last request on, waiting included: what is stricter is looked after by
        // `Connection::look`, which counts a head that does not end as idleness.
        .header_read_timeout(ms(deadlines.idle_ms))
        .max_headers(limits.headers_max)
        // Keeps pieces of answers as they are until they are written, so that what is held for them is held that long.
        .writev(true)
        // Holds the whole head, so it bounds the head; hyper asks for at least 8 KiB.
        .max_buf_size(usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX).max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection_max)
        .max_header_list_size(limits.header_bytes_max)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(2 * 1024 * 1024)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(ms(deadlines.ping_interval_ms))
        .keep_alive_timeout(ms(deadlines.ping_timeout_ms));
    builder
}

/// Serves a connection until it ends, has been idle for too long, or the server stops.
pub(crate) async fn run(
    stack: Arc<Stack>,
    builder: Arc<Builder<TokioExecutor>>,
    stream: BoxStream,
    connection: Connection,
    stop: CancellationToken,
) {
    let connection = Arc::new(connection);
    let deadlines = &stack.core.config.deadlines;
    let shutdown = Duration::from_millis(deadlines.shutdown_ms);
    let service = {
        let (stack, connection) = (Arc::clone(&stack), Arc::clone(&connection));
        service_fn(move |request: Request<Incoming>| {
            let (stack, connection) = (Arc::clone(&stack), Arc::clone(&connection));
            let request = request.map(Arriving::from);
            // Boxed, so that its memory is given back when the answer begins: an answer may last for days.
            Box::pin(async move { Ok::<_, Infallible>(stack.serve(&connection, request).await) })
        })
    };
    let stream = Watched::new(stream, Arc::clone(&connection.activity));
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let cut = |reason| stack.core.metrics.cut.get_or_create(&CutLabels { reason }).inc();
    // When to look again, and when to close by force once the connection was asked to.
    let mut look = Instant::now();
    let mut force: Option<Instant> = None;
    let standing = connection.standing();
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    cut("error");
                    tracing::debug!(address = %connection.info.peer, %error, "a connection ended badly");
                }
                return;
            }
            () = stop.cancelled(), if force.is_none() => {
                serving.as_mut().graceful_shutdown();
                look = Instant::now() + shutdown;
                force = Some(look);
            }
            () = standing.withdrawn(), if force.is_none() => {
                // What is under way was asked for while the certificate counted, and is answered.
                cut("withdrawn");
                serving.as_mut().graceful_shutdown();
                look = Instant::now() + shutdown;
                force = Some(look);
            }
            () = sleep_until(look) => {
                if force.is_some() {
                    return;
                }
                match connection.look(deadlines) {
                    Verdict::Fine(until) => look = until,
                    Verdict::Idle => {
                        cut("idle");
                        serving.as_mut().graceful_shutdown();
                        look = Instant::now() + CLOSE_WITHIN;
                        force = Some(look);
                    }
                    Verdict::Stalled => {
                        cut("stalled");
                        tracing::info!(address = %connection.info.peer, "a client took nothing of an answer and was cut off");
                        return;
                    }
                }
            }
        }
    }
}
