use std::sync::atomic::{AtomicU32, Ordering};

use futures::{FutureExt as _, future::BoxFuture};

use super::*;
use crate::connect::{BoxStream, QuicError};

/// Connects to nobody: whatever is sent is taken and never answered, over TCP at once. Over UDP it goes as `udp` says.
struct Nobody {
    udp: fn() -> BoxFuture<'static, Result<api_quic::Dialled, QuicError>>,
    tried: AtomicU32,
    far: Mutex<Vec<tokio::io::DuplexStream>>,
}

impl Connect for Nobody {
    fn connect(&self, _: &Endpoint) -> BoxFuture<'static, Result<BoxStream, ConnectError>> {
        let (near, far) = tokio::io::duplex(1 << 20);
        self.far.lock().push(far);
        std::future::ready(Ok(Box::new(near) as BoxStream)).boxed()
    }

    fn connect_h3(&self, _: &Endpoint) -> Option<BoxFuture<'static, Result<api_quic::Dialled, QuicError>>> {
        self.tried.fetch_add(1, Ordering::Relaxed);
        Some((self.udp)())
    }
}

fn pool(
    transport: Transport,
    udp: fn() -> BoxFuture<'static, Result<api_quic::Dialled, QuicError>>,
) -> (Arc<Nobody>, Pool) {
    let nobody = Arc::new(Nobody {
        udp,
        tried: AtomicU32::new(0),
        far: Mutex::default(),
    });
    let connector: Arc<dyn Connect> = nobody.clone();
    (nobody, Pool::new(connector, transport))
}

fn blocked() -> BoxFuture<'static, Result<api_quic::Dialled, QuicError>> {
    std::future::pending().boxed()
}

fn closed() -> BoxFuture<'static, Result<api_quic::Dialled, QuicError>> {
    let error = ConnectError {
        stage: Stage::Http3,
        detail: "connection refused".into(),
    };
    let why = Downgrade::Refused;
    std::future::ready(Err(QuicError { why, error })).boxed()
}

fn node(port: u16) -> Endpoint {
    format!("https://127.0.0.1:{port}")
        .parse()
        .unwrap_or_else(|error| panic!("{error}"))
}

/// How long it took to get a connection, and why it was not HTTP/3.
async fn get(pool: &Pool, port: u16) -> (Duration, Option<Downgrade>) {
    let begun = Instant::now();
    let connection = pool.get(&node(port), begun + Duration::from_secs(2)).await;
    let connection = connection.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(connection.transport(), "h2");
    (begun.elapsed(), connection.downgrade)
}

const MS: fn(u64) -> Duration = Duration::from_millis;
const TIMEOUT: Option<Downgrade> = Some(Downgrade::Timeout);

#[tokio::test(start_paused = true)]
async fn blocked_udp_is_paid_for_once() {
    let (nobody, pool) = pool(Transport::Auto, blocked);
    let tried = || nobody.tried.load(Ordering::Relaxed);
    assert_eq!(get(&pool, 1).await, (MS(240), TIMEOUT));
    assert_eq!((get(&pool, 1).await, tried()), ((MS(0), TIMEOUT), 1));
    // The other nodes are given less, and the connection that breaks is made anew at once.
    assert_eq!((get(&pool, 2).await, tried()), ((MS(15), TIMEOUT), 2));
    pool.forget(&node(1));
    assert_eq!((get(&pool, 1).await.1, pool.downgrades().len()), (TIMEOUT, 2));
    // Later it is tried again, which nobody waits for.
    let before = tried();
    tokio::time::advance(REMEMBERED + MS(1)).await;
    assert_eq!(get(&pool, 1).await, (MS(0), TIMEOUT));
    tokio::time::sleep(IN_BACKGROUND_MAX + MS(1)).await;
    assert_eq!((get(&pool, 1).await, tried()), ((MS(0), TIMEOUT), before + 1));
}

#[tokio::test(start_paused = true)]
async fn a_closed_port_costs_nothing() {
    let (_nobody, pool) = pool(Transport::Auto, closed);
    let refused = Some(Downgrade::Refused);
    assert_eq!(get(&pool, 1).await, (MS(0), refused));
    // And says nothing of other nodes.
    assert_eq!(get(&pool, 2).await, (MS(0), refused));
    assert!(pool.downgrades().iter().all(|(_, why)| Some(*why) == refused));
}

#[tokio::test(start_paused = true)]
async fn what_fell_silent_is_taken_up_over_tcp() {
    let (nobody, pool) = pool(Transport::Auto, blocked);
    get(&pool, 1).await;
    tokio::time::advance(REMEMBERED).await;
    pool.lost(&node(1));
    let before = nobody.tried.load(Ordering::Relaxed);
    assert_eq!(get(&pool, 1).await, (MS(0), Some(Downgrade::Lost)));
    assert_eq!(nobody.tried.load(Ordering::Relaxed), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_is_all_that_is_tried() {
    let (nobody, pool_h2) = pool(Transport::H2, blocked);
    assert_eq!(get(&pool_h2, 1).await, (MS(0), None));
    assert_eq!(nobody.tried.load(Ordering::Relaxed), 0);

    let (nobody, pool_h3) = pool(Transport::H3, closed);
    let error = pool_h3.get(&node(1), Instant::now() + MS(2_000)).await.err();
    let error = error.map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("HTTP/3: connection refused"));
    assert!(nobody.far.lock().is_empty());
}
