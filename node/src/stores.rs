//! The two stores of a node, in RocksDB, and what they take of memory.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use raft::engine::{EngineError, Store};
use raft_rocksdb::RocksEngine;

use crate::config::Config;
use crate::directory::DataDirectory;
use crate::exit::{Exit, Failure};

/// Both stores, open.
pub(crate) struct Stores {
    pub log: Arc<RocksEngine>,
    pub state: Arc<RocksEngine>,
}

impl Stores {
    /// Opens them where they belong.
    ///
    /// # Errors
    /// One is in use, damaged or not ours.
    pub(crate) async fn open(config: &Config, directory: &DataDirectory) -> Result<Self, Failure> {
        let options = config.stores();
        let paths = [Store::Log, Store::State].map(|store| (store, directory.store(store.as_str())));
        let opened = tokio::task::spawn_blocking(move || -> Result<Self, EngineError> {
            let [(log, log_path), (state, state_path)] = paths;
            Ok(Self {
                log: Arc::new(RocksEngine::open(&log_path, log, &options)?),
                state: Arc::new(RocksEngine::open(&state_path, state, &options)?),
            })
        });
        let opened = opened
            .await
            .map_err(|error| Failure::new(Exit::Failed, format!("opening the stores: {error}")))?;
        opened.map_err(|error| error.to_fatal().into())
    }

    /// What shows their memory, for as long as they are open.
    pub(crate) fn memory(&self) -> Memory {
        Memory {
            stores: [(Store::Log, &self.log), (Store::State, &self.state)]
                .map(|(store, engine)| (store.as_str(), Arc::downgrade(engine))),
        }
    }
}

/// Their memory as a metric, read when somebody looks. Holds no store open.
#[derive(Debug)]
pub(crate) struct Memory {
    stores: [(&'static str, Weak<RocksEngine>); 2],
}

impl Memory {
    /// Shows it in a registry.
    pub(crate) fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }
}

impl Collector for Memory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Memory of RocksDB by store and what it is for: block_cache, memtables, table_readers";
        let mut metric = encoder.encode_descriptor("meshkit_storage_memory_bytes", help, None, MetricType::Gauge)?;
        for (store, engine) in &self.stores {
            let Some(memory) = engine.upgrade().map(|engine| engine.memory()) else {
                continue;
            };
            for (used_for, bytes) in [
                ("block_cache", memory.block_cache),
                ("memtables", memory.memtables),
                ("table_readers", memory.table_readers),
            ] {
                let labels = [("store", *store), ("for", used_for)];
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                ConstGauge::new(bytes).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
