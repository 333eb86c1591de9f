//! Streams of requests that nobody would send, over real sockets: frames, header blocks and bodies that were changed a
//! little, cut into pieces. See [`chaos_fuzz`].
//!
//! Each gets an answer or is broken off, soon; nothing panics; what was cut off is never taken for whole; and who asks
//! properly is answered meanwhile, on a connection of its own.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use chaos_fuzz::{Rng, Shown, changed};
use futures::{FutureExt as _, future::join_all};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use meshkit_api_quic::{Body, Connection, Side, h3, quinn};

use super::{HEADER_BYTES_MAX, Server, listen, soon};

/// As many inputs as `./check` has time for.
const INPUTS: u64 = 1_500;
/// A stream over loopback takes this many times as long as what is read out of memory.
const SHARE: u64 = 20;
/// Streams that are under way at once.
const AT_ONCE: usize = 16;
/// An answer is never longer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// A frame whose payload is shorter than 64 bytes, or than 16,384.
fn frame(of: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let mut bytes = vec![of];
    match length {
        0..64 => bytes.push(length as u8),
        _ => bytes.extend_from_slice(&(length | 0x4000).to_be_bytes()),
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// A field with a name of the static table (RFC 9204, appendix A), whose value is written out.
fn named(index: u8, value: &str) -> Vec<u8> {
    let mut bytes = match index {
        0..15 => vec![0x50 | index],
        _ => vec![0x5f, index - 15],
    };
    bytes.push(value.len() as u8);
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// A field that is written out.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = match name.len() {
        length @ 0..7 => vec![0x20 | length as u8],
        length => vec![0x27, length as u8 - 7],
    };
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(value.len() as u8);
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// The HEADERS frame of a request: `:method`, `:scheme`, `:authority`, `:path` of the static table, and more fields.
fn head(method: u8, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0, 0, 0xc0 | method, 0xc0 | 23];
    block.extend(named(0, "localhost"));
    block.extend(named(1, path));
    for (name, value) in fields {
        block.extend(field(name, value));
    }
    frame(HEADERS, &block)
}

const GET: u8 = 17;
const POST: u8 = 20;

/// What the changing begins with: valid requests, as the bytes of their streams.
fn samples() -> Vec<Vec<u8>> {
    let long = "x".repeat(90);
    vec![
        head(GET, "/meshkit/peers?limit=2", &[]),
        head(GET, "/", &[("authorization", "Bearer abc"), ("mesh-reason", &long)]),
        [
            head(POST, "/meshkit/peers", &[("content-length", "8")]),
            frame(DATA, b"{\"id\":1}"),
        ]
        .concat(),
        [
            head(
                POST,
                "/meshkit.v1.PeerService/GetPeer",
                &[("content-type", "application/grpc"), ("te", "trailers")],
            ),
            frame(DATA, &[0, 0, 0, 0, 2]),
            frame(DATA, &[10, 0]),
            frame(HEADERS, &[vec![0, 0], field("x-trailer", "1")].concat()),
        ]
        .concat(),
        // A frame of a type that nobody knows, which is passed over.
        [
            frame(0x21, b"?"),
            head(GET, "/meshkit/status", &[]),
            frame(0x21, &[7; 80]),
        ]
        .concat(),
    ]
}

/// What a handler made of all requests.
#[derive(Default)]
struct Seen {
    whole: AtomicU64,
    broken: AtomicU64,
    panics: AtomicU64,
}

/// Reads a request to its end and answers how long its body was.
async fn answered(
    request: Request<Body>,
    mut send: h3::server::RequestStream<meshkit_api_quic::SendStream<Bytes>, Bytes>,
    seen: &Seen,
) {
    let declared = request.headers().get("content-length").cloned();
    let Ok(body) = request.into_body().collect().await else {
        seen.broken.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let body = body.to_bytes();
    if let Some(declared) = declared.and_then(|text| text.to_str().ok()?.parse::<usize>().ok()) {
        assert_eq!(body.len(), declared, "cut off, and taken for whole");
    }
    seen.whole.fetch_add(1, Ordering::Relaxed);
    let answer = Response::builder().header("length", body.len()).body(()).unwrap();
    if send.send_response(answer).await.is_ok() {
        let _ = send.send_data(Bytes::from(body.len().to_string())).await;
        let _ = send.finish().await;
    }
}

/// As the server does: one task for a connection, one for each request.
async fn serve(connection: quinn::Connection, seen: Arc<Seen>) {
    let adapted = Connection::new(connection, Side::Server, HEADER_BYTES_MAX);
    let Ok(mut h3) = h3::server::builder()
        .send_grease(false)
        .build::<_, Bytes>(adapted)
        .await
    else {
        return;
    };
    while let Ok(Some(resolver)) = h3.accept().await {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let work = async {
                let Ok((request, stream)) = resolver.resolve_request().await else {
                    seen.broken.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                let (send, receive) = stream.split();
                let body = Body::of_request(receive, request.headers());
                answered(request.map(|()| body), send, &seen).await;
            };
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                seen.panics.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// A connection whose control stream is as it has to be; of some, something is changed.
async fn connected(server: &Server, rng: &mut Rng) -> quinn::Connection {
    let connection = server.raw().await;
    let settings = vec![vec![0, 4, 2, 1, 0], vec![0, 4, 0], vec![2], vec![3]];
    let control = if rng.below(4) == 0 {
        changed(rng, &settings)
    } else {
        settings[0].clone()
    };
    let opened = async {
        let mut stream = connection.open_uni().await.ok()?;
        stream.write_all(&control).await.ok()?;
        // It stays open for as long as the connection does.
        Some(stream)
    };
    if let Some(stream) = soon(opened).await {
        let kept = connection.clone();
        tokio::spawn(async move {
            kept.closed().await;
            drop(stream);
        });
    }
    connection
}

/// Sends a stream in two pieces, and waits until it was answered or broken off.
async fn sent(connection: quinn::Connection, bytes: Vec<u8>, cut: usize) {
    let Ok((mut send, mut receive)) = connection.open_bi().await else {
        return;
    };
    for piece in [&bytes[..cut], &bytes[cut..]] {
        if send.write_all(piece).await.is_err() {
            break;
        }
    }
    let _ = send.finish();
    let _ = receive.read_to_end(ANSWER_BYTES_MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decoders_survive_whatever_comes() {
    let seen = Arc::new(Seen::default());
    let handling = Arc::clone(&seen);
    let server = listen(move |connection| serve(connection, Arc::clone(&handling)));
    let (asked, seed) = chaos_fuzz::asked(INPUTS * SHARE);
    let (inputs, samples, mut rng) = (asked / SHARE, samples(), Rng::new(seed));
    let mut connection = connected(&server, &mut rng).await;
    let mut given = 0;
    while given < inputs {
        let batch: Vec<Vec<u8>> = (0..AT_ONCE).map(|_| changed(&mut rng, &samples)).collect();
        let shown = batch.concat();
        let shown = Shown {
            seed,
            target: "HTTP/3",
            bytes: &shown,
        };
        let sending = batch.iter().map(|bytes| {
            let cut = rng.below(bytes.len() + 1);
            sent(connection.clone(), bytes.clone(), cut)
        });
        let sending: Vec<_> = sending.collect();
        soon(join_all(sending)).await;
        assert_eq!(seen.panics.load(Ordering::Relaxed), 0);
        drop(shown);
        given += batch.len() as u64;
        if connection.close_reason().is_some() || rng.below(32) == 0 {
            connection.close(0u32.into(), b"");
            connection = connected(&server, &mut rng).await;
        }
    }
    // Both ends of it were reached, and whoever asks properly is served.
    assert!(
        seen.whole.load(Ordering::Relaxed) > inputs / 50,
        "hardly a request was whole"
    );
    assert!(
        seen.broken.load(Ordering::Relaxed) > inputs / 50,
        "hardly a request was broken"
    );
    let client = server.client().await;
    let request = Request::get("https://localhost/")
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let answer = soon(client.send(request)).await.unwrap();
    assert_eq!(answer.status(), 200);
    println!("{given} streams, seed {seed}");
}

/// The samples themselves are answered, or nothing behind a first check would be reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_are_valid() {
    let seen = Arc::new(Seen::default());
    let handling = Arc::clone(&seen);
    let server = listen(move |connection| serve(connection, Arc::clone(&handling)));
    let connection = server.raw().await;
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&[0, 4, 2, 1, 0]).await.unwrap();
    let samples = samples();
    for bytes in &samples {
        soon(sent(connection.clone(), bytes.clone(), 1)).await;
    }
    assert_eq!(connection.close_reason(), None);
    assert_eq!(seen.whole.load(Ordering::Relaxed), samples.len() as u64);
}
