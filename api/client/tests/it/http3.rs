//! HTTP/3: what it is used for, what becomes of it where UDP does not get through, and how that is told.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api_client::{
    CallOptions, Client, Downgrade, Error, TlsConnect, Transport,
    methods::{GetPeer, SaveBackup},
};
use api_quic::{Body, Connection, SendStream, Side, Stopped, config, h3, quinn};
use hyper::body::{Body as _, Bytes};
use proto::v1::{BackupChunk, CordonPeerRequest, GetPeerRequest, Peer, SaveBackupRequest};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};

use crate::{
    fake::{Fake, Reply},
    tls::{Authority, accept, node, server},
};

/// Nothing here takes this long, on a machine however busy.
const LONG: Duration = Duration::from_secs(20);

/// What the node does with answers over HTTP/3.
#[derive(Clone)]
enum Answers {
    Whole,
    /// Breaks off after the first data.
    Cut,
    /// Says nothing after the first data, and tells when nobody waits any more.
    Stuck(mpsc::Sender<()>),
}

/// A port of this machine, for TCP and UDP.
async fn port() -> (TcpListener, std::net::UdpSocket) {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        if let Ok(udp) = std::net::UdpSocket::bind(tcp.local_addr().expect("its address")) {
            udp.set_nonblocking(true).expect("a socket");
            return (tcp, udp);
        }
    }
    panic!("no port is free for both");
}

/// Serves HTTP/3 on a socket until what it gives back is dropped.
fn serve(authority: &Authority, fake: &Fake, udp: std::net::UdpSocket, answers: Answers) -> quinn::Endpoint {
    let transport = config::Transport {
        requests_max: 32,
        ..config::Transport::default()
    };
    let tls = config::server_tls(&server(authority)).expect("TLS for QUIC");
    let settings = config::server(tls, &transport).expect("settings");
    let endpoint = config::server_endpoint(udp, settings, quinn::EndpointConfig::default()).expect("an endpoint");
    let (accepting, fake) = (endpoint.clone(), fake.clone());
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let (fake, answers) = (fake.clone(), answers.clone());
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    requests(connection, fake, answers).await;
                }
            });
        }
    });
    endpoint
}

async fn requests(connection: quinn::Connection, fake: Fake, answers: Answers) {
    let adapted = Connection::new(connection, Side::Server, 64 * 1024);
    let stops = adapted.stops();
    let Ok(mut h3) = h3::server::builder().build::<_, Bytes>(adapted).await else {
        return;
    };
    while let Ok(Some(resolver)) = h3.accept().await {
        let (fake, answers, stops) = (fake.clone(), answers.clone(), stops.clone());
        tokio::spawn(async move {
            let Ok((request, stream)) = resolver.resolve_request().await else {
                return;
            };
            let stopped = stops.take(stream.id()).expect("given out once");
            let (send, receive) = stream.split();
            let body = Body::of_request(receive, request.headers());
            answer(request.map(|()| body), send, stopped, fake, answers).await;
        });
    }
}

async fn answer(
    request: http::Request<Body>,
    mut send: h3::server::RequestStream<SendStream<Bytes>, Bytes>,
    stopped: Stopped,
    fake: Fake,
    answers: Answers,
) {
    let Ok(response) = fake.dispatch(request).await;
    let (head, mut body) = response.into_parts();
    if send.send_response(http::Response::from_parts(head, ())).await.is_err() {
        return;
    }
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        let sent = match frame.into_data() {
            Ok(data) => send.send_data(data).await,
            Err(frame) => send.send_trailers(frame.into_trailers().unwrap_or_default()).await,
        };
        match answers {
            _ if sent.is_err() => return,
            Answers::Whole => {}
            Answers::Cut => return,
            Answers::Stuck(told) => {
                stopped.await;
                let _ = told.send(()).await;
                return;
            }
        }
    }
    let _ = send.finish().await;
}

fn builder(authority: &Authority, addresses: &[SocketAddr]) -> api_client::Builder {
    let identity = authority.issue("alice");
    let key = identity.key.serialize_pem();
    let connector = TlsConnect::new(
        Some(authority.pem.as_bytes()),
        Some((identity.pem.as_bytes(), key.as_bytes())),
    );
    let endpoints = addresses.iter().map(|address| format!("https://{address}").parse());
    let endpoints = endpoints.collect::<Result<_, _>>().expect("endpoints");
    Client::builder(endpoints, Arc::new(connector.expect("a connector"))).timeout(LONG)
}

fn client(authority: &Authority, address: SocketAddr, transport: Transport) -> Client {
    let builder = builder(authority, &[address]).transport(transport);
    builder.build().expect("a client")
}

fn get() -> GetPeerRequest {
    GetPeerRequest { id: "p1".into() }
}

fn cordon() -> CordonPeerRequest {
    CordonPeerRequest {
        id: "p1".into(),
        ..CordonPeerRequest::default()
    }
}

/// A way to a node for UDP, that can be closed and can fall silent.
struct Way {
    address: SocketAddr,
    deaf: Arc<AtomicBool>,
    passing: JoinHandle<()>,
}

impl Way {
    async fn through(front: std::net::UdpSocket, to: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::from_std(front).expect("a socket"));
        let address = front.local_addr().expect("its address");
        let deaf = Arc::new(AtomicBool::new(false));
        let passing = tokio::spawn(pass(front, to, Arc::clone(&deaf)));
        Self { address, deaf, passing }
    }

    /// From here on the port is closed, as if the program behind it had been killed.
    async fn close(self) {
        self.passing.abort();
        let _ = self.passing.await;
        // The socket is gone with the task and those that it had begun.
        while UdpSocket::bind(self.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn pass(front: Arc<UdpSocket>, to: SocketAddr, deaf: Arc<AtomicBool>) {
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut back = tokio::task::JoinSet::new();
    let mut buffer = vec![0; 65_536];
    while let Ok((length, client)) = front.recv_from(&mut buffer).await {
        let known = ways.get(&client).cloned();
        let way = if let Some(way) = known {
            way
        } else {
            let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
            way.connect(to).await.expect("loopback");
            ways.insert(client, Arc::clone(&way));
            let (front, deaf, answers) = (Arc::clone(&front), Arc::clone(&deaf), Arc::clone(&way));
            back.spawn(async move {
                let mut buffer = vec![0; 65_536];
                while let Ok(length) = answers.recv(&mut buffer).await {
                    if !deaf.load(Ordering::Relaxed) {
                        let _ = front.send_to(&buffer[..length], client).await;
                    }
                }
            });
            way
        };
        if !deaf.load(Ordering::Relaxed) {
            let _ = way.send(&buffer[..length]).await;
        }
    }
}

/// Takes all datagrams, says nothing, and tells how many have come and from how many ports.
fn swallow(udp: std::net::UdpSocket) -> Arc<parking_lot::Mutex<BTreeSet<SocketAddr>>> {
    let udp = UdpSocket::from_std(udp).expect("a socket");
    let seen = Arc::new(parking_lot::Mutex::new(BTreeSet::new()));
    let sees = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((_, from)) = udp.recv_from(&mut buffer).await {
            sees.lock().insert(from);
        }
    });
    seen
}

fn told(fake: &Fake, call: usize) -> Option<String> {
    fake.asked()[call].metadata.get("mesh-transport-downgrade").cloned()
}

#[tokio::test]
async fn calls_and_streams_go_where_tcp_does_not() {
    let (authority, fake) = (Authority::new(), node());
    let data = vec![7; 300_000];
    fake.says("SaveBackup", [Reply::ok(&BackupChunk { data: data.clone() })]);
    let (tcp, udp) = port().await;
    let address = tcp.local_addr().unwrap();
    drop(tcp);
    let _node = serve(&authority, &fake, udp, Answers::Whole);
    for transport in [Transport::Auto, Transport::H3] {
        let client = client(&authority, address, transport);
        let answer = client.get_peer(get()).await.expect("an answer over UDP");
        assert_eq!(
            (answer.message.id.as_str(), answer.meta.transport, answer.meta.downgrade),
            ("p1", "h3", None)
        );
        let mut backup = client
            .save_backup(SaveBackupRequest::default(), None)
            .await
            .expect("a stream");
        let mut got = Vec::new();
        while let Some(chunk) = backup.next().await.expect("all of it") {
            got.extend_from_slice(&chunk.data);
        }
        assert_eq!((got.len(), backup.meta.transport), (data.len(), "h3"));
        assert!(client.downgrades().is_empty());
    }
    assert!((0..fake.asked().len()).all(|call| told(&fake, call).is_none()));
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    let (authority, foreign, fake) = (Authority::new(), Authority::new(), node());
    let (tcp, udp) = port().await;
    let address = tcp.local_addr().unwrap();
    let _node = serve(&authority, &fake, udp, Answers::Whole);
    tokio::spawn(accept(fake, tcp, server(&authority)));
    let ask = async |ca: &Authority, signer: Option<&Authority>, transport| {
        let identity = signer.map(|signer| signer.issue("somebody"));
        let key = identity.as_ref().map(|identity| identity.key.serialize_pem());
        let identity = identity.as_ref().zip(key.as_ref());
        let identity = identity.map(|(identity, key)| (identity.pem.as_bytes(), key.as_bytes()));
        let connector = TlsConnect::new(Some(ca.pem.as_bytes()), identity).unwrap();
        let endpoint = format!("https://{address}").parse().unwrap();
        let builder = Client::builder(vec![endpoint], Arc::new(connector)).timeout(LONG);
        let client = builder.transport(transport).build().unwrap();
        client.get_peer(get()).await.map(|answer| answer.meta.transport)
    };
    for (transport, label) in [(Transport::H2, "h2"), (Transport::H3, "h3"), (Transport::Auto, "h3")] {
        assert_eq!(ask(&authority, Some(&authority), transport).await.unwrap(), label);
        let error = ask(&foreign, Some(&authority), transport).await.unwrap_err();
        assert_eq!((error.code(), error.exit_code()), ("unavailable", 3), "{error}");
        assert!(error.detail().contains("TLS: invalid peer certificate"), "{error}");
        for stranger in [None, Some(&foreign)] {
            let error = ask(&authority, stranger, transport).await.unwrap_err();
            assert_eq!((error.code(), error.exit_code()), ("unauthenticated", 4), "{error}");
        }
    }
}

#[tokio::test]
async fn where_udp_is_swallowed_http2_is_spoken_and_says_why() {
    let (authority, fake) = (Authority::new(), node());
    let (tcp, udp) = port().await;
    let address = tcp.local_addr().unwrap();
    let seen = swallow(udp);
    tokio::spawn(accept(fake.clone(), tcp, server(&authority)));

    let client = client(&authority, address, Transport::Auto);
    for _ in 0..3 {
        let answer = client.get_peer(get()).await.expect("an answer over TCP");
        assert_eq!(
            (answer.meta.transport, answer.meta.downgrade),
            ("h2", Some(Downgrade::Timeout))
        );
    }
    assert_eq!(seen.lock().len(), 1, "UDP was tried more than once");
    assert!((0..3).all(|call| told(&fake, call).as_deref() == Some("timeout")));
    let downgrades = client.downgrades();
    assert_eq!(
        downgrades.iter().map(|(_, why)| *why).collect::<Vec<_>>(),
        [Downgrade::Timeout]
    );

    // Whoever asks for HTTP/2 wants nothing else, and has nothing to tell.
    let client = self::client(&authority, address, Transport::H2);
    let answer = client.get_peer(get()).await.unwrap();
    assert_eq!((answer.meta.transport, answer.meta.downgrade), ("h2", None));
    assert_eq!((told(&fake, 3), seen.lock().len()), (None, 1));
}

#[tokio::test]
async fn a_closed_port_is_noticed_at_once() {
    let (authority, fake) = (Authority::new(), node());
    let (tcp, udp) = port().await;
    let address = tcp.local_addr().unwrap();
    drop(udp);
    tokio::spawn(accept(fake.clone(), tcp, server(&authority)));
    let auto = client(&authority, address, Transport::Auto);
    let answer = auto.get_peer(get()).await.expect("an answer over TCP");
    assert_eq!(
        (answer.meta.transport, answer.meta.downgrade),
        ("h2", Some(Downgrade::Refused))
    );
    assert_eq!(told(&fake, 0).as_deref(), Some("refused"));

    let begun = Instant::now();
    let error = client(&authority, address, Transport::H3)
        .get_peer(get())
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("unavailable", 3));
    assert!(error.detail().contains("HTTP/3: connection refused"), "{error}");
    assert!(error.hint().contains("with auto or h2 it goes over TCP"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(fake.asked().len(), 1, "it went over TCP");
}

#[tokio::test]
async fn a_node_that_dies_under_a_mutation_is_asked_elsewhere_with_the_same_key() {
    let (authority, dying, other) = (Authority::new(), Fake::default(), Fake::default());
    dying.says("CordonPeer", [Reply::Silence]);
    other.says("CordonPeer", [Reply::at(&Peer::default(), 7)]);
    let (behind, front) = (port().await, port().await);
    let _dying = serve(&authority, &dying, behind.1, Answers::Whole);
    let way = Way::through(front.1, behind.0.local_addr().unwrap()).await;
    drop(front.0);
    let second = port().await;
    let _other = serve(&authority, &other, second.1, Answers::Whole);

    let addresses = [way.address, second.0.local_addr().unwrap()];
    let builder = builder(&authority, &addresses)
        .transport(Transport::H3)
        // Only the end of the connection can be noticed sooner.
        .attempt_timeout(LONG);
    let client = builder.build().unwrap();
    let call = tokio::spawn(async move { client.cordon_peer(cordon()).await });
    while dying.asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let died = Instant::now();
    way.close().await;
    let answer = call.await.unwrap().expect("the other node's answer");
    assert!(died.elapsed() < Duration::from_secs(6), "{:?}", died.elapsed());
    assert_eq!((answer.meta.attempts, answer.meta.transport), (2, "h3"));
    let key = |fake: &Fake| fake.asked()[0].message::<CordonPeerRequest>().idempotency_key;
    assert!(!key(&dying).is_empty());
    assert_eq!(key(&dying), key(&other));
}

#[tokio::test]
async fn what_falls_silent_goes_on_over_tcp() {
    let (authority, fake) = (Authority::new(), node());
    fake.says("CordonPeer", [Reply::at(&Peer::default(), 7)]);
    let (behind, front) = (port().await, port().await);
    let _node = serve(&authority, &fake, behind.1, Answers::Whole);
    let way = Way::through(front.1, behind.0.local_addr().unwrap()).await;
    tokio::spawn(accept(fake.clone(), front.0, server(&authority)));
    let builder = builder(&authority, &[way.address]).attempt_timeout(Duration::from_secs(3));
    let client = builder.build().unwrap();
    assert_eq!(client.get_peer(get()).await.unwrap().meta.transport, "h3");
    way.deaf.store(true, Ordering::Relaxed);
    let answer = client.cordon_peer(cordon()).await.expect("an answer over TCP");
    assert_eq!(
        (answer.meta.transport, answer.meta.downgrade, answer.meta.attempts),
        ("h2", Some(Downgrade::Lost), 2)
    );
    assert_eq!(told(&fake, 1).as_deref(), Some("lost"));
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_none() {
    let (authority, fake) = (Authority::new(), node());
    let data = vec![7; 300_000];
    fake.says("SaveBackup", [Reply::ok(&BackupChunk { data })]);
    let (tcp, udp) = port().await;
    let _node = serve(&authority, &fake, udp, Answers::Cut);
    let client = client(&authority, tcp.local_addr().unwrap(), Transport::H3);
    let once = CallOptions {
        once: true,
        ..CallOptions::default()
    };
    let error: Error = client.call::<GetPeer>(get(), once).await.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("unavailable", true), "{error}");
    // Whether the beginning still comes is up to chance; an end that looks like one does not.
    let begun = client
        .open::<SaveBackup>(
            SaveBackupRequest::default(),
            CallOptions {
                once: true,
                ..CallOptions::default()
            },
        )
        .await;
    let error = match begun {
        Err(error) => error,
        Ok(mut backup) => loop {
            match backup.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it looks whole"),
                Err(error) => break error,
            }
        },
    };
    assert_eq!((error.code(), error.retryable()), ("unavailable", true), "{error}");
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_called_off() {
    let (authority, fake) = (Authority::new(), node());
    let chunk = BackupChunk { data: vec![7; 3_000] };
    fake.says("SaveBackup", [Reply::ok(&chunk)]);
    let (tcp, udp) = port().await;
    let (tell, mut told) = mpsc::channel(4);
    let _node = serve(&authority, &fake, udp, Answers::Stuck(tell));
    let client = client(&authority, tcp.local_addr().unwrap(), Transport::H3);
    let mut backup = client.save_backup(SaveBackupRequest::default(), None).await.unwrap();
    assert!(backup.next().await.unwrap().is_some());
    assert!(told.try_recv().is_err());
    drop(backup);
    tokio::time::timeout(LONG, told.recv())
        .await
        .expect("the node is told")
        .expect("by the stream");
}
