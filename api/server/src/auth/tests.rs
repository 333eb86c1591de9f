use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use raft::env::PeerIdentity;
use serde_json::json;

use super::{forwarded::Forwarded, *};

const NOW_S: u64 = 1_000_000;

/// An Ed25519 key pair and its public half as PEM.
fn key() -> (Ed25519KeyPair, Vec<u8>) {
    let pair = Ed25519KeyPair::generate().unwrap();
    // SubjectPublicKeyInfo of Ed25519: a fixed head and the 32 bytes (RFC 8410).
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend_from_slice(pair.public_key().as_ref());
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(spki)
    );
    (pair, pem.into_bytes())
}

fn sign(pair: &Ed25519KeyPair, header: &serde_json::Value, claims: &serde_json::Value) -> String {
    let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn header() -> serde_json::Value {
    json!({ "alg": "EdDSA", "typ": "JWT" })
}

fn claims() -> serde_json::Value {
    json!({ "iss": "tests", "aud": "m", "sub": "alice", "exp": NOW_S + 60, "scope": "openid mesh.read mesh.operate" })
}

fn config(pem: Vec<u8>) -> AuthConfig {
    AuthConfig {
        jwt: Some(JwtConfig {
            issuer: "tests".into(),
            pem_keys: vec![("key.pem".into(), pem)],
            ..JwtConfig::default()
        }),
        bindings: vec![
            Binding {
                matches: "spiffe://m/client/*".into(),
                subject: String::new(),
                scopes: vec!["mesh.read".into()],
            },
            Binding {
                matches: "spiffe://m/client/ci".into(),
                subject: "ci".into(),
                scopes: vec!["mesh.operate".into()],
            },
        ],
        token_bytes_max: 4096,
        ..AuthConfig::default()
    }
}

fn authenticator(config: &AuthConfig) -> Authenticator {
    Authenticator::new(MeshId::new("m").unwrap(), ClusterId::new("c").unwrap(), config).unwrap()
}

fn conn(uri: Option<&str>) -> ConnInfo {
    ConnInfo {
        peer: "127.0.0.1:5".parse().unwrap(),
        identity: uri.map(PeerIdentity::stated),
        transport: None,
        tls: true,
    }
}

fn bearer(token: &str) -> HeaderMap {
    [(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]
        .into_iter()
        .collect()
}

#[test]
fn a_good_token_names_its_subject() {
    let (pair, pem) = key();
    let auth = authenticator(&config(pem));
    let token = bearer(&sign(&pair, &header(), &claims()));
    for _ in 0..2 {
        let principal = auth.principal(&conn(None), &token, NOW_S).unwrap();
        assert_eq!(
            (principal.subject.as_str(), principal.scope),
            ("alice", Some(Scope::Operate))
        );
        assert_eq!(principal.scopes(), ["mesh.read", "mesh.observe", "mesh.operate"]);
        assert!(!principal.holds(Scope::Admin));
    }
    // Also when it was verified before, it ends when it ends.
    let error = auth.principal(&conn(None), &token, NOW_S + 61).unwrap_err();
    assert_eq!(error.code(), Code::CredentialExpired);
}

#[test]
fn bad_tokens_are_refused() {
    let (pair, pem) = key();
    let (other, _) = key();
    let auth = authenticator(&config(pem));
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    let refused = |token: &str| auth.principal(&conn(None), &bearer(token), NOW_S).unwrap_err().code();
    assert_eq!(refused(&sign(&other, &header(), &claims())), Code::Unauthenticated);
    assert_eq!(
        refused(&sign(&pair, &header(), &with("exp", json!(NOW_S)))),
        Code::CredentialExpired
    );
    for (name, value) in [
        ("aud", json!("another-mesh")),
        ("iss", json!("somebody")),
        ("nbf", json!(NOW_S + 5)),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("system:drain")),
        ("sub", json!("x".repeat(300))),
        ("exp", json!("soon")),
        ("exp", json!(null)),
        ("aud", json!(null)),
    ] {
        assert_eq!(
            refused(&sign(&pair, &header(), &with(name, value.clone()))),
            Code::Unauthenticated,
            "{name} {value}"
        );
    }
    // Without a signature, with the public key as a shared secret, with a flipped bit.
    let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let body = BASE64_URL_SAFE_NO_PAD.encode(claims().to_string());
    assert_eq!(refused(&format!("{none}.{body}.")), Code::Unauthenticated);
    assert_eq!(
        refused(&sign(&pair, &json!({ "alg": "HS256" }), &claims())),
        Code::Unauthenticated
    );
    let good = sign(&pair, &header(), &claims());
    let mut flipped = good.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    assert_eq!(refused(&String::from_utf8_lossy(&flipped)), Code::Unauthenticated);
    for garbage in ["", "a", "a.b", "a.b.c", "....", &"a".repeat(10_000)] {
        assert_eq!(refused(garbage), Code::Unauthenticated, "{garbage}");
    }
    let mut basic = HeaderMap::new();
    basic.insert(header::AUTHORIZATION, "Basic YTpi".parse().unwrap());
    assert_eq!(
        auth.principal(&conn(None), &basic, NOW_S).unwrap_err().code(),
        Code::Unauthenticated
    );
    let mut twice = bearer(&good);
    twice.append(header::AUTHORIZATION, "Bearer x".parse().unwrap());
    assert_eq!(
        auth.principal(&conn(None), &twice, NOW_S).unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[test]
fn certificates_count_by_their_binding() {
    let auth = authenticator(&config(key().1));
    let found = |uri: &str| auth.principal(&conn(Some(uri)), &HeaderMap::new(), NOW_S);
    let ci = found("spiffe://m/client/ci").unwrap();
    assert_eq!(
        (ci.subject.as_str(), ci.scope, ci.proof),
        ("ci", Some(Scope::Operate), Proof::Certificate)
    );
    let other = found("spiffe://m/client/bob").unwrap();
    assert_eq!(
        (other.subject.as_str(), other.scope),
        ("spiffe://m/client/bob", Some(Scope::Read))
    );
    for unbound in [
        "spiffe://m/clientele/x",
        "spiffe://m/client/",
        "spiffe://m/client",
        "spiffe://m/client/bob/laptop",
        "spiffe://n/client/ci",
        "spiffe://m/cluster/c/node/1",
    ] {
        assert_eq!(found(unbound).unwrap_err().code(), Code::Unauthenticated, "{unbound}");
    }
}

#[test]
fn a_star_is_one_segment_and_what_is_written_out_goes_first() {
    let mut config = config(key().1);
    config.bindings = ["*/*", "client/*", "*/ci", "cluster/*/node/*"]
        .map(|path| Binding {
            matches: format!("spiffe://m/{path}"),
            subject: path.into(),
            scopes: vec!["mesh.read".into()],
        })
        .to_vec();
    let auth = authenticator(&config);
    let found = |path: &str| {
        let conn = conn(Some(&format!("spiffe://m/{path}")));
        let principal = auth.principal(&conn, &HeaderMap::new(), NOW_S);
        principal.ok().map(|principal| principal.subject.clone())
    };
    assert_eq!(found("client/ci").as_deref(), Some("client/*"));
    assert_eq!(found("peer/ci").as_deref(), Some("*/ci"));
    assert_eq!(found("peer/p1").as_deref(), Some("*/*"));
    assert_eq!(found("cluster/c/node/1").as_deref(), Some("cluster/*/node/*"));
    for unbound in ["client", "client/", "/ci", "cluster/c/node/", "cluster/c/node/1/x"] {
        assert_eq!(found(unbound), None, "{unbound}");
    }
}

#[test]
fn a_certificate_counts_until_it_ends_or_its_authority_is_dropped() {
    let auth = authenticator(&config(key().1));
    let (withdraw, standing) = raft::env::Standing::revocable();
    let shown = |uri: &str| ConnInfo {
        identity: Some(PeerIdentity {
            not_after_s: Some(NOW_S),
            standing: standing.clone(),
            ..PeerIdentity::stated(uri)
        }),
        ..conn(None)
    };
    let (client, node) = (shown("spiffe://m/client/ci"), shown("spiffe://m/cluster/c/node/2"));
    let code = |now_s| {
        auth.principal(&client, &HeaderMap::new(), now_s)
            .map_err(|error| error.code())
    };
    let principal = code(NOW_S).unwrap();
    assert_eq!(
        principal.expires_s,
        Some(NOW_S + 1),
        "the first second that does not count"
    );
    assert_eq!(code(NOW_S + 1).unwrap_err(), Code::CredentialExpired);
    assert!(auth.node(&node, NOW_S).is_some() && auth.node(&node, NOW_S + 1).is_none());
    withdraw.withdraw();
    assert_eq!(code(NOW_S).unwrap_err(), Code::Unauthenticated);
    assert_eq!(auth.node(&node, NOW_S), None);
}

#[test]
fn a_key_file_may_hold_the_old_and_the_new_key() {
    let (old, old_pem) = key();
    let (new, new_pem) = key();
    let both = [b"the old one\n".to_vec(), old_pem.clone(), new_pem.clone()].concat();
    let auth = authenticator(&config(both.clone()));
    for pair in [&old, &new] {
        let token = bearer(&sign(pair, &header(), &claims()));
        auth.principal(&conn(None), &token, NOW_S).unwrap();
    }
    // Half of a file is not the half of its keys.
    for cut in [both.len() - 2, both.len() - 30, both.len() - 60] {
        auth.replace(&config(both[..cut].to_vec())).unwrap_err();
    }
    let twice_begun = [&old_pem[..30], &new_pem].concat();
    auth.replace(&config(twice_begun)).unwrap_err();
}

#[test]
fn nothing_is_nobody_except_on_loopback_where_told() {
    let mut config = config(key().1);
    let plain = ConnInfo {
        tls: false,
        ..conn(None)
    };
    let nobody = authenticator(&config).principal(&plain, &HeaderMap::new(), NOW_S);
    assert_eq!(nobody.unwrap_err().code(), Code::Unauthenticated);
    config.loopback_admin = true;
    let auth = authenticator(&config);
    assert!(
        auth.principal(&plain, &HeaderMap::new(), NOW_S)
            .unwrap()
            .holds(Scope::Admin)
    );
    let far = ConnInfo {
        peer: "10.0.0.1:5".parse().unwrap(),
        ..plain
    };
    assert!(auth.principal(&far, &HeaderMap::new(), NOW_S).is_err());
    assert!(auth.principal(&conn(None), &HeaderMap::new(), NOW_S).is_err());
}

#[test]
fn keys_are_replaced_while_running() {
    let (old, old_pem) = key();
    let (new, new_pem) = key();
    let auth = authenticator(&config(old_pem));
    let token = |pair| bearer(&sign(pair, &header(), &claims()));
    auth.principal(&conn(None), &token(&old), NOW_S).unwrap();
    auth.replace(&config(new_pem)).unwrap();
    auth.principal(&conn(None), &token(&old), NOW_S).unwrap_err();
    auth.principal(&conn(None), &token(&new), NOW_S).unwrap();
    // A configuration that makes no sense changes nothing.
    let broken = JwtConfig {
        issuer: "tests".into(),
        ..JwtConfig::default()
    };
    auth.replace(&AuthConfig {
        jwt: Some(broken),
        ..AuthConfig::default()
    })
    .unwrap_err();
    auth.principal(&conn(None), &token(&new), NOW_S).unwrap();
}

#[test]
fn a_jwks_picks_the_key_by_its_id() {
    let (pair, _) = key();
    let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let jwks =
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k1", "use": "sig", "alg": "EdDSA", "x": x }] });
    let jwt = JwtConfig {
        issuer: "tests".into(),
        jwks: Some(("jwks.json".into(), jwks.to_string().into_bytes())),
        ..JwtConfig::default()
    };
    let auth = authenticator(&AuthConfig {
        jwt: Some(jwt),
        token_bytes_max: 4096,
        ..AuthConfig::default()
    });
    let named = |kid: &str| bearer(&sign(&pair, &json!({ "alg": "EdDSA", "kid": kid }), &claims()));
    auth.principal(&conn(None), &named("k1"), NOW_S).unwrap();
    auth.principal(&conn(None), &named("k2"), NOW_S).unwrap_err();
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let new = |config: &AuthConfig| {
        Authenticator::new(MeshId::new("m").unwrap(), ClusterId::new("c").unwrap(), config).map(drop)
    };
    let bind = |matches: &str, scope: &str| AuthConfig {
        bindings: vec![Binding {
            matches: matches.into(),
            subject: "s".into(),
            scopes: vec![scope.into()],
        }],
        ..AuthConfig::default()
    };
    new(&bind("spiffe://m/client/a", "mesh.read")).unwrap();
    for (matches, scope) in [
        ("m/client/a", "mesh.read"),
        ("spiffe://m/cli*", "mesh.read"),
        ("spiffe://n/client/a", "mesh.read"),
        ("spiffe://*/client/a", "mesh.read"),
        ("spiffe://m", "mesh.read"),
        ("spiffe://m/", "mesh.read"),
        ("spiffe://m/client/", "mesh.read"),
        ("spiffe://m/client/a", "mesh.root"),
    ] {
        new(&bind(matches, scope)).unwrap_err();
    }
    let mut twice = bind("spiffe://m/client/a", "mesh.read");
    twice.bindings.push(twice.bindings[0].clone());
    new(&twice).unwrap_err();
    let private = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n".to_vec();
    for pem in [b"no key".to_vec(), private] {
        new(&config(pem)).unwrap_err();
    }
}

#[test]
fn a_peer_is_who_the_token_names_and_holds_nothing_else_by_it() {
    let (pair, pem) = key();
    let auth = authenticator(&config(pem));
    let asked = |sub: &str, scope: &str| {
        let mut claims = claims();
        claims["sub"] = json!(sub);
        claims["scope"] = json!(scope);
        auth.principal(&conn(None), &bearer(&sign(&pair, &header(), &claims)), NOW_S)
    };
    let peer = asked("spiffe://m/peer/edge-1", "mesh.peer").unwrap();
    assert_eq!(peer.peer.as_ref().map(PeerId::as_str), Some("edge-1"));
    assert!(peer.holds(Scope::Peer) && !peer.holds(Scope::Read));
    assert_eq!(peer.scopes(), ["mesh.peer"]);
    let watching = asked("spiffe://m/peer/edge-1", "mesh.peer mesh.observe").unwrap();
    assert_eq!(watching.scopes(), ["mesh.peer", "mesh.read", "mesh.observe"]);
    // The name alone makes nobody a peer, and no other scope does.
    let admin = asked("spiffe://m/peer/edge-1", "mesh.admin").unwrap();
    assert!(admin.holds(Scope::Admin) && !admin.holds(Scope::Peer));
    for stranger in [
        "alice",
        "edge-1",
        "spiffe://n/peer/edge-1",
        "spiffe://m/client/edge-1",
        "spiffe://m/peer/",
        "spiffe://m/peer/a/b",
    ] {
        let error = asked(stranger, "mesh.peer mesh.admin").unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{stranger}");
        assert!(error.to_string().contains("spiffe://m/peer/ID"), "{error}");
    }
}

#[test]
fn a_peers_certificate_is_bound_by_its_own_name() {
    let mut config = config(key().1);
    config.bindings.push(Binding {
        matches: "spiffe://m/peer/*".into(),
        subject: String::new(),
        scopes: vec!["mesh.peer".into(), "mesh.observe".into()],
    });
    let auth = authenticator(&config);
    let found = |uri: &str| auth.principal(&conn(Some(uri)), &HeaderMap::new(), NOW_S);
    let peer = found("spiffe://m/peer/edge-1").unwrap();
    assert_eq!(peer.peer.as_ref().map(PeerId::as_str), Some("edge-1"));
    assert_eq!(
        (peer.scope, peer.subject.as_str()),
        (Some(Scope::Observe), "spiffe://m/peer/edge-1")
    );
    assert_eq!(found("spiffe://m/client/bob").unwrap().peer, None);
    let error = found("spiffe://m/peer/No.Id-").unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    // A binding that would make peers of others is none.
    for (matches, subject) in [
        ("spiffe://m/client/*", ""),
        ("spiffe://m/*/*", ""),
        ("spiffe://m/peer/*", "alice"),
        ("spiffe://m/peer/*/x", ""),
    ] {
        let binding = Binding {
            matches: matches.into(),
            subject: subject.into(),
            scopes: vec!["mesh.peer".into()],
        };
        let config = AuthConfig {
            bindings: vec![binding],
            ..AuthConfig::default()
        };
        Authenticator::new(MeshId::new("m").unwrap(), ClusterId::new("c").unwrap(), &config)
            .map(drop)
            .unwrap_err();
    }
}

#[test]
fn only_this_clusters_nodes_are_nodes() {
    let auth = authenticator(&AuthConfig::default());
    assert!(auth.node(&conn(Some("spiffe://m/cluster/c/node/2")), NOW_S).is_some());
    for other in [
        "spiffe://m/cluster/d/node/2",
        "spiffe://n/cluster/c/node/2",
        "spiffe://m/client/x",
    ] {
        assert_eq!(auth.node(&conn(Some(other)), NOW_S), None);
    }
    assert_eq!(auth.node(&conn(None), NOW_S), None);
}

#[test]
fn a_forwarded_caller_reads_back() {
    let forwarded = Forwarded {
        principal: Arc::new(Principal {
            subject: "älice \"x\"".into(),
            scope: Some(Scope::Operate),
            peer: Some(PeerId::new("p1").unwrap()),
            proof: Proof::Jwt,
            expires_s: Some(7),
            session: Some("s1".into()),
        }),
        transport: crate::transport::H1,
        address: "[::1]:80".parse().unwrap(),
    };
    assert_eq!(Forwarded::decode(&forwarded.encode().unwrap()), Some(forwarded));
    for garbage in ["", "x", "e30", "bnVsbA"] {
        assert_eq!(Forwarded::decode(&garbage.parse().unwrap()), None);
    }
}
