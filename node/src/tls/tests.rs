#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use raft::env::{Dial, Listen, Purpose, Target};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use statemachine::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::certs::authority::{self, Authority};
use crate::certs::identity::Identity;
use crate::certs::issue;
use crate::config::sections::Tls;

struct Mesh {
    directory: tempfile::TempDir,
    ca: Authority,
}

fn node(mesh: &str, cluster: &str, node: u64) -> Identity {
    Identity::Node {
        mesh: mesh.into(),
        cluster: cluster.into(),
        node,
    }
}

impl Mesh {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let made = authority::create("m", 10).unwrap();
        let file = directory.path().join("ca.crt");
        std::fs::write(&file, &made.certificate).unwrap();
        let ca = Authority::from_pem(&made.certificate, &made.key, &file, Path::new("ca.key")).unwrap();
        Self { directory, ca }
    }

    /// Files with a certificate of `identity`.
    fn files(&self, name: &str, identity: &Identity) -> Tls {
        let path = |extension: &str| self.directory.path().join(format!("{name}.{extension}"));
        let issued = issue::issue(&self.ca, identity, &["127.0.0.1".into()], 5).unwrap();
        std::fs::write(path("crt"), issued.certificate).unwrap();
        std::fs::write(path("key"), issued.key).unwrap();
        Tls {
            ca_file: self.directory.path().join("ca.crt"),
            cert_file: path("crt"),
            key_file: path("key"),
            handshake_timeout_ms: 300,
            handshakes_max: 4,
            reload_interval_ms: 100,
        }
    }

    fn certificates(&self, identity: Identity) -> (Arc<Certificates>, Tls) {
        let tls = self.files(&identity.to_string().replace('/', "_"), &identity);
        (Certificates::load(&tls, identity).unwrap(), tls)
    }
}

async fn listen(door: Door, of: &(Arc<Certificates>, Tls)) -> TlsListen {
    TlsListen::bind((Ipv4Addr::LOCALHOST, 0).into(), door, of.0.clone(), &of.1)
        .await
        .unwrap()
}

fn target(listen: &TlsListen, node: Option<u64>, purpose: Purpose) -> Target {
    Target {
        node: node.map(NodeId),
        address: listen.local_addr().unwrap().to_string(),
        purpose,
    }
}

fn dial(of: &(Arc<Certificates>, Tls)) -> TlsDial {
    TlsDial::new(of.0.clone(), Duration::from_secs(2))
}

/// Whether a dialled connection carries bytes: in TLS 1.3 a client learns late that it was refused.
async fn works(dial: &TlsDial, to: &Target, listen: &mut TlsListen) -> bool {
    let accepted = async {
        let (mut stream, _) = listen.accept().await.ok()?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()?;
        stream.write_all(&byte).await.ok()?;
        stream.flush().await.ok()
    };
    let dialled = async {
        let (mut stream, _) = dial.dial(to).await.ok()?;
        stream.write_all(b"x").await.ok()?;
        stream.flush().await.ok()?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()
    };
    let both = async { tokio::join!(accepted, dialled) };
    tokio::time::timeout(Duration::from_millis(1_500), both)
        .await
        .is_ok_and(|(_, dialled)| dialled.is_some())
}

#[tokio::test]
async fn nodes_of_a_cluster_reach_each_other_and_know_who_is_there() {
    let mesh = Mesh::new();
    let (one, two) = (
        mesh.certificates(node("m", "c", 1)),
        mesh.certificates(node("m", "c", 2)),
    );
    let mut door = listen(Door::Raft, &one).await;
    let to = target(&door, Some(1), Purpose::Raft);
    let dialler = dial(&two);
    let (accepted, dialled) = tokio::join!(door.accept(), dialler.dial(&to));
    let (accepted, dialled) = (accepted.unwrap().1, dialled.unwrap().1);
    assert_eq!(accepted.identity.unwrap().uri, "spiffe://m/cluster/c/node/2");
    assert_eq!(dialled.identity.unwrap().uri, "spiffe://m/cluster/c/node/1");
    assert!(works(&dial(&two), &to, &mut door).await);
    assert!(
        !works(&dial(&two), &target(&door, Some(3), Purpose::Raft), &mut door).await,
        "not the expected node"
    );
}

#[tokio::test]
async fn strangers_stay_outside_the_raft_port() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let one = mesh.certificates(node("m", "c", 1));
    let mut door = listen(Door::Raft, &one).await;
    let to = target(&door, None, Purpose::Raft);
    // Who dials judges too: a node of another mesh or cluster wants nothing of this one.
    for stranger in [node("m", "d", 2), node("n", "c", 2)] {
        let theirs = mesh.certificates(stranger.clone());
        assert!(!works(&dial(&theirs), &to, &mut door).await, "{stranger}");
    }
    let forged = other.certificates(node("m", "c", 2));
    assert!(!works(&dial(&forged), &to, &mut door).await, "another authority's");
    let wrong = Certificates::load(&one.1, node("m", "c", 2)).unwrap_err().to_string();
    assert!(wrong.contains("node/1") && wrong.contains("node/2"), "{wrong}");
}

#[tokio::test]
async fn the_raft_port_asks_for_a_certificate_and_says_whose_it_was() {
    let mesh = Mesh::new();
    let one = mesh.certificates(node("m", "c", 1));
    let mut door = listen(Door::Raft, &one).await;
    for (name, certificate) in [
        ("nobody", None),
        (
            "client",
            Some(Identity::Client {
                mesh: "m".into(),
                name: "ops".into(),
            }),
        ),
    ] {
        let connector = client(&mesh, certificate.map(|identity| mesh.files(name, &identity)));
        let stream = tokio::net::TcpStream::connect(door.local_addr().unwrap())
            .await
            .unwrap();
        let server = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let accepted = async { tokio::time::timeout(Duration::from_millis(800), door.accept()).await };
        let (accepted, connected) = tokio::join!(accepted, connector.connect(server, stream));
        drop(connected);
        match name {
            "nobody" => assert!(accepted.is_err()),
            _ => assert_eq!(
                accepted.unwrap().unwrap().1.identity.unwrap().uri,
                "spiffe://m/client/ops"
            ),
        }
    }
}

/// A client of another program than ours.
fn client(mesh: &Mesh, files: Option<Tls>) -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(mesh.directory.path().join("ca.crt")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match files {
        None => builder.with_no_client_auth(),
        Some(tls) => {
            let chain = vec![CertificateDer::from_pem_file(&tls.cert_file).unwrap()];
            let key = rustls::pki_types::PrivateKeyDer::from_pem_file(&tls.key_file).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"meshkit-raft/1".to_vec()];
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn the_api_takes_callers_without_a_certificate_and_checks_those_with_one() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let one = mesh.certificates(node("m", "c", 1));
    let mut door = listen(Door::Api, &one).await;
    let connector = client(&mesh, None);
    let stream = tokio::net::TcpStream::connect(door.local_addr().unwrap())
        .await
        .unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let (accepted, connected) = tokio::join!(door.accept(), connector.connect(name, stream));
    connected.unwrap();
    let info = accepted.unwrap().1;
    assert!(info.identity.is_none() && info.tls);
    assert_eq!(info.transport.unwrap().as_str(), "h1");

    let to = target(&door, Some(1), Purpose::Api);
    assert!(works(&dial(&mesh.certificates(node("m", "c", 2))), &to, &mut door).await);
    assert!(!works(&dial(&other.certificates(node("m", "c", 2))), &to, &mut door).await);
}

#[tokio::test]
async fn silent_connections_hold_up_nobody() {
    let mesh = Mesh::new();
    let (one, two) = (
        mesh.certificates(node("m", "c", 1)),
        mesh.certificates(node("m", "c", 2)),
    );
    let mut door = listen(Door::Raft, &one).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(
            tokio::net::TcpStream::connect(door.local_addr().unwrap())
                .await
                .unwrap(),
        );
    }
    // All places are taken until their time is up; then there is room again.
    assert!(works(&dial(&two), &target(&door, Some(1), Purpose::Raft), &mut door).await);
}

#[tokio::test]
async fn certificates_are_replaced_while_connections_go_on() {
    let (mesh, next) = (Mesh::new(), Mesh::new());
    let (one, two) = (
        mesh.certificates(node("m", "c", 1)),
        mesh.certificates(node("m", "c", 2)),
    );
    let mut door = listen(Door::Raft, &one).await;
    let to = target(&door, Some(1), Purpose::Raft);
    let dialler = dial(&two);
    let (accepted, dialled) = tokio::join!(door.accept(), dialler.dial(&to));
    let (mut here, mut there) = (accepted.unwrap().0, dialled.unwrap().0);

    // Node 1 trusts the next authority only, and has its certificate from it.
    let files = next.files("one", &node("m", "c", 1));
    one.0.reload(&files).unwrap();
    there.write_all(b"still here").await.unwrap();
    there.flush().await.unwrap();
    let mut bytes = [0; 10];
    here.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"still here");
    assert!(
        !works(&dial(&two), &to, &mut door).await,
        "the old authority's node is a stranger now"
    );
    two.0.reload(&next.files("two", &node("m", "c", 2))).unwrap();
    assert!(works(&dial(&two), &to, &mut door).await);

    // What cannot be used changes nothing.
    let broken = Tls {
        key_file: "/nowhere".into(),
        ..files
    };
    assert!(one.0.reload(&broken).is_err());
    assert!(works(&dial(&two), &to, &mut door).await);
}

#[test]
fn the_nodes_key_signs_what_its_certificate_verifies() {
    use controllers::Signer;
    let mesh = Mesh::new();
    let (one, _) = mesh.certificates(node("m", "c", 1));
    let signed = one.sign(b"checkpoint").unwrap();
    assert!(verifies(&signed, b"checkpoint"));
    assert!(!verifies(&signed, b"other"));
}

fn verifies(signed: &controllers::Signed, message: &[u8]) -> bool {
    let (_, parsed) = x509_parser::parse_x509_certificate(&signed.certificate).unwrap();
    let key = parsed.public_key().subject_public_key.data.to_vec();
    let verify = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1, key);
    verify.verify(message, &signed.signature).is_ok()
}

#[test]
fn a_signature_and_its_certificate_are_of_one_key_while_keys_are_replaced() {
    use controllers::Signer;
    let mesh = Mesh::new();
    let own = node("m", "c", 1);
    let (one, first) = mesh.certificates(own.clone());
    let second = mesh.files("second", &own);
    std::thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            for at in 0..200 {
                one.reload([&first, &second][at % 2]).unwrap();
            }
        });
        let mut seen = std::collections::BTreeSet::new();
        while !replacing.is_finished() {
            let signed = one.sign(b"checkpoint").unwrap();
            assert!(
                verifies(&signed, b"checkpoint"),
                "a signature with another key's certificate"
            );
            seen.insert(signed.certificate);
        }
        assert_eq!(seen.len(), 2, "the keys were not replaced in between");
    });
}

#[tokio::test]
async fn connections_whose_authority_was_dropped_are_told_and_no_others() {
    let (old, new) = (Mesh::new(), Mesh::new());
    let bundle = |name: &str, of: &[&Mesh], tls: &Tls| {
        let text = of
            .iter()
            .map(|mesh| std::fs::read_to_string(mesh.directory.path().join("ca.crt")).unwrap());
        let file = old.directory.path().join(name);
        std::fs::write(&file, text.collect::<String>()).unwrap();
        Tls {
            ca_file: file,
            ..tls.clone()
        }
    };
    let (one, two) = (node("m", "c", 1), node("m", "c", 2));
    let (here, before) = old.certificates(one.clone());
    let (there, dialling) = old.certificates(two.clone());
    // Both trust both; the one who listens has its certificate from the new authority already.
    let leaf = new.files("one", &one);
    here.reload(&bundle("both", &[&old, &new], &leaf)).unwrap();
    there.reload(&bundle("both", &[&old, &new], &dialling)).unwrap();
    assert_eq!(here.nearest_expiry().unwrap().of, expiry::Use::Node);
    let mut door = listen(Door::Raft, &(here.clone(), before)).await;
    let to = target(&door, Some(1), Purpose::Raft);
    let dialler = TlsDial::new(there.clone(), Duration::from_secs(2));
    let (accepted, dialled) = tokio::join!(door.accept(), dialler.dial(&to));
    let (by_old, to_new) = (accepted.unwrap(), dialled.unwrap());
    there
        .reload(&bundle("both", &[&old, &new], &new.files("two", &two)))
        .unwrap();
    let (accepted, dialled) = tokio::join!(door.accept(), dialler.dial(&to));
    let (by_new, _to_new) = (accepted.unwrap(), dialled.unwrap());

    assert_eq!(here.reload(&bundle("new", &[&new], &leaf)).unwrap(), 1);
    let standing = |info: &raft::env::ConnInfo| info.identity.clone().unwrap().standing;
    let told = tokio::time::timeout(Duration::from_secs(5), async { standing(&by_old.1).withdrawn().await });
    told.await.unwrap();
    assert!(!standing(&by_new.1).is_withdrawn() && !standing(&to_new.1).is_withdrawn());
    // Who dialled judges likewise: back to the old authority alone, what answered with a new leaf is disowned.
    assert_eq!(there.reload(&bundle("old", &[&old], &dialling)).unwrap(), 2);
    assert!(standing(&to_new.1).is_withdrawn());
}

#[test]
fn the_ends_of_all_certificates_in_use_are_shown() {
    let mesh = Mesh::new();
    let (one, tls) = mesh.certificates(node("m", "c", 1));
    let mut registry = prometheus_client::registry::Registry::default();
    one.register(&mut registry);
    let samples = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let samples = text
            .lines()
            .filter(|line| line.starts_with("meshkit_certificate_expiry_seconds{"));
        samples.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let first = samples();
    assert_eq!(first.len(), 2, "{first:?}");
    let end = one.not_after().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let is_node = |line: &&String| line.contains("use=\"node\"");
    assert!(
        first.iter().find(is_node).unwrap().ends_with(&format!(" {end}")),
        "{first:?}"
    );
    assert!(first.iter().any(|line| line.contains("use=\"ca\"")), "{first:?}");
    let nearest = one.nearest_expiry().unwrap();
    assert_eq!((nearest.of, nearest.unix_s()), (expiry::Use::Node, end));

    // The certificate before the last is not shown any more.
    one.reload(&mesh.files("next", &node("m", "c", 1))).unwrap();
    let second = samples();
    assert_eq!(
        (second.len(), second.intersection(&first).count()),
        (2, 1),
        "{second:?}"
    );
    drop(tls);
}
