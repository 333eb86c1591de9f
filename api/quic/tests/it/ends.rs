use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use meshkit_api_quic::{Error, h3::error::Code};
use tokio::sync::mpsc;

use crate::{Answer, HEADER_BYTES_MAX, Server, channel, get, listen, serve, shared, soon};

/// HEADERS with `:status: 200` from the static table (RFC 9204, appendix A).
const STATUS_200: &[u8] = &[0x01, 3, 0, 0, 0xd9];
/// HEADERS with `POST https://localhost/` likewise, the authority spelt out.
const POST: &[u8] = &[
    0x01, 16, 0, 0, 0xd4, 0xd7, 0xc1, 0x50, 9, b'l', b'o', b'c', b'a', b'l', b'h', b'o', b's', b't',
];

async fn ok(answer: &mut Answer) {
    answer.send_response(Response::new(())).await.unwrap();
}

/// Answers with what came: the body, then how long it was as a trailer.
fn echo() -> Server {
    serve(|request, mut answer, _stopped| async move {
        let body = request.into_body().collect().await;
        let Ok(body) = body else {
            let refused = Response::builder().status(StatusCode::BAD_REQUEST).body(()).unwrap();
            answer.send_response(refused).await.unwrap();
            answer.finish().await.unwrap();
            return;
        };
        let trailers = body.trailers().cloned();
        let body = body.to_bytes();
        ok(&mut answer).await;
        let length = body.len();
        answer.send_data(body).await.unwrap();
        let mut end = trailers.unwrap_or_default();
        end.insert("length", length.into());
        answer.send_trailers(end).await.unwrap();
        answer.finish().await.unwrap();
    })
}

async fn still_works(server: &Server) {
    let client = server.client().await;
    let request = Request::post("https://localhost/").body(Full::from("abc")).unwrap();
    let answer = soon(client.send(request)).await.unwrap();
    assert_eq!(soon(answer.collect()).await.unwrap().to_bytes(), "abc");
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    let server = echo();
    let client = server.client().await;
    let data = Bytes::from(vec![7u8; 3_000_000]);
    let mut trailers = HeaderMap::new();
    trailers.insert("sum", 21.into());
    let body = Full::new(data.clone()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let request = Request::post("https://localhost/").body(body).unwrap();
    let answer = soon(client.send(request)).await.unwrap();
    assert_eq!(
        (answer.status(), answer.version()),
        (StatusCode::OK, http::Version::HTTP_3)
    );
    let answer = soon(answer.collect()).await.unwrap();
    let trailers = answer.trailers().unwrap();
    assert_eq!(
        (&trailers["length"], &trailers["sum"]),
        (&"3000000".parse().unwrap(), &"21".parse().unwrap())
    );
    assert_eq!(answer.to_bytes(), data);
}

#[tokio::test]
async fn a_stream_that_is_dropped_while_nothing_comes_hurts_nobody() {
    let server = echo();
    let connection = server.raw().await;
    // The server waits for the rest of a head, and for a body.
    let (mut head, _answer) = connection.open_bi().await.unwrap();
    head.write_all(&POST[..4]).await.unwrap();
    let (mut body, _other) = connection.open_bi().await.unwrap();
    body.write_all(POST).await.unwrap();
    // The client waits for an answer, gives up, and goes on on the same connection.
    let client = server.client().await;
    let (sender, body) = channel();
    let request = Request::post("https://localhost/").body(body).unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(200), client.send(request)).await;
    assert!(waited.is_err());
    drop(sender);
    let answer = soon(client.send(get("/"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    connection.close(0u32.into(), b"");
    still_works(&server).await;
}

#[tokio::test]
async fn who_sends_learns_at_once_that_nobody_listens() {
    let (ended, mut ends) = mpsc::channel(1);
    let server = serve(move |_request, mut answer, stopped| {
        let ended = ended.clone();
        async move {
            ok(&mut answer).await;
            answer.send_data(Bytes::from_static(b"one")).await.unwrap();
            // A watch in which nothing happens.
            stopped.await;
            ended.send(()).await.unwrap();
        }
    });
    let client = server.client().await;
    for _ in 0..3 {
        let mut answer = soon(client.send(get("/watch"))).await.unwrap();
        let first = soon(answer.frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "one");
        assert!(ends.try_recv().is_err());
        drop(answer);
        soon(ends.recv()).await.unwrap();
    }
    // The same where the whole connection goes.
    let answer = soon(client.send(get("/watch"))).await.unwrap();
    drop((client, answer));
    soon(ends.recv()).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_was_cut_off_does_not_look_whole() {
    let server = serve(|request, mut answer, _stopped| async move {
        let path = request.uri().path().to_owned();
        let length = if path == "/declared" { 5 } else { 3 };
        let head = Response::builder().header("content-length", length);
        let head = if path == "/dropped" { Response::builder() } else { head };
        answer.send_response(head.body(()).unwrap()).await.unwrap();
        answer.send_data(Bytes::from_static(b"abc")).await.unwrap();
        if path == "/dropped" {
            // Long enough for the data to arrive before it is taken back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return;
        }
        answer.finish().await.unwrap();
    });
    let client = server.client().await;
    let whole = soon(client.send(get("/whole"))).await.unwrap();
    assert_eq!(soon(whole.collect()).await.unwrap().to_bytes(), "abc");
    let dropped = soon(client.send(get("/dropped"))).await.unwrap();
    let error = soon(dropped.collect()).await.unwrap_err();
    assert!(
        matches!(error, Error::Stream(code) if code == Code::H3_INTERNAL_ERROR.value()),
        "{error}"
    );
    let declared = soon(client.send(get("/declared"))).await.unwrap();
    let error = soon(declared.collect()).await.unwrap_err();
    assert!(matches!(error, Error::Length { declared: 5, got: 3 }), "{error}");
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_not_whole() {
    // A server of another make, or a broken one: it ends the stream in good order, in the middle of a frame.
    let server = listen(|connection| async move {
        while let Ok((mut send, _receive)) = connection.accept_bi().await {
            send.write_all(STATUS_200).await.unwrap();
            send.write_all(&[0, 4, b'a', b'b']).await.unwrap();
            send.finish().unwrap();
        }
    });
    let client = server.client().await;
    let answer = soon(client.send(get("/"))).await.unwrap();
    let error = soon(answer.collect()).await.unwrap_err();
    assert!(
        matches!(error, Error::Stream(code) if code == Code::H3_FRAME_ERROR.value()),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_that_was_cut_off_does_not_look_whole() {
    let seen = shared(Vec::new());
    let note = seen.clone();
    let (ended, mut ends) = mpsc::channel(1);
    let server = serve(move |request, mut answer, _stopped| {
        let (note, ended) = (note.clone(), ended.clone());
        async move {
            let collected = request.into_body().collect().await.map(|body| body.to_bytes());
            note.lock().push(collected.map_err(|error| error.to_string()));
            let _ = answer.finish().await;
            ended.send(()).await.unwrap();
        }
    });
    let client = server.client().await;
    // Given up in the middle.
    let (sender, body) = channel();
    let request = Request::post("https://localhost/").body(body).unwrap();
    let sending = tokio::spawn({
        let client = client.clone();
        async move { client.send(request).await.map(drop) }
    });
    soon(sender.send(Bytes::from_static(b"half"))).await.unwrap();
    soon(sender.send(Bytes::from_static(b"of it"))).await.unwrap();
    sending.abort();
    soon(ends.recv()).await.unwrap();
    // The same in a frame, in good order.
    let connection = server.raw().await;
    let (mut send, _answer) = connection.open_bi().await.unwrap();
    send.write_all(POST).await.unwrap();
    send.write_all(&[0, 4, b'a', b'b']).await.unwrap();
    send.finish().unwrap();
    soon(ends.recv()).await.unwrap();
    assert!(seen.lock().iter().all(Result::is_err), "{seen:?}");
    assert_eq!(seen.lock().len(), 2);
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_ended() {
    let server = serve(|_request, mut answer, _stopped| async move {
        let refused = Response::builder()
            .status(StatusCode::PAYLOAD_TOO_LARGE)
            .body(())
            .unwrap();
        answer.send_response(refused).await.unwrap();
        answer.send_data(Bytes::from_static(b"too large")).await.unwrap();
        answer.finish().await.unwrap();
    });
    let client = server.client().await;
    for _ in 0..8 {
        // Larger than any window, so it cannot all be on its way.
        let body = Full::new(Bytes::from(vec![0u8; 16 * 1024 * 1024]));
        let request = Request::post("https://localhost/").body(body).unwrap();
        let answer = soon(client.send(request)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(soon(answer.collect()).await.unwrap().to_bytes(), "too large");
    }
}

#[tokio::test]
async fn headers_that_never_end_cost_little_and_spoil_nothing() {
    let server = echo();
    let connection = server.raw().await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    // HEADERS of a gigabyte.
    send.write_all(&[0x01, 0x80 | 0x40, 0, 0, 0, 0x40, 0, 0, 0])
        .await
        .unwrap();
    let code = soon(send.stopped()).await.unwrap().unwrap();
    assert_eq!(code.into_inner(), Code::H3_EXCESSIVE_LOAD.value());
    assert!(soon(receive.read_to_end(100)).await.is_err());
    // Just over the limit, and a frame of a type that nobody knows.
    let long = (HEADER_BYTES_MAX + 1).to_be_bytes();
    for kind in [0x01, 0x21] {
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&[kind, 0x80, long[5], long[6], long[7]]).await.unwrap();
        assert!(soon(send.stopped()).await.unwrap().is_some());
    }
    // The connection is as good as before.
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(POST).await.unwrap();
    send.finish().unwrap();
    assert!(soon(receive.read_to_end(1000)).await.unwrap().starts_with(&[0x01]));
}

#[tokio::test]
async fn an_empty_frame_does_not_end_a_body() {
    let server = echo();
    let connection = server.raw().await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(POST).await.unwrap();
    send.write_all(&[0, 2, b'a', b'b', 0, 0, 0, 1, b'c', 0, 0])
        .await
        .unwrap();
    send.finish().unwrap();
    let answer = soon(receive.read_to_end(1000)).await.unwrap();
    let data = [0, 3, b'a', b'b', b'c'];
    assert!(answer.windows(data.len()).any(|window| window == data), "{answer:?}");
}

#[tokio::test]
async fn what_nobody_reads_waits_and_harms_no_other_stream() {
    let server = serve(|request, mut answer, stopped| async move {
        ok(&mut answer).await;
        if request.uri().path() == "/short" {
            answer.finish().await.unwrap();
            return;
        }
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                sent = answer.send_data(Bytes::from(vec![0u8; 100_000])) => if sent.is_err() { return },
                () = &mut stopped => return,
            }
        }
    });
    let client = server.client().await;
    let mut unread = Vec::new();
    for _ in 0..4 {
        unread.push(soon(client.send(get("/endless"))).await.unwrap());
    }
    let short = soon(client.send(get("/short"))).await.unwrap();
    assert!(soon(short.collect()).await.unwrap().to_bytes().is_empty());
    drop(unread);
}
