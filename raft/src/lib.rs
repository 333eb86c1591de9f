//! Consensus: log store, state store, snapshots and transport of one cluster.
