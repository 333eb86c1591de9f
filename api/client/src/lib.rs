//! The Rust SDK of MeshKit: what the `mesh` command line, tests and automation speak to a mesh with.
//!
//! It owns the caller's side of the contract: where to connect and as whom ([`Context`]), HTTP/3 where it can be had and
//! HTTP/2 where not ([`Transport`]), finding a node that answers and following the leader ([`Client`]), retries that
//! cannot apply twice (one idempotency key per mutation, kept over every attempt), typed errors ([`Error`]), the
//! offline check of the audit trail ([`audit`]), which peer serves which key ([`ShardMap`]), and what a data-plane peer
//! has to do so that nobody else serves what it serves ([`Peer`]).
//!
//! It deliberately does not own: how anything is shown (that is `cli/`), what the rules of the mesh are (that is
//! `statemachine/`), and any cache of the mesh's state but the map of shards.
//!
//! ```no_run
//! # extern crate meshkit_api_client as api_client;
//! # async fn example() -> Result<(), api_client::Error> {
//! use api_client::{Client, Context};
//! use proto::v1::{DrainPeerRequest, ListPeersRequest};
//!
//! let context = Context::load(&Default::default(), &api_client::context::Environment::from_process())?;
//! let client = Client::new(&context)?;
//! let peers = client.list_peers(ListPeersRequest::default()).await?;
//! println!("{} peers at revision {}", peers.message.items.len(), peers.message.revision);
//! client.drain_peer(DrainPeerRequest { id: "p1".into(), reason: "new kernel".into(), ..Default::default() }).await?;
//! # Ok(())
//! # }
//! ```

pub mod audit;
pub mod backup;
mod client;
mod code;
mod connect;
mod consistency;
pub mod context;
mod downgrade;
pub mod duration;
mod endpoint;
mod error;
mod exchange;
pub mod methods;
pub mod peer;
mod pool;
mod rng;
pub mod shards;
mod tls;
pub mod watch;

pub use client::{Builder, CallOptions, Client, Stream};
pub use code::exit_code;
pub use connect::{BoxStream, ByteStream, Connect, ConnectError, QuicError, Stage};
pub use consistency::Consistency;
pub use context::{Context, Transport};
pub use downgrade::Downgrade;
pub use endpoint::Endpoint;
pub use error::{Attempt, Error};
pub use exchange::{Answer, Meta};
pub use methods::{Method, Mutation};
pub use peer::Peer;
pub use rng::{Entropy, SystemEntropy};
pub use shards::ShardMap;
pub use tls::TlsConnect;
pub use watch::Watch;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;
