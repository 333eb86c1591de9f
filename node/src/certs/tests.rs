#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use x509_parser::prelude::*;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: command::Command,
}

fn certs(dir: &Path, line: &str) -> Result<Vec<PathBuf>, Error> {
    let words = line.split(' ').map(|word| word.replace("DIR", dir.to_str().unwrap()));
    command::run(
        &Line::try_parse_from(std::iter::once("certs".to_owned()).chain(words))
            .unwrap()
            .command,
    )
}

fn der(file: &Path) -> Vec<u8> {
    let (_, pem) = parse_x509_pem(&std::fs::read(file).unwrap()).unwrap();
    pem.contents
}

#[test]
fn a_node_certificate_says_all_that_strict_verifiers_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certs(dir, "ca --mesh m --out DIR/ca").unwrap();
    let files =
        certs(dir, "node --ca DIR/ca.crt --ca-key DIR/ca.key --mesh m --cluster c --node 3 --host n3.example --host ::1 --out DIR/n3")
            .unwrap();
    assert_eq!(files, [dir.join("n3.crt"), dir.join("n3.key")]);
    assert_eq!(
        std::fs::metadata(dir.join("n3.key")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        std::fs::metadata(dir.join("ca.key")).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let (ca, node) = (der(&dir.join("ca.crt")), der(&dir.join("n3.crt")));
    let (ca, node) = (
        X509Certificate::from_der(&ca).unwrap().1,
        X509Certificate::from_der(&node).unwrap().1,
    );
    assert_eq!(identity::of_parsed(&node).unwrap(), "spiffe://m/cluster/c/node/3");
    let usage = node.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = node.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth);
    assert!(!node.basic_constraints().unwrap().unwrap().value.ca);
    assert!(ca.basic_constraints().unwrap().unwrap().value.ca);
    let subject = |certificate: &X509Certificate<'_>| {
        certificate
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            })
    };
    let authority = node
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        });
    assert!(subject(&node).is_some() && authority.is_some());
    assert_eq!(authority, subject(&ca));
    assert!(node.validity().not_after <= ca.validity().not_after);
    assert!(node.verify_signature(Some(ca.public_key())).is_ok());
}

#[test]
fn nothing_is_overwritten_unasked_and_pairs_stay_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certs(dir, "ca --mesh m --out DIR/ca").unwrap();
    let before = std::fs::read(dir.join("ca.key")).unwrap();
    assert!(matches!(certs(dir, "ca --mesh m --out DIR/ca"), Err(Error::Exists(_))));
    std::fs::remove_file(dir.join("ca.key")).unwrap();
    assert!(matches!(certs(dir, "ca --mesh m --out DIR/ca"), Err(Error::Exists(_))));
    assert!(!dir.join("ca.key").exists());
    certs(dir, "ca --mesh m --out DIR/ca --force").unwrap();
    assert_ne!(std::fs::read(dir.join("ca.key")).unwrap(), before);
}

#[test]
fn renewing_keeps_identity_names_and_key_and_finds_its_ca_in_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certs(dir, "ca --mesh m --out DIR/old").unwrap();
    certs(dir, "ca --mesh m --out DIR/new").unwrap();
    let bundle =
        std::fs::read_to_string(dir.join("old.crt")).unwrap() + &std::fs::read_to_string(dir.join("new.crt")).unwrap();
    std::fs::write(dir.join("bundle.crt"), bundle).unwrap();
    certs(dir, "node --ca DIR/old.crt --ca-key DIR/old.key --mesh m --cluster c --node 1 --host 127.0.0.1 --host a --out DIR/n")
        .unwrap();
    let old = der(&dir.join("n.crt"));
    certs(
        dir,
        "renew --ca DIR/bundle.crt --ca-key DIR/new.key --cert DIR/n.crt --key DIR/n.key --days 30",
    )
    .unwrap();
    let (new, ca) = (der(&dir.join("n.crt")), der(&dir.join("new.crt")));
    let (old, new) = (
        X509Certificate::from_der(&old).unwrap().1,
        X509Certificate::from_der(&new).unwrap().1,
    );
    assert_eq!(old.public_key().raw, new.public_key().raw);
    assert_eq!(
        old.subject_alternative_name().unwrap().unwrap().value,
        new.subject_alternative_name().unwrap().unwrap().value
    );
    assert_ne!(old.raw_serial(), new.raw_serial());
    assert!(
        new.verify_signature(Some(X509Certificate::from_der(&ca).unwrap().1.public_key()))
            .is_ok()
    );

    let strange = certs(
        dir,
        "renew --ca DIR/old.crt --ca-key DIR/new.key --cert DIR/n.crt --key DIR/n.key",
    );
    assert!(
        strange
            .unwrap_err()
            .to_string()
            .contains("no certificate in it belongs to the key")
    );
    let strange = certs(
        dir,
        "renew --ca DIR/new.crt --ca-key DIR/new.key --cert DIR/n.crt --key DIR/old.key",
    );
    assert!(strange.unwrap_err().to_string().contains("does not belong to the key"));
}

#[test]
fn names_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(matches!(certs(dir, "ca --mesh M --out DIR/ca"), Err(Error::Invalid(_))));
    certs(dir, "ca --mesh m --out DIR/ca").unwrap();
    for host in ["a_b", "-a", "a..b", "*.example", "a/b"] {
        let line =
            format!("node --ca DIR/ca.crt --ca-key DIR/ca.key --mesh m --cluster c --node 1 --host={host} --out DIR/n");
        assert!(matches!(certs(dir, &line), Err(Error::Invalid(_))), "{host}");
    }
    assert!(!dir.join("n.crt").exists());
}

#[test]
fn a_token_is_signed_for_one_mesh_and_written_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certs(dir, "jwt-key --out DIR/jwt").unwrap();
    certs(
        dir,
        "token --key DIR/jwt.key --mesh m --subject alice --scope mesh.operate --scope mesh.read --ttl 1h --out DIR/t",
    )
    .unwrap();
    assert_eq!(
        std::fs::metadata(dir.join("t")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let token = std::fs::read_to_string(dir.join("t")).unwrap();
    let key = jsonwebtoken::DecodingKey::from_ec_pem(&std::fs::read(dir.join("jwt.pub")).unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&["m"]);
    validation.set_issuer(&["meshkit"]);
    let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation)
        .unwrap()
        .claims;
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["scope"], "mesh.operate mesh.read");
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    let wrong = certs(
        dir,
        "token --key DIR/jwt.key --mesh m --subject a --scope root --out DIR/t2",
    );
    assert!(wrong.unwrap_err().to_string().contains("unknown scope"));
    let wrong = certs(
        dir,
        "token --key DIR/jwt.pub --mesh m --subject a --scope mesh.read --out DIR/t2",
    );
    assert!(matches!(wrong, Err(Error::Content { .. })));
}

#[test]
fn a_peer_gets_a_certificate_and_a_token_of_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certs(dir, "ca --mesh m --out DIR/ca").unwrap();
    certs(
        dir,
        "client --ca DIR/ca.crt --ca-key DIR/ca.key --mesh m --peer edge-1 --out DIR/p",
    )
    .unwrap();
    let found = identity::of_certificate(&der(&dir.join("p.crt"))).unwrap();
    assert_eq!(found, "spiffe://m/peer/edge-1");
    let wrong = certs(
        dir,
        "client --ca DIR/ca.crt --ca-key DIR/ca.key --mesh m --peer Edge --out DIR/q",
    );
    assert!(matches!(wrong, Err(Error::Invalid(_))));

    certs(dir, "jwt-key --out DIR/jwt").unwrap();
    certs(dir, "token --key DIR/jwt.key --mesh m --peer edge-1 --out DIR/t").unwrap();
    let token = std::fs::read_to_string(dir.join("t")).unwrap();
    let claims = jsonwebtoken::dangerous::insecure_decode::<serde_json::Value>(&token)
        .unwrap()
        .claims;
    assert_eq!(claims["sub"], "spiffe://m/peer/edge-1");
    assert_eq!(claims["scope"], "mesh.observe mesh.peer");
    let wrong = certs(
        dir,
        "token --key DIR/jwt.key --mesh m --subject alice --scope mesh.peer --out DIR/t2",
    );
    assert!(wrong.unwrap_err().to_string().contains("spiffe://m/peer/ID"));
    let wrong = certs(
        dir,
        "token --key DIR/jwt.key --mesh m --subject spiffe://n/peer/a --scope mesh.peer --out DIR/t2",
    );
    assert!(matches!(wrong, Err(Error::Invalid(_))));
}

#[test]
fn durations_have_units_and_bounds() {
    assert_eq!(token::parse_ttl("90s").unwrap().as_secs(), 90);
    assert_eq!(token::parse_ttl("30d").unwrap().as_secs(), 2_592_000);
    for wrong in [
        "",
        "1",
        "h",
        "0s",
        "-1h",
        "1w",
        "99999999999999999999h",
        "4000d",
        "1\u{e9}",
    ] {
        assert!(token::parse_ttl(wrong).is_err(), "{wrong}");
    }
}
