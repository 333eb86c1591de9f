//! The few messages of etcd's v3 API that the load needs, with the field numbers of its published contract. Fields
//! that are not read are left out: protobuf skips them.

proto::wire! {
    PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse, WatchRequest, WatchResponse
}

/// Sets a key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PutRequest {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: bytes::Bytes,
    /// Its value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: bytes::Bytes,
}

/// A key was set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PutResponse {
    /// Who answered, and when.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
}

/// Gets keys; linearizable unless it says otherwise, which this never does.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeRequest {
    /// The key, or the first of several.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: bytes::Bytes,
    /// The first that is not asked for any more; empty for one key.
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: bytes::Bytes,
}

/// The keys that were asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeResponse {
    /// Who answered, and when.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Keys with their values.
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
}

/// A key and its value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: bytes::Bytes,
    /// Its value.
    #[prost(bytes = "bytes", tag = "5")]
    pub value: bytes::Bytes,
}

/// Beside every answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResponseHeader {
    /// The member that answered.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    /// The store's revision.
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

/// Asks a member how it is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusRequest {}

/// How a member is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResponse {
    /// Who answered.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The program's version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// The member that leads; 0 where none does.
    #[prost(uint64, tag = "4")]
    pub leader: u64,
}

/// Begins a watch. The other members of its set are left out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchRequest {
    /// What to watch.
    #[prost(message, optional, tag = "1")]
    pub create_request: Option<WatchCreateRequest>,
}

/// What to watch.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchCreateRequest {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: bytes::Bytes,
    /// Whether to be told now and then that nothing happened.
    #[prost(bool, tag = "4")]
    pub progress_notify: bool,
}

/// One message of a watch.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchResponse {
    /// Whether it says that the watch has begun.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// What happened; not looked into.
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub events: Vec<bytes::Bytes>,
}
