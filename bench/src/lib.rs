//! Benchmarks against etcd.
