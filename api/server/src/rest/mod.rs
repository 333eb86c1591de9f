//! REST, derived: a request in JSON, path and query becomes the RPC's message, its answer becomes JSON. What an RPC
//! does is not known here.

mod answer;
mod download;
mod request;

pub(crate) use self::{
    answer::{Asked, answer},
    download::download,
    request::{check_content_type, grpc_request, id_in, kind_of, other_verb, request_message},
};
