//! Workloads, histories and checkers over built binaries.
