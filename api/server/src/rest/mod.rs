//! REST, derived: a request in JSON, path and query becomes the RPC's message, its answer becomes JSON. What an RPC
//! does is not known here.

mod answer;
mod download;
mod events;
mod request;
mod wire_json;

pub(crate) use self::{
    answer::{Asked, Renewed, answer},
    download::download,
    events::{EVENT_STREAM, RETRY, check_accepts_events, error as error_event, event},
    request::{check_content_type, grpc_request, id_in, kind_of, other_verb, request_message},
};
