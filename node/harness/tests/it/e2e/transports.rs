//! HTTP/3 on the client's side, with `mesh` and the SDK as they were built: where TCP is blocked, where UDP is, and where a
//! node is killed under a call.

use std::{
    ffi::OsStr,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use api_client::{CallOptions, Downgrade, Transport, context::Environment, context::Flags, methods::GetStatus};
use api_quic::quinn;
use node_harness::{Mesh, Options, Output, Programs, wait_until};
use proto::v1::{GetPeerRequest, GetStatusRequest, RegisterPeerRequest, audit_record::Outcome};

use super::{
    http3::{UdpOnly, address, counted},
    shared::on_one_mesh,
    wire::runtime,
    world::{SOON, audit, builder, follower, leader, only, register, tls, unique, wait},
};

/// Far less than what is waited for an answer that does not come, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

on_one_mesh! {
    Options::default;
    mesh_works_where_tcp_is_blocked,
    blocked_udp_costs_little_and_is_told,
    http3_alone_is_refused_with_a_way_out_where_there_is_none,
    mesh_takes_its_leave,
}

/// `mesh` as admin, at one address.
fn mesh_at(mesh: &Mesh, at: &str, transport: &str, arguments: &[&str]) -> Output {
    let context = mesh.context("admin");
    let environment = [
        ("MESH_CONTEXT", context.as_os_str()),
        ("MESH_ENDPOINTS", OsStr::new(at)),
        ("MESH_TRANSPORT", OsStr::new(transport)),
    ];
    let programs = Programs::find().unwrap();
    programs.run("mesh", arguments, &environment, mesh.scratch())
}

fn requests(mesh: &Mesh, node: u64, transport: &str) -> u64 {
    let transport = format!("transport=\"{transport}\"");
    counted(mesh, node, &["meshkit_api_requests_total{", "api=\"grpc\"", &transport])
}

fn downgrades(mesh: &Mesh, node: u64, reason: &str) -> u64 {
    let reason = format!("reason=\"{reason}\"");
    counted(mesh, node, &["meshkit_api_transport_downgrades_total{", &reason])
}

/// A way to a node for TCP; UDP to the same port is swallowed.
struct TcpOnly {
    at: String,
    udp: UdpSocket,
}

impl TcpOnly {
    fn to(mesh: &Mesh, node: u64) -> Self {
        let to = address(mesh, node);
        let (front, udp) = (0..100)
            .find_map(|_| {
                let front = TcpListener::bind("127.0.0.1:0").unwrap();
                let udp = UdpSocket::bind(front.local_addr().unwrap()).ok()?;
                Some((front, udp))
            })
            .expect("a port for both");
        udp.set_nonblocking(true).unwrap();
        let at = format!("https://{}", front.local_addr().unwrap());
        // Lives as long as the test process.
        std::thread::spawn(move || {
            while let Ok((client, _)) = front.accept() {
                let node = TcpStream::connect(to).unwrap();
                for (mut from, mut into) in [(client.try_clone().unwrap(), node.try_clone().unwrap()), (node, client)] {
                    std::thread::spawn(move || {
                        let mut buffer = [0; 16_384];
                        while let Ok(length @ 1..) = from.read(&mut buffer) {
                            if into.write_all(&buffer[..length]).is_err() {
                                break;
                            }
                        }
                        let _ = into.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Self { at, udp }
    }

    /// From how many ports UDP was tried so far.
    fn tries(&self) -> usize {
        let mut seen = std::collections::BTreeSet::new();
        let mut buffer = [0; 2_048];
        while let Ok((_, from)) = self.udp.recv_from(&mut buffer) {
            seen.insert(from);
        }
        seen.len()
    }
}

/// The SDK as admin at one address.
fn sdk(mesh: &Mesh, at: &str) -> api_client::Client {
    let flags = Flags {
        context: Some(mesh.context("admin")),
        endpoints: Some(at.to_owned()),
        ..Flags::default()
    };
    let context = api_client::Context::load(&flags, &Environment::default()).unwrap();
    api_client::Client::new(&context).unwrap()
}

fn mesh_works_where_tcp_is_blocked(mesh: &Mesh) {
    let node = leader(mesh);
    let way = UdpOnly::to(address(mesh, node));
    let at = format!("https://{}", way.address);
    for transport in ["auto", "h3"] {
        let before = requests(mesh, node, "h3");
        let id = unique("over-udp");
        let run = |arguments: &[&str]| mesh_at(mesh, &at, transport, arguments).ok().unwrap();
        run(&["peers", "register", &id, "--endpoint", "127.0.0.1:9000"]);
        assert!(run(&["peers", "list"]).stdout.contains(&id));
        run(&["peers", "drain", &id, "--yes", "--wait", "--reason", "over udp"]);
        let status = run(&["status", "-o", "wide"]).stdout;
        assert!(status.contains("asked over") && status.contains("h3"), "{status}");
        let seen = run(&["peers", "list", "--watch", "--for", "1s"]).stdout;
        assert!(seen.contains(&id), "{seen}");
        assert!(requests(mesh, node, "h3") >= before + 5, "HTTP/3 was not counted");
        let records = audit(mesh);
        let mut own = records.iter().filter(|record| record.target.contains(&id));
        let drained = own.find(|record| record.reason == "over udp").expect("a record");
        assert_eq!(drained.transport, "h3");
    }
    let refused = mesh_at(mesh, &at, "h2", &["--request-timeout", "3s", "peers", "list"]);
    refused.expect_code(3).unwrap();
}

fn blocked_udp_costs_little_and_is_told(mesh: &Mesh) {
    let node = leader(mesh);
    let way = TcpOnly::to(mesh, node);
    let id = unique("over-tcp");
    register(mesh, &id);
    // Within a process it is paid for once.
    let before = downgrades(mesh, node, "timeout");
    let client = sdk(mesh, &way.at);
    let get = || wait(client.get_peer(GetPeerRequest { id: id.clone() })).unwrap();
    let begun = Instant::now();
    let first = get();
    let paid = begun.elapsed();
    assert_eq!(
        (first.meta.transport, first.meta.downgrade),
        ("h2", Some(Downgrade::Timeout))
    );
    for _ in 0..5 {
        assert_eq!(get().meta.transport, "h2");
    }
    assert_eq!(way.tries(), 1);
    assert!(downgrades(mesh, node, "timeout") >= before + 6);
    // What it costs is measured against the same without it; a busy machine may disturb one of them.
    let cheapest = (0..5)
        .map(|_| {
            let time = |transport| {
                let begun = Instant::now();
                mesh_at(mesh, &way.at, transport, &["peers", "get", &id]).ok().unwrap();
                begun.elapsed()
            };
            let without = time("h2");
            time("auto").saturating_sub(without)
        })
        .min()
        .unwrap();
    assert!(
        cheapest <= Duration::from_millis(300),
        "{cheapest:?}, and {paid:?} in the SDK"
    );
    assert!(downgrades(mesh, node, "timeout") >= before + 11);
    let status = mesh_at(mesh, &way.at, "auto", &["status", "-o", "wide"]).ok().unwrap();
    let why = "h2, because HTTP/3 could not be had: no answer over UDP";
    assert!(status.stdout.contains(why), "{}", status.stdout);
    // Scripts hear nothing of it, and a terminal one line.
    assert_eq!(status.stderr, "");
    let said = on_a_terminal(mesh, &way.at, &["peers", "get", &id, "-o", "name"]);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines[1].starts_with("HTTP/2 instead of HTTP/3 to https://127.0.0.1:"),
        "{said}"
    );
}

/// What `mesh` writes where both its outputs are one terminal.
fn on_a_terminal(mesh: &Mesh, at: &str, arguments: &[&str]) -> String {
    let program = Programs::find().unwrap().path("mesh");
    let line = std::iter::once(program.to_str().unwrap()).chain(arguments.iter().copied());
    let line = line.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let out = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("MESH_CONTEXT", mesh.context("admin"))
        .env("MESH_ENDPOINTS", at)
        .output()
        .expect("script, of util-linux");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn http3_alone_is_refused_with_a_way_out_where_there_is_none(mesh: &Mesh) {
    let way = TcpOnly::to(mesh, follower(mesh));
    let refused = mesh_at(mesh, &way.at, "h3", &["peers", "list"]);
    let refused = refused.expect_code(3).unwrap();
    assert!(refused.stderr.contains("no answer over UDP"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("with auto or h2 it goes over TCP"),
        "{}",
        refused.stderr
    );
    assert_eq!(refused.stdout, "");
}

fn mesh_takes_its_leave(mesh: &Mesh) {
    let node = follower(mesh);
    let at = mesh.node(node).unwrap().api.clone();
    let open = || counted(mesh, node, &["meshkit_api_connections "]);
    let before = open();
    for _ in 0..20 {
        mesh_at(mesh, &at, "h3", &["peers", "list"]).ok().unwrap();
    }
    // Far sooner than a node gives up on one that went without a word; other tests have a few of their own.
    let left = || open() < before + 10;
    wait_until(Duration::from_secs(8), "the connections to be closed", left).unwrap();
}

/// A node that is killed while a mutation waits for it: the same key goes to another, and it is applied once.
#[test]
fn a_node_killed_under_a_call_is_replaced_with_the_same_key() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let led = leader(&mesh);
    let client = builder(&mesh, "admin").transport(Transport::H3).build().unwrap();
    let ids: Vec<String> = (0..40).map(|_| unique("killed")).collect();
    let writes: Vec<_> = ids
        .iter()
        .cloned()
        .map(|id| {
            let client = client.clone();
            runtime().spawn(async move {
                let request = RegisterPeerRequest {
                    id,
                    endpoints: vec!["127.0.0.1:9000".to_owned()],
                    ..RegisterPeerRequest::default()
                };
                // Spread over the kill.
                let turn = u64::from(request.id.as_bytes().last().copied().unwrap_or_default() % 10);
                tokio::time::sleep(Duration::from_millis(turn * 20)).await;
                let options = CallOptions {
                    timeout: Some(SOON),
                    ..CallOptions::default()
                };
                client.call::<api_client::methods::RegisterPeer>(request, options).await
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    mesh.kill(led).unwrap();
    for write in writes {
        let answer = wait(write).unwrap().expect("registered, once the others lead");
        assert_eq!(answer.meta.transport, "h3");
    }
    mesh.restart(led).unwrap();
    let records = audit(&mesh);
    for id in ids {
        let applied = records.iter().filter(|record| {
            let own = record.target.rsplit('/').next() == Some(&id);
            own && record.action == "peers.register" && record.outcome() == Outcome::Applied
        });
        assert_eq!(applied.count(), 1, "{id}");
        wait(client.get_peer(GetPeerRequest { id })).expect("it is there");
    }
}

/// A node that is killed and at once there again: what its clients had with the process before is ended by the next one's
/// first answer, not by seconds of silence.
#[test]
fn who_was_connected_before_a_restart_is_told_at_once() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let node = follower(&mesh);
    let client = builder(&mesh, "read").transport(Transport::H3).build().unwrap();
    let options = || CallOptions {
        once: false,
        timeout: Some(SOON),
        ..only(&mesh, node)
    };
    let (before, after) = (options(), options());
    wait(client.call::<GetStatus>(GetStatusRequest {}, before)).expect("connected");
    let connection = wait(tls(&mesh).connect_quic(address(&mesh, node))).unwrap();
    mesh.kill(node).unwrap();
    mesh.restart(node).unwrap();
    mesh.wait_ready(node, SOON).unwrap();

    // Something is sent on the old connection: the answer is a stateless reset.
    let asked = Instant::now();
    let closed = wait(async {
        if let Ok(mut stream) = connection.open_uni().await {
            // Fails where the reset was there before.
            let _ = stream.write_all(b"is anybody there?").await;
        }
        tokio::time::timeout(SOON, connection.closed()).await
    });
    assert!(matches!(closed, Ok(quinn::ConnectionError::Reset)), "{closed:?}");
    assert!(asked.elapsed() < AT_ONCE, "told after {:?}", asked.elapsed());

    // The SDK goes on by itself, on a new connection. An attempt that hears nothing takes 4 s.
    let asked = Instant::now();
    let answer = wait(client.call::<GetStatus>(GetStatusRequest {}, after)).expect("connected again");
    assert_eq!((answer.message.answered_by, answer.meta.transport), (node, "h3"));
    assert!(asked.elapsed() < AT_ONCE, "answered after {:?}", asked.elapsed());
}
