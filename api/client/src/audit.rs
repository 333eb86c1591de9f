//! Checks the audit trail without trusting the node that shows it.
//!
//! The trail is a hash chain over the canonical bytes of every revision (`statemachine::audit`); leaders sign points
//! of it. [`verify`] pages through all of it and finds: a record that was altered, left out, added or moved; a record
//! whose readable form differs from its canonical bytes; a checkpoint whose signature, signer or hash is wrong; and,
//! against a checkpoint that was exported earlier, a trail that was cut off or rewritten as a whole.
//!
//! Every field is compared, the line for people and the changed records too, as this program words them: verify with
//! the mesh's own version of it.
//!
//! It cannot see what a quorum of nodes rewrote after the last checkpoint that the caller holds a copy of.

mod chain;
mod export;
mod shown;
mod signature;

use std::collections::BTreeMap;

use proto::v1::{AuditCheckpoint, AuditRecord, ListAuditCheckpointsRequest, ListAuditRecordsRequest};
use tonic::Code;

use crate::{Client, Error, Result};
use chain::Chain;
pub use export::{Export, Range, verify_export};
pub use signature::Signers;

/// Records asked for at once: a page with canonical bytes stays far below the response limit.
const PAGE: u32 = 200;
/// Checkpoints kept for comparison at most: one per 1,000 records makes this a trail of 100 million.
const CHECKPOINTS_MAX: usize = 100_000;

/// How often the trail is read anew where its oldest records go while it is read.
const TRIES_MAX: u32 = 3;

/// What was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The mesh.
    pub mesh: String,
    /// The oldest revision that was checked; 1 where nothing was pruned.
    pub first_revision: u64,
    /// The newest revision that was checked.
    pub last_revision: u64,
    /// How many records were checked.
    pub records: u64,
    /// The chain's hash after the newest, hex.
    pub head: String,
    /// Checkpoints whose hash matched, and whose signature held where `signatures_checked`.
    pub checkpoints: u64,
    /// The newest revision that a checked checkpoint covers; absent where there is none.
    pub covered_through: Option<u64>,
    /// True where the chain begins at revision 1, or at the revision behind a checkpoint. Otherwise the hash before
    /// the oldest record is vouched for only by the checkpoints after it.
    pub anchored: bool,
    /// False where no CA was given, so that signatures could not be checked.
    pub signatures_checked: bool,
    /// Exported checkpoints that the chain passes through.
    pub exported_matched: u64,
    /// Exported checkpoints below the oldest record: their signature held, the chain no longer shows them.
    pub exported_pruned: u64,
    /// The newest checkpoint that was checked, for keeping outside of the mesh.
    pub newest_checkpoint: Option<AuditCheckpoint>,
}

/// Reads and checks the whole trail.
///
/// `ca` is the mesh's CA (PEM): without it hashes are compared, but no signature is checked. `exported` are
/// checkpoints that were kept outside of the mesh. `progress` hears of the newest revision checked and of the last
/// one that will be.
///
/// # Errors
/// `audit_broken` with the revision and what is wrong there; `invalid_argument` for an unusable CA; and what the
/// calls themselves answer.
pub async fn verify(
    client: &Client,
    ca: Option<&[u8]>,
    exported: &[AuditCheckpoint],
    mut progress: impl FnMut(u64, u64),
) -> Result<Report> {
    let mut tries = 0;
    loop {
        tries += 1;
        let outcome = verify_once(client, ca, exported, &mut progress).await;
        // Old records may be let go of meanwhile: then the trail begins elsewhere, and is read anew from there.
        let has_moved = match &outcome {
            Ok(report) => report.first_revision > 1 && !report.anchored,
            Err(error) => error.code() == "compacted",
        };
        if !has_moved || tries == TRIES_MAX {
            return outcome;
        }
    }
}

async fn verify_once(
    client: &Client,
    ca: Option<&[u8]>,
    exported: &[AuditCheckpoint],
    progress: &mut impl FnMut(u64, u64),
) -> Result<Report> {
    let mesh = client.get_status(Default::default()).await?.message.mesh;
    let signers = ca.map(|ca| Signers::new(ca, &mesh)).transpose()?;
    // Before the records, so that the trail contains every checkpoint that is listed here.
    let listed = checkpoints(client).await?;
    let mut verification = Verification::new(mesh, signers, listed, exported)?;
    let mut cursor = String::new();
    loop {
        let request = ListAuditRecordsRequest {
            limit: PAGE,
            cursor,
            include_canonical: true,
            ..Default::default()
        };
        let page = client.list_audit_records(request).await?.message;
        for record in &page.items {
            verification.record(record)?;
        }
        if let Some(last) = page.items.last() {
            progress(last.revision, page.revision);
        }
        if page.next_cursor.is_empty() {
            return verification.finish(page.revision);
        }
        if page.items.is_empty() {
            return Err(broken(
                verification.chain.last_revision(),
                "the listing goes on but shows no records",
            ));
        }
        cursor = page.next_cursor;
    }
}

async fn checkpoints(client: &Client) -> Result<Vec<AuditCheckpoint>> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let request = ListAuditCheckpointsRequest { limit: 1_000, cursor };
        let page = client.list_audit_checkpoints(request).await?.message;
        let empty = page.items.is_empty();
        all.extend(page.items);
        if all.len() > CHECKPOINTS_MAX {
            return Err(broken(
                0,
                "there are more checkpoints than a trail of this kind can have",
            ));
        }
        if page.next_cursor.is_empty() || empty {
            return Ok(all);
        }
        cursor = page.next_cursor;
    }
}

/// The check as it goes along. Does no I/O.
struct Verification {
    mesh: String,
    signers: Option<Signers>,
    chain: Chain,
    /// Checkpoints that the chain has not reached yet, by revision; the flag marks exported ones.
    ahead: BTreeMap<u64, Vec<(AuditCheckpoint, bool)>>,
    report: Counts,
}

#[derive(Default)]
struct Counts {
    checkpoints: u64,
    exported_matched: u64,
    exported_pruned: u64,
    covered_through: Option<u64>,
    anchored: bool,
    newest: Option<AuditCheckpoint>,
}

impl Verification {
    fn new(
        mesh: String,
        signers: Option<Signers>,
        listed: Vec<AuditCheckpoint>,
        exported: &[AuditCheckpoint],
    ) -> Result<Self> {
        let mut ahead: BTreeMap<u64, Vec<(AuditCheckpoint, bool)>> = BTreeMap::new();
        let exported = exported.iter().cloned().map(|checkpoint| (checkpoint, true));
        for (checkpoint, is_exported) in listed.into_iter().map(|checkpoint| (checkpoint, false)).chain(exported) {
            ahead
                .entry(checkpoint.revision)
                .or_default()
                .push((checkpoint, is_exported));
        }
        Ok(Self {
            mesh,
            signers,
            chain: Chain::default(),
            ahead,
            report: Counts::default(),
        })
    }

    fn record(&mut self, record: &AuditRecord) -> Result<()> {
        let first = self.chain.is_empty();
        let link = self
            .chain
            .extend(record)
            .map_err(|what| broken(record.revision, &what))?;
        if first {
            self.report.anchored = record.revision == 1;
            self.below(record.revision, &record.previous_hash)?;
        }
        for (checkpoint, exported) in self.ahead.remove(&record.revision).unwrap_or_default() {
            self.signed(&checkpoint, Some(link.wall_ms))?;
            if checkpoint.hash != link.hash {
                return Err(broken(record.revision, &mismatch(&checkpoint, exported, &link.hash)));
            }
            self.count(checkpoint, exported);
        }
        Ok(())
    }

    /// Checkpoints below the oldest record: pruned from sight, but the one just before it anchors the chain.
    fn below(&mut self, first: u64, previous_hash: &str) -> Result<()> {
        let kept = self.ahead.split_off(&first);
        let below = std::mem::replace(&mut self.ahead, kept);
        for (revision, checkpoints) in below {
            for (checkpoint, exported) in checkpoints {
                self.signed(&checkpoint, None)?;
                if revision + 1 == first {
                    if checkpoint.hash != previous_hash {
                        return Err(broken(revision, &mismatch(&checkpoint, exported, previous_hash)));
                    }
                    self.report.anchored = true;
                    self.count(checkpoint, exported);
                } else if exported {
                    self.report.exported_pruned += 1;
                }
            }
        }
        Ok(())
    }

    fn signed(&self, checkpoint: &AuditCheckpoint, wall_ms: Option<u64>) -> Result<()> {
        let Some(signers) = &self.signers else {
            return Ok(());
        };
        signers
            .check(checkpoint, wall_ms)
            .map_err(|what| broken(checkpoint.revision, &format!("the checkpoint {what}")))
    }

    fn count(&mut self, checkpoint: AuditCheckpoint, exported: bool) {
        if exported {
            self.report.exported_matched += 1;
        } else {
            self.report.checkpoints += 1;
        }
        self.report.covered_through = Some(checkpoint.revision);
        self.report.newest = Some(checkpoint);
    }

    /// As [`Self::finish`], for a file: what was exported outside of it is no concern of it.
    fn finish_file(mut self, revision: u64) -> Result<Report> {
        let later = self.ahead.split_off(&revision.saturating_add(1));
        let own = later.values().flatten().any(|(_, is_exported)| !is_exported);
        if own {
            return Err(broken(
                revision,
                "the file has checkpoints of revisions that it has not",
            ));
        }
        self.finish(revision)
    }

    /// `revision` is the one that the listing claims to show.
    fn finish(self, revision: u64) -> Result<Report> {
        let last = self.chain.last_revision();
        if let Some((ahead, _)) = self.ahead.first_key_value() {
            return Err(broken(
                last,
                &format!("the trail ends here, but a checkpoint vouches for revision {ahead}"),
            ));
        }
        if last != revision {
            return Err(broken(
                last,
                &format!("the trail ends here, but the mesh is at revision {revision}"),
            ));
        }
        Ok(Report {
            mesh: self.mesh,
            first_revision: self.chain.first_revision(),
            last_revision: last,
            records: self.chain.len(),
            head: self.chain.head(),
            checkpoints: self.report.checkpoints,
            covered_through: self.report.covered_through,
            anchored: self.report.anchored,
            signatures_checked: self.signers.is_some(),
            exported_matched: self.report.exported_matched,
            exported_pruned: self.report.exported_pruned,
            newest_checkpoint: self.report.newest,
        })
    }
}

fn mismatch(checkpoint: &AuditCheckpoint, exported: bool, found: &str) -> String {
    let which = if exported {
        "the exported checkpoint"
    } else {
        "the checkpoint"
    };
    format!("{which} says {}, the chain {found}", checkpoint.hash)
}

fn broken(revision: u64, what: &str) -> Error {
    Error::local(
        "audit_broken",
        Code::DataLoss,
        format!("the audit trail does not hold at revision {revision}: {what}"),
        "compare with another node (`--endpoints`), keep the data directories, and find out who could write to them",
    )
}

#[cfg(test)]
mod tests;
