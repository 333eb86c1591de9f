//! Backups on the caller's side: whether one arrived whole, and whether a file holds together. Needs no mesh.

use std::io::Read;

use statemachine::backup::{Check, Damage, Decoder, Part, Wrong};
pub use statemachine::backup::{Contents, End, Header};
use tonic::Code;

use crate::{Error, Result};

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 * 1024;

/// Looks at a backup as it arrives. Holds one part of it at the most.
#[derive(Debug, Default)]
pub struct Receiver {
    decoder: Decoder,
    header: Option<Header>,
}

impl Receiver {
    /// Begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `backup_damaged`: they are not what was sent.
    pub fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.decoder.push(bytes);
        while let Some(part) = self.decoder.part().map_err(|damage| damaged(&damage))? {
            if let Part::Header(header) = part {
                self.header = Some(*header);
            }
        }
        Ok(())
    }

    /// What it is of, once the header is there.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Ends it.
    ///
    /// # Errors
    /// `backup_damaged`: it breaks off.
    pub fn finish(self) -> Result<(Header, End)> {
        let end = self.decoder.finish().map_err(|damage| damaged(&damage))?;
        let header = self
            .header
            .ok_or_else(|| broken("it has no header".to_owned(), TAKE_ANOTHER))?;
        Ok((header, end))
    }
}

/// Checks a backup: every byte, the digest of the state in it, and the audit chain. `progress` hears how many bytes were
/// checked. Holds the state in memory, as a node would.
///
/// # Errors
/// `backup_damaged`, naming the place; `internal` where the file cannot be read.
pub fn verify(mut file: impl Read, mut progress: impl FnMut(u64)) -> Result<Contents> {
    let (mut decoder, mut check) = (Decoder::new(), Check::new());
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let read = match file.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let detail = format!("the backup cannot be read: {error}");
                return Err(Error::local("internal", Code::Internal, detail, ""));
            }
        };
        decoder.push(&bytes[..read]);
        while let Some(part) = decoder.part().map_err(|damage| damaged(&damage))? {
            check.part(&part).map_err(|wrong| wrong_at(&decoder, &wrong))?;
        }
        progress(decoder.checked_bytes());
    }
    let at = decoder.checked_bytes();
    let end = decoder.finish().map_err(|damage| damaged(&damage))?;
    let checked = check.finish(end).map_err(|wrong| wrong_before(at, &wrong))?;
    Ok(checked.contents)
}

const TAKE_ANOTHER: &str = "use another backup, and look at the disk that this one was on";

fn damaged(damage: &Damage) -> Error {
    broken(damage.to_string(), TAKE_ANOTHER)
}

fn wrong_at(decoder: &Decoder, wrong: &Wrong) -> Error {
    wrong_before(decoder.checked_bytes(), wrong)
}

fn wrong_before(byte: u64, wrong: &Wrong) -> Error {
    let hint = match wrong {
        Wrong::TooNew { .. } => "use the `mesh` of a newer release",
        Wrong::Order(_) | Wrong::Table | Wrong::Load(_) | Wrong::Chain { .. } | Wrong::Header(_) => TAKE_ANOTHER,
    };
    broken(format!("before byte {byte}: {wrong}"), hint)
}

fn broken(detail: String, hint: &str) -> Error {
    Error::local(
        "backup_damaged",
        Code::DataLoss,
        format!("the backup is damaged: {detail}"),
        hint,
    )
}
