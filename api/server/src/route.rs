//! Which RPC a REST path and verb mean. The contract's own templates are matched: general routers cannot tell
//! `/meshkit/peers/{id}:drain` from `/meshkit/peers/{id}`.

use std::{borrow::Cow, collections::HashMap};

use http::Method as Verb;
use proto::methods::{HttpVerb, Method, Segment};

/// The prefix of canonical paths.
const CANONICAL: &str = "meshkit";
/// The older prefix, which serves the same.
const ALIAS: &str = "control";
/// The most segments that a path can have and still match.
const SEGMENTS_MAX: usize = 8;

/// Path templates by their number of segments.
pub(crate) struct Router {
    by_length: HashMap<usize, Vec<&'static Method>>,
}

/// What a path means.
#[derive(Debug)]
pub(crate) enum Routed<'a> {
    /// An RPC.
    Method(&'static Method, Vec<(&'static str, Cow<'a, str>)>),
    /// There is such a path, for these verbs.
    OtherVerb(Vec<&'static str>),
    /// There is no such path.
    Nothing,
}

impl Router {
    /// A router over the contract.
    pub(crate) fn new() -> Self {
        let mut by_length: HashMap<usize, Vec<&'static Method>> = HashMap::new();
        for method in proto::methods::all() {
            by_length
                .entry(method.http.template.segments.len())
                .or_default()
                .push(method);
        }
        Self { by_length }
    }

    /// What a verb and a path mean.
    pub(crate) fn route<'a>(&self, verb: &Verb, path: &'a str) -> Routed<'a> {
        let Some((segments, action)) = split(path) else {
            return Routed::Nothing;
        };
        let Some(candidates) = self.by_length.get(&segments.len()) else {
            return Routed::Nothing;
        };
        let mut allowed: Vec<&'static str> = Vec::new();
        for &method in candidates {
            if method.http.template.verb.as_deref() != action {
                continue;
            }
            let Some(variables) = matches(method, &segments) else {
                continue;
            };
            if *verb == method.http.verb.as_str() || (*verb == Verb::HEAD && method.http.verb == HttpVerb::Get) {
                return Routed::Method(method, variables);
            }
            allowed.push(method.http.verb.as_str());
        }
        if allowed.is_empty() {
            Routed::Nothing
        } else {
            Routed::OtherVerb(allowed)
        }
    }
}

/// The segments of a path, and what follows the last colon. None for a path that cannot match anything.
fn split(path: &str) -> Option<(Vec<&str>, Option<&str>)> {
    let path = path.strip_prefix('/')?;
    let (path, action) = match path.rsplit_once(':') {
        Some((path, action)) if !action.contains('/') => (path, Some(action)),
        _ => (path, None),
    };
    let mut segments: Vec<&str> = path.splitn(SEGMENTS_MAX + 1, '/').collect();
    match segments.first_mut() {
        Some(first) if *first == CANONICAL => {}
        Some(first) if *first == ALIAS => *first = CANONICAL,
        _ => return None,
    }
    Some((segments, action))
}

fn matches<'a>(method: &'static Method, segments: &[&'a str]) -> Option<Vec<(&'static str, Cow<'a, str>)>> {
    let mut variables = Vec::new();
    for (template, &segment) in method.http.template.segments.iter().zip(segments) {
        match template {
            Segment::Literal(literal) if literal == segment => {}
            Segment::Literal(_) => return None,
            Segment::Variable(_) if segment.is_empty() => return None,
            Segment::Variable(name) => variables.push((name.as_str(), decode(segment, false)?)),
        }
    }
    Some(variables)
}

/// Undoes percent-encoding; in a query also `+` for a space. None where it is malformed or not UTF-8.
pub(crate) fn decode(text: &str, query: bool) -> Option<Cow<'_, str>> {
    let plain = |byte: u8| byte != b'%' && !(query && byte == b'+');
    if text.bytes().all(plain) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if query => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(verb: Verb, path: &str) -> String {
        match Router::new().route(&verb, path) {
            Routed::Method(method, variables) => {
                let variables: Vec<_> = variables
                    .iter()
                    .map(|(name, value)| format!(" {name}={value}"))
                    .collect();
                format!("{}{}", method.name, variables.concat())
            }
            Routed::OtherVerb(verbs) => verbs.join(","),
            Routed::Nothing => "-".to_owned(),
        }
    }

    #[test]
    fn paths_mean_methods() {
        assert_eq!(name(Verb::GET, "/meshkit/peers"), "ListPeers");
        assert_eq!(name(Verb::POST, "/meshkit/peers"), "RegisterPeer");
        assert_eq!(name(Verb::GET, "/control/peers/p1"), "GetPeer id=p1");
        assert_eq!(name(Verb::HEAD, "/meshkit/peers/p1"), "GetPeer id=p1");
        assert_eq!(name(Verb::POST, "/meshkit/peers/p1:drain"), "DrainPeer id=p1");
        assert_eq!(name(Verb::POST, "/meshkit/peers/p%31:undrain"), "UndrainPeer id=p1");
        assert_eq!(
            name(Verb::POST, "/meshkit/operations/op-1:cancel"),
            "CancelOperation id=op-1"
        );
        assert_eq!(name(Verb::POST, "/meshkit/leader:transfer"), "TransferLeadership");
        assert_eq!(name(Verb::GET, "/meshkit/auth/can-i"), "CanI");
        assert_eq!(name(Verb::GET, "/meshkit/audit/checkpoints"), "ListAuditCheckpoints");
    }

    #[test]
    fn other_verbs_are_told_and_other_paths_are_not() {
        assert_eq!(name(Verb::PUT, "/meshkit/peers"), "GET,POST");
        assert_eq!(name(Verb::GET, "/meshkit/peers/p1:drain"), "POST");
        for nothing in [
            "/",
            "",
            "/meshkit",
            "/meshkit/",
            "/meshkit/peers/",
            "/meshkit/peers/p1/x",
            "/meshkit/peers/p1:explode",
            "/meshkit/peers/:drain",
            "/meshkit/peers/%zz",
            "/meshkit/peers/%ff",
            "/meshkit/peers/a:b/c",
            "/other/peers",
            "//meshkit/peers",
            "/meshkit/leader",
            &"/meshkit".repeat(1000),
        ] {
            assert_eq!(name(Verb::GET, nothing), "-", "{nothing}");
        }
    }

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(decode("a+b%20c", true).as_deref(), Some("a b c"));
        assert_eq!(decode("a+b%20c", false).as_deref(), Some("a+b c"));
        for bad in ["%", "%a", "%ag", "%ff"] {
            assert_eq!(decode(bad, true), None);
        }
    }
}
