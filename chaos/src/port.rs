//! What clients and nodes say to each other in the simulation, and the node's side of it.
//!
//! A stand-in for the API, one frame each way on a plain stream: enough to lose requests and answers as a real
//! connection does, and no more. Idempotency, ETags and everything else that matters is the state machine's.

use std::{io, sync::Arc, time::Duration};

use raft::{Consistency, Error, Handle};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use statemachine::{
    Answer, Command, Conditions, Hash, NodeId, Origin, Outcome, PeerId, Recorded, Request, Revision,
    codec::{self, Format},
    record::{Kind, Peer, Record},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};
use turmoil::net::{TcpListener, TcpStream};

use crate::workload::VALUE;

/// The largest frame.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    /// Commits a command.
    Propose {
        /// Who asks.
        origin: Box<Origin>,
        /// On what condition.
        conditions: Conditions,
        /// What.
        command: Box<Command>,
        /// How long the node may take.
        within_ms: u64,
    },
    /// Reads a peer.
    Read {
        /// The peer.
        peer: PeerId,
        /// Whether to see every write acknowledged before; otherwise what the node has.
        linearizable: bool,
        /// How long the node may take.
        within_ms: u64,
    },
}

/// A peer as a read saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSeen {
    /// Version of the record.
    pub version: u64,
    /// ETag of the record.
    pub etag: String,
    /// The label that writes write.
    pub value: Option<String>,
    /// The status.
    pub status: String,
}

impl From<&Peer> for PeerSeen {
    fn from(peer: &Peer) -> Self {
        Self {
            version: peer.meta.version,
            etag: peer.meta.etag().to_string(),
            value: peer.spec.labels.get(VALUE).map(str::to_owned),
            status: format!("{:?}", peer.status),
        }
    }
}

/// What became of a command that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Became {
    /// It took effect.
    Applied,
    /// It was a retry of what was answered there.
    Replayed(Revision),
    /// It was refused, with this code.
    Rejected(String),
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// The command was recorded.
    Recorded(Revision, Hash, Became),
    /// What was read.
    Read(Revision, Hash, Option<PeerSeen>),
    /// Ask the leader.
    NotLeader(Option<NodeId>),
    /// It could not be done.
    Failed {
        /// For people.
        why: String,
        /// Whether it may have been done nevertheless.
        maybe_applied: bool,
    },
}

/// Sends one frame.
///
/// # Errors
/// The stream broke.
pub async fn send<T: Serialize>(stream: &mut TcpStream, message: &T) -> io::Result<()> {
    let bytes = codec::encode(Format::Wire, message);
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await
}

/// Receives one frame.
///
/// # Errors
/// The stream broke or ended, or what came is no such message.
pub async fn receive<T: DeserializeOwned>(stream: &mut TcpStream) -> io::Result<T> {
    let length = stream.read_u32().await? as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes"),
        ));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    codec::decode(Format::Wire, &bytes).map_err(io::Error::other)
}

/// Answers clients until it is dropped.
pub async fn serve(listener: TcpListener, handle: Handle) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, handle.clone()))),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn converse(mut stream: TcpStream, handle: Handle) {
    while let Ok(ask) = receive(&mut stream).await {
        let reply = answer(&handle, ask).await;
        if send(&mut stream, &reply).await.is_err() {
            break;
        }
    }
}

async fn answer(handle: &Handle, ask: Ask) -> Reply {
    match ask {
        Ask::Propose {
            origin,
            conditions,
            command,
            within_ms,
        } => {
            let request = Request {
                origin: *origin,
                conditions,
                command: *command,
            };
            match handle
                .propose(request, Instant::now() + Duration::from_millis(within_ms))
                .await
            {
                Ok(committed) => proposed(committed.answer),
                Err(error) => failed(&error),
            }
        }
        Ask::Read {
            peer,
            linearizable,
            within_ms,
        } => {
            let consistency = if linearizable {
                Consistency::Linearizable
            } else {
                Consistency::Local
            };
            match handle
                .read(consistency, Instant::now() + Duration::from_millis(within_ms))
                .await
            {
                Ok(view) => {
                    let mesh = &view.state().mesh;
                    let seen = mesh.peer(&peer).map(PeerSeen::from);
                    Reply::Read(mesh.position().revision, mesh.chain(), seen)
                }
                Err(error) => failed(&error),
            }
        }
    }
}

fn proposed(answer: Answer) -> Reply {
    match answer {
        Answer::Recorded(recorded) => {
            let became = match &recorded.unit.outcome {
                Outcome::Applied { .. } => Became::Applied,
                Outcome::Rejected(rejection) => Became::Rejected(rejection.code().to_owned()),
                Outcome::Replayed { of } => Became::Replayed(*of),
                // No approval policy is in force here: to whoever asked, it is not done.
                Outcome::Staged { .. } => Became::Rejected("pending_approval".to_owned()),
            };
            Reply::Recorded(recorded.unit.position.revision, recorded.chain, became)
        }
        Answer::Refused(rejection) => Reply::Failed {
            why: rejection.code().to_owned(),
            maybe_applied: false,
        },
        Answer::AlreadyHere | Answer::ReplicationRefused(_) | Answer::Cluster(_) => Reply::Failed {
            why: "an answer to something else".to_owned(),
            maybe_applied: true,
        },
    }
}

fn failed(error: &Error) -> Reply {
    match error {
        Error::NotLeader { leader } => Reply::NotLeader(leader.as_ref().map(|leader| leader.node)),
        _ => Reply::Failed {
            why: error.to_string(),
            maybe_applied: error.maybe_applied(),
        },
    }
}

/// The peer that a unit leaves behind, for each that it changes: its id, and none where it is gone.
pub fn peers_after(recorded: &Arc<Recorded>) -> impl Iterator<Item = (String, Option<PeerSeen>)> {
    recorded.unit.changes().iter().filter_map(|change| {
        let (kind, id) = change.key()?;
        (kind == Kind::Peer).then(|| {
            let after = match &change.after {
                Some(Record::Peer(peer)) => Some(PeerSeen::from(&**peer)),
                _ => None,
            };
            (id, after)
        })
    })
}
