//! The Rust SDK of MeshKit.
