//! SIGHUP: what is read again counts for the next request, on the connections that there are (X1).

use std::{fs, path::Path};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use node_harness::{Mesh, Options, wait_until};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    wire::{Caller, Wire, runtime},
    world::{SOON, tls},
};

/// A connection that is opened once; where it is lost, the test fails.
enum Held {
    H1(http1::SendRequest<Empty<Bytes>>),
    H2(http2::SendRequest<Empty<Bytes>>),
}

impl Held {
    fn open(at: &Caller) -> Self {
        runtime().block_on(async {
            if at.wire == Wire::H1 {
                let stream = at.tls.connect(&at.address, b"http/1.1").await.unwrap();
                let (send, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                Self::H1(send)
            } else {
                let stream = at.tls.connect(&at.address, b"h2").await.unwrap();
                let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
                tokio::spawn(connection);
                Self::H2(send)
            }
        })
    }

    /// The status of a read by the bearer of a token.
    fn status(&mut self, address: &str, token: &str) -> u16 {
        let path = "/meshkit/peers";
        let request = |uri: String| {
            Request::get(uri)
                .header("host", address)
                .header("authorization", format!("Bearer {token}"))
                .body(Empty::new())
                .unwrap()
        };
        runtime().block_on(async {
            let answer = match self {
                Self::H1(send) => {
                    send.ready().await.expect("the connection is dropped");
                    send.send_request(request(path.to_owned())).await
                }
                Self::H2(send) => send.send_request(request(format!("https://{address}{path}"))).await,
            };
            let answer = answer.expect("the connection is dropped");
            let status = answer.status().as_u16();
            answer.into_body().collect().await.expect("an answer to its end");
            status
        })
    }
}

#[test]
fn keys_and_levels_are_read_again_without_dropping_a_connection() {
    let mut mesh = Mesh::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let node = mesh.node(1).unwrap().clone();
    let address = node.api.strip_prefix("https://").unwrap().to_owned();
    let old = mesh.info().tokens.read.clone();
    let (key, new) = second_issuer(&mesh);
    let mut held: Vec<Held> = [Wire::H1, Wire::H2]
        .map(|wire| Held::open(&Caller::new(&node.api, wire, tls(&mesh))))
        .into();
    let mut seen = |old_status: u16, new_status: u16| {
        for held in &mut held {
            assert_eq!(
                (held.status(&address, &old), held.status(&address, &new)),
                (old_status, new_status)
            );
        }
    };
    seen(200, 401);
    let at = Caller::new(&node.api, Wire::H1, tls(&mesh));
    misbehave(&at);
    assert_eq!(debug_lines(&node.log), 0, "nothing is told at this level");

    // One key goes, another comes, and more is told.
    let good = fs::read_to_string(&node.config).unwrap();
    let mut config: toml::Table = good.parse().unwrap();
    set(&mut config, "auth", "key_files", vec![key].into());
    set(&mut config, "log", "level", "debug".into());
    reload(&mut mesh, &config.to_string(), "reloaded tls, auth and log");
    seen(401, 200);
    misbehave(&at);
    wait_until(SOON, "more to be told", || debug_lines(&node.log) > 0).unwrap();

    // What cannot be used changes nothing, not even the half of it that could be.
    let mut broken = config.clone();
    set(&mut broken, "log", "level", "loud".into());
    set(&mut broken, "auth", "issuer", "somebody".into());
    reload(&mut mesh, &broken.to_string(), "everything stays as it was");
    seen(401, 200);
    let before = debug_lines(&node.log);
    misbehave(&at);
    let told = wait_until(SOON, "as much to be told as before", || debug_lines(&node.log) > before);
    told.unwrap();

    // A key that is not there leaves the keys that are.
    let mut absent = config.clone();
    let nowhere = mesh.scratch().join("nowhere.pub");
    set(&mut absent, "auth", "key_files", vec![nowhere.to_str().unwrap()].into());
    reload(&mut mesh, &absent.to_string(), "stays as it was");
    seen(401, 200);

    // And back.
    reload(&mut mesh, &good, "reloaded tls, auth and log");
    seen(200, 401);
    mesh.stop().unwrap();
}

fn set(config: &mut toml::Table, section: &str, key: &str, value: toml::Value) {
    let section = config
        .entry(section)
        .or_insert_with(|| toml::Value::Table(toml::Table::new()));
    section.as_table_mut().unwrap().insert(key.to_owned(), value);
}

/// Writes the configuration, sends SIGHUP, and waits until the node says what came of it.
fn reload(mesh: &mut Mesh, config: &str, said: &str) {
    let node = mesh.node(1).unwrap().clone();
    let count = |log: &Path| fs::read_to_string(log).unwrap_or_default().matches(said).count();
    let before = count(&node.log);
    fs::write(&node.config, config).unwrap();
    mesh.signal(1, Signal::HUP).unwrap();
    let told = wait_until(SOON, said, || count(&node.log) > before);
    told.unwrap_or_else(|error| panic!("{error}: {}", mesh.logs()));
}

/// Sends what is no HTTP: a matter for who looks closely, told at `debug`. Returns when the node has closed the connection.
fn misbehave(at: &Caller) {
    runtime().block_on(async {
        let mut stream = at.tls.connect(&at.address, b"http/1.1").await.unwrap();
        stream.write_all(b"\x00\x01 is no verb\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
        closed.expect("the node closes what is no HTTP").ok();
    });
}

fn debug_lines(log: &Path) -> usize {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter(|line| line.contains("DEBUG")).count()
}

/// The public key of another issuer of the same name, and a token by it.
fn second_issuer(mesh: &Mesh) -> (String, String) {
    let out = mesh.scratch().join("second");
    let file = |extension: &str| out.with_extension(extension).to_str().unwrap().to_owned();
    let (public, private, token) = (file("pub"), file("key"), file("jwt"));
    let make = |arguments: &[&str]| mesh.programs().node(arguments).ok().unwrap();
    make(&["certs", "jwt-key", "--out", out.to_str().unwrap()]);
    let id = mesh.info().mesh.as_str();
    let whose = ["--mesh", id, "--subject", "second", "--scope", "mesh.read"];
    make(&[&["certs", "token", "--key", &private, "--out", &token], &whose[..]].concat());
    (public, fs::read_to_string(token).unwrap().trim().to_owned())
}
