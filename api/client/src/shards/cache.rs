//! The map on disk, for the process that comes next.
//!
//! `MKSHARDS`, the format's number, the payload's length, its SHA-256, the payload. Whatever does not read back is refused.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message as _;
use proto::v1;

use super::table::{Count, View};

const MAGIC: &[u8; 8] = b"MKSHARDS";
const FORMAT: u32 = 1;
const HEAD: usize = 8 + 4 + 8 + 32;
/// More than 200,000 shards take; a file that is larger is none of ours.
const BYTES_MAX: u64 = 256 << 20;

/// What is kept.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Saved {
    /// The mesh that it is of.
    #[prost(string, tag = "1")]
    pub(super) mesh: String,
    /// The one namespace that it is of; empty where of all.
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    /// Where to go on.
    #[prost(string, tag = "3")]
    pub(super) token: String,
    #[prost(uint64, tag = "4")]
    pub(super) revision: u64,
    #[prost(uint64, tag = "5")]
    pub(super) epoch: u64,
    /// When a node last said that nothing was left out, in ms since 1970.
    #[prost(uint64, tag = "6")]
    pub(super) heard_ms: u64,
    #[prost(message, repeated, tag = "7")]
    pub(super) counts: Vec<SavedCount>,
    #[prost(message, repeated, tag = "8")]
    pub(super) shards: Vec<v1::Shard>,
}

/// How many shards a namespace has.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SavedCount {
    #[prost(string, tag = "1")]
    pub(super) namespace: String,
    #[prost(uint32, tag = "2")]
    pub(super) shards: u32,
    #[prost(uint64, tag = "3")]
    pub(super) created: u64,
}

impl Saved {
    /// What a view holds.
    pub(super) fn of(view: &View, mesh: &str, namespace: &str, token: &str, heard_ms: u64) -> Self {
        let count = |(namespace, count): (std::sync::Arc<str>, Count)| SavedCount {
            namespace: namespace.to_string(),
            shards: count.shards,
            created: count.created,
        };
        let shards = view.cells().into_iter().map(|cell| v1::Shard {
            namespace: cell.namespace.to_string(),
            shard: cell.shard,
            owner: cell.owner.as_deref().unwrap_or_default().to_owned(),
            replicas: cell.replicas.iter().map(ToString::to_string).collect(),
            status: cell.status.into(),
            token: Some(view.token(&cell).into()),
            created_revision: cell.created_revision,
            changed_revision: cell.changed_revision,
            ..v1::Shard::default()
        });
        Self {
            mesh: mesh.to_owned(),
            namespace: namespace.to_owned(),
            token: token.to_owned(),
            revision: view.revision(),
            epoch: view.epoch(),
            heard_ms,
            counts: view.counts().into_iter().map(count).collect(),
            shards: shards.collect(),
        }
    }

    /// The view that it was of.
    pub(super) fn view(&self) -> View {
        let mut view = View::restored(self.epoch, self.revision);
        self.shards.iter().for_each(|shard| view.put(shard.clone()));
        for SavedCount {
            namespace,
            shards,
            created,
        } in &self.counts
        {
            let (shards, created) = (*shards, *created);
            view.learn(namespace, Count { shards, created });
        }
        view
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let payload = self.encode_to_vec();
        let mut bytes = Vec::with_capacity(HEAD + payload.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        bytes.extend_from_slice(digest(&SHA256, &payload).as_ref());
        bytes.extend_from_slice(&payload);
        bytes
    }

    /// # Errors
    /// Why it is not what was written.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (Some(head), Some(payload)) = (bytes.get(..HEAD), bytes.get(HEAD..)) else {
            return Err(format!("{} bytes are too few", bytes.len()));
        };
        if &head[..8] != MAGIC {
            return Err("it is no map of shards".to_owned());
        }
        let format = head[8..12]
            .iter()
            .fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
        if format != FORMAT {
            return Err(format!("its format is {format}, this program reads {FORMAT}"));
        }
        let length = head[12..20]
            .iter()
            .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        if length != payload.len() as u64 {
            return Err(format!(
                "it should have {length} bytes behind its head, and has {}",
                payload.len()
            ));
        }
        if digest(&SHA256, payload).as_ref() != &head[20..HEAD] {
            return Err("its checksum does not fit: it is damaged".to_owned());
        }
        Self::decode_payload(payload).map_err(|error| format!("it cannot be read: {error}"))
    }

    fn decode_payload(payload: &[u8]) -> Result<Self, prost::DecodeError> {
        <Self as prost::Message>::decode(payload)
    }
}

/// Reads the file; none where there is none.
///
/// # Errors
/// Why it is not used.
pub(super) fn load(path: &Path) -> Result<Option<Saved>, String> {
    let told = |error: io::Error| format!("{}: {error}", path.display());
    let length = match fs::metadata(path) {
        Ok(file) => file.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(error)),
    };
    if length > BYTES_MAX {
        return Err(format!("{}: {length} bytes are no map of shards", path.display()));
    }
    let bytes = fs::read(path).map_err(told)?;
    let saved = Saved::decode(&bytes).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(Some(saved))
}

/// Writes the file whole, or not at all.
pub(super) fn store(path: &Path, saved: &Saved) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside: PathBuf = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&beside)?;
        file.write_all(&saved.encode())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&beside)))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
