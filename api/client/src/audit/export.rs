//! The trail, or a time of it, as a file that can be checked without the mesh.
//!
//! JSON lines, each an object with one member that says what it is: `export` (once, first), `record` for every revision in
//! order and without gaps, with its canonical bytes, `checkpoint` for every signed point among them, and `end` (once,
//! last), so that a file that was cut off is told from a whole one.

use std::io::{self, BufRead, Read as _};

use prost_types::Timestamp;
use proto::v1::{AuditCheckpoint, AuditRecord, ListAuditRecordsRequest};
use serde::{Deserialize, Serialize};

use super::{PAGE, Report, Signers, Verification, broken, chain::Chain, checkpoints};
use crate::{Client, Error, Result};

/// The form of the lines below.
pub(super) const FORMAT: u32 = 1;
/// A line is never longer: a revision is 1 MiB at most, and its JSON a small multiple of that.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(super) const RECORD: &str = r#"{"record":"#;
pub(super) const CHECKPOINT: &str = r#"{"checkpoint":"#;

/// The first and the last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Frame {
    Export {
        format: u32,
        mesh: String,
    },
    #[serde(rename_all = "camelCase")]
    End {
        records: u64,
        first_revision: u64,
        last_revision: u64,
        head: String,
    },
}

/// Which part of the trail is exported; all that is kept where nothing is said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Range {
    /// Only what was proposed at or after this time, by the mesh's clock.
    pub from: Option<Timestamp>,
    /// Only what was proposed before this time.
    pub to: Option<Timestamp>,
    /// Only revisions above this.
    pub after_revision: u64,
}

/// An export that is under way. What it gives is checked as a chain on the way.
pub struct Export {
    client: Client,
    range: Range,
    cursor: String,
    mesh: String,
    checkpoints: Vec<AuditCheckpoint>,
    chain: Chain,
    upto: u64,
    next: Next,
}

enum Next {
    Head,
    Records,
    Checkpoints,
    Nothing,
}

impl Export {
    /// Begins one.
    ///
    /// # Errors
    /// What the calls answer.
    pub async fn begin(client: &Client, range: Range) -> Result<Self> {
        Ok(Self {
            mesh: client.get_status(Default::default()).await?.message.mesh,
            // Before the records, so that they contain every checkpoint that is listed.
            checkpoints: checkpoints(client).await?,
            client: client.clone(),
            range,
            cursor: String::new(),
            chain: Chain::default(),
            upto: 0,
            next: Next::Head,
        })
    }

    /// The revision that was given last, and the last one that will be as far as is known.
    pub fn progress(&self) -> (u64, u64) {
        (self.chain.last_revision(), self.upto)
    }

    /// How many records were given.
    pub fn records(&self) -> u64 {
        self.chain.len()
    }

    /// The first and the last revision that was given; 0 where there was none.
    pub fn revisions(&self) -> (u64, u64) {
        (self.chain.first_revision(), self.chain.last_revision())
    }

    /// The next whole lines of the file; none behind the last.
    ///
    /// # Errors
    /// `not_found` where the range has no record, `compacted` where it reaches back further than the trail, `audit_broken`
    /// where what the node shows is no chain, and what the calls answer.
    pub async fn next(&mut self) -> Result<Option<String>> {
        match self.next {
            Next::Head => {
                self.next = Next::Records;
                let mesh = self.mesh.clone();
                frame(&Frame::Export { format: FORMAT, mesh }).map(Some)
            }
            Next::Records => self.page().await.map(Some),
            Next::Checkpoints => {
                self.next = Next::Nothing;
                self.end().map(Some)
            }
            Next::Nothing => Ok(None),
        }
    }

    async fn page(&mut self) -> Result<String> {
        let request = ListAuditRecordsRequest {
            limit: PAGE,
            cursor: std::mem::take(&mut self.cursor),
            after_revision: self.range.after_revision,
            from: self.range.from,
            to: self.range.to,
            include_canonical: true,
            ..Default::default()
        };
        let page = self.client.list_audit_records(request).await?.message;
        let mut lines = String::new();
        for record in &page.items {
            let linked = self.chain.extend(record);
            linked.map_err(|what| broken(record.revision, &what))?;
            line(RECORD, record, &mut lines)?;
        }
        self.upto = page.revision;
        self.cursor = page.next_cursor;
        if self.cursor.is_empty() {
            self.next = Next::Checkpoints;
        } else if page.items.is_empty() {
            return Err(broken(
                self.chain.last_revision(),
                "the listing goes on but shows no records",
            ));
        }
        Ok(lines)
    }

    fn end(&mut self) -> Result<String> {
        if self.chain.is_empty() {
            return Err(Error::local(
                "not_found",
                tonic::Code::NotFound,
                "the trail has no record in this range",
                "`mesh audit list --oldest-first --limit 1` shows where it begins",
            ));
        }
        let (first, last) = self.revisions();
        let mut lines = String::new();
        for checkpoint in &self.checkpoints {
            // The one before the first record vouches for where the chain begins.
            if (first.saturating_sub(1)..=last).contains(&checkpoint.revision) {
                line(CHECKPOINT, checkpoint, &mut lines)?;
            }
        }
        let end = Frame::End {
            records: self.chain.len(),
            first_revision: first,
            last_revision: last,
            head: self.chain.head(),
        };
        lines.push_str(&frame(&end)?);
        Ok(lines)
    }
}

/// Checks an export as [`super::verify`] checks a mesh. The file is read twice: `open` begins it anew.
///
/// # Errors
/// `audit_broken`; `invalid_argument` where the file cannot be read or is none of these, or the CA is unusable.
pub fn verify_export<R: BufRead>(
    open: impl Fn() -> io::Result<R>,
    ca: Option<&[u8]>,
    exported: &[AuditCheckpoint],
    mut progress: impl FnMut(u64, u64),
) -> Result<Report> {
    let (mut mesh, mut listed, mut end) = (None, Vec::new(), None);
    each_line(&open, |line| {
        if end.is_some() {
            return Err(none_of_these("it goes on behind its end"));
        }
        match line {
            Line::Frame(Frame::Export { format, mesh: found }) if format == FORMAT && mesh.is_none() => {
                mesh = Some(found);
            }
            Line::Frame(Frame::Export { .. }) => return Err(none_of_these("it is of another form")),
            Line::Frame(found) => end = Some(found),
            Line::Checkpoint(text) => listed.push(read(text)?),
            Line::Record(_) => {}
        }
        if mesh.is_none() {
            return Err(none_of_these("it does not begin as one"));
        }
        Ok(())
    })?;
    let mesh = mesh.ok_or_else(|| none_of_these("it is empty"))?;
    let Some(Frame::End {
        records,
        first_revision,
        last_revision,
        head,
    }) = end
    else {
        return Err(broken(0, "the file has no end: it was cut off"));
    };
    let signers = ca.map(|ca| Signers::new(ca, &mesh)).transpose()?;
    let mut verification = Verification::new(mesh, signers, listed, exported)?;
    each_line(&open, |line| {
        if let Line::Record(text) = line {
            let record: AuditRecord = read(text)?;
            verification.record(&record)?;
            progress(record.revision, last_revision);
        }
        Ok(())
    })?;
    let report = verification.finish_file(last_revision)?;
    let found = (report.records, report.first_revision, report.head.as_str());
    if found != (records, first_revision, head.as_str()) {
        return Err(broken(last_revision, "the file holds something else than its end says"));
    }
    Ok(report)
}

/// A line of an export.
enum Line<'a> {
    Frame(Frame),
    Record(&'a str),
    Checkpoint(&'a str),
}

fn each_line<R: BufRead>(open: impl Fn() -> io::Result<R>, mut take: impl FnMut(Line<'_>) -> Result<()>) -> Result<()> {
    let unreadable = |error: io::Error| none_of_these(&format!("it cannot be read: {error}"));
    let mut file = open().map_err(unreadable)?;
    let mut text = String::new();
    loop {
        text.clear();
        let read = file
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_line(&mut text)
            .map_err(unreadable)?;
        if read == 0 {
            return Ok(());
        }
        let Some(whole) = text.strip_suffix('\n') else {
            return Err(broken(0, "the file ends in the middle of a line: it was cut off"));
        };
        let inside = |head: &str| whole.strip_prefix(head)?.strip_suffix('}');
        take(match (inside(RECORD), inside(CHECKPOINT)) {
            (Some(record), _) => Line::Record(record),
            (None, Some(checkpoint)) => Line::Checkpoint(checkpoint),
            (None, None) => {
                let frame = serde_json::from_str(whole);
                Line::Frame(frame.map_err(|error| none_of_these(&error.to_string()))?)
            }
        })?;
    }
}

fn read<M: prost::Message + prost::Name + Default>(text: &str) -> Result<M> {
    proto::json::from_slice(text.as_bytes()).map_err(|error| none_of_these(&error.to_string()))
}

pub(super) fn line<M: prost::Message + prost::Name>(head: &str, message: &M, lines: &mut String) -> Result<()> {
    let text = proto::json::to_string(message).map_err(|error| unwritable(&error.to_string()))?;
    lines.push_str(head);
    lines.push_str(&text);
    lines.push_str("}\n");
    Ok(())
}

pub(super) fn frame(frame: &Frame) -> Result<String> {
    let text = serde_json::to_string(frame).map_err(|error| unwritable(&error.to_string()))?;
    Ok(text + "\n")
}

fn unwritable(why: &str) -> Error {
    Error::local(
        "internal",
        tonic::Code::Internal,
        format!("a line cannot be written: {why}"),
        "",
    )
}

fn none_of_these(why: &str) -> Error {
    Error::invalid(
        format!("the file is no export of an audit trail: {why}"),
        "give a file that `mesh audit export` wrote",
    )
}
