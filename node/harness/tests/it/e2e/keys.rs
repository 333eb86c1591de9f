//! Keys of tokens from a JWKS file, replaced while the node runs (M3), and a rate that one principal has alone.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use node_harness::{Mesh, Options, Programs, wait_for};
use serde_json::{Value, json};

use super::{
    wire::{Caller, Wire},
    world::{SOON, audit, caller, tls},
};

/// Makes a key; answers it as a JWK of that id.
fn key(directory: &Path, id: &str) -> Value {
    let out = directory.join(id);
    let programs = Programs::find().unwrap();
    programs
        .node(["certs", "jwt-key", "--out", out.to_str().unwrap()])
        .ok()
        .unwrap();
    let pem = fs::read_to_string(out.with_extension("pub")).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = BASE64_STANDARD.decode(body).unwrap();
    // SubjectPublicKeyInfo of P-256 ends in the point, uncompressed (RFC 5480).
    let (x, y) = der[der.len() - 64..].split_at(32);
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id, "x": part(x), "y": part(y) })
}

fn write(file: &Path, keys: &[&Value]) {
    let next = file.with_extension("next");
    fs::write(&next, json!({ "keys": keys }).to_string()).unwrap();
    fs::rename(&next, file).unwrap();
}

fn token(directory: &Path, mesh: &Mesh, id: &str) -> String {
    let out = directory.join(format!("{id}.jwt"));
    let (key, out_text) = (directory.join(format!("{id}.key")), out.to_str().unwrap());
    let arguments = [
        "certs",
        "token",
        "--key",
        key.to_str().unwrap(),
        "--key-id",
        id,
        "--mesh",
        &mesh.info().mesh,
        "--subject",
        id,
        "--scope",
        "mesh.read",
        "--out",
        out_text,
    ];
    mesh.programs().node(arguments).ok().unwrap();
    fs::read_to_string(out).unwrap().trim().to_owned()
}

fn by(mesh: &Mesh, token: &str) -> Caller {
    Caller::new(&mesh.node(1).unwrap().api, Wire::H2, tls(mesh)).bearer(token)
}

#[test]
fn keys_of_a_jwks_file_come_and_go_while_the_node_runs() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (key(directory.path(), "k-old"), key(directory.path(), "k-new"));
    let file = directory.path().join("jwks.json");
    write(&file, &[&old]);
    let mesh = Mesh::start(Options {
        nodes: 1,
        environment: vec![
            ("MESHKIT_AUTH__JWKS_FILE".to_owned(), file.to_str().unwrap().to_owned()),
            ("MESHKIT_TLS__RELOAD_INTERVAL_MS".to_owned(), "50".to_owned()),
        ],
    })
    .unwrap();
    let (old_token, new_token) = (
        token(directory.path(), &mesh, "k-old"),
        token(directory.path(), &mesh, "k-new"),
    );
    let sees = |token: &str| by(&mesh, token).get("/meshkit/auth/can-i?what=mesh.read");
    assert_eq!(sees(&old_token).ok().str("principal"), "k-old");
    sees(&new_token).refused("unauthenticated");
    let until = |what: &str, token: &str, good: bool| {
        wait_for(SOON, what, || (sees(token).is_ok() == good).then_some(())).unwrap();
    };
    write(&file, &[&old, &new]);
    until("the new key to count", &new_token, true);
    assert!(sees(&old_token).is_ok());
    // What makes no sense changes nothing.
    fs::write(&file, "{\"keys\": [{\"kty\": \"EC\"").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(sees(&old_token).is_ok() && sees(&new_token).is_ok());
    write(&file, &[&new]);
    until("the old key to count no more", &old_token, false);
    assert!(sees(&new_token).is_ok());
    mesh.stop().unwrap();
}

#[test]
fn a_principal_over_its_rate_is_told_and_the_trail_knows() {
    let rate = |name: &str, value: &str| (format!("MESHKIT_LIMITS__{name}"), value.to_owned());
    let mesh = Mesh::start(Options {
        nodes: 1,
        environment: vec![rate("REQUESTS_PER_SECOND_MAX", "2"), rate("REQUESTS_BURST_MAX", "30")],
    })
    .unwrap();
    let noisy = || caller(&mesh, 1, Wire::Grpc, "operate").call("CordonPeer", json!({ "id": "p1" }));
    let refused = wait_for(SOON, "the rate to be reached", || {
        let reply = noisy();
        (reply.code() == "rate_limited").then_some(reply)
    });
    let refused = refused.unwrap().refused("rate_limited");
    assert_eq!(refused.json["limit"], "2 a second, 30 at once", "{refused:?}");
    assert!(
        (1..=500).contains(&refused.json["retryAfterMs"].as_u64().unwrap()),
        "{refused:?}"
    );
    // Others are served meanwhile, and find it in the trail. They have a rate, too.
    let noted = wait_for(SOON, "the refusal in the trail", || {
        std::thread::sleep(std::time::Duration::from_millis(1_000));
        let trail = audit(&mesh);
        let found = trail
            .iter()
            .find(|record| record.action == "audit.refusals" && record.detail.contains("rate_limited"));
        found.map(|record| record.detail.clone())
    });
    assert!(noted.unwrap().contains("peers.cordon"));
    mesh.stop().unwrap();
}
