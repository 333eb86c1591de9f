//! HTTP/3 over QUIC, for both ends of the API: quinn's streams as the crate `h3` wants them ([`Connection`]), bodies
//! that know whether they are whole ([`Body`]), QUIC's settings ([`config`]), and a client's connection ([`Client`]).
//!
//! Has no listeners, no limits of its own choosing and no policy: `api/server`, `node` and `api/client` have those.
//!
//! What the adapter sees to, because `h3` and quinn by themselves do not:
//! - a send stream that is dropped unfinished is reset, so that what is cut off never looks whole;
//! - a stream that ends inside a frame is an error, and so is a body that is shorter or longer than its `content-length`;
//! - a frame that has to be held in memory whole has a greatest size, and is put together in linear time;
//! - whoever sends can learn that the other side does not want the rest ([`Stops`]).

mod body;
mod client;
pub mod config;
mod connection;
mod dial;
mod error;
mod frames;
mod socket;
mod stream;

pub use body::Body;
pub use client::Client;
pub use connection::{Connection, Opener, Side, Stopped, Stops};
pub use dial::{DialError, Dialled, Ended, dial};
pub use error::Error;
pub use stream::{BidiStream, RecvStream, SendStream};

pub use h3;
pub use quinn;

use rustls::pki_types::CertificateDer;

/// The protocol's name in the TLS handshake.
pub const ALPN: &[u8] = b"h3";

/// The certificates that the other side has shown, the leaf first; none if it showed none.
#[must_use]
pub fn peer_certificates(connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let shown = connection.peer_identity();
    let shown = shown.and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    shown.map_or_else(Vec::new, |shown| *shown)
}
