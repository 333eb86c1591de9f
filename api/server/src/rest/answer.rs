//! RPC answers to HTTP responses.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts as Head};
use http_body_util::BodyExt;
use prost_reflect::DynamicMessage;
use proto::{
    json,
    methods::{HttpVerb, Method},
};
use tonic::{Status, body::Body};

use crate::{Error, body::full, grpc, headers};

/// What of a request its answer depends on.
pub(crate) struct Asked {
    if_none_match: HeaderMap,
}

impl Asked {
    pub(crate) fn of(head: &Head) -> Self {
        let mut if_none_match = HeaderMap::new();
        for value in head.headers.get_all(header::IF_NONE_MATCH) {
            if_none_match.append(header::IF_NONE_MATCH, value.clone());
        }
        Self { if_none_match }
    }
}

/// The HTTP response that an RPC's answer is.
///
/// # Errors
/// The refusal that the RPC answered with.
pub(crate) async fn answer(method: &Method, response: Response<Body>, asked: &Asked) -> Result<Response<Body>, Error> {
    let (head, body) = response.into_parts();
    check(&head.headers)?;
    let collected = body.collect().await.map_err(|status| Error::from_status(&status))?;
    if let Some(trailers) = collected.trailers() {
        check(trailers)?;
    }
    let message =
        grpc::unframe(collected.to_bytes()).ok_or_else(|| Error::internal("an answer without its message"))?;
    let message = DynamicMessage::decode(method.output.clone(), message)
        .map_err(|error| Error::internal(format!("an answer that does not decode: {error}")))?;
    let etag = message.get_field_by_name("etag");
    let etag = etag
        .as_deref()
        .and_then(|etag| etag.as_str())
        .filter(|etag| !etag.is_empty());
    let unchanged =
        method.http.verb == HttpVerb::Get && etag.is_some_and(|etag| headers::none_match(&asked.if_none_match, etag));
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut text = Vec::with_capacity(512);
        json::write(&message, &mut text).map_err(|error| Error::internal(error.to_string()))?;
        let mut response = Response::new(full(text));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let out = response.headers_mut();
    if let Some(etag) = etag
        && let Ok(quoted) = HeaderValue::try_from(format!("\"{etag}\""))
    {
        out.insert(header::ETAG, quoted);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    for (name, value) in &head.headers {
        if is_ours(name) {
            out.insert(name.clone(), value.clone());
        }
    }
    Ok(response)
}

/// Whether metadata of an answer is a header of the contract.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("mesh-")
}

pub(super) fn check(headers: &HeaderMap) -> Result<(), Error> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != tonic::Code::Ok => Err(Error::from_status(&status)),
        _ => Ok(()),
    }
}
