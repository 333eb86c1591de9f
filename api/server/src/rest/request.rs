//! HTTP requests to RPC messages.

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header, request::Parts as Head};
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, Value};
use proto::{
    codes::Code,
    json::{self, Object},
    methods::Method,
};

use crate::{Error, body::RequestBody, framing, route::decode};

/// The most parameters of a query.
const PARAMETERS_MAX: usize = 64;

/// `method_not_allowed`, naming what is.
pub(crate) fn other_verb(allowed: &[&str]) -> Error {
    let allowed = allowed.join(", ");
    Error::new(Code::MethodNotAllowed, format!("this path takes {allowed}"))
        .with(|problem| problem.limit = allowed)
        .hint("use one of the allowed HTTP methods")
}

/// Refuses a body that is not JSON before it is read.
///
/// # Errors
/// `unsupported_media_type`.
pub(crate) fn check_content_type(method: &Method, head: &Head) -> Result<(), Error> {
    let wrong = |detail: String| {
        Err(Error::new(Code::UnsupportedMediaType, detail).hint("send `Content-Type: application/json`"))
    };
    if head.headers.contains_key(header::CONTENT_ENCODING) {
        return wrong("compressed bodies are not read".to_owned());
    }
    let Some(value) = head.headers.get(header::CONTENT_TYPE) else {
        let empty = head
            .headers
            .get(header::CONTENT_LENGTH)
            .is_none_or(|length| length == "0")
            && !head.headers.contains_key(header::TRANSFER_ENCODING);
        // A verb without a body needs no type, and nor does a stream that may turn out to be empty.
        return if empty || !method.http.body {
            Ok(())
        } else {
            wrong("the body has no content type".to_owned())
        };
    };
    let text = value.to_str().unwrap_or_default();
    let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
    let parameters = parameters.trim().to_ascii_lowercase();
    let utf8 = parameters.is_empty() || matches!(parameters.as_str(), "charset=utf-8" | "charset=\"utf-8\"");
    if kind.trim().eq_ignore_ascii_case("application/json") && utf8 {
        return Ok(());
    }
    let shown: String = text.chars().take(80).flat_map(char::escape_default).collect();
    wrong(format!("`{shown}` is not understood here"))
}

/// The RPC's message, encoded: fields from the path, the query and the body.
///
/// # Errors
/// `invalid_argument`, naming the field.
pub(crate) fn request_message(
    method: &Method,
    variables: &[(&'static str, String)],
    query: Option<&str>,
    body: &Bytes,
) -> Result<Vec<u8>, Error> {
    let mut message = match method.http.body {
        true if body.is_empty() => DynamicMessage::new(method.input.clone()),
        true => Object::parse(body)
            .and_then(|object| object.into_message(&method.input))
            .map_err(invalid)?,
        false if body.is_empty() => DynamicMessage::new(method.input.clone()),
        false => {
            return Err(Error::invalid(
                "",
                "this path takes no body; its fields come in the query",
            ));
        }
    };
    match query.filter(|query| !query.is_empty()) {
        Some(_) if method.http.body => {
            return Err(Error::invalid(
                "",
                "this path takes no query; its fields come in the body",
            ));
        }
        Some(query) => read_query(&mut message, &method.input, query)?,
        None => {}
    }
    for (name, text) in variables {
        let field = method
            .input
            .get_field_by_name(name)
            .ok_or_else(|| Error::internal("a path without its field"))?;
        let value = json::scalar(&field.kind(), text).map_err(|error| invalid_in(&field, error))?;
        if message.has_field(&field) && *message.get_field(&field) != value {
            return Err(Error::invalid(
                field.json_name(),
                "the path and the body or query disagree",
            ));
        }
        message.set_field(&field, value);
    }
    Ok(message.encode_to_vec())
}

fn read_query(message: &mut DynamicMessage, descriptor: &MessageDescriptor, query: &str) -> Result<(), Error> {
    for (count, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        if count >= PARAMETERS_MAX {
            return Err(Error::invalid(
                "",
                format!("a query has at most {PARAMETERS_MAX} parameters"),
            ));
        }
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let malformed = || Error::invalid("", "the query is not percent-encoded UTF-8");
        let (name, text) = (
            decode(name, true).ok_or_else(malformed)?,
            decode(text, true).ok_or_else(malformed)?,
        );
        let field = descriptor
            .get_field_by_json_name(&name)
            .or_else(|| descriptor.get_field_by_name(&name));
        let shown: String = name.chars().take(60).flat_map(char::escape_default).collect();
        let field = field.ok_or_else(|| Error::invalid(&shown, format!("there is no parameter `{shown}` here")))?;
        let value = json::scalar(&field.kind(), &text).map_err(|error| invalid_in(&field, error))?;
        if field.is_list() {
            if let Value::List(values) = message.get_field_mut(&field) {
                values.push(value);
            }
        } else if message.has_field(&field) {
            return Err(Error::invalid(field.json_name(), "the parameter is there twice"));
        } else {
            message.set_field(&field, value);
        }
    }
    Ok(())
}

fn invalid(error: json::Error) -> Error {
    let text = error.to_string();
    Error::invalid(&error.field, text)
}

fn invalid_in(field: &FieldDescriptor, error: json::Error) -> Error {
    Error::invalid(
        field.json_name(),
        format!("field `{}`: {}", field.json_name(), error.detail),
    )
}

/// The in-process gRPC request: the caller's headers, which repeat as metadata, and the message.
///
/// # Errors
/// The message is larger than gRPC can say.
pub(crate) fn grpc_request(method: &'static Method, head: Head, message: &[u8]) -> Result<Request<RequestBody>, Error> {
    let framed = framing::frame(&[message]).ok_or_else(|| crate::body::too_large(u32::MAX as usize))?;
    let mut request = Request::new(RequestBody::memory(framed));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = Uri::from_static(method.path.as_str());
    let mut headers = head.headers;
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::AUTHORIZATION,
        header::CONNECTION,
    ] {
        headers.remove(name);
    }
    // What only gRPC callers can mean: read by the gRPC library, and not to be set from outside here.
    for name in ["grpc-encoding", "grpc-accept-encoding", "grpc-timeout"] {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    *request.headers_mut() = headers;
    Ok(request)
}

/// The kind of record that a method works on, as in `peer/p1`.
pub(crate) fn kind_of(method: &Method) -> Option<&'static str> {
    match method.service.as_str() {
        "PeerService" => Some("peer"),
        "OperationService" => Some("operation"),
        "ApprovalService" => Some("approval"),
        "NamespaceService" => Some("namespace"),
        "ShardService" => Some("shard"),
        _ => None,
    }
}

/// The `id` of an encoded request; of one about a shard, namespace and number.
pub(crate) fn id_in(method: &Method, message: Bytes) -> Option<String> {
    let message = DynamicMessage::decode(method.input.clone(), message).ok()?;
    if let (Some(namespace), Some(shard)) = (
        message.get_field_by_name("namespace"),
        message.get_field_by_name("shard"),
    ) {
        return Some(format!("{}/{}", namespace.as_str()?, shard.as_u32()?));
    }
    message.get_field_by_name("id")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{methods, v1};

    fn read<M: Message + Default>(
        action: &str,
        variables: &[(&'static str, &str)],
        query: &str,
        body: &str,
    ) -> Result<M, Error> {
        let method = methods::by_action(action).unwrap();
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let query = (!query.is_empty()).then_some(query);
        request_message(method, &variables, query, &Bytes::copy_from_slice(body.as_bytes()))
            .map(|bytes| M::decode(bytes.as_slice()).unwrap())
    }

    #[test]
    fn path_query_and_body_make_the_message() {
        let list: v1::ListPeersRequest = read(
            "peers.list",
            &[],
            "limit=5&status=drained&selector=zone%3Da,tier%21=x&cluster=",
            "",
        )
        .unwrap();
        assert_eq!((list.limit, list.status()), (5, v1::peer::Status::Drained));
        assert_eq!(list.selector, "zone=a,tier!=x");
        let drain: v1::DrainPeerRequest =
            read("peers.drain", &[("id", "p1")], "", r#"{"reason":"why","dryRun":true}"#).unwrap();
        assert_eq!(
            (drain.id.as_str(), drain.reason.as_str(), drain.dry_run),
            ("p1", "why", true)
        );
        let bare: v1::DrainPeerRequest = read("peers.drain", &[("id", "p1")], "", "").unwrap();
        assert_eq!(bare.id, "p1");
        let same: v1::DrainPeerRequest = read("peers.drain", &[("id", "p1")], "", r#"{"id":"p1"}"#).unwrap();
        assert_eq!(same.id, "p1");
        let gone: v1::DeregisterPeerRequest =
            read("peers.deregister", &[("id", "p1")], "reason=a+b&dryRun=true", "").unwrap();
        assert_eq!((gone.reason.as_str(), gone.dry_run), ("a b", true));
        let wait: v1::GetOperationRequest =
            read("operations.get", &[("id", "op-1")], "waitVersion=3&timeout=1.5s", "").unwrap();
        assert_eq!(wait.wait_version, Some(3));
        let member: v1::RemoveMemberRequest = read("members.remove", &[("id", "3")], "", "").unwrap();
        assert_eq!(member.id, 3);
    }

    #[test]
    fn refusals_name_the_field() {
        let field = |action: &str, variables: &[(&'static str, &str)], query: &str, body: &str| {
            let error = read::<v1::ListPeersRequest>(action, variables, query, body)
                .map(drop)
                .unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            error.problem().field.clone()
        };
        assert_eq!(field("peers.list", &[], "colour=red", ""), "colour");
        assert_eq!(field("peers.list", &[], "limit=many", ""), "limit");
        assert_eq!(field("peers.list", &[], "limit=1&limit=2", ""), "limit");
        assert_eq!(field("peers.list", &[], "status=gone", ""), "status");
        assert_eq!(field("peers.list", &[], "", "{}"), "");
        assert_eq!(field("peers.list", &[], "a=%zz", ""), "");
        assert_eq!(field("peers.list", &[], &"limit=&".repeat(100), ""), "limit");
        assert_eq!(field("peers.drain", &[("id", "p1")], "", r#"{"id":"p2"}"#), "id");
        assert_eq!(field("peers.drain", &[("id", "p1")], "reason=x", ""), "");
        assert_eq!(field("peers.drain", &[("id", "p1")], "", "[]"), "");
        assert_eq!(field("peers.drain", &[("id", "p1")], "", r#"{"raison":"x"}"#), "raison");
        assert_eq!(field("members.remove", &[("id", "three")], "", ""), "id");
    }

    #[test]
    fn only_json_is_read() {
        let method = methods::by_action("peers.register").unwrap();
        let check = |pairs: &[(&str, &str)]| {
            let mut request = Request::new(());
            for (name, value) in pairs {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            check_content_type(method, &request.into_parts().0).map_err(|error| error.code())
        };
        for good in ["application/json", "Application/JSON; charset=UTF-8"] {
            check(&[("content-type", good), ("content-length", "2")]).unwrap();
        }
        check(&[]).unwrap();
        check(&[("content-length", "0")]).unwrap();
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=latin1",
            "application/grpc+json",
        ] {
            assert_eq!(
                check(&[("content-type", bad)]),
                Err(Code::UnsupportedMediaType),
                "{bad}"
            );
        }
        assert_eq!(check(&[("content-length", "2")]), Err(Code::UnsupportedMediaType));
        let zipped = check(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
        assert_eq!(zipped, Err(Code::UnsupportedMediaType));
    }
}
