//! What bad input gets: each its documented code, nothing changed, nothing lost, the others served meanwhile.
//!
//! Good requests that a test needs are sent as `admin2`; whatever anybody else changed here would be a fault.

use std::{
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use node_harness::{Mesh, Options};
use proto::v1::audit_record::Outcome;
use serde_json::{Value, json};

use super::{
    shared::on_one_mesh,
    wire::{Caller, Tls, Wire},
    world::{audit, caller, dev_file, leader, registration, tls, unique},
};

on_one_mesh! {
    Options::default;
    malformed_fields_are_named,
    malformed_ids_reach_nothing,
    unknown_fields_and_broken_json_are_refused,
    other_content_types_are_refused,
    bodies_over_the_limit_are_refused,
    idempotency_keys_expire,
    tokens_that_prove_nothing,
    certificates_that_prove_nothing,
    certificates_stand_for_whom_they_are_bound_to,
    headers_of_the_nodes_are_taken_from_nodes_alone,
    wild_connections_hurt_nobody,
}

fn at(mesh: &Mesh, wire: Wire) -> Caller {
    caller(mesh, leader(mesh), wire, "admin")
}

/// Makes a peer, as the one person who changes things here.
fn made(mesh: &Mesh) -> String {
    let id = unique("bad");
    caller(mesh, leader(mesh), Wire::H2, "admin2")
        .call("RegisterPeer", registration(&id))
        .ok();
    id
}

/// Nobody but `admin2` and the nodes themselves changed anything, ever.
fn nothing_changed(mesh: &Mesh) {
    for record in audit(mesh) {
        let good = record.actor == "dev-admin-2" || record.actor.starts_with("system:");
        let changed = record.outcome() == Outcome::Applied && !record.changes.is_empty();
        assert!(good || !changed, "bad input changed something: {record:?}");
    }
}

fn malformed_fields_are_named(mesh: &Mesh) {
    let id = made(mesh);
    let long = "x".repeat(257);
    let many: serde_json::Map<String, Value> = (0..65).map(|n| (format!("k{n}"), json!(""))).collect();
    let new = |more: Value| {
        let mut request = registration(&unique("never"));
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        request
    };
    let cases = [
        ("PatchPeer", json!({ "id": id, "labels": { "-a": "1" } }), "labels"),
        ("PatchPeer", json!({ "id": id, "labels": { "": "1" } }), "labels"),
        (
            "PatchPeer",
            json!({ "id": id, "labels": { "a": "line\nbreak" } }),
            "labels",
        ),
        ("PatchPeer", json!({ "id": id, "labels": { "a": long } }), "labels"),
        ("PatchPeer", json!({ "id": id, "labels": many }), "labels"),
        ("PatchPeer", json!({ "id": id, "metadata": { "a b": "1" } }), "metadata"),
        ("RegisterPeer", new(json!({ "labels": { "ä": "1" } })), "labels"),
        ("RegisterPeer", new(json!({ "endpoints": [] })), "endpoints"),
        ("RegisterPeer", new(json!({ "endpoints": ["no-port"] })), "endpoints"),
        ("RegisterPeer", new(json!({ "endpoints": ["h:70000"] })), "endpoints"),
        (
            "RegisterPeer",
            new(json!({ "endpoints": vec!["h:1"; 17] })),
            "endpoints",
        ),
        ("RegisterPeer", new(json!({ "weight": 10_001 })), "weight"),
        ("RegisterPeer", new(json!({ "role": "two words" })), "role"),
        ("RegisterPeer", new(json!({ "cluster": "UPPER" })), "cluster"),
        ("CordonPeer", json!({ "id": id, "reason": "r".repeat(1025) }), "reason"),
        ("CordonPeer", json!({ "id": id, "ticket": "t".repeat(129) }), "ticket"),
        (
            "CordonPeer",
            json!({ "id": id, "reason": "see\u{1b}[2Jthis" }),
            "reason",
        ),
        (
            "CordonPeer",
            json!({ "id": id, "reason": "one line\nand another" }),
            "reason",
        ),
        ("CordonPeer", json!({ "id": id, "ticket": "CHG\u{9b}31m" }), "ticket"),
        ("RemoveMember", json!({ "id": 99, "reason": "a\u{7f}b" }), "reason"),
        (
            "CordonPeer",
            json!({ "id": id, "idempotencyKey": "k".repeat(65) }),
            "idempotencyKey",
        ),
        ("CordonPeer", json!({ "id": id, "confirm": "another" }), "confirm"),
        ("ListPeers", json!({ "limit": 1001 }), "limit"),
        ("ListPeers", json!({ "selector": "=x" }), "selector"),
        ("CanI", json!({ "what": "mesh.everything" }), "what"),
    ];
    for (rpc, request, field) in cases {
        for wire in Wire::ALL {
            let refused = at(mesh, wire).call(rpc, request.clone()).refused("invalid_argument");
            assert_eq!(refused.str("field"), field, "{rpc} {request}: {refused:?}");
        }
    }
    nothing_changed(mesh);
}

fn malformed_ids_reach_nothing(mesh: &Mesh) {
    for id in [
        "UPPER",
        "-a",
        "a-",
        "a b",
        "a/b",
        "..",
        "ä",
        &"x".repeat(65),
        "a%2fb",
        "a\u{0}b",
        "a:b",
    ] {
        for wire in Wire::ALL {
            let refused = at(mesh, wire)
                .call("RegisterPeer", registration(id))
                .refused("invalid_argument");
            assert_eq!(refused.str("field"), "id", "{id:?}: {refused:?}");
            let reply = at(mesh, wire).call("CordonPeer", json!({ "id": id }));
            assert!(
                matches!(reply.code(), "invalid_argument" | "not_found"),
                "{id:?}: {reply:?}"
            );
        }
    }
    at(mesh, Wire::Grpc)
        .call("RegisterPeer", registration(""))
        .refused("invalid_argument");
    for path in [
        "/meshkit/peers/",
        "/meshkit",
        "/meshkit/peers/a/b",
        "/meshkit/peers/a:explode",
        "/meshkit/peers/%ff",
        "/peers/a",
    ] {
        let reply = at(mesh, Wire::H2).send("POST", path, &json!({}));
        assert!(
            matches!(reply.code(), "not_found" | "method_not_allowed"),
            "{path}: {reply:?}"
        );
    }
    nothing_changed(mesh);
}

fn unknown_fields_and_broken_json_are_refused(mesh: &Mesh) {
    let id = made(mesh);
    let path = format!("/meshkit/peers/{id}");
    for wire in [Wire::H1, Wire::H2] {
        let at = at(mesh, wire);
        let refused = at
            .send("PATCH", &path, &json!({ "labels": { "a": "1" }, "colour": "red" }))
            .refused("invalid_argument");
        assert_eq!(refused.str("field"), "colour", "{refused:?}");
        at.get("/meshkit/peers?colour=red").refused("invalid_argument");
        at.get("/meshkit/peers?limit=many").refused("invalid_argument");
        at.get("/meshkit/peers?limit=5&limit=6").refused("invalid_argument");
        at.get("/meshkit/peers?status=asleep").refused("invalid_argument");
        for body in [
            "",
            "[]",
            "null",
            "{",
            "{} {}",
            "{\"labels\": {\"a\": 1}}",
            "{\"labels\": [\"a\"]}",
            "{\"labels\": {\"a\": \"1\"}, \"labels\": {\"a\": \"2\"}}",
            "{\"labels\": {\"a\": \"1\", \"a\": \"2\"}}",
            "\u{feff}{}",
            "{\"ifRevision\": -1}",
            "{\"ifRevision\": 1.5}",
            "{\"reason\": \"\\ud800\"}",
        ] {
            if body.is_empty() {
                // No body says nothing, which a PATCH may.
                continue;
            }
            at.raw("PATCH", &path, "application/json", body.to_owned())
                .refused("invalid_argument");
        }
        at.raw(
            "PATCH",
            &path,
            "application/json",
            Bytes::from_static(&[b'{', 0xff, b'}']),
        )
        .refused("invalid_argument");
        let deep = format!("{{\"labels\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        at.raw("PATCH", &path, "application/json", deep)
            .refused("invalid_argument");
        // The path and the body name the record; they have to agree.
        at.send("PATCH", &path, &json!({ "id": "another", "labels": { "a": "1" } }))
            .refused("invalid_argument");
    }
    let broken = at(mesh, Wire::Grpc).grpc_raw("/meshkit.v1.PeerService/PatchPeer", Bytes::from_static(&[0xff; 9]));
    assert_ne!(broken.header("grpc-status"), "0");
    nothing_changed(mesh);
}

fn other_content_types_are_refused(mesh: &Mesh) {
    let id = made(mesh);
    let path = format!("/meshkit/peers/{id}:cordon");
    for wire in [Wire::H1, Wire::H2] {
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/xml",
            "application/json; charset=latin1",
            "nonsense",
        ] {
            at(mesh, wire)
                .raw("POST", &path, kind, "{}")
                .refused("unsupported_media_type");
        }
        // A body must say what it is.
        at(mesh, wire)
            .raw("POST", &path, "", "{\"reason\": \"x\"}")
            .refused("unsupported_media_type");
    }
    nothing_changed(mesh);
}

fn bodies_over_the_limit_are_refused(mesh: &Mesh) {
    let id = made(mesh);
    let path = format!("/meshkit/peers/{id}");
    // Just above the limit, and far more than is read away.
    for size in [1 << 20, 8 << 20] {
        let body = format!("{{\"reason\": \"{}\"}}", "x".repeat(size));
        for wire in [Wire::H1, Wire::H2] {
            match at(mesh, wire).try_raw("PATCH", &path, "application/json", body.clone()) {
                Ok(reply) => {
                    let refused = reply.refused("too_large");
                    assert!(refused.str("limit").contains("1048576"), "{refused:?}");
                }
                // Who goes on sending after the answer may find the connection closed.
                Err(error) => assert!(size > 4 << 20, "{error}"),
            }
        }
        let request = json!({ "id": id, "reason": "x".repeat(size) });
        match at(mesh, Wire::Grpc).try_call("PatchPeer", request) {
            Ok(reply) => drop(reply.refused("too_large")),
            Err(error) => assert!(size > 4 << 20, "{error}"),
        }
    }
    let mut huge = at(mesh, Wire::H1);
    huge.headers.insert("mesh-reason", "x".repeat(100_000).parse().unwrap());
    match huge.try_raw("GET", &path, "", "") {
        Ok(reply) => assert!((400..500).contains(&reply.status), "{reply:?}"),
        Err(error) => assert!(!error.contains("no answer in time"), "{error}"),
    }
    nothing_changed(mesh);
}

/// M2: a ULID says when it was made; one that is older than what is remembered is refused, not applied again.
fn idempotency_keys_expire(mesh: &Mesh) {
    let id = made(mesh);
    let ago = |seconds: u64| ulid::Ulid::from_datetime(SystemTime::now() - Duration::from_secs(seconds)).to_string();
    for wire in Wire::ALL {
        let refused = at(mesh, wire)
            .with("idempotency-key", &ago(120))
            .call("CordonPeer", json!({ "id": id }));
        let refused = refused.refused("idempotency_key_expired");
        assert!(refused.str("limit").contains("60000"), "{refused:?}");
        assert!(refused.str("hint").contains("audit"), "{refused:?}");
    }
    let young = caller(mesh, leader(mesh), Wire::H2, "admin2").with("idempotency-key", &ago(20));
    young.call("CordonPeer", json!({ "id": id })).ok();
    assert_eq!(
        young
            .call("CordonPeer", json!({ "id": id }))
            .ok()
            .header("mesh-replayed"),
        "true"
    );
    nothing_changed(mesh);
}

/// What a token says, signed with a key of one's own or of the mesh.
pub fn token(mesh: &Mesh, key: &Path, change: impl FnOnce(&mut Value)) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut claims = json!({
        "iss": "meshkit", "aud": mesh.info().mesh, "sub": "mallory", "scope": "mesh.admin",
        "iat": now, "nbf": now, "exp": now + 600,
    });
    change(&mut claims);
    let key = EncodingKey::from_ec_pem(&std::fs::read(key).unwrap()).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
}

fn tokens_that_prove_nothing(mesh: &Mesh) {
    let id = made(mesh);
    let ours = dev_file(mesh, "jwt.key");
    let foreign = mesh.scratch().join(unique("foreign"));
    mesh.programs()
        .node(["certs", "jwt-key", "--out", foreign.to_str().unwrap()])
        .ok()
        .unwrap();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let good = token(mesh, &ours, |_| {});
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1]);
    let mut flipped = good.clone().into_bytes();
    let at_byte = good.len() - 20;
    flipped[at_byte] = if flipped[at_byte] == b'A' { b'B' } else { b'A' };
    let cases = [
        (
            "expired",
            token(mesh, &ours, |claims| claims["exp"] = (now - 60).into()),
            "credential_expired",
        ),
        (
            "forged",
            token(mesh, &foreign.with_extension("key"), |_| {}),
            "unauthenticated",
        ),
        ("altered", String::from_utf8(flipped).unwrap(), "unauthenticated"),
        ("unsigned", unsigned, "unauthenticated"),
        (
            "other audience",
            token(mesh, &ours, |claims| claims["aud"] = "other-mesh".into()),
            "unauthenticated",
        ),
        (
            "other issuer",
            token(mesh, &ours, |claims| claims["iss"] = "nobody".into()),
            "unauthenticated",
        ),
        (
            "not valid yet",
            token(mesh, &ours, |claims| claims["nbf"] = (now + 600).into()),
            "unauthenticated",
        ),
        (
            "a node's name",
            token(mesh, &ours, |claims| claims["sub"] = "system:drain".into()),
            "unauthenticated",
        ),
        (
            "without an end",
            token(mesh, &ours, |claims| {
                drop(claims.as_object_mut().unwrap().remove("exp"))
            }),
            "unauthenticated",
        ),
        ("no token", "nonsense".to_owned(), "unauthenticated"),
        ("too long", "x".repeat(20_000), "unauthenticated"),
        (
            "without a scope",
            token(mesh, &ours, |claims| claims["scope"] = "email".into()),
            "scope_missing",
        ),
    ];
    for (what, token, code) in cases {
        for wire in Wire::ALL {
            for node in mesh.ids() {
                let caller = Caller::new(&mesh.node(node).unwrap().api, wire, tls(mesh)).bearer(&token);
                let refused = caller.call("DrainPeer", json!({ "id": id }));
                assert_eq!(refused.code(), code, "{what} over {wire:?}: {refused:?}");
                let refused = caller.call("GetPeer", json!({ "id": id })).refused(code);
                if wire.is_rest() && code != "scope_missing" {
                    assert!(refused.header("www-authenticate").starts_with("Bearer"), "{refused:?}");
                }
                assert!(
                    !refused.json.to_string().contains(&token),
                    "the refusal repeats the token"
                );
            }
        }
    }
    for wire in Wire::ALL {
        let nobody = Caller::new(&mesh.node(leader(mesh)).unwrap().api, wire, tls(mesh));
        for method in proto::methods::all() {
            let fields = if method.input.get_field_by_name("id").is_some() {
                json!({ "id": 1 })
            } else {
                json!({})
            };
            let fields = if method.input.get_field_by_name("shard").is_some() {
                json!({ "namespace": id, "shard": 0 })
            } else if method.name.contains("Member") || fields == json!({}) {
                fields
            } else {
                json!({ "id": id })
            };
            nobody.call(&method.name, fields).refused("unauthenticated");
        }
        nobody
            .clone()
            .with("authorization", "Basic YTpi")
            .call("GetPeer", json!({ "id": id }))
            .refused("unauthenticated");
    }
    nothing_changed(mesh);
}

/// A certificate and its key, made offline.
pub fn issued(mesh: &Mesh, what: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let out = mesh.scratch().join(unique("issued"));
    let mut arguments: Vec<String> = ["certs"].iter().chain(what).map(|word| (*word).to_owned()).collect();
    arguments.extend(["--out".to_owned(), out.to_str().unwrap().to_owned()]);
    mesh.programs().node(arguments).ok().unwrap();
    (
        std::fs::read(out.with_extension("crt")).unwrap(),
        std::fs::read(out.with_extension("key")).unwrap(),
    )
}

/// The paths of another authority of the same name.
pub fn foreign_ca(mesh: &Mesh) -> (PathBuf, PathBuf) {
    let out = mesh.scratch().join(unique("foreign-ca"));
    mesh.programs()
        .node([
            "certs",
            "ca",
            "--mesh",
            &mesh.info().mesh,
            "--out",
            out.to_str().unwrap(),
        ])
        .ok()
        .unwrap();
    (out.with_extension("crt"), out.with_extension("key"))
}

fn certificates_that_prove_nothing(mesh: &Mesh) {
    let id = made(mesh);
    let ours = std::fs::read(&mesh.info().ca).unwrap();
    let (foreign_ca, foreign_key) = foreign_ca(mesh);
    let client = ["client", "--mesh", &mesh.info().mesh, "--name", "ops"];
    let foreign: Vec<&str> = client
        .into_iter()
        .chain([
            "--ca",
            foreign_ca.to_str().unwrap(),
            "--ca-key",
            foreign_key.to_str().unwrap(),
        ])
        .collect();
    let (cert, key) = issued(mesh, &foreign);
    let api = &mesh.node(leader(mesh)).unwrap().api;
    for wire in Wire::ALL {
        let caller = Caller::new(api, wire, Tls::new(&ours, Some((&cert, &key))));
        let error = caller.try_call("GetPeer", json!({ "id": id })).unwrap_err();
        assert!(!error.contains("no answer in time"), "{error}");
        // A good token does not make up for it: the handshake comes first.
        let error = caller
            .bearer(&mesh.info().tokens.admin)
            .try_call("GetPeer", json!({ "id": id }))
            .unwrap_err();
        assert!(!error.contains("no answer in time"), "{error}");
        // One of ours, but bound to nobody.
        let ca_key = dev_file(mesh, "ca.key");
        let known: Vec<&str> = client
            .into_iter()
            .chain([
                "--ca",
                mesh.info().ca.to_str().unwrap(),
                "--ca-key",
                ca_key.to_str().unwrap(),
            ])
            .collect();
        let (cert, key) = issued(mesh, &known);
        let unbound = Caller::new(api, wire, Tls::new(&ours, Some((&cert, &key))));
        let refused = unbound.call("GetPeer", json!({ "id": id })).refused("unauthenticated");
        assert!(refused.str("detail").contains("client/ops"), "{refused:?}");
    }
    // And the other way round: who trusts another authority does not speak to us at all.
    let stranger = Caller::new(api, Wire::H2, Tls::new(&std::fs::read(foreign_ca).unwrap(), None));
    assert!(stranger.try_call("GetPeer", json!({ "id": id })).is_err());
    nothing_changed(mesh);
}

/// A node's own certificate is no operator's: it may carry for others, and asks for nothing itself.
fn certificates_stand_for_whom_they_are_bound_to(mesh: &Mesh) {
    let id = made(mesh);
    let ours = std::fs::read(&mesh.info().ca).unwrap();
    let node = mesh.node(1).unwrap().config.parent().unwrap().to_owned();
    let (cert, key) = (
        std::fs::read(node.join("node.crt")).unwrap(),
        std::fs::read(node.join("node.key")).unwrap(),
    );
    for wire in Wire::ALL {
        let caller = Caller::new(
            &mesh.node(leader(mesh)).unwrap().api,
            wire,
            Tls::new(&ours, Some((&cert, &key))),
        );
        let reply = caller.call("DrainPeer", json!({ "id": id }));
        assert!(matches!(reply.code(), "unauthenticated" | "scope_missing"), "{reply:?}");
    }
    nothing_changed(mesh);
}

/// What a node says of a caller that it carries a request for counts from nodes alone.
fn headers_of_the_nodes_are_taken_from_nodes_alone(mesh: &Mesh) {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let id = made(mesh);
    let claim = json!({
        "subject": "dev-admin", "scope": "mesh.admin", "proof": "jwt", "transport": "h2", "address": "127.0.0.1:1",
    });
    let claim = BASE64_URL_SAFE_NO_PAD.encode(claim.to_string());
    for wire in Wire::ALL {
        let reader = caller(mesh, leader(mesh), wire, "read").with("mesh-forwarded", &claim);
        reader.call("DrainPeer", json!({ "id": id })).refused("scope_missing");
        let nobody = reader.without("authorization");
        nobody.call("DrainPeer", json!({ "id": id })).refused("unauthenticated");
    }
    nothing_changed(mesh);
}

/// Garbage, silence, half requests and floods: those who ask properly are served all the while, and in time.
fn wild_connections_hurt_nobody(mesh: &Mesh) {
    let id = made(mesh);
    let addresses: Vec<String> = mesh
        .ids()
        .iter()
        .flat_map(|&node| {
            let node = mesh.node(node).unwrap();
            [node.api.trim_start_matches("https://").to_owned(), node.raft.clone()]
        })
        .collect();
    let stop = AtomicBool::new(false);
    let mut silent: Vec<TcpStream> = addresses
        .iter()
        .flat_map(|address| (0..20).map(|_| TcpStream::connect(address.as_str()).unwrap()))
        .collect();
    thread::scope(|scope| {
        for address in &addresses {
            let stop = &stop;
            scope.spawn(move || {
                let mut n = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let Ok(mut stream) = TcpStream::connect(address.as_str()) else {
                        continue;
                    };
                    let garbage: Vec<u8> = match n % 4 {
                        0 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
                        1 => vec![0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xff, 3, 3],
                        2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                        _ => (0..4096_u32).map(|byte| (byte.wrapping_mul(n) >> 3) as u8).collect(),
                    };
                    let _ = stream.write_all(&garbage);
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 0..60_usize {
                let start = Instant::now();
                let at = caller(mesh, mesh.ids()[n % 3], Wire::ALL[n / 3 % Wire::ALL.len()], "admin2")
                    .with("mesh-route", "forward");
                at.call("PatchPeer", json!({ "id": id, "labels": { "n": n.to_string() } }))
                    .ok();
                assert!(
                    start.elapsed() < Duration::from_secs(5),
                    "served after {:?} only",
                    start.elapsed()
                );
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = served {
            std::panic::resume_unwind(panic);
        }
    });
    let last = at(mesh, Wire::H2).call("GetPeer", json!({ "id": id })).ok();
    assert_eq!(
        (&last.json["labels"]["n"], &last.json["version"]),
        (&json!("59"), &json!(61))
    );
    // Silence is not waited for.
    for stream in &mut silent {
        let _ = stream.write_all(b"too late");
    }
    nothing_changed(mesh);
}
