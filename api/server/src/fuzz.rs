//! Everything here that reads what others wrote, given what nobody would write: valid samples, changed a little, with
//! checksums and encodings put right again where there are some, so that what is behind them is reached.
//!
//! Nothing may panic, and what is taken has to read back as the same. How many inputs: see [`chaos_fuzz`].

mod samples;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use chaos_fuzz::{Rng, Target};
use http::{HeaderMap, HeaderName, HeaderValue};
use proto::methods::{self, Method};
use statemachine::{
    Conditions, DrainPeer, Entry, InitMesh, MeshId, NodeId, Origin, Position, Proposal, Recorded, RegisterPeer,
    Request, Revision, Stamp, State, TimelineId,
    backup::{Decoder, Encoder, Header},
    codec,
    codec::Format,
    record::{Overrides, PeerSpec, Record},
    selector::Selector,
};

use crate::{
    auth::forwarded::Forwarded,
    cursor::{Cursor, Filter},
    framing, headers,
    join_token::JoinToken,
    rest,
    route::{Routed, Router},
};

use samples::{Samples, filter};

/// As many inputs as `./check` has time for.
const INPUTS: u64 = 60_000;

/// What is tried, which samples it begins with, and how.
const TARGETS: [Target<Samples>; 11] = [
    Target::new("tokens", |samples| &samples.tokens, tokens),
    Target::new("selectors", |samples| &samples.selectors, selectors),
    Target::new("paths", |samples| &samples.paths, paths),
    Target::new("bodies", |samples| &samples.bodies, bodies),
    Target::new("headers", |samples| &samples.headers, header_values),
    Target::new("forwarded", |samples| &samples.forwarded, forwarded),
    Target::new("join tokens", |samples| &samples.join_tokens, join_tokens),
    Target::new("gRPC frames", |samples| &samples.frames, frames),
    Target::new("entries", |samples| &samples.entries, entries),
    Target::new("rows", |samples| &samples.rows, rows),
    Target::new("backups", |samples| &samples.backups, backups),
];

/// Cursors and resume tokens: as text, and as bytes whose checksum is right.
fn tokens(samples: &Samples, rng: &mut Rng, bytes: &[u8]) {
    let text = match rng.below(3) {
        0 => String::from_utf8_lossy(bytes).into_owned(),
        1 => BASE64_URL_SAFE_NO_PAD.encode(bytes),
        _ => BASE64_URL_SAFE_NO_PAD.encode(crate::cursor::sealed(bytes)),
    };
    if let Ok(cursor) = Cursor::decode(&text, &samples.mesh, filter()) {
        assert_eq!(cursor.encode(&samples.mesh, filter()), text);
    }
}

fn selectors(_: &Samples, _: &mut Rng, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(selector) = Selector::parse(text)
    {
        let labels = [("zone".to_owned(), "a".to_owned())].into();
        assert_eq!(selector.matches(&labels), selector.matches(&labels));
    }
}

/// A request line: what it means, and the message that its query makes.
fn paths(samples: &Samples, _: &mut Rng, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (verb, target) = text.split_once(' ').unwrap_or(("GET", &text));
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let Ok(verb) = http::Method::from_bytes(verb.as_bytes()) else {
        return;
    };
    if let Routed::Method(method, variables) = samples.router.route(&verb, path) {
        let variables: Vec<_> = variables
            .into_iter()
            .map(|(name, value)| (name, value.into_owned()))
            .collect();
        let query = query.filter(|_| !method.http.body);
        rest::request_message(method, &variables, query, &Bytes::new()).ok();
    }
}

/// A body, for any of the methods that take one.
fn bodies(_: &Samples, rng: &mut Rng, bytes: &[u8]) {
    let takers: Vec<&Method> = methods::all().iter().filter(|method| method.http.body).collect();
    let method = *rng.pick(&takers);
    let body = Bytes::copy_from_slice(bytes);
    if let Ok(message) = rest::request_message(method, &[], None, &body) {
        let message = prost_reflect::DynamicMessage::decode(method.input.clone(), message.as_slice());
        let mut json = Vec::new();
        if proto::json::write(&message.unwrap(), &mut json).is_ok() {
            let again = proto::json::read(&method.input, &json);
            assert!(again.is_ok(), "{}: {again:?}", String::from_utf8_lossy(&json));
        }
    }
}

fn header_values(_: &Samples, rng: &mut Rng, bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let name = *rng.pick(&[
        "if-match",
        "if-none-match",
        "mesh-timeout",
        "grpc-timeout",
        "mesh-consistency",
        "mesh-route",
        "mesh-request-id",
        "mesh-reason",
        "mesh-transport-downgrade",
        "mesh-dry-run",
        "traceparent",
    ]);
    let mut map = HeaderMap::new();
    map.insert(HeaderName::from_static(name), value);
    headers::etag(&map, "if-match").ok();
    headers::etag(&map, "if-none-match").ok();
    headers::none_match(&map, "e626-4");
    headers::timeout(&map).ok();
    headers::consistency(&map).ok();
    headers::forward(&map).ok();
    headers::request_id(&map);
    headers::downgrade(&map);
    headers::downgrade_label(&map);
    headers::dry_run(&map, rng.below(2) == 0).ok();
    headers::text(&map, "mesh-reason").ok();
    drop(crate::trace::request(&map, "1-2-3", "rest", "h2"));
}

/// The header in which a node says on whose behalf it asks: bare, and encoded as it should be.
fn forwarded(_: &Samples, rng: &mut Rng, bytes: &[u8]) {
    let text = if rng.below(4) == 0 {
        bytes.to_vec()
    } else {
        BASE64_URL_SAFE_NO_PAD.encode(bytes).into_bytes()
    };
    let Ok(value) = HeaderValue::from_bytes(&text) else {
        return;
    };
    if let Some(read) = Forwarded::decode(&value) {
        let again = Forwarded::decode(&read.encode().unwrap());
        // What is written is longer than what was read where that left something out.
        assert!(again.is_none_or(|again| again == read));
    }
}

fn join_tokens(_: &Samples, rng: &mut Rng, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let text = if rng.below(3) == 0 {
        text
    } else {
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    };
    if let Ok(token) = JoinToken::decode(&text) {
        let again = JoinToken::decode(&token.encode().unwrap());
        assert!(again.is_ok(), "{again:?}");
    }
}

fn frames(_: &Samples, rng: &mut Rng, bytes: &[u8]) {
    framing::unframe(Bytes::copy_from_slice(bytes));
    let (mut arrived, cut) = (BytesMut::new(), rng.below(bytes.len() + 1));
    for part in [&bytes[..cut], &bytes[cut..]] {
        arrived.extend_from_slice(part);
        while let Ok(Some(_)) = framing::take_message(&mut arrived) {}
    }
}

/// Entries of the log: what is read is applied, for whoever commits it commits it for every node.
fn entries(samples: &Samples, _: &mut Rng, bytes: &[u8]) {
    let Ok(read) = codec::decode::<Entry>(Format::Entry, bytes) else {
        return;
    };
    let again = codec::encode(Format::Entry, &read);
    assert_eq!(codec::decode::<Entry>(Format::Entry, &again).as_ref(), Ok(&read));
    let mut state = samples.state.clone();
    statemachine::apply(&mut state, &read);
    let mut other = samples.state.clone();
    statemachine::apply(&mut other, &read);
    assert_eq!(state.mesh.digest(), other.mesh.digest());
}

fn rows(_: &Samples, _: &mut Rng, bytes: &[u8]) {
    Recorded::decode(bytes).ok();
    codec::decode::<Proposal>(Format::Entry, bytes).ok();
    if let Ok(record) = codec::decode::<Record>(Format::Record, bytes) {
        let again = codec::encode(Format::Record, &record);
        assert_eq!(codec::decode::<Record>(Format::Record, &again), Ok(record));
    }
}

fn backups(_: &Samples, rng: &mut Rng, bytes: &[u8]) {
    let mut decoder = Decoder::new();
    let cut = rng.below(bytes.len() + 1);
    for part in [&bytes[..cut], &bytes[cut..]] {
        decoder.push(part);
        while let Ok(Some(_)) = decoder.part() {}
    }
}

#[test]
fn decoders_survive_whatever_comes() {
    chaos_fuzz::run(&Samples::new(), &TARGETS, INPUTS);
}

/// The samples themselves are read, or nothing behind a first check would be reached.
#[test]
fn samples_are_valid() {
    let samples = Samples::new();
    let read = |bytes: &Vec<u8>| codec::decode::<Entry>(Format::Entry, bytes).is_ok();
    assert!(samples.entries.iter().all(read));
    assert!(samples.rows.iter().any(|row| Recorded::decode(row).is_ok()));
    assert!(
        samples
            .rows
            .iter()
            .any(|row| codec::decode::<Record>(Format::Record, row).is_ok())
    );
    for token in &samples.tokens {
        let text = BASE64_URL_SAFE_NO_PAD.encode(token);
        assert!(Cursor::decode(&text, &samples.mesh, filter()).is_ok());
        let body = &token[..token.len() - 8];
        assert_eq!(&crate::cursor::sealed(body), token);
    }
    for header in &samples.forwarded {
        let value = HeaderValue::try_from(BASE64_URL_SAFE_NO_PAD.encode(header)).unwrap();
        assert!(
            Forwarded::decode(&value).is_some(),
            "{}",
            String::from_utf8_lossy(header)
        );
    }
    for path in &samples.paths {
        let (verb, target) = std::str::from_utf8(path).unwrap().split_once(' ').unwrap();
        let path = target.split('?').next().unwrap();
        let routed = samples.router.route(&verb.parse().unwrap(), path);
        assert!(matches!(routed, Routed::Method(..)), "{verb} {path}: {routed:?}");
    }
}
