//! The MeshKit contract: messages, services, descriptors, and the JSON form of both.
//!
//! Everything here comes from `proto/meshkit/v1/*.proto`; REST, OpenAPI and the CLI's JSON are derived from the
//! same descriptors. This crate has no behaviour of its own: no network, no routing, no validation beyond the
//! JSON mapping.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};

pub mod codec;
pub mod codes;
pub mod json;
pub mod methods;

/// The generated messages and services of `meshkit.v1`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::doc_markdown,
    clippy::large_enum_variant,
    reason = "generated code carries the comments of the contract where they exist"
)]
pub mod v1 {
    tonic::include_proto!("meshkit.v1");
}

/// The encoded `FileDescriptorSet` of the contract, with comments and with the `google.api.http`,
/// `meshkit.v1.scope`, `meshkit.v1.action` and `meshkit.v1.mutation` options of every method.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The contract's descriptors, decoded once.
#[must_use]
pub fn pool() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        #[expect(
            clippy::expect_used,
            reason = "the bytes are part of this program; a test decodes them"
        )]
        DescriptorPool::decode(DESCRIPTORS).expect("the embedded descriptors decode")
    });
    &POOL
}

/// The descriptor of a generated message.
///
/// # Panics
/// Never for a type of [`v1`]: its descriptor is embedded beside it.
#[must_use]
pub fn descriptor<M: prost::Name>() -> MessageDescriptor {
    #[expect(
        clippy::expect_used,
        reason = "types and descriptors are generated from the same files"
    )]
    pool()
        .get_message_by_name(&M::full_name())
        .expect("every generated message has a descriptor")
}
