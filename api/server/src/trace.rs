//! Traces: a request's span takes up the trace that its caller is in (W3C Trace Context), and hands it on.
//!
//! Where no traces are collected all of this does nothing, and a caller's headers are carried on as they came.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, Status, TraceContextExt as _, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// <https://www.w3.org/TR/trace-context/#traceparent-header>
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What further vendors add to it. Not taken into account, and dropped where this node puts itself between.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The span of a request, as a child of what its caller names.
pub(crate) fn request(headers: &HeaderMap, request_id: &str, api: &'static str, transport: &'static str) -> Span {
    let span = tracing::error_span!(
        target: raft::traces::TARGET,
        "request",
        otel.kind = "server",
        request_id,
        api,
        transport,
    );
    if !span.is_disabled()
        && let Some(parent) = headers.get(TRACEPARENT).and_then(parse)
    {
        let context = Context::new().with_remote_span_context(parent);
        // Refused only for a span that was begun already, which this one was not.
        span.set_parent(context).ok();
    }
    span
}

/// What became of it.
pub(crate) fn answered(span: &Span, action: &'static str, code: &str, failed: bool) {
    if span.is_disabled() {
        return;
    }
    let context = span.context();
    let span = context.span();
    span.update_name(action);
    span.set_attribute(KeyValue::new("code", code.to_owned()));
    if failed {
        span.set_status(Status::error(code.to_owned()));
    }
}

/// Hands the current trace on to who is asked next.
pub(crate) fn hand_on(headers: &mut HeaderMap) {
    let context = Span::current().context();
    let current = context.span().span_context().clone();
    if let Some(value) = header(&current) {
        headers.insert(TRACEPARENT, value);
        headers.remove(TRACESTATE);
    }
}

fn header(of: &SpanContext) -> Option<HeaderValue> {
    let text = format!("00-{}-{}-{:02x}", of.trace_id(), of.span_id(), of.trace_flags().to_u8());
    HeaderValue::try_from(text).ok().filter(|_| of.is_valid())
}

/// Reads `version-trace-span-flags`. None for what is not that: it is ignored, as the specification asks.
fn parse(value: &HeaderValue) -> Option<SpanContext> {
    let text = value.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, digits| {
        part.len() == digits && part.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    // Later versions may add parts, this one may not; `ff` is no version.
    let whole = version != "00" || parts.next().is_none();
    if !(hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && whole) {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(flags) & TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_is_handed_on() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = parse(&HeaderValue::from_static(given)).unwrap();
        assert!(context.is_remote() && context.is_sampled());
        assert_eq!(header(&context).unwrap(), given);
        // A later version is read as far as it is known.
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more";
        assert_eq!(
            header(&parse(&HeaderValue::from_static(later)).unwrap()).unwrap(),
            given
        );
    }

    #[test]
    fn what_is_no_trace_is_ignored() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
        ] {
            assert!(parse(&HeaderValue::from_static(text)).is_none(), "{text}");
        }
    }
}
