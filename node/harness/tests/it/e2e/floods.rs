//! Whoever means harm over TCP: frames of HTTP/2 that no library sends, requests that trickle, handshakes that are left
//! open. Each costs a bounded amount of memory, ends soon, and nobody else waits for it. What UDP brings is in
//! [`super::http3`], what means no harm and is wrong all the same in [`super::bad_input`].

use std::{
    io::{Read as _, Write as _},
    net::TcpStream as StdStream,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use node_harness::{Mesh, Options};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{
    http3::{address, resident},
    shared::on_one_mesh,
    wire::{Wire, runtime},
    world::{SOON, caller, follower, tls},
};

/// Small enough for a test to go over.
const STREAMS: u32 = 16;
const HEADER_BYTES: u64 = 8_192;
const HANDSHAKES: usize = 8;
const HURRY_MS: u64 = 1_500;
/// What a flood may leave behind in memory, in bytes: the node's own ups and downs, mostly.
const GROWN_MAX: u64 = 64 * 1024 * 1024;
/// How long somebody floods.
const FLOOD: Duration = Duration::from_secs(2);
/// How long anybody else may wait meanwhile.
const SERVED_WITHIN: Duration = Duration::from_secs(5);
/// Who floods at once.
const FLOODERS: usize = 4;

on_one_mesh! {
    hasty;
    floods_of_frames_end_and_cost_little,
    header_blocks_without_end_are_cut_off,
    small_blocks_that_unfold_are_refused,
    streams_over_the_limit_are_refused,
    trickles_are_cut_off,
    handshakes_left_open_hold_a_place_for_a_moment_only,
}

fn hasty() -> Options {
    let set = |name: &str, value: u64| (format!("MESHKIT_{name}"), value.to_string());
    Options {
        environment: vec![
            set("TLS__HANDSHAKES_MAX", HANDSHAKES as u64),
            set("TLS__HANDSHAKE_TIMEOUT_MS", HURRY_MS),
            set("LIMITS__STREAMS_PER_CONNECTION_MAX", STREAMS.into()),
            set("LIMITS__HEADER_BYTES_MAX", HEADER_BYTES),
            set("API__WRITE_TIMEOUT_MS", HURRY_MS),
            set("API__IDLE_TIMEOUT_ANONYMOUS_MS", HURRY_MS),
        ],
        ..Options::default()
    }
}

/// Frames of HTTP/2 (RFC 9113 §6).
mod frame {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

fn frame(of: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], of, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// `:method`, `:scheme: https`, `:path: /livez`, `:authority: a` (RFC 7541, appendix A); `method`: 2 is GET, 3 is POST.
fn block(method: u8) -> Vec<u8> {
    [&[0x80 | method, 0x87, 0x04, 6][..], b"/livez", &[0x01, 1, b'a']].concat()
}

/// The number of the n-th stream that a client opens.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

/// A connection on which both have said hello. Somebody else of this address may have all its places for a moment.
async fn connected(mesh: &Mesh, node: u64) -> TlsStream<TcpStream> {
    let to = address(mesh, node).to_string();
    let until = Instant::now() + SOON;
    loop {
        match greeted(mesh, &to).await {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "no connection: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn greeted(mesh: &Mesh, to: &str) -> Result<TlsStream<TcpStream>, String> {
    let mut stream = tls(mesh).connect(to, b"h2").await?;
    let hello = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(frame::SETTINGS, 0, 0, &[]),
    ];
    let greet = async {
        stream.write_all(&hello.concat()).await?;
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        assert_eq!(head[3], frame::SETTINGS);
        let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        stream.read_exact(&mut settings).await
    };
    greet.await.map_err(|error: std::io::Error| error.to_string())?;
    Ok(stream)
}

/// What the node says until it closes the connection, which it does soon.
async fn farewell(mut stream: TlsStream<TcpStream>) -> Vec<u8> {
    let mut said = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "the connection was left open");
    said
}

/// The frames in what a node said: their types and payloads.
fn frames(mut said: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = said.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = rest.get(..length).unwrap_or(rest);
        frames.push((head[3], payload.to_vec()));
        said = rest.get(length..).unwrap_or_default();
    }
    frames
}

/// Others are served, over all forms, while `flood` goes on and after it. Nothing of it stays in memory.
fn meanwhile_others_are_served(mesh: &Mesh, node: u64, what: &str, flood: impl FnOnce(&AtomicBool) + Send) {
    let before = resident(mesh, node);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&stop));
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let until = Instant::now() + FLOOD;
            while Instant::now() < until {
                for wire in [Wire::H1, Wire::H2, Wire::Grpc, Wire::H3] {
                    let start = Instant::now();
                    let reader = caller(mesh, node, wire, "read");
                    reader.call("ListPeers", json!({ "limit": 1 })).ok();
                    let took = start.elapsed();
                    assert!(
                        took < SERVED_WITHIN,
                        "{what}: served after {took:?} only, over {wire:?}"
                    );
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        flooding.join().unwrap();
        if let Err(panic) = served {
            std::panic::resume_unwind(panic);
        }
    });
    let grown = resident(mesh, node).saturating_sub(before);
    assert!(grown < GROWN_MAX, "{what}: the node grew by {grown} bytes");
    caller(mesh, node, Wire::H2, "read")
        .call("ListPeers", json!({ "limit": 1 }))
        .ok();
}

/// What is sent over and over, the n-th time.
type Flood = fn(u32) -> Vec<u8>;

/// Floods that a node may answer frame by frame: requests taken back at once, pings, settings, and what says nothing.
/// Nothing that the node says is read before the flood is over.
fn floods_of_frames_end_and_cost_little(mesh: &Mesh) {
    let floods: [(&str, Vec<u8>, Flood); 7] = [
        ("requests that are taken back at once", vec![], |n| {
            let flags = frame::END_STREAM | frame::END_HEADERS;
            let request = frame(frame::HEADERS, flags, stream(n), &block(2));
            [request, frame(frame::RST_STREAM, 0, stream(n), &8_u32.to_be_bytes())].concat()
        }),
        ("requests that are made wrong on purpose", vec![], |n| {
            let request = frame(
                frame::HEADERS,
                frame::END_STREAM | frame::END_HEADERS,
                stream(n),
                &block(2),
            );
            // A window may not grow by nothing: the node is to reset the stream itself.
            [request, frame(frame::WINDOW_UPDATE, 0, stream(n), &[0; 4])].concat()
        }),
        ("pings", vec![], |n| {
            frame(frame::PING, 0, 0, &u64::from(n).to_be_bytes())
        }),
        ("settings", vec![], |_| {
            frame(frame::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])
        }),
        ("priorities", vec![], |n| {
            frame(frame::PRIORITY, 0, stream(n + 1), &[0, 0, 0, 0, 1])
        }),
        (
            "data without data",
            frame(frame::HEADERS, frame::END_HEADERS, 1, &block(3)),
            |_| frame(frame::DATA, 0, 1, &[]),
        ),
        ("frames of a type that nobody knows", vec![], |n| {
            frame(0xbe, 0, 0, &[n as u8; 64])
        }),
    ];
    for (what, first, flood) in floods {
        let node = follower(mesh);
        meanwhile_others_are_served(mesh, node, what, |stop| {
            runtime().block_on(async {
                let one = || async {
                    let mut stream = connected(mesh, node).await;
                    stream.write_all(&first).await.unwrap();
                    let mut n = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let many: Vec<u8> = (n..n + 200).flat_map(flood).collect();
                        n += 200;
                        // Cut off, or nothing more is taken.
                        if !matches!(timeout(FLOOD, stream.write_all(&many)).await, Ok(Ok(()))) {
                            break;
                        }
                    }
                    farewell(stream).await;
                };
                join((0..FLOODERS).map(|_| one()).collect()).await;
            });
        });
    }
}

/// The head of a request that goes on and on in CONTINUATION frames.
fn header_blocks_without_end_are_cut_off(mesh: &Mesh) {
    let node = follower(mesh);
    meanwhile_others_are_served(mesh, node, "headers without end", |_| {
        runtime().block_on(async {
            let mut stream = connected(mesh, node).await;
            stream.write_all(&frame(frame::HEADERS, 0, 1, &block(2))).await.unwrap();
            // A literal field that is never indexed, of 16,000 bytes.
            let field = [&[0x10, 1, b'x', 0x7f, 0x81, 0x7c][..], &[b'v'; 16_000]].concat();
            let mut sent = 0_usize;
            let more = frame(frame::CONTINUATION, 0, 1, &field);
            while let Ok(Ok(())) = timeout(SOON, stream.write_all(&more)).await {
                sent += more.len();
                assert!(sent < 64 * 1024 * 1024, "{sent} bytes of headers were taken");
            }
            let _ = timeout(SOON, stream.read_to_end(&mut Vec::new()))
                .await
                .expect("it was left open");
        });
    });
}

/// A field is put into the table once, and then named by one byte as often as a block has room.
fn small_blocks_that_unfold_are_refused(mesh: &Mesh) {
    let node = follower(mesh);
    meanwhile_others_are_served(mesh, node, "headers that unfold", |stop| {
        runtime().block_on(async {
            let mut stream = connected(mesh, node).await;
            // Indexed as entry 62: `x` with 3,900 bytes.
            let first = [&block(2)[..], &[0x40, 1, b'x', 0x7f, 0xbd, 0x1d], &[b'v'; 3_900]].concat();
            let flags = frame::END_STREAM | frame::END_HEADERS;
            stream
                .write_all(&frame(frame::HEADERS, flags, 1, &first))
                .await
                .unwrap();
            let bomb = [block(2), vec![0x80 | 62; 15_000]].concat();
            for n in 1..2_000 {
                let head = frame(frame::HEADERS, flags, self::stream(n), &bomb);
                let sent = stream.write_all(&head);
                if stop.load(Ordering::Relaxed) || !matches!(timeout(FLOOD, sent).await, Ok(Ok(()))) {
                    break;
                }
            }
            let said = frames(&farewell(stream).await);
            // 431 as a status is a literal field; what is certain is that no 200 follows the first, which was in order.
            let answered = said
                .iter()
                .filter(|(of, payload)| *of == frame::HEADERS && payload.first() == Some(&0x88));
            assert!(answered.count() <= 1, "a head of 58 MB was answered");
        });
    });
}

/// Thousands of requests whose bodies never come: as many as the limit says are looked at, the others are told so.
fn streams_over_the_limit_are_refused(mesh: &Mesh) {
    let node = follower(mesh);
    meanwhile_others_are_served(mesh, node, "thousands of streams", |_| {
        runtime().block_on(async {
            let mut stream = connected(mesh, node).await;
            let opened: Vec<u8> = (0..5_000)
                .flat_map(|n| frame(frame::HEADERS, frame::END_HEADERS, self::stream(n), &block(3)))
                .collect();
            // All of them, unless it is cut off before.
            let _ = timeout(FLOOD, stream.write_all(&opened)).await;
            let said = frames(&farewell(stream).await);
            let refused = said
                .iter()
                .filter(|(of, payload)| *of == frame::RST_STREAM && payload[..] == 7_u32.to_be_bytes());
            let (refused, left) = (refused.count(), said.iter().any(|(of, _)| *of == frame::GOAWAY));
            assert!(refused > 0 || left, "{said:?}");
        });
    });
}

/// Heads and bodies that come a byte at a time: the connection is not kept for as long as somebody is willing to go on.
fn trickles_are_cut_off(mesh: &Mesh) {
    let node = follower(mesh);
    let went_on = AtomicU64::new(0);
    let heads: [(&[u8], &[u8]); 3] = [
        (b"http/1.1", b"GET /livez HTTP/1.1\r\nhost: a\r\nx: "),
        (
            b"http/1.1",
            b"POST /meshkit/peers HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n",
        ),
        (
            b"h2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\x00\x40\x00\x01\x04\x00\x00\x00\x01",
        ),
    ];
    meanwhile_others_are_served(mesh, node, "trickles", |_| {
        runtime().block_on(async {
            let trickles = heads.iter().map(|(protocol, head)| {
                let (went_on, to) = (&went_on, address(mesh, node).to_string());
                async move {
                    let Ok(mut stream) = tls(mesh).connect(&to, protocol).await else {
                        return;
                    };
                    let _ = stream.write_all(head).await;
                    let (mut read, mut write) = tokio::io::split(stream);
                    let trickle = async {
                        while write.write_all(b"v").await.is_ok() && write.flush().await.is_ok() {
                            went_on.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                    };
                    let over = async {
                        let _ = read.read_to_end(&mut Vec::new()).await;
                    };
                    let ended = timeout(SOON, async {
                        tokio::select! {
                            () = trickle => {}
                            () = over => {}
                        }
                    });
                    assert!(ended.await.is_ok(), "{} went on", String::from_utf8_lossy(head));
                }
            });
            join(trickles.collect()).await;
        });
    });
    assert!(went_on.load(Ordering::Relaxed) > 10, "hardly anything was let in");
}

/// Waits for all.
async fn join<F: Future<Output = ()>>(all: Vec<F>) {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        all.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if all.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// Nothing, or the beginning of a handshake, over and over: a place comes back after a moment, and those who go on with
/// theirs find one.
fn handshakes_left_open_hold_a_place_for_a_moment_only(mesh: &Mesh) {
    let node = follower(mesh);
    let to = address(mesh, node);
    meanwhile_others_are_served(mesh, node, "handshakes that are left open", |stop| {
        while !stop.load(Ordering::Relaxed) {
            let open: Vec<StdStream> = (0..HANDSHAKES / 2)
                .filter_map(|n| {
                    let mut stream = StdStream::connect(to).ok()?;
                    // A record that promises a hello of 512 bytes.
                    let begun: &[u8] = [&b""[..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]][n % 2];
                    stream.write_all(begun).ok()?;
                    Some(stream)
                })
                .collect();
            for mut stream in open {
                stream.set_read_timeout(Some(SOON)).unwrap();
                let ended = stream.read(&mut [0; 64]);
                // Closed or reset, or told why; not waited for until this side gives up.
                let gave_up = matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
                assert!(!gave_up, "a handshake was left open for {SOON:?}");
            }
        }
    });
}
