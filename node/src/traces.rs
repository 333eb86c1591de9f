//! Traces, sent to an OpenTelemetry collector over OTLP.
//!
//! Spans are gathered in a bounded queue and sent by a thread of their own: a collector that is slow or away costs spans,
//! never a request.

use std::time::Duration;

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::config::Config;

/// Spans that wait to be sent; what comes beyond is dropped.
const QUEUE_MAX: usize = 4096;
/// How long what was gathered waits at the most, and how long sending it may take.
const SEND_EVERY: Duration = Duration::from_millis(500);
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// Sends traces until it is shut down. To be made within the runtime, whose network it uses.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// As the configuration asks; none where it names no collector.
    ///
    /// # Errors
    /// The collector's address cannot be used.
    pub fn start(config: &Config) -> Result<Option<Self>, String> {
        let Some(endpoint) = &config.telemetry.otlp_endpoint else {
            return Ok(None);
        };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(SEND_WITHIN)
            .build()
            .map_err(|error| format!("`telemetry.otlp_endpoint`: {error}"))?;
        let queue = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_scheduled_delay(SEND_EVERY)
            .build();
        // In thousandths, all of which a double holds well enough.
        #[allow(clippy::cast_precision_loss)]
        let share = config.telemetry.otlp_sampled_per_1000 as f64 / 1_000.0;
        let resource = Resource::builder_empty()
            .with_service_name("meshkit-node")
            .with_attributes([
                KeyValue::new("service.version", crate::VERSION),
                KeyValue::new("service.instance.id", config.node.id.to_string()),
                KeyValue::new("meshkit.cluster", config.mesh.cluster.clone()),
                KeyValue::new("meshkit.mesh", config.mesh.id.clone()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(queue).build())
            // A caller who is in a trace decides; of the others, a share.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
            .with_resource(resource)
            .build();
        Ok(Some(Self { provider }))
    }

    /// What turns spans of the target [`raft::traces::TARGET`] into those that are sent.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.provider.tracer("meshkit");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|of| of.target() == raft::traces::TARGET))
    }

    /// Sends what was gathered, and ends.
    pub fn stop(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(SEND_EVERY) {
            tracing::info!(%error, "the last spans were not sent");
        }
    }
}
