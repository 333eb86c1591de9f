//! How long a caller waits: by its own word, within ours.

use std::time::Duration;

use http::request::Parts as Head;
use proto::{codes::Code, methods::Method};
use tokio::time::Instant;

use crate::{Error, config::Deadlines, headers};

/// The longest that a stream goes on. Who does not take what it brings is cut off much sooner.
const STREAM_MAX: Duration = Duration::from_secs(24 * 3600);

/// When a stream is over at the latest, by the caller's own word or ours; none for an answer that is no stream.
pub(crate) fn of_stream(head: &Head, method: &Method) -> Result<Option<Instant>, Error> {
    if !method.form.is_stream() {
        return Ok(None);
    }
    let within = headers::timeout(&head.headers)?.unwrap_or(STREAM_MAX).min(STREAM_MAX);
    Ok(Some(Instant::now() + within))
}

/// When the caller stops waiting: by its own word, or ours.
pub(crate) fn of_request(deadlines: &Deadlines, head: &Head, method: Option<&Method>) -> Result<Instant, Error> {
    let most = Duration::from_millis(deadlines.request_max_ms);
    let asked = headers::timeout(&head.headers)?;
    let usual = match method {
        Some(method) if method.name != "GetOperation" => Duration::from_millis(deadlines.request_default_ms),
        // Long polls and streams state their own end.
        _ => most,
    };
    let within = asked.unwrap_or(usual).min(most);
    if within.is_zero() {
        Err(late())
    } else {
        Ok(Instant::now() + within)
    }
}

/// The deadline has passed, and what was asked for may have been done or not.
pub(crate) fn late() -> Error {
    Error::new(Code::DeadlineExceeded, "the request was not answered by its deadline")
        .hint("a mutation may have taken effect all the same: a retry with the same Idempotency-Key is safe")
}
