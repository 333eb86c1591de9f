//! `MESH_OTLP_ENDPOINT`: a command as the root of a trace that goes on through the nodes, sent to an OpenTelemetry collector
//! over OTLP. Without the variable nothing is made and nothing is sent.

use std::time::{Duration, SystemTime};

use opentelemetry::{
    KeyValue,
    trace::{Span as _, SpanContext, SpanKind, Status, Tracer as _, TracerProvider as _},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SdkTracerProvider, Span},
};

/// The collector, such as `http://127.0.0.1:4317`.
pub const ENDPOINT: &str = "MESH_OTLP_ENDPOINT";
/// How long a command waits for its span to be taken once it is done.
const SEND_WITHIN: Duration = Duration::from_secs(2);

/// The trace of one command.
pub struct Trace {
    provider: SdkTracerProvider,
    span: Span,
}

impl Trace {
    /// Begins one for a command such as `mesh peers drain`. To be called within the runtime.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn begin(endpoint: &str, command: String) -> Result<Self, String> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(SEND_WITHIN)
            .build()
            .map_err(|error| format!("{ENDPOINT}: {error}"))?;
        let resource = Resource::builder_empty()
            .with_service_name("mesh")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("mesh");
        let begun = tracer.span_builder(command).with_kind(SpanKind::Client);
        let span = tracer.build(begun.with_start_time(SystemTime::now()));
        Ok(Self { provider, span })
    }

    /// What requests carry of it: the header `traceparent` of W3C Trace Context.
    pub fn traceparent(&self) -> String {
        let of: &SpanContext = self.span.span_context();
        format!("00-{}-{}-{:02x}", of.trace_id(), of.span_id(), of.trace_flags().to_u8())
    }

    /// Ends it with the command's exit code, and sends it from a thread that may wait. False where it was not taken.
    pub async fn end(mut self, exit: u8) -> bool {
        self.span.set_attribute(KeyValue::new("exit_code", i64::from(exit)));
        if exit != 0 {
            self.span.set_status(Status::error(""));
        }
        self.span.end();
        let provider = self.provider;
        let sent = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SEND_WITHIN).is_ok());
        sent.await.unwrap_or(false)
    }
}
