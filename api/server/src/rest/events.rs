//! Streams of messages as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use bytes::Bytes;
use http::{HeaderValue, header, request::Parts as Head};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use proto::{codes::Code, json};

use super::wire_json;
use crate::Error;

/// What an event stream is.
pub(crate) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// How long a client waits before it connects again, at the beginning of a stream.
pub(crate) const RETRY: &str = "retry: 1000\n";

/// A message as an event: named after the member of its oneof that is set, with its `token` as id.
pub(crate) fn event(of: &MessageDescriptor, message: Bytes) -> Bytes {
    match write(of, message) {
        Ok(event) => event,
        // Nothing that this program encodes: the client sees that something is missing.
        Err(detail) => error(&Error::internal(detail), ""),
    }
}

/// As much of a message as it takes to name the event: all watches have their token in field 10.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "10")]
    token: String,
}

fn write(of: &MessageDescriptor, wire: Bytes) -> Result<Bytes, String> {
    // The text is about twice as long as the bytes.
    let mut out = Vec::with_capacity(3 * wire.len() + 256);
    let head = of.get_field_by_name("token").filter(|token| token.number() == 10);
    if head.is_some()
        && let Ok(Named { token }) = Named::decode(wire.clone())
        && let Some(member) = member(of, &wire)
    {
        head_of(&member, &token, &mut out);
        if wire_json::write(of, &wire, &mut out).is_some() {
            out.extend_from_slice(b"\n\n");
            return Ok(out.into());
        }
        out.clear();
    }
    let message = DynamicMessage::decode(of.clone(), wire).map_err(|error| error.to_string())?;
    let member = of
        .oneofs()
        .flat_map(|oneof| oneof.fields().collect::<Vec<_>>())
        .find(|field| message.has_field(field))
        .ok_or("a message without content")?;
    let token = message.get_field_by_name("token");
    let token = token.as_ref().and_then(|token| token.as_str()).unwrap_or_default();
    head_of(member.json_name(), token, &mut out);
    json::write(&message, &mut out).map_err(|error| error.to_string())?;
    out.extend_from_slice(b"\n\n");
    Ok(out.into())
}

/// The name of the member of its oneof that a message begins with, as all do that this program encodes.
fn member(of: &MessageDescriptor, mut wire: &[u8]) -> Option<String> {
    let (number, _) = prost::encoding::decode_key(&mut wire).ok()?;
    let field = of.get_field(number)?;
    field.containing_oneof()?;
    Some(field.json_name().to_owned())
}

/// Name and token; the data is one line, since JSON escapes line breaks.
fn head_of(member: &str, token: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(member.as_bytes());
    if !token.is_empty() {
        out.extend_from_slice(b"\nid: ");
        out.extend_from_slice(token.as_bytes());
    }
    out.extend_from_slice(b"\ndata: ");
}

/// How a stream says why it ends.
pub(crate) fn error(error: &Error, request_id: &str) -> Bytes {
    let token = &error.problem().token;
    let id = if token.is_empty() {
        String::new()
    } else {
        format!("id: {token}\n")
    };
    Bytes::from(format!("event: error\n{id}data: {}\n\n", error.document(request_id)))
}

/// Refuses to send events to who says that they take something else.
///
/// # Errors
/// `not_acceptable`.
pub(crate) fn check_accepts_events(head: &Head) -> Result<(), Error> {
    let mut ranges = head
        .headers
        .get_all(header::ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .peekable();
    if ranges.peek().is_none() || ranges.any(takes_events) {
        return Ok(());
    }
    Err(Error::new(
        Code::NotAcceptable,
        "this is a stream of events, and `Accept` leaves them out",
    )
    .hint("send `Accept: text/event-stream`, or no such header"))
}

fn takes_events(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let fits = ["text/event-stream", "text/*", "*/*"]
        .iter()
        .any(|fit| kind.eq_ignore_ascii_case(fit));
    let refused = parts.any(|parameter| {
        let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
        weight.is_some_and(|weight| {
            weight
                .trim_start_matches('0')
                .trim_start_matches('.')
                .trim_matches('0')
                .is_empty()
        })
    });
    fits && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_has_to_leave_events_in() {
        let check = |value: Option<&str>| {
            let mut request = http::Request::builder();
            if let Some(value) = value {
                request = request.header(header::ACCEPT, value);
            }
            check_accepts_events(&request.body(()).unwrap().into_parts().0).is_ok()
        };
        for good in [
            None,
            Some("text/event-stream"),
            Some("*/*"),
            Some("application/json, text/*;q=0.1"),
            Some("application/json, Text/Event-Stream"),
        ] {
            assert!(check(good), "{good:?}");
        }
        for bad in ["application/json", "text/event-stream;q=0", "*/*;q=0.000", "text/html"] {
            assert!(!check(Some(bad)), "{bad}");
        }
    }

    #[test]
    fn a_message_is_one_event() {
        let message = proto::v1::WatchMessage {
            message: Some(proto::v1::watch_message::Message::Progress(Default::default())),
            token: "abc".into(),
            revision: 7,
        };
        let bytes = Bytes::from(prost::Message::encode_to_vec(&message));
        let event = event(&proto::descriptor::<proto::v1::WatchMessage>(), bytes);
        assert_eq!(
            event,
            "event: progress\nid: abc\ndata: {\"progress\":{},\"token\":\"abc\",\"revision\":7}\n\n"
        );
    }
}
