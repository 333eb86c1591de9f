//! The MeshKit contract: messages, services, descriptors, and the JSON form of both.
//!
//! Everything here comes from `proto/meshkit/v1/*.proto`; REST, OpenAPI and the CLI's JSON are derived from the
//! same descriptors. This crate has no behaviour of its own: no network, no validation beyond the JSON mapping.

#![allow(missing_docs, reason = "generated code carries the comments of the contract where they exist")]

/// The generated messages and services of `meshkit.v1`.
pub mod v1 {
    tonic::include_proto!("meshkit.v1");
}

/// The encoded `FileDescriptorSet` of the contract, with comments and with the `google.api.http`,
/// `meshkit.v1.scope` and `meshkit.v1.mutation` options of every method.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
