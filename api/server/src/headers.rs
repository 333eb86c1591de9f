//! Request headers of the contract, which gRPC metadata repeats, and how they agree with fields of the body.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use proto::codes::Code;
use raft::Consistency;

use crate::Error;

/// Why, for the audit trail.
pub const REASON: &str = "mesh-reason";
/// The change ticket, for the audit trail.
pub const TICKET: &str = "mesh-ticket";
/// Answers what would happen, and changes nothing.
pub const DRY_RUN: &str = "mesh-dry-run";
/// With a dry run: who would have to agree before it takes effect.
pub const APPROVAL_NEEDED: &str = "mesh-approval-needed";
/// `linearizable` or `local`.
pub const CONSISTENCY: &str = "mesh-consistency";
/// `redirect` or `forward`: what a follower does with a mutation.
pub const ROUTE: &str = "mesh-route";
/// How long the caller waits: `2s`, `500ms`.
pub const TIMEOUT: &str = "mesh-timeout";
/// Makes a retry safe.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The id of the request, in and out.
pub const REQUEST_ID: &str = "mesh-request-id";
/// The mesh revision that an answer shows.
pub const REVISION: &str = "mesh-revision";
/// The mesh's fencing number.
pub const EPOCH: &str = "mesh-epoch";
/// The leader's API endpoint, as the answering node knows it.
pub const LEADER: &str = "mesh-leader";

/// Where an earlier event stream ended: what `EventSource` sends when it connects again.
pub const LAST_EVENT_ID: &str = "last-event-id";
/// What a page sends beside the cookie of its session, with every request that is no GET.
pub const CSRF_TOKEN: &str = "mesh-csrf-token";
/// Why the client speaks no newer protocol, in its own words.
pub const TRANSPORT_DOWNGRADE: &str = "mesh-transport-downgrade";

/// The reasons to fall back to TCP that are counted by themselves: no answer in time, a closed port, no way there, a
/// failed handshake, and a connection that broke off.
pub const DOWNGRADES: [&str; 5] = ["timeout", "refused", "unreachable", "handshake", "lost"];

/// The longest word that a client says about itself.
const WORD_BYTES_MAX: usize = 32;
/// The longest request id that is taken from a caller.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// The value of a header as text, where it is there once.
///
/// # Errors
/// `invalid_argument`: it is there twice, or not UTF-8.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::invalid(name, format!("the header `{name}` is there twice")));
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.trim())),
        Err(_) => Err(Error::invalid(name, format!("the header `{name}` is not UTF-8"))),
    }
}

/// What a request says in a header and in its body, which have to agree.
///
/// # Errors
/// `invalid_argument`: they do not.
pub(crate) fn agree<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
    field: &str,
    body: &'a str,
) -> Result<Cow<'a, str>, Error> {
    match text(headers, name)? {
        None => Ok(body.into()),
        Some(header) if body.is_empty() || header == body => Ok(header.into()),
        Some(_) => Err(Error::invalid(
            field,
            format!("the header `{name}` and the field `{field}` disagree"),
        )),
    }
}

/// Reason or ticket: as [`agree`], and without control characters. The audit trail shows it for ever, to terminals
/// and logs that would act on them.
///
/// # Errors
/// `invalid_argument`: header and body disagree, or there is a control character.
pub(crate) fn words<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
    field: &str,
    body: &'a str,
) -> Result<Cow<'a, str>, Error> {
    let words = agree(headers, name, field, body)?;
    match words.chars().find(|character| character.is_control()) {
        None => Ok(words),
        Some(character) => {
            let detail = format!("{field}: it holds the control character U+{:04X}", u32::from(character));
            Err(Error::invalid(field, detail).hint("write it on one line, without tabs and escape sequences"))
        }
    }
}

/// Whether a dry run is asked for, by header or body.
///
/// # Errors
/// `invalid_argument`: neither `true` nor `false`, or the body says `true` and the header `false`.
pub(crate) fn dry_run(headers: &HeaderMap, body: bool) -> Result<bool, Error> {
    match text(headers, DRY_RUN)? {
        None => Ok(body),
        Some(word) if word.eq_ignore_ascii_case("true") => Ok(true),
        // A body without the field cannot be told from one that says false, so only this way round can disagree.
        Some(word) if word.eq_ignore_ascii_case("false") && !body => Ok(false),
        Some(word) if word.eq_ignore_ascii_case("false") => Err(Error::invalid(
            "dryRun",
            format!("the header `{DRY_RUN}` and the field `dryRun` disagree"),
        )),
        Some(_) => Err(Error::invalid(DRY_RUN, "expected true or false")),
    }
}

/// Refuses conditions on an ETag, where what is changed has none.
///
/// # Errors
/// `invalid_argument`: there is one.
pub(crate) fn no_etag(headers: &HeaderMap) -> Result<(), Error> {
    for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
        if headers.contains_key(&name) {
            return Err(Error::invalid(name.as_str(), "what this changes has no ETag"));
        }
    }
    Ok(())
}

/// Refuses a dry run of what has none: it would be taken for one, and be done.
///
/// # Errors
/// `invalid_argument`: one is asked for.
pub(crate) fn no_dry_run(headers: &HeaderMap) -> Result<(), Error> {
    match dry_run(headers, false)? {
        true => Err(Error::invalid(DRY_RUN, "this has no dry run")),
        false => Ok(()),
    }
}

/// How fresh a read has to be.
///
/// # Errors
/// `invalid_argument`: an unknown word.
pub(crate) fn consistency(headers: &HeaderMap) -> Result<Consistency, Error> {
    match text(headers, CONSISTENCY)? {
        None | Some("linearizable") => Ok(Consistency::Linearizable),
        Some("local") => Ok(Consistency::Local),
        Some(_) => Err(Error::invalid(CONSISTENCY, "expected linearizable or local")),
    }
}

/// Whether a follower should carry the request to the leader.
///
/// # Errors
/// `invalid_argument`: an unknown word.
pub(crate) fn forward(headers: &HeaderMap) -> Result<bool, Error> {
    match text(headers, ROUTE)? {
        None | Some("redirect") => Ok(false),
        Some("forward") => Ok(true),
        Some(_) => Err(Error::invalid(ROUTE, "expected redirect or forward")),
    }
}

/// The one ETag of an `If-Match` or `If-None-Match`, without quotes, or `*`.
///
/// # Errors
/// `invalid_argument`: a list, or not of the form `"etag"`. A weak ETag never matches, and is refused as such.
pub(crate) fn etag<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Error> {
    let Some(value) = text(headers, name)? else {
        return Ok(None);
    };
    let bare = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').filter(|bare| *bare != "*"),
        None => Some(value),
    };
    match bare {
        Some(bare) if !bare.is_empty() && !bare.contains(['"', ',', ' ']) && !bare.starts_with("W/") => Ok(Some(bare)),
        _ => Err(Error::invalid(
            name,
            format!("`{name}` takes one strong ETag in quotes, or `*`"),
        )),
    }
}

/// How long the caller waits, by `grpc-timeout` or `Mesh-Timeout`.
///
/// # Errors
/// `invalid_argument`: not of the form.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    if let Some(value) = text(headers, "grpc-timeout")? {
        let parsed = grpc_timeout(value);
        return parsed
            .map(Some)
            .ok_or_else(|| Error::invalid("grpc-timeout", "not of the form that gRPC defines"));
    }
    match text(headers, TIMEOUT)? {
        None => Ok(None),
        Some(value) => {
            let parsed = duration(value);
            parsed
                .map(Some)
                .ok_or_else(|| Error::invalid(TIMEOUT, "expected a duration such as `500ms` or `2s`"))
        }
    }
}

/// Up to eight digits and a unit (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Whole seconds or milliseconds: `2s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let count: u32 = digits.parse().ok()?;
    match unit {
        "s" => Some(Duration::from_secs(count.into())),
        "ms" => Some(Duration::from_millis(count.into())),
        _ => None,
    }
}

/// The caller's own id for the request, where it is short and harmless.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (!id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(harmless)).then_some(id)
}

/// Why the client fell back to the protocol that it speaks, where that is a short and harmless word.
pub(crate) fn downgrade(headers: &HeaderMap) -> Option<&str> {
    let word = headers.get(TRANSPORT_DOWNGRADE)?.to_str().ok()?;
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (!word.is_empty() && word.len() <= WORD_BYTES_MAX && word.bytes().all(harmless)).then_some(word)
}

/// The same word as a label, of which there are few.
pub(crate) fn downgrade_label(headers: &HeaderMap) -> Option<&'static str> {
    let word = headers.get(TRANSPORT_DOWNGRADE)?;
    let known = DOWNGRADES.into_iter().find(|known| word == known);
    Some(known.unwrap_or("other"))
}

/// Bytes of a header block as HTTP/3 counts them against a limit (RFC 9114 §4.2.2), but for what the request line says.
pub(crate) fn block_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

/// `too_large`, for a header block.
pub(crate) fn too_large(limit: usize) -> Error {
    Error::new(
        Code::TooLarge,
        format!("the request's headers are over the limit of {limit} bytes"),
    )
    .with(|problem| {
        problem.hint = "send fewer or shorter headers; a body may carry what some of them say".to_owned();
        problem.limit = format!("{limit} B");
    })
}

/// Whether `If-None-Match` names an ETag: then a read need not be answered in full.
pub(crate) fn none_match(headers: &HeaderMap, current: &str) -> bool {
    let given = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        let bare = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
        tag == "*" || bare == current
    })
}

/// Puts a record's ETag into gRPC metadata, bare as `if-match` takes it there. REST quotes it.
pub(crate) fn put_etag(headers: &mut HeaderMap, etag: statemachine::Etag) {
    if let Ok(value) = HeaderValue::try_from(etag.to_string()) {
        headers.insert(header::ETAG, value);
    }
}

/// Puts the ETag of a page of a list into gRPC metadata: its message has none.
pub(crate) fn put_page_etag(headers: &mut HeaderMap, etag: &str) {
    if let Ok(value) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, value);
    }
}

/// A number as a header value.
pub(crate) fn number(value: u64) -> HeaderValue {
    HeaderValue::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn header_and_body_have_to_agree() {
        let given = headers(&[(REASON, "why")]);
        assert_eq!(agree(&given, REASON, "reason", "").unwrap(), "why");
        assert_eq!(agree(&given, REASON, "reason", "why").unwrap(), "why");
        assert_eq!(agree(&HeaderMap::new(), REASON, "reason", "x").unwrap(), "x");
        assert_eq!(
            agree(&given, REASON, "reason", "else").unwrap_err().problem().field,
            "reason"
        );
        assert!(dry_run(&headers(&[(DRY_RUN, "true")]), false).unwrap());
        assert!(dry_run(&headers(&[(DRY_RUN, "false")]), true).is_err());
        assert!(dry_run(&headers(&[(DRY_RUN, "maybe")]), true).is_err());
    }

    #[test]
    fn words_have_no_control_characters() {
        let none = HeaderMap::new();
        for good in ["", "why", "grün, 日本 \u{a0}", "a\"b\\n"] {
            assert_eq!(words(&none, REASON, "reason", good).unwrap(), good);
        }
        for code in (0..0x20).chain(0x7f..=0x9f) {
            let bad = format!("a{}b", char::from_u32(code).unwrap());
            let error = words(&none, TICKET, "ticket", &bad).unwrap_err();
            assert_eq!(
                (error.name(), error.problem().field.as_str()),
                ("invalid_argument", "ticket")
            );
            assert!(error.problem().detail.contains(&format!("U+{code:04X}")) && !error.problem().hint.is_empty());
        }
        // HTTP lets tabs and C1 characters (as UTF-8) through.
        for bad in ["a\tb", "a\u{9b}31mb"] {
            words(&headers(&[(REASON, bad)]), REASON, "reason", "").unwrap_err();
        }
    }

    #[test]
    fn timeouts_parse() {
        for (text, expected) in [
            ("1S", Some(1_000)),
            ("20m", Some(20)),
            ("99999999H", Some(99_999_999 * 3_600_000)),
            ("100000000m", None),
            ("m", None),
            ("", None),
            ("-1S", None),
            ("1ä", None),
        ] {
            assert_eq!(grpc_timeout(text).map(|d| d.as_millis() as u64), expected, "{text}");
        }
        for (text, expected) in [
            ("2s", Some(2_000)),
            ("500ms", Some(500)),
            ("5", None),
            ("1.5s", None),
            ("s", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis() as u64), expected, "{text}");
        }
    }

    #[test]
    fn etags_come_quoted_or_bare() {
        let one = |value: &str| etag(&headers(&[("if-match", value)]), "if-match").map(|e| e.map(str::to_owned));
        assert_eq!(one("\"a-1\"").unwrap().as_deref(), Some("a-1"));
        assert_eq!(one("a-1").unwrap().as_deref(), Some("a-1"));
        assert_eq!(one("*").unwrap().as_deref(), Some("*"));
        for bad in ["\"a\", \"b\"", "\"*\"", "W/\"a\"", "\"a", "\"\"", ""] {
            assert!(one(bad).is_err(), "{bad}");
        }
        assert!(none_match(&headers(&[("if-none-match", "W/\"x\", \"a\"")]), "a"));
        assert!(!none_match(&headers(&[("if-none-match", "\"b\"")]), "a"));
    }

    #[test]
    fn request_ids_are_taken_when_harmless() {
        assert_eq!(request_id(&headers(&[(REQUEST_ID, "a-1")])), Some("a-1"));
        assert_eq!(request_id(&headers(&[(REQUEST_ID, "a b")])), None);
        assert_eq!(request_id(&headers(&[(REQUEST_ID, &"a".repeat(65))])), None);
    }
}
