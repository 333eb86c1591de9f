//! What there is when a watch begins, in pieces.

use std::sync::Arc;

use prost::Message as _;
use proto::v1;
use statemachine::{
    ApprovalId, ClusterId, Epoch, MeshState, NamespaceId, OperationId, PeerId, Position, Record,
    record::{Config, Kind, ShardId},
};

use super::{
    frames::{self, Event},
    subject::{KINDS, Subject},
};

/// The most records of a piece.
const PIECE_ITEMS_MAX: usize = 500;
/// About how many bytes a piece has.
const PIECE_BYTES: usize = 256 * 1024;

/// A snapshot that is being sent: the state at one revision, and where in it the next piece begins.
pub(crate) struct Snapshot {
    mesh: MeshState,
    place: Place,
}

enum Place {
    Clusters(Option<ClusterId>),
    Config,
    Peers(Option<PeerId>),
    Operations(Option<OperationId>),
    Approvals(Option<ApprovalId>),
    Namespaces(Option<NamespaceId>),
    Shards(Option<ShardId>),
    End,
}

impl Place {
    /// The beginning of the first kind from `KINDS[from]` on that is asked for.
    fn of(subject: &Subject, from: usize) -> Self {
        let wanted = KINDS.iter().skip(from).find(|kind| subject.kinds().contains(kind));
        match wanted {
            Some(Kind::Cluster) => Self::Clusters(None),
            Some(Kind::Config) => Self::Config,
            Some(Kind::Peer) => Self::Peers(None),
            Some(Kind::Operation) => Self::Operations(None),
            Some(Kind::Approval) => Self::Approvals(None),
            Some(Kind::Namespace) => Self::Namespaces(None),
            Some(Kind::Shard) => Self::Shards(None),
            Some(Kind::Mesh | Kind::Checkpoint | Kind::Certificate | Kind::Session) | None => Self::End,
        }
    }
}

/// The records of a piece.
#[derive(Default)]
struct Piece {
    items: Vec<v1::audit_record::Record>,
    bytes: usize,
    /// That of the mesh, which shards are shown under.
    epoch: Epoch,
}

impl Piece {
    /// Adds a record where it is selected; true where the piece is full.
    fn add(&mut self, subject: &Subject, record: &Record) -> bool {
        if subject.selects(record)
            && let Some(mut record) = api_records::record(record)
        {
            if let Some(v1::audit_record::record::Record::Shard(shard)) = &mut record.record
                && let Some(token) = &mut shard.token
            {
                token.mesh_epoch = self.epoch.0;
            }
            self.bytes += record.encoded_len();
            self.items.push(record);
        }
        self.items.len() >= PIECE_ITEMS_MAX || self.bytes >= PIECE_BYTES
    }
}

impl Snapshot {
    pub(crate) fn new(subject: &Subject, mesh: MeshState) -> Self {
        let place = Place::of(subject, 0);
        Self { mesh, place }
    }

    pub(crate) fn position(&self) -> Position {
        self.mesh.position()
    }

    /// The next piece, and whether it is the last.
    pub(crate) fn next(&mut self, subject: &Subject, mesh: &statemachine::MeshId) -> (Event, bool) {
        let mut piece = Piece {
            epoch: self.mesh.epoch(),
            ..Piece::default()
        };
        while !self.fill(subject, &mut piece) {}
        let last = matches!(self.place, Place::End);
        let position = self.position();
        let token = if last {
            subject.token(mesh, position)
        } else {
            String::new()
        };
        let snapshot = v1::watch_message::Snapshot {
            items: piece.items,
            last,
        };
        let bytes = frames::grpc(&v1::WatchMessage {
            message: Some(v1::watch_message::Message::Snapshot(snapshot)),
            token,
            revision: position.revision.0,
        });
        (Event::new(position, bytes), last)
    }

    /// Adds records of the kind that is next; true where the piece is full.
    fn fill(&mut self, subject: &Subject, piece: &mut Piece) -> bool {
        let mesh = &self.mesh;
        // Where to go on within the kind, where the piece is full before its end.
        let (kind, rest) = match &self.place {
            Place::Clusters(from) => {
                let mut all = mesh.clusters_after(from.as_ref());
                let full = all.find(|found| piece.add(subject, &Record::Cluster(Arc::clone(found))));
                (Kind::Cluster, full.map(|last| Place::Clusters(Some(last.id.clone()))))
            }
            Place::Config => {
                if let Some(config) = mesh.record(Kind::Config, Config::ID) {
                    piece.add(subject, &config);
                }
                (Kind::Config, None)
            }
            Place::Peers(from) => {
                let mut all = mesh.peers_after(from.as_ref());
                let full = all.find(|found| piece.add(subject, &Record::Peer(Arc::clone(found))));
                (Kind::Peer, full.map(|last| Place::Peers(Some(last.id.clone()))))
            }
            Place::Operations(from) => {
                let mut all = mesh.operations_before(from.as_ref());
                let full = all.find(|found| piece.add(subject, &Record::Operation(Arc::clone(found))));
                (
                    Kind::Operation,
                    full.map(|last| Place::Operations(Some(last.id.clone()))),
                )
            }
            Place::Approvals(from) => {
                let mut all = mesh.approvals_before(from.as_ref());
                let full = all.find(|found| piece.add(subject, &Record::Approval(Arc::clone(found))));
                (Kind::Approval, full.map(|last| Place::Approvals(Some(last.id.clone()))))
            }
            Place::Namespaces(from) => {
                let mut all = mesh.namespaces_after(from.as_ref());
                let full = all.find(|found| piece.add(subject, &Record::Namespace(Arc::clone(found))));
                (
                    Kind::Namespace,
                    full.map(|last| Place::Namespaces(Some(last.id.clone()))),
                )
            }
            Place::Shards(from) => {
                let mut all = mesh.shards_after(from.as_ref());
                let full = all.find(|found| piece.add(subject, &Record::Shard(Arc::clone(found))));
                (Kind::Shard, full.map(|last| Place::Shards(Some(last.id.clone()))))
            }
            Place::End => return true,
        };
        let full = rest.is_some();
        let next = KINDS
            .iter()
            .position(|known| *known == kind)
            .map_or(KINDS.len(), |at| at + 1);
        self.place = rest.unwrap_or_else(|| Place::of(subject, next));
        full
    }
}
