//! What is counted of the API. Labels are bounded: methods, codes and transports are fixed sets.

use std::{any::Any, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::Error;

/// The registry that all parts of a node share; `/metrics` shows it.
pub type Shared = Arc<Mutex<Registry>>;

/// Labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `peers.drain`; `none` where the request reached no method.
    pub action: &'static str,
    /// `grpc` or `rest`.
    pub api: &'static str,
    /// `h3`, `h2` or `h1`.
    pub transport: &'static str,
    /// `ok` or the error code; every rule counts as `rule`.
    pub code: &'static str,
}

/// Labels of a duration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DurationLabels {
    /// `peers.drain`
    pub action: &'static str,
    /// `h3`, `h2` or `h1`.
    pub transport: &'static str,
}

/// Labels of a connection that was refused or cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CutLabels {
    /// `limit`, `address`, `idle`, `stalled`, `error`, `faults` where too many requests were spoilt or broken off before
    /// they were whole, or `withdrawn` where the authority of the client's certificate was dropped.
    pub reason: &'static str,
}

/// Labels of a request whose client would rather have spoken HTTP/3.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DowngradeLabels {
    /// Why it did not, as it says: one of [`crate::headers::DOWNGRADES`], or `other`.
    pub reason: &'static str,
}

/// Labels of a peer's heartbeat that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HeartbeatLabels {
    /// `renewed`, or `none` where the peer may not serve.
    pub lease: &'static str,
}

/// Labels of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackupLabels {
    /// `whole`, `failed`, or `left` where the caller did.
    pub end: &'static str,
}

/// Labels of a page of shards.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PageLabels {
    /// `anew`; `kept`, sent as it was made for somebody before; or `items` where only those were.
    pub made: &'static str,
}

/// Labels of watches that are open.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WatchLabels {
    /// `peers.watch`
    pub action: &'static str,
    /// `grpc` or `sse`.
    pub api: &'static str,
    /// `h3`, `h2` or `h1`.
    pub transport: &'static str,
}

/// Labels of what watches were told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WatchMessageLabels {
    /// `peers.watch`
    pub action: &'static str,
}

impl From<WatchLabels> for WatchMessageLabels {
    fn from(labels: WatchLabels) -> Self {
        Self { action: labels.action }
    }
}

/// Labels of a watch that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WatchEndLabels {
    /// The error code, or `left` where the caller did.
    pub end: &'static str,
}

/// Labels of a shard's move that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MoveLabels {
    /// `moved`, `cancelled` or `timed_out`.
    pub end: &'static str,
}

/// Everything that the API server counts.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) cut: Family<CutLabels, Counter>,
    pub(crate) downgrades: Family<DowngradeLabels, Counter>,
    pub(crate) forwarded: Counter,
    pub(crate) forged: Counter,
    pub(crate) replayed: Counter,
    pub(crate) panics: Panics,
    /// Backups that ended, by `whole` or not.
    pub(crate) backups: Family<BackupLabels, Counter>,
    pub(crate) backup_bytes: Counter,
    pub(crate) shard_pages: Family<PageLabels, Counter>,
    pub(crate) heartbeats: Family<HeartbeatLabels, Counter>,
    pub(crate) watches: Family<WatchLabels, Gauge>,
    pub(crate) watch_messages: Family<WatchMessageLabels, Counter>,
    pub(crate) watch_ends: Family<WatchEndLabels, Counter>,
    pub(crate) watch_lag: Gauge,
    /// Moves of shards that ended, as this node saw it.
    pub(crate) moves: Family<MoveLabels, Counter>,
}

/// One more in a gauge, until it is dropped.
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Panics that were caught: each cost one request its answer.
#[derive(Clone)]
pub(crate) struct Panics(Counter);

impl Panics {
    pub(crate) fn new(counter: Counter) -> Self {
        Self(counter)
    }

    /// Counts and logs a panic, and says what its request is answered.
    pub(crate) fn caught(&self, request_id: &str, panic: &(dyn Any + Send)) -> Error {
        self.0.inc();
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(request_id, panic = text.unwrap_or("not a text"), "a request panicked");
        Error::internal("this request met a defect of the node")
    }
}

impl Metrics {
    /// Registers everything that is counted of requests under `meshkit_api_`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            cut: Family::default(),
            downgrades: Family::default(),
            forwarded: Counter::default(),
            forged: Counter::default(),
            replayed: Counter::default(),
            panics: Panics::new(Counter::default()),
            backups: Family::default(),
            backup_bytes: Counter::default(),
            shard_pages: Family::default(),
            heartbeats: Family::default(),
            watches: Family::default(),
            watch_messages: Family::default(),
            watch_ends: Family::default(),
            watch_lag: Gauge::default(),
            moves: Family::default(),
        };
        registry.register(
            "meshkit_shard_moves",
            "Moves of shards that ended, as this node saw it",
            metrics.moves.clone(),
        );
        let registry = registry.sub_registry_with_prefix("meshkit_api");
        registry.register(
            "requests",
            "Requests by action, API, transport and code",
            metrics.requests.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "Time from the head of a request to the head of its answer",
            metrics.durations.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests under way, until the last byte of their answers is written",
            metrics.in_flight.clone(),
        );
        registry.register("connections", "Connections that are open", metrics.connections.clone());
        registry.register(
            "connections_cut",
            "Connections that were refused or cut, by reason",
            metrics.cut.clone(),
        );
        registry.register(
            "transport_downgrades",
            "Requests over TCP of clients that wanted HTTP/3 and fell back, by the reason that they give",
            metrics.downgrades.clone(),
        );
        registry.register(
            "forwarded",
            "Requests carried to the leader for their callers",
            metrics.forwarded.clone(),
        );
        registry.register(
            "forged_forwarding_headers",
            "Forwarding headers thrown away because their sender is no member node",
            metrics.forged.clone(),
        );
        registry.register(
            "replayed",
            "Retries answered from their first attempt",
            metrics.replayed.clone(),
        );
        registry.register(
            "panics",
            "Panics that were caught; each cost one request its answer, and its log line names the request",
            metrics.panics.0.clone(),
        );
        registry.register(
            "backups",
            "Backups that were begun, by how they ended",
            metrics.backups.clone(),
        );
        registry.register(
            "backup_bytes",
            "Bytes of backups that were handed to callers",
            metrics.backup_bytes.clone(),
        );
        registry.register(
            "shard_pages",
            "Pages of shards, by what of them was kept from one before",
            metrics.shard_pages.clone(),
        );
        registry.register(
            "heartbeats",
            "Heartbeats of peers that were answered, by whether their lease was renewed",
            metrics.heartbeats.clone(),
        );
        metrics.register_watches(registry);
        metrics
    }

    fn register_watches(&self, registry: &mut Registry) {
        registry.register(
            "watches",
            "Watches that are open, by action, API and transport",
            self.watches.clone(),
        );
        registry.register(
            "watch_messages",
            "Messages about revisions that were handed to watches, by action",
            self.watch_messages.clone(),
        );
        registry.register(
            "watch_ends",
            "Watches that ended, by error code, or left where the caller did",
            self.watch_ends.clone(),
        );
        registry.register(
            "watch_lag_revisions",
            "How many revisions the slowest watch is behind this node",
            self.watch_lag.clone(),
        );
    }

    pub(crate) fn request(&self, labels: RequestLabels, took: Duration) {
        let duration = DurationLabels {
            action: labels.action,
            transport: labels.transport,
        };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&duration).observe(took.as_secs_f64());
    }
}

fn histogram() -> Histogram {
    // 100 µs to 26 s.
    Histogram::new(exponential_buckets(0.0001, 2.0, 19))
}

/// The registry in Prometheus' text form.
///
/// # Errors
/// A collector failed to write.
pub fn render(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut open_metrics = String::with_capacity(16 * 1024);
    text::encode(&mut open_metrics, registry)?;
    // The library writes OpenMetrics, whose counters are declared without the suffix that their samples have.
    // Prometheus' older form, which every scraper reads, declares the name that the samples have.
    let mut plain = String::with_capacity(open_metrics.len());
    let mut counter = "";
    let lines: Vec<&str> = open_metrics.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let help = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '));
        if let Some((name, text)) = help {
            let next = lines.get(at + 1).copied().unwrap_or_default();
            counter = if next == format!("# TYPE {name} counter") {
                name
            } else {
                ""
            };
            let suffix = if counter.is_empty() { "" } else { "_total" };
            plain.push_str(&format!("# HELP {name}{suffix} {text}\n"));
        } else if !counter.is_empty() && *line == format!("# TYPE {counter} counter") {
            plain.push_str(&format!("# TYPE {counter}_total counter\n"));
        } else if *line != "# EOF" {
            plain.push_str(line);
            plain.push('\n');
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_declared_as_they_are_sampled() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let labels = RequestLabels {
            action: "peers.get",
            api: "rest",
            transport: "h2",
            code: "ok",
        };
        metrics.request(labels, Duration::from_millis(3));
        let text = render(&registry).unwrap();
        assert!(text.contains("# TYPE meshkit_api_requests_total counter\n"), "{text}");
        assert!(text.contains("# HELP meshkit_api_requests_total Requests by"), "{text}");
        let sample = r#"meshkit_api_requests_total{action="peers.get",api="rest",transport="h2",code="ok"} 1"#;
        assert!(text.contains(sample), "{text}");
        assert!(text.contains("# TYPE meshkit_api_connections gauge\n"), "{text}");
        assert!(text.contains("meshkit_api_request_duration_seconds_count"), "{text}");
        assert!(!text.contains("# EOF"));
    }
}
