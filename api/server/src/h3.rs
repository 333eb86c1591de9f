//! One HTTP/3 connection: the same requests through the same stack as over TCP, with a bound on everything that can be
//! left hanging.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api_quic::{
    Body, SendStream, Side, Stopped, Stops,
    h3::{
        self,
        error::{Code, ConnectionError, StreamError},
        quic::ConnectionErrorIncoming,
        server::{RequestResolver, RequestStream},
    },
    quinn,
};
use http::{Response, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use raft::env::Standing;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    body::Arriving,
    config::Config,
    connection::{CLOSE_WITHIN, Connection, Verdict},
    metrics::CutLabels,
    outgoing::{Outgoing, Piece},
    stack::Stack,
};

/// Requests of one connection that may end before their heads are whole, be malformed or too large. The library keeps a
/// number for each as long as the connection lives, and nobody who means well does it more than now and then.
const FAULTS_MAX: usize = 1_000;
/// How many times the largest header block is taken in before it is looked at: what is larger than the limit, up to
/// this, is answered; what is larger still is cut off.
const HEADER_BLOCKS: usize = 2;
/// How long a client has to take what was sent last and to close the connection by itself, beside the time that
/// packets take.
const LINGER: Duration = Duration::from_millis(250);

type Incoming = h3::server::Connection<api_quic::Connection, Piece>;

/// What the requests of one connection share.
struct Requests {
    stack: Arc<Stack>,
    connection: Arc<Connection>,
    stops: Stops,
    running: TaskTracker,
    faults: AtomicUsize,
}

/// One connection that is being served.
struct Serving {
    incoming: Incoming,
    requests: Arc<Requests>,
    /// When to look at it again.
    look: Instant,
    /// Whether it was asked to close; it then is closed when it is looked at again.
    leaving: bool,
}

/// What happens to a connection next.
enum Step {
    GoOn,
    /// It is asked to close, and has this long for what is under way.
    Farewell(Duration),
    /// Nothing is under way any more.
    Over,
    Close(Code),
}

/// Serves a connection until it ends, has been idle for too long, or the server stops.
pub(crate) async fn run(stack: Arc<Stack>, quic: quinn::Connection, connection: Connection, stop: CancellationToken) {
    let standing = connection.standing();
    let Some(mut serving) = Serving::begin(stack, &quic, connection).await else {
        return close(&quic, Code::H3_CLOSED_CRITICAL_STREAM);
    };
    let code = loop {
        match serving.step(&stop, &standing).await {
            Step::GoOn => {}
            Step::Farewell(within) if serving.farewell(within).await => {}
            Step::Farewell(_) => break Code::H3_NO_ERROR,
            Step::Over => {
                // Closing throws away what has not arrived, and whether it has nobody says.
                let _ = timeout(LINGER + 4 * quic.rtt(), quic.closed()).await;
                break Code::H3_NO_ERROR;
            }
            Step::Close(code) => break code,
        }
    };
    close(&quic, code);
}

impl Serving {
    async fn begin(stack: Arc<Stack>, quic: &quinn::Connection, connection: Connection) -> Option<Self> {
        let most = header_block_max(&stack.core.config);
        let adapted = api_quic::Connection::new(quic.clone(), Side::Server, most);
        let requests = Arc::new(Requests {
            stack,
            connection: Arc::new(connection),
            stops: adapted.stops(),
            running: TaskTracker::new(),
            faults: AtomicUsize::new(0),
        });
        let mut builder = h3::server::builder();
        builder.max_field_section_size(most as u64).send_grease(false);
        let Ok(Ok(incoming)) = timeout(CLOSE_WITHIN, builder.build(adapted)).await else {
            requests.cut("error");
            return None;
        };
        Some(Self {
            incoming,
            requests,
            look: Instant::now(),
            leaving: false,
        })
    }

    /// Waits for what happens next.
    async fn step(&mut self, stop: &CancellationToken, standing: &Standing) -> Step {
        let shutdown = Duration::from_millis(self.requests.stack.core.config.deadlines.shutdown_ms);
        tokio::select! {
            accepted = self.incoming.accept() => match accepted {
                Ok(Some(resolver)) => self.requests.take(resolver),
                // The client takes its leave, and everything is answered.
                Ok(None) => Step::Over,
                Err(error) => {
                    if ended_badly(&error) {
                        self.requests.cut("error");
                        tracing::debug!(address = %self.requests.connection.info.peer, %error, "a connection ended badly");
                    }
                    Step::Close(Code::H3_NO_ERROR)
                }
            },
            () = self.requests.running.wait(), if self.leaving => Step::Over,
            () = stop.cancelled(), if !self.leaving => Step::Farewell(shutdown),
            () = standing.withdrawn(), if !self.leaving => {
                // What is under way was asked for while the certificate counted, and is answered.
                self.requests.cut("withdrawn");
                Step::Farewell(shutdown)
            }
            () = sleep_until(self.look) => self.looked(),
        }
    }

    fn looked(&mut self) -> Step {
        if self.leaving {
            return Step::Close(Code::H3_NO_ERROR);
        }
        match self
            .requests
            .connection
            .look(&self.requests.stack.core.config.deadlines)
        {
            Verdict::Fine(until) => {
                self.look = until;
                Step::GoOn
            }
            Verdict::Idle => {
                self.requests.cut("idle");
                Step::Farewell(CLOSE_WITHIN)
            }
            Verdict::Stalled => {
                self.requests.cut("stalled");
                let address = self.requests.connection.info.peer;
                tracing::info!(%address, "a client took nothing of an answer and was cut off");
                Step::Close(Code::H3_EXCESSIVE_LOAD)
            }
        }
    }

    /// Asks the client to close. From here on new requests are refused, and may be sent elsewhere. Answers whether it
    /// could be asked.
    async fn farewell(&mut self, within: Duration) -> bool {
        self.leaving = true;
        self.look = Instant::now() + within;
        self.requests.running.close();
        let asked = timeout(CLOSE_WITHIN.min(within), self.incoming.shutdown(0)).await;
        matches!(asked, Ok(Ok(())))
    }
}

/// Turns away a connection for which there is no place.
pub(crate) fn refuse(quic: &quinn::Connection) {
    close(quic, Code::H3_EXCESSIVE_LOAD);
}

fn close(quic: &quinn::Connection, code: Code) {
    quic.close(u32::try_from(code.value()).unwrap_or_default().into(), b"");
}

/// The largest header block that is taken in, and what is held of all that have not come to their end, in bytes.
fn header_block_max(config: &Config) -> usize {
    (config.limits.header_bytes_max as usize).saturating_mul(HEADER_BLOCKS)
}

/// Whether a connection ended otherwise than by the client closing it.
fn ended_badly(error: &ConnectionError) -> bool {
    let closed = matches!(
        error,
        ConnectionError::Remote {
            0: ConnectionErrorIncoming::ApplicationClose { error_code: 0 },
            ..
        }
    );
    !closed && !error.is_h3_no_error()
}

impl Requests {
    fn cut(&self, reason: &'static str) {
        let cut = &self.stack.core.metrics.cut;
        cut.get_or_create(&CutLabels { reason }).inc();
    }

    /// Begins a request, unless too many were spoilt.
    fn take(self: &Arc<Self>, resolver: RequestResolver<api_quic::Connection, Piece>) -> Step {
        if self.faults.load(Ordering::Relaxed) > FAULTS_MAX {
            self.cut("faults");
            let address = self.connection.info.peer;
            tracing::info!(%address, "a client broke off or spoilt too many requests and was cut off");
            return Step::Close(Code::H3_EXCESSIVE_LOAD);
        }
        self.running.spawn(Arc::clone(self).request(resolver));
        Step::GoOn
    }

    async fn request(self: Arc<Self>, resolver: RequestResolver<api_quic::Connection, Piece>) {
        let deadlines = &self.stack.core.config.deadlines;
        let within = Duration::from_millis(deadlines.idle_ms.min(deadlines.idle_anonymous_ms));
        let Ok(Ok((request, stream))) = timeout(within, resolver.resolve_request()).await else {
            self.faults.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let Some(mut stopped) = self.stops.take(stream.id()) else {
            return;
        };
        let (send, receive) = stream.split();
        let body = Body::of_request(receive, request.headers());
        let request = request.map(|()| Arriving::from(body));
        let answered = tokio::select! {
            response = self.stack.serve(&self.connection, request) => answer(send, response, &mut stopped).await,
            // Nobody waits for the answer any more: whatever is made of it goes with this.
            () = &mut stopped => return,
        };
        if let Err(error) = answered {
            tracing::debug!(address = %self.connection.info.peer, %error, "an answer was not sent to its end");
        }
    }
}

/// Sends an answer. Whatever is left unsent when this returns is taken back as a whole, so that it does not look complete.
async fn answer(
    mut send: RequestStream<SendStream<Piece>, Piece>,
    response: Response<Outgoing>,
    stopped: &mut Stopped,
) -> Result<(), StreamError> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|_| !body.is_end_stream())
        && !head.headers.contains_key(header::CONTENT_LENGTH)
    {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    send.send_response(Response::from_parts(head, ())).await?;
    let mut body = pin!(body);
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            // A watch in which nothing happens would not notice otherwise.
            () = &mut *stopped => return Ok(()),
        };
        let Some(frame) = frame else { break };
        let Ok(frame) = frame else { return Ok(()) };
        match frame.into_data() {
            Ok(piece) if piece.is_empty() => {}
            Ok(piece) => send.send_data(piece).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    send.send_trailers(trailers).await?;
                }
            }
        }
    }
    send.finish().await
}
