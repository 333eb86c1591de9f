//! Deterministic simulation of a cluster under faults.
