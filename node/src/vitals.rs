//! How this node and its cluster are, as metrics, read when somebody looks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use api_server::ports::NodeFacts;
use controllers::{Hearing, Seen};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use raft::{Handle, RefusalCode, View};
use statemachine::MeshState;
use statemachine::presence::{Census, MASS_SILENCE};
use statemachine::record::{Health, ShardStatus};

/// Reads what there is to show.
pub struct Vitals {
    /// Consensus, which knows the alarms that the cluster has agreed on.
    pub handle: Handle,
    /// What this node alone knows.
    pub facts: Arc<dyn NodeFacts>,
    /// What it saw of the members, while it leads.
    pub seen: Arc<Mutex<Vec<Seen>>>,
    /// What it hears of peers, while it leads.
    pub hearing: Hearing,
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

    /// Every alarm that is up, as name and node; node 0 for one that is about no node.
    fn alarms(&self, view: &View, census: &Census) -> Vec<(String, String)> {
        let agreed = view.state().cluster.alarms();
        let mut alarms: Vec<_> = agreed
            .map(|(node, kind, _)| (kind.word().to_owned(), node.to_string()))
            .collect();
        let own = self.handle.node().to_string();
        alarms.extend(self.facts.alarms().into_iter().map(|alarm| (alarm.name, own.clone())));
        alarms.extend(census.mass_silence.map(|_| (MASS_SILENCE.to_owned(), "0".to_owned())));
        alarms.sort();
        alarms.dedup();
        alarms
    }
}

impl Collector for Vitals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // All of one moment.
        let view = self.handle.view();
        let leads = self.handle.status().is_leader();
        let census = Census::of(&view.state().mesh).heard(leads, self.hearing.mass_silence());
        let help = "1 for each alarm that is up, by name and node";
        let mut metric = encoder.encode_descriptor("meshkit_alarm", help, None, MetricType::Gauge)?;
        for (name, node) in self.alarms(&view, &census) {
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
        consensus(&self.handle, &mut encoder)?;
        presence(&self.hearing, &mut encoder)?;
        mesh(&view.state().mesh, &census, &mut encoder)
    }
}

/// What this node's consensus is doing.
fn consensus(handle: &Handle, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let status = handle.status();
    let name = "meshkit_raft_role";
    let mut metric =
        encoder.encode_descriptor(name, "1 for what this node is to its cluster", None, MetricType::Gauge)?;
    let role = [("role", status.role.as_str())];
    ConstGauge::new(1_i64).encode(metric.encode_family(&role)?)?;
    gauge(encoder, "meshkit_raft_term", "The current term", status.term)?;
    let help = "Voters that answered the leader within an election timeout, itself included; 0 on others";
    gauge(
        encoder,
        "meshkit_raft_voters_reachable",
        help,
        status.quorum.reachable as u64,
    )?;
    gauge(
        encoder,
        "meshkit_raft_voters",
        "Members that vote",
        status.quorum.voters as u64,
    )?;
    let help = "Places in the log: last, committed, applied, durable in the state store, purged";
    let mut metric = encoder.encode_descriptor("meshkit_raft_log_index", help, None, MetricType::Gauge)?;
    for (at, index) in [
        ("last", status.last_log_index),
        ("committed", status.committed_index),
        ("applied", status.applied_index),
        ("durable", status.durable_index),
        ("purged", status.purged_index),
    ] {
        ConstGauge::new(signed(index.unwrap_or(0))).encode(metric.encode_family(&[("at", at)])?)?;
    }
    let help = "Entries that a member is behind the leader's log; shown by the leader";
    let mut metric = encoder.encode_descriptor("meshkit_raft_member_lag_entries", help, None, MetricType::Gauge)?;
    for member in &status.members {
        if let Some(lag) = member.lag_entries {
            let labels = [("node", member.node.to_string())];
            ConstGauge::new(signed(lag)).encode(metric.encode_family(&labels)?)?;
        }
    }
    let help = "Time since a member last answered; shown by the leader";
    let mut metric = encoder.encode_descriptor("meshkit_raft_member_silence_seconds", help, None, MetricType::Gauge)?;
    for member in &status.members {
        if let Some(contact) = member.last_contact {
            let labels = [("node", member.node.to_string())];
            ConstGauge::new(contact.as_secs_f64()).encode(metric.encode_family(&labels)?)?;
        }
    }
    let log = handle.log_counters();
    for (name, help, count) in [
        ("meshkit_raft_log_batches", "Batches written to the log", &log.batches),
        (
            "meshkit_raft_log_syncs",
            "Batches of the log that were synced",
            &log.syncs,
        ),
        ("meshkit_raft_log_entries", "Entries written to the log", &log.entries),
        (
            "meshkit_raft_log_bytes",
            "Bytes of entries written to the log",
            &log.bytes,
        ),
    ] {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(count.load(Ordering::Relaxed)).encode(metric)?;
    }
    let help = "Connections to the node-to-node port that were refused, by reason";
    let mut metric = encoder.encode_descriptor("meshkit_raft_refused_connections", help, None, MetricType::Counter)?;
    for code in RefusalCode::ALL {
        let count = ConstCounter::new(handle.refusals().get(code));
        count.encode(metric.encode_family(&[("reason", code.as_str())])?)?;
    }
    Ok(())
}

/// What this node makes of heartbeats while it leads.
fn presence(hearing: &Hearing, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help =
        "Peers that are silent while too many are for any to be declared dead, as the leader sees it; 0 otherwise";
    let silent = hearing.mass_silence().map_or(0, |silence| silence.silent);
    gauge(encoder, "meshkit_presence_mass_silence", help, silent)?;
    let help = "Peers that this node has had recorded as seen otherwise, by how they were seen then";
    let mut metric = encoder.encode_descriptor("meshkit_presence_transitions", help, None, MetricType::Counter)?;
    for (health, count) in hearing.transitions() {
        ConstCounter::new(count).encode(metric.encode_family(&[("to", health.word())])?)?;
    }
    Ok(())
}

/// What the mesh's state holds, as this node has it.
fn mesh(mesh: &MeshState, census: &Census, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let revision = mesh.position().revision.0;
    gauge(
        encoder,
        "meshkit_revision",
        "The last revision that this node has applied",
        revision,
    )?;
    let help = "The oldest revision whose history is kept";
    gauge(encoder, "meshkit_history_floor_revision", help, mesh.floor().0)?;
    gauge(encoder, "meshkit_epoch", "The mesh's fencing number", mesh.epoch().0)?;
    let signed_up_to = mesh.last_checkpoint().map_or(0, |last| last.revision.0);
    let help = "The last revision of the audit trail that a checkpoint has signed";
    gauge(encoder, "meshkit_audit_signed_revision", help, signed_up_to)?;
    let help = "Records of the audit trail that no checkpoint has signed yet";
    gauge(
        encoder,
        "meshkit_audit_unsigned_records",
        help,
        revision.saturating_sub(signed_up_to),
    )?;
    let help = "Operations that are under way";
    gauge(encoder, "meshkit_operations_running", help, mesh.operations_running())?;
    let peers = mesh.peers_by_status();
    let mut metric = encoder.encode_descriptor("meshkit_peers", "Peers, by status", None, MetricType::Gauge)?;
    for (status, count) in [
        ("active", peers.active),
        ("cordoned", peers.cordoned),
        ("draining", peers.draining),
        ("drained", peers.drained),
    ] {
        ConstGauge::new(i64::from(count)).encode(metric.encode_family(&[("status", status)])?)?;
    }
    let help = "Peers, by how they are seen: unknown where they never sent a heartbeat";
    let mut metric = encoder.encode_descriptor("meshkit_peers_seen", help, None, MetricType::Gauge)?;
    for (health, seen) in [
        (Health::Unknown, census.unknown),
        (Health::Alive, census.alive),
        (Health::Suspect, census.suspect),
        (Health::Dead, census.dead),
    ] {
        ConstGauge::new(signed(seen)).encode(metric.encode_family(&[("health", health.word())])?)?;
    }
    gauge(encoder, "meshkit_namespaces", "Namespaces", mesh.namespace_count())?;
    let mut metric = encoder.encode_descriptor("meshkit_shards", "Shards, by status", None, MetricType::Gauge)?;
    for status in ShardStatus::ALL {
        let count = ConstGauge::new(signed(mesh.shards_of_status(status)));
        count.encode(metric.encode_family(&[("status", status.word())])?)?;
    }
    gauge(
        encoder,
        "meshkit_shards_unowned",
        "Shards that nobody owns",
        mesh.unowned_count(),
    )?;
    let help = "Shards whose owner is suspect or dead, or was never heard of while other peers were";
    gauge(encoder, "meshkit_shards_owned_by_silent", help, census.shards_of_silent)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(signed(value)).encode(metric)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
