//! RPC answers to HTTP responses.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts as Head};
use http_body_util::BodyExt;
use prost_reflect::DynamicMessage;
use proto::{
    json,
    methods::{HttpVerb, Method},
};
use tonic::{Status, body::Body};

use super::wire_json;
use crate::{Error, body::full, framing, headers, made::Made, preview};

/// Says of an answer that it may differ although its ETag has not changed, so that it is sent in any case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renewed;

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
        framing::unframe(collected.to_bytes()).ok_or_else(|| Error::internal("an answer without its message"))?;
    let etag = etag(method, &head.headers, &message)?;
    let unchanged = method.http.verb == HttpVerb::Get
        && head.extensions.get::<Renewed>().is_none()
        && etag
            .as_ref()
            .is_some_and(|etag| headers::none_match(&asked.if_none_match, etag));
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let write = || {
            let mut text = document(method, &message)?;
            if let Some(preview::Whole(preview)) = head.extensions.get() {
                add_preview(&mut text, preview)?;
            }
            Ok(text)
        };
        let text = match head.extensions.get::<Arc<Made>>() {
            Some(made) => made.text(write)?,
            None => write()?.into(),
        };
        let mut response = Response::new(full(text));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let out = response.headers_mut();
    if let Some(etag) = &etag
        && let Ok(quoted) = HeaderValue::try_from(format!("\"{etag}\""))
    {
        out.insert(header::ETAG, quoted);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    for (name, value) in &head.headers {
        let sessions = name == header::SET_COOKIE || name == header::CACHE_CONTROL;
        // A preview is in the document.
        if (is_ours(name) || sessions) && name != preview::PREVIEW {
            out.insert(name.clone(), value.clone());
        }
    }
    Ok(response)
}

/// What a record or a page is known by. A page of a list has its ETag beside it, a record has it within as well.
fn etag(method: &Method, headers: &HeaderMap, message: &Bytes) -> Result<Option<String>, Error> {
    if let Some(etag) = headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()) {
        return Ok(Some(etag.to_owned()));
    }
    if method.output.get_field_by_name("etag").is_none() {
        return Ok(None);
    }
    let message = dynamic(method, message)?;
    let etag = message.get_field_by_name("etag");
    let etag = etag.as_deref().and_then(|etag| etag.as_str());
    Ok(etag.filter(|etag| !etag.is_empty()).map(str::to_owned))
}

/// The message as a JSON document.
fn document(method: &Method, message: &Bytes) -> Result<Vec<u8>, Error> {
    // The text is about twice as long as the bytes.
    let mut text = Vec::with_capacity(3 * message.len() + 512);
    if wire_json::write(&method.output, message, &mut text).is_some() {
        return Ok(text);
    }
    text.clear();
    json::write(&dynamic(method, message)?, &mut text).map_err(|error| Error::internal(error.to_string()))?;
    Ok(text)
}

fn dynamic(method: &Method, message: &Bytes) -> Result<DynamicMessage, Error> {
    DynamicMessage::decode(method.output.clone(), message.clone())
        .map_err(|error| Error::internal(format!("an answer that does not decode: {error}")))
}

/// Adds the member `preview` to a document that is an object with others.
fn add_preview(text: &mut Vec<u8>, preview: &proto::v1::Preview) -> Result<(), Error> {
    let preview = json::to_string(preview).map_err(|error| Error::internal(error.to_string()))?;
    if text.pop() != Some(b'}') {
        return Err(Error::internal("a record that is no object"));
    }
    text.extend_from_slice(b",\"preview\":");
    text.extend_from_slice(preview.as_bytes());
    text.push(b'}');
    Ok(())
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
