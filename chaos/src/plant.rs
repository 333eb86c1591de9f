//! Bugs that are put in on purpose, to see that the invariants find them. Off unless asked for.

use clap::ValueEnum;
use raft::{Handle, testing::tamper};
use statemachine::{Command, Entry, NodeId, Revision, cluster};

/// A bug to plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Plant {
    /// Every disk reports synced writes as durable and makes none so: what a forgotten fsync does.
    LyingSync,
    /// The same, on the log's disks only.
    LyingLogSync,
    /// One node applies compactions otherwise than the others.
    UnevenFloor,
    /// A removed node comes off the membership, and not onto the list of removed ones.
    ForgottenRemoval,
    /// A backup shows the mesh as it was some time before it was asked for.
    StaleBackup,
}

/// The node whose compactions are wrong.
const UNEVEN: NodeId = NodeId(2);
/// A node that never was.
const NOBODY: NodeId = NodeId(99);

impl Plant {
    /// Changes how a node that has just started applies what is in the log.
    pub fn put_into(self, handle: &Handle) {
        match self {
            Self::UnevenFloor if handle.node() == UNEVEN => tamper(handle, |entry| {
                if let Entry::Command(proposal) = entry
                    && let Command::CompactHistory(compact) = &mut proposal.command
                {
                    compact.to = Revision(compact.to.0 / 2);
                }
            }),
            Self::ForgottenRemoval => tamper(handle, |entry| {
                if let Entry::Cluster(cluster::Command::RemoveNode { node, .. }) = entry {
                    *node = NOBODY;
                }
            }),
            Self::LyingSync | Self::LyingLogSync | Self::UnevenFloor | Self::StaleBackup => {}
        }
    }
}
