//! What comes back from a call: the message, and what the answer says about itself.

use prost::Message as _;
use tonic::metadata::MetadataMap;

use crate::Downgrade;

/// An answer of the mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// The RPC's response, as the server sent it.
    pub message: T,
    /// What came beside it.
    pub meta: Meta,
}

impl<T> Answer<T> {
    /// The same answer around another message.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        Answer {
            message: f(self.message),
            meta: self.meta,
        }
    }
}

/// The metadata of an answer. A member is absent where the server did not send it or sent something unreadable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meta {
    /// `etag`: the record's ETag after this call.
    pub etag: Option<String>,
    /// `mesh-revision`: the revision that the answer shows.
    pub revision: Option<u64>,
    /// `mesh-epoch`: the mesh's fencing number.
    pub epoch: Option<u64>,
    /// `mesh-request-id`: the request's id in the mesh's logs, traces and audit trail.
    pub request_id: Option<String>,
    /// `mesh-replayed`: true where this is the stored answer of an earlier attempt with the same idempotency key.
    pub replayed: bool,
    /// `mesh-dry-run`: true where nothing was changed.
    pub dry_run: bool,
    /// `mesh-approval-needed`: who would have to agree, beside the caller, before what a dry run shows takes effect.
    pub approval_needed: Option<String>,
    /// `mesh-preview-bin`: with a dry run, every check that was made and what would change. Records of changes that do not
    /// fit into metadata are left out, which `truncated` says.
    pub preview: Option<Box<proto::v1::Preview>>,
    /// The endpoint that answered.
    pub endpoint: String,
    /// What it was asked over: `h3` or `h2`.
    pub transport: &'static str,
    /// Why that is not `h3`, where HTTP/3 was tried.
    pub downgrade: Option<Downgrade>,
    /// The idempotency key that the call carried; empty for reads, and for changes that the mesh keeps no key of.
    pub idempotency_key: String,
    /// How many requests it took, redirects and retries included.
    pub attempts: u32,
}

impl Meta {
    pub(crate) fn read(metadata: &MetadataMap) -> Self {
        let text = |name: &str| {
            metadata
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let number = |name: &str| text(name).and_then(|value| value.parse().ok());
        let flag = |name: &str| text(name).is_some_and(|value| value == "true");
        Self {
            etag: text("etag"),
            revision: number("mesh-revision"),
            epoch: number("mesh-epoch"),
            request_id: text("mesh-request-id"),
            approval_needed: text("mesh-approval-needed"),
            replayed: flag("mesh-replayed"),
            dry_run: flag("mesh-dry-run"),
            preview: metadata
                .get_bin("mesh-preview-bin")
                .and_then(|value| proto::v1::Preview::decode(value.to_bytes().ok()?).ok())
                .map(Box::new),
            ..Self::default()
        }
    }
}
