//! Opaque tokens that name a place in a list or in history: which mesh, which timeline, which revision, which filter.
//!
//! Good on any node of any cluster of the mesh, after restarts and leader changes. A token is not a secret and grants
//! nothing: the checksum catches damage and guesswork, and scopes are checked as for any request.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use proto::codes::Code;
use statemachine::{MeshId, MeshState, Position, Revision, TimelineId, audit::request_hash};

use crate::Error;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"meshkit-cursor";
/// version, mesh, timeline, revision, filter
const HEAD_BYTES: usize = 1 + 8 + 16 + 8 + 8;
const CHECKSUM_BYTES: usize = 8;
/// The longest token that is looked at, in characters.
const TEXT_BYTES_MAX: usize = 512;

/// What a token is good for: the method, and everything that selects or orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter([u8; 8]);

impl Filter {
    /// The filter of a method with these settings. The page size is none of them.
    #[must_use]
    pub fn new(method: &str, settings: &[&str]) -> Self {
        let parts: Vec<&[u8]> = std::iter::once(method)
            .chain(settings.iter().copied())
            .map(str::as_bytes)
            .collect();
        Self(short(&parts))
    }
}

/// A place in a list: everything up to and including `last` was shown, as of `position`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// What all pages show.
    pub position: Position,
    /// The last item that was shown.
    pub last: String,
}

impl Cursor {
    /// The token.
    #[must_use]
    pub fn encode(&self, mesh: &MeshId, filter: Filter) -> String {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.last.len() + CHECKSUM_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&short(&[mesh.as_str().as_bytes()]));
        bytes.extend_from_slice(&self.position.timeline.0.to_be_bytes());
        bytes.extend_from_slice(&self.position.revision.0.to_be_bytes());
        bytes.extend_from_slice(&filter.0);
        bytes.extend_from_slice(self.last.as_bytes());
        let checksum = short(&[DOMAIN, &bytes]);
        bytes.extend_from_slice(&checksum);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a page that begins here is known by, with at most `limit` items. The page may be the first, which begins nowhere.
    pub(crate) fn etag(&self, filter: Filter, limit: usize, begun: bool) -> String {
        let Position { timeline, revision } = self.position;
        let parts: [&[u8]; 6] = [
            &timeline.0.to_be_bytes(),
            &revision.0.to_be_bytes(),
            &filter.0,
            &limit.to_be_bytes(),
            &[u8::from(begun)],
            self.last.as_bytes(),
        ];
        format!("l-{revision}-{:016x}", u64::from_be_bytes(short(&parts)))
    }

    /// Reads a token of this mesh and filter.
    ///
    /// # Errors
    /// `token_mismatch`.
    pub fn decode(text: &str, mesh: &MeshId, filter: Filter) -> Result<Self, Error> {
        Self::decode_as("cursor", text, mesh, filter)
    }

    /// The same for a request that calls it otherwise.
    ///
    /// # Errors
    /// `token_mismatch`.
    pub(crate) fn decode_as(field: &'static str, text: &str, mesh: &MeshId, filter: Filter) -> Result<Self, Error> {
        let mismatch = |why: &str| {
            Error::new(Code::TokenMismatch, format!("the {field} {why}"))
                .with(|problem| problem.field = field.to_owned())
                .hint(format!("start again without a {field}"))
        };
        let damaged = || mismatch("is not one that this mesh gave out, or is damaged");
        if text.len() > TEXT_BYTES_MAX {
            return Err(damaged());
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| damaged())?;
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(damaged)?;
        if short(&[DOMAIN, body]) != *checksum {
            return Err(damaged());
        }
        let (&[version], rest) = body.split_first_chunk::<1>().ok_or_else(damaged)?;
        if version != VERSION {
            return Err(mismatch("is of a form that this node does not know"));
        }
        let (mesh_hash, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (timeline, rest) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
        let (revision, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (filter_hash, last) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        if *mesh_hash != short(&[mesh.as_str().as_bytes()]) {
            return Err(mismatch("is of another mesh"));
        }
        if *filter_hash != filter.0 {
            return Err(mismatch("is of another request or another filter"));
        }
        let position = Position {
            timeline: TimelineId(u128::from_be_bytes(*timeline)),
            revision: Revision(u64::from_be_bytes(*revision)),
        };
        let last = String::from_utf8(last.to_vec()).map_err(|_| damaged())?;
        Ok(Self { position, last })
    }
}

/// Whether a position can be looked at from a state: it is on the state's own line of history, not before the floor
/// and not after its head.
///
/// # Errors
/// `diverged`, `compacted` or `future`.
pub fn check(position: Position, mesh: &MeshState) -> Result<(), Error> {
    on_line(position, mesh)?;
    if position.revision < mesh.floor() {
        return Err(compacted(position.revision, mesh.floor()));
    }
    Ok(())
}

/// Whether a position is on a state's own line of history, and not after its head.
///
/// # Errors
/// `diverged` or `future`.
pub(crate) fn on_line(position: Position, mesh: &MeshState) -> Result<(), Error> {
    let Position { timeline, revision } = position;
    let head = mesh.position();
    let Some(record) = mesh.mesh() else {
        return Err(future(revision, head.revision));
    };
    let Some(at) = record.timelines.iter().position(|known| known.id == timeline) else {
        return Err(diverged(timeline, None));
    };
    // What the next timeline took over ends at its fork.
    if let Some(next) = record.timelines.get(at + 1)
        && revision > next.fork
    {
        return Err(diverged(timeline, Some(next.fork)));
    }
    if revision > head.revision {
        return Err(future(revision, head.revision));
    }
    Ok(())
}

/// What is needed is gone.
pub(crate) fn compacted(revision: Revision, oldest: Revision) -> Error {
    let detail = format!("revision {revision} is older than what is kept, which begins at {oldest}");
    Error::new(Code::Compacted, detail)
        .with(|problem| problem.revision = oldest.0)
        .hint("start again without a cursor")
}

/// What is asked for has not happened yet.
pub(crate) fn future(revision: Revision, head: Revision) -> Error {
    Error::new(
        Code::Future,
        format!("revision {revision} has not happened yet; the head is {head}"),
    )
    .with(|problem| problem.revision = head.0)
    .hint("this node is behind: try again, or ask another node")
}

fn diverged(timeline: TimelineId, fork: Option<Revision>) -> Error {
    let detail = match fork {
        Some(fork) => format!("timeline {timeline} was cut off at revision {fork}"),
        None => format!("timeline {timeline} is no part of this mesh's history"),
    };
    Error::new(Code::Diverged, detail)
        .with(|problem| problem.revision = fork.unwrap_or_default().0)
        .hint("start again without a cursor")
}

/// The first eight bytes of a hash over the parts.
fn short(parts: &[&[u8]]) -> [u8; 8] {
    let hash = request_hash(parts).0;
    let mut short = [0; 8];
    short.copy_from_slice(&hash[..8]);
    short
}

/// Bytes with the checksum that makes them a token.
#[cfg(test)]
pub(crate) fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&short(&[DOMAIN, body]));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(name: &str) -> MeshId {
        MeshId::new(name).unwrap()
    }

    fn cursor() -> Cursor {
        Cursor {
            position: Position {
                timeline: TimelineId(7),
                revision: Revision(42),
            },
            last: "p1".into(),
        }
    }

    #[test]
    fn a_token_reads_back() {
        let filter = Filter::new("ListPeers", &["zone=a"]);
        let token = cursor().encode(&mesh("m"), filter);
        assert_eq!(Cursor::decode(&token, &mesh("m"), filter).unwrap(), cursor());
    }

    #[test]
    fn other_meshes_filters_and_damage_are_refused() {
        let filter = Filter::new("ListPeers", &["zone=a"]);
        let token = cursor().encode(&mesh("m"), filter);
        let refused = |token: &str, mesh: &MeshId, filter| Cursor::decode(token, mesh, filter).unwrap_err().code();
        assert_eq!(refused(&token, &mesh("n"), filter), Code::TokenMismatch);
        assert_eq!(
            refused(&token, &mesh("m"), Filter::new("ListPeers", &["zone=b"])),
            Code::TokenMismatch
        );
        assert_eq!(
            refused(&token, &mesh("m"), Filter::new("ListPeers", &["zone=a", ""])),
            Code::TokenMismatch
        );
        for garbage in [
            "",
            "x",
            "AAAA",
            "not base64!",
            &"A".repeat(5000),
            &token[1..],
            &token[..token.len() - 1],
        ] {
            assert_eq!(refused(garbage, &mesh("m"), filter), Code::TokenMismatch, "{garbage}");
        }
        // Every single changed byte is noticed.
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let token = BASE64_URL_SAFE_NO_PAD.encode(bytes);
            assert_eq!(refused(&token, &mesh("m"), filter), Code::TokenMismatch, "byte {at}");
        }
    }

    #[test]
    fn an_empty_state_knows_no_position() {
        assert_eq!(
            check(cursor().position, &MeshState::default()).unwrap_err().code(),
            Code::Future
        );
    }
}
