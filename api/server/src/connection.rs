//! One connection: HTTP/2 or HTTP/1.1 as the client speaks, with a bound on everything that can be left hanging.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use parking_lot::Mutex;
use raft::env::{BoxStream, ConnInfo};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{Config, metrics::CutLabels, stack::Stack};

/// How long a connection that was told to close may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A connection and what is under way on it.
pub(crate) struct Connection {
    pub(crate) info: ConnInfo,
    activity: Arc<Activity>,
}

struct Activity {
    under_way: AtomicUsize,
    /// When the last request ended.
    last: Mutex<Instant>,
}

/// Something under way on a connection; over when dropped.
pub(crate) struct Busy(Arc<Activity>);

impl Connection {
    fn new(info: ConnInfo) -> Self {
        let activity = Activity {
            under_way: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
        };
        Self {
            info,
            activity: Arc::new(activity),
        }
    }

    /// Something begins.
    pub(crate) fn begin(&self) -> Busy {
        self.activity.under_way.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.activity))
    }

    /// Since when nothing has been under way.
    fn idle_since(&self) -> Option<Instant> {
        (self.activity.under_way.load(Ordering::Relaxed) == 0).then(|| *self.activity.last.lock())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.last.lock() = Instant::now();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
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
        .header_read_timeout(ms(deadlines.header_read_ms))
        .max_headers(limits.headers_max)
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
    info: ConnInfo,
    stop: CancellationToken,
) {
    let connection = Arc::new(Connection::new(info));
    let deadlines = &stack.core.config.deadlines;
    let idle = Duration::from_millis(deadlines.idle_ms);
    let shutdown = Duration::from_millis(deadlines.shutdown_ms);
    let service = {
        let (stack, connection) = (Arc::clone(&stack), Arc::clone(&connection));
        service_fn(move |request| {
            let (stack, connection) = (Arc::clone(&stack), Arc::clone(&connection));
            async move {
                let _busy = connection.begin();
                Ok::<_, Infallible>(stack.serve(&connection, request).await)
            }
        })
    };
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let cut = |reason| stack.core.metrics.cut.get_or_create(&CutLabels { reason }).inc();
    // When to look again, and when to close by force once the connection was asked to.
    let mut look = Instant::now() + idle;
    let mut force: Option<Instant> = None;
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
            () = sleep_until(look) => {
                if force.is_some() {
                    return;
                }
                match connection.idle_since() {
                    Some(since) if since.elapsed() >= idle => {
                        cut("idle");
                        serving.as_mut().graceful_shutdown();
                        look = Instant::now() + CLOSE_WITHIN;
                        force = Some(look);
                    }
                    Some(since) => look = since + idle,
                    None => look = Instant::now() + idle,
                }
            }
        }
    }
}
