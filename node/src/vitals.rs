//! How this node and its cluster are, as metrics, read when somebody looks.

use std::fmt;
use std::sync::Arc;

use api_server::ports::NodeFacts;
use controllers::Seen;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use raft::Handle;

/// Reads what there is to show.
pub struct Vitals {
    /// Consensus, which knows the alarms that the cluster has agreed on.
    pub handle: Handle,
    /// What this node alone knows.
    pub facts: Arc<dyn NodeFacts>,
    /// What it saw of the members, while it leads.
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl fmt::Debug for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vitals").finish_non_exhaustive()
    }
}

impl Vitals {
    /// Shows them in a registry.
    pub fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }

    /// Every alarm that is up, as name and node.
    fn alarms(&self) -> Vec<(String, String)> {
        let view = self.handle.view();
        let agreed = view.state().cluster.alarms();
        let mut alarms: Vec<_> = agreed
            .map(|(node, kind, _)| (kind.word().to_owned(), node.to_string()))
            .collect();
        let own = self.handle.node().to_string();
        alarms.extend(self.facts.alarms().into_iter().map(|alarm| (alarm.name, own.clone())));
        alarms.sort();
        alarms.dedup();
        alarms
    }
}

impl Collector for Vitals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "1 for each alarm that is up, by name and node";
        let mut metric = encoder.encode_descriptor("meshkit_alarm", help, None, MetricType::Gauge)?;
        for (name, node) in self.alarms() {
            let labels = [("name", name), ("node", node)];
            ConstGauge::new(1_i64).encode(metric.encode_family(&labels)?)?;
        }
        if let Some(disk) = self.handle.health().disk() {
            for (name, help, value) in [
                (
                    "meshkit_disk_free_bytes",
                    "What is left on the disk of the data directory, the ballast not counted",
                    disk.free_bytes,
                ),
                (
                    "meshkit_disk_mark_bytes",
                    "Below this many free bytes the node takes no mutations",
                    disk.mark_bytes,
                ),
            ] {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
            }
        }
        let help = "How far a member's clock is ahead of the median of the voters' clocks; shown by the leader";
        let name = "meshkit_clock_offset_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for seen in self.seen.lock().iter() {
            // Years in milliseconds fit the 53 bits of a double.
            #[allow(clippy::cast_precision_loss)]
            let seconds = seen.offset_ms as f64 / 1_000.0;
            let labels = [("node", seen.node.to_string())];
            ConstGauge::new(seconds).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
