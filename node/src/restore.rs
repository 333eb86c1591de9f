//! `meshkit-node restore`: a new cluster on what a backup holds.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command speaks to whoever runs it"
)]

use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use raft::Endpoint;
use raft::engine::{Engine, EngineError, Store};
use raft::restore::{Restore, RestoreError, Restored};
use raft_rocksdb::RocksEngine;
use rand::RngCore as _;
use statemachine::backup::{Check, Checked, Contents, Damage, Decoder, Part, Wrong};
use statemachine::{
    ClusterId, Conditions, MeshId, NodeId, Origin, Proposal, RestoreMesh, Stamp, TimelineId, record::ClusterPhase,
};

use crate::config::Config;
use crate::directory::Filling;
use crate::exit::{Exit, Failure};

/// Bytes read from the file at once.
const READ_BYTES: usize = 256 * 1024;

/// `meshkit-node restore`
#[derive(Debug, Args)]
pub struct Options {
    /// The node's configuration file: its cluster has to be one that the mesh never had.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The backup, as `mesh backup save` wrote it.
    #[arg(long, value_name = "FILE")]
    backup: PathBuf,
    /// The new cluster's name, again: restore.
    #[arg(long, value_name = "CLUSTER")]
    confirm: Option<String>,
    /// Why, for the audit trail.
    #[arg(long, default_value = "")]
    reason: String,
    /// Change ticket, for the audit trail.
    #[arg(long, default_value = "")]
    ticket: String,
}

/// Does it.
///
/// # Errors
/// Exit 2 where the backup is not for this configuration, 3 where the directory is not empty, 4 where the backup is
/// damaged.
pub fn run(options: &Options, config: &Config) -> Result<(), Failure> {
    if let Some(confirm) = &options.confirm
        && *confirm != config.mesh.cluster
    {
        return Err(unfit(format!(
            "--confirm says {confirm}, the configuration's cluster is {}",
            config.mesh.cluster
        )));
    }
    let checked = check(&options.backup)?;
    let origin = local_origin(config, &options.reason, &options.ticket)?;
    fits(&checked, config)?;
    describe(&checked.contents, config);
    // The state is built again from the stores; two of them need not be in memory.
    let contents = checked.contents;
    drop(checked.state);
    if options.confirm.is_none() {
        return Err(unfit(format!(
            "nothing was changed. To restore, repeat this with --confirm {}",
            config.mesh.cluster
        )));
    }
    let filling = Filling::begin(config)?;
    let restored = fill(&filling, options, config, &contents, origin)?;
    filling.done()?;
    let epoch = restored.state.mesh.epoch();
    println!(
        "Restored: revision {} on timeline {}, epoch {epoch}, of which revision {} on timeline {} and before are the \
         backup's.",
        restored.to.revision, restored.to.timeline, restored.from.revision, restored.from.timeline
    );
    println!(
        "Start this node with: meshkit-node --config {}",
        options.config.display()
    );
    let others = config.mesh.members.0.len() - 1;
    if others > 0 {
        println!(
            "Start the {others} other node(s) of the cluster with empty data directories; they get the state from this \
             one. Do not run restore there."
        );
    }
    Ok(())
}

fn unfit(why: impl Into<String>) -> Failure {
    Failure::new(Exit::Config, why)
}

/// Who asks: whoever runs this program here. No credential is involved, so that no credential's name is used.
pub(crate) fn local_origin(config: &Config, reason: &str, ticket: &str) -> Result<Origin, Failure> {
    for (flag, text, limit) in [
        ("--reason", reason, Origin::REASON_BYTES_MAX),
        ("--ticket", ticket, Origin::TICKET_BYTES_MAX),
    ] {
        if text.len() > limit || text.chars().any(char::is_control) {
            return Err(unfit(format!(
                "{flag}: at most {limit} bytes, without control characters"
            )));
        }
    }
    Ok(Origin {
        actor: format!("local:uid-{}", rustix::process::getuid().as_raw()),
        reason: reason.to_owned(),
        ticket: ticket.to_owned(),
        transport: "internal".to_owned(),
        node: NodeId(config.node.id),
        received_wall_ms: wall_ms(),
        ..Origin::default()
    })
}

pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn new_timeline() -> TimelineId {
    let mut rng = rand::rng();
    TimelineId(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()))
}

pub(crate) fn engine(path: &Path, store: Store, config: &Config) -> Result<Arc<dyn Engine>, Failure> {
    let opened = RocksEngine::open(path, store, &config.stores());
    Ok(Arc::new(opened.map_err(disk)?))
}

pub(crate) fn disk(error: EngineError) -> Failure {
    error.to_fatal().into()
}

/// Reads a backup part by part, whole or not at all.
fn read(file: &Path, doing: &str, mut take: impl FnMut(Part, u64) -> Result<(), Failure>) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| unfit(format!("{}: {error}", file.display()));
    let damaged = |damage: Damage| {
        let why = format!(
            "{}: the backup is damaged: {damage}. Nothing was restored",
            file.display()
        );
        Failure::new(Exit::Corrupt, why)
    };
    let mut source = File::open(file).map_err(unreadable)?;
    let length = source.metadata().map_or(0, |metadata| metadata.len());
    let mut said = Progress::new(doing, length);
    let (mut decoder, mut bytes) = (Decoder::new(), vec![0; READ_BYTES]);
    loop {
        match source.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => decoder.push(&bytes[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        }
        while let Some(part) = decoder.part().map_err(damaged)? {
            take(part, decoder.checked_bytes())?;
        }
        said.at(decoder.checked_bytes());
    }
    decoder.finish().map(drop).map_err(damaged)
}

/// Checks every byte, the digest and the audit chain, before anything is touched.
fn check(file: &Path) -> Result<Checked, Failure> {
    let wrong = |at: u64, wrong: &Wrong| {
        let (exit, what) = match wrong {
            Wrong::TooNew { .. } => (Exit::Config, "cannot be restored"),
            Wrong::Order(_) | Wrong::Table | Wrong::Load(_) | Wrong::Chain { .. } | Wrong::Header(_) => {
                (Exit::Corrupt, "is damaged")
            }
        };
        let why = format!(
            "{}: the backup {what}, before byte {at}: {wrong}. Nothing was restored",
            file.display()
        );
        Failure::new(exit, why)
    };
    let (mut check, mut end, mut last) = (Check::new(), None, 0);
    read(file, "checking", |part, at| {
        check.part(&part).map_err(|found| wrong(at, &found))?;
        last = at;
        if let Part::End(found) = part {
            end = Some(found);
        }
        Ok(())
    })?;
    let end = end.ok_or_else(|| unfit("the backup has no end"))?;
    check.finish(end).map_err(|found| wrong(last, &found))
}

/// Whether the backup is one for this configuration.
fn fits(checked: &Checked, config: &Config) -> Result<(), Failure> {
    let header = &checked.contents.header;
    if header.mesh.as_str() != config.mesh.id {
        return Err(unfit(format!(
            "the backup is of mesh {}, the configuration says mesh {}",
            header.mesh, config.mesh.id
        )));
    }
    let cluster = cluster_id(config)?;
    if checked.state.mesh.cluster(&cluster).is_some() {
        return Err(unfit(format!(
            "the mesh has, or had, a cluster {cluster}: what is restored is a new cluster. Choose a name for it, set \
             `mesh.cluster`, and issue its nodes' certificates for it"
        )));
    }
    Ok(())
}

fn cluster_id(config: &Config) -> Result<ClusterId, Failure> {
    ClusterId::new(&config.mesh.cluster).map_err(|error| unfit(error.to_string()))
}

fn describe(contents: &Contents, config: &Config) {
    let header = &contents.header;
    println!(
        "The backup holds mesh {} as it was in cluster {} at revision {} (timeline {}, epoch {}): {} peers, {} \
         operations, {} audit records from revision {} on. Its bytes, digest and audit chain hold.",
        header.mesh,
        header.cluster,
        header.position.revision,
        header.position.timeline,
        header.epoch,
        contents.peers,
        contents.operations,
        contents.revisions,
        contents.first_revision,
    );
    println!(
        "Restoring makes it cluster {} with epoch {}. What came after revision {} is not in it: cursors and tokens from \
         there on are refused with `diverged`. Clusters that were {} or {} become {}.",
        config.mesh.cluster,
        header.epoch.0.saturating_add(1),
        header.position.revision,
        ClusterPhase::Active.word(),
        ClusterPhase::Draining.word(),
        ClusterPhase::Maintenance.word(),
    );
}

/// Writes both stores, and closes them.
fn fill(
    filling: &Filling,
    options: &Options,
    config: &Config,
    contents: &Contents,
    origin: Origin,
) -> Result<Restored, Failure> {
    let invalid = |error: statemachine::InvalidId| unfit(error.to_string());
    let own = raft::Identity {
        mesh: MeshId::new(&config.mesh.id).map_err(invalid)?,
        cluster: cluster_id(config)?,
        node: NodeId(config.node.id),
    };
    let [log, state] = [Store::Log, Store::State].map(|store| engine(&filling.store(store.as_str()), store, config));
    let mut restore = Restore::begin(log?, state?, &own).map_err(disk)?;
    read(&options.backup, "restoring", |part, _| match part {
        // It is the file that was checked, unless somebody writes to it: then the digest will not fit.
        Part::Rows(rows) => restore.rows(rows).map_err(disk),
        Part::Header(_) | Part::End(_) => Ok(()),
    })?;
    let proposal = Proposal {
        stamp: Stamp {
            mesh_time_ms: contents.header.stamp.mesh_time_ms,
            wall_ms: wall_ms(),
        },
        origin,
        conditions: Conditions::default(),
        command: RestoreMesh {
            mesh: own.mesh,
            cluster: own.cluster,
            timeline: new_timeline(),
        }
        .into(),
    };
    let members: Vec<(NodeId, Endpoint)> = config
        .mesh
        .members
        .0
        .iter()
        .map(|member| {
            let endpoint = Endpoint {
                raft: member.raft.clone(),
                api: member.api.clone(),
            };
            (NodeId(member.id), endpoint)
        })
        .collect();
    restore
        .finish(&contents.header, &members, proposal)
        .map_err(|error| match error {
            RestoreError::Engine(error) => disk(error),
            RestoreError::Rejected(rejection) => {
                unfit(format!("the backup cannot be restored: {}", rejection.detail()))
            }
        })
}

/// A line of progress on a terminal; nothing elsewhere.
struct Progress<'a> {
    doing: &'a str,
    length: u64,
    percent: u64,
    shown: bool,
}

impl<'a> Progress<'a> {
    fn new(doing: &'a str, length: u64) -> Self {
        Self {
            doing,
            length: length.max(1),
            percent: 0,
            shown: std::io::stderr().is_terminal(),
        }
    }

    fn at(&mut self, bytes: u64) {
        let percent = bytes.saturating_mul(100) / self.length;
        if self.shown && percent > self.percent {
            self.percent = percent;
            eprint!("\r{} {percent} %", self.doing);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.shown && self.percent > 0 {
            eprintln!();
        }
    }
}
