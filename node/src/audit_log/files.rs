//! A row of files that is written at its end and let go of at its beginning: `audit-<number>.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use statemachine::{Hash, Position, Revision, TimelineId};

use super::line;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";
/// For the node's user alone: the lines say who did what.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// The record that was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Where it is in the mesh's history.
    pub position: Position,
    /// The audit chain's hash after it.
    pub chain: Hash,
}

/// The files.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    file_bytes_max: u64,
    files_max: usize,
    /// Numbers of the files that are there, in order; the last one is written to.
    numbers: Vec<u64>,
    open: Option<(File, u64)>,
}

impl Files {
    /// Takes a directory, making it where there is none, and looks for the record that was written last. A line that was
    /// cut off by a crash is cut away.
    ///
    /// # Errors
    /// The directory or a file in it cannot be read or written.
    pub fn open(directory: &Path, file_bytes_max: u64, files_max: usize) -> io::Result<(Self, Option<Last>)> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(directory)?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let number: Option<u64> = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        let mut files = Self {
            directory: directory.to_owned(),
            file_bytes_max,
            files_max: files_max.max(1),
            numbers,
            open: None,
        };
        if let Some(&newest) = files.numbers.last() {
            let file = OpenOptions::new().read(true).write(true).open(files.path(newest))?;
            let whole = whole_lines(&file)?;
            file.set_len(whole)?;
            drop(file);
            let file = OpenOptions::new().append(true).open(files.path(newest))?;
            files.open = Some((file, whole));
        }
        let last = files.last()?;
        files.let_go()?;
        Ok((files, last))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{PREFIX}{number:08}{SUFFIX}"))
    }

    /// The newest record in the files.
    fn last(&self) -> io::Result<Option<Last>> {
        for &number in self.numbers.iter().rev() {
            let mut found = None;
            for text in BufReader::new(File::open(self.path(number))?).split(b'\n') {
                let text = text?;
                found = line::position(&text).or(found);
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Writes whole lines at the end. Where that fails, nothing of them is left.
    ///
    /// # Errors
    /// The disk does not take them.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self
            .open
            .as_ref()
            .is_none_or(|(_, bytes)| *bytes >= self.file_bytes_max)
        {
            self.begin()?;
        }
        let Some((file, bytes)) = &mut self.open else {
            return Err(io::Error::other("no file is open"));
        };
        match file.write_all(lines) {
            Ok(()) => {
                *bytes += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                let before = *bytes;
                if file.set_len(before).is_err() {
                    // What half a line looks like is found out when the files are opened again; nothing is added to it.
                    self.open = None;
                }
                Err(error)
            }
        }
    }

    /// Begins the next file, and lets go of the oldest ones.
    fn begin(&mut self) -> io::Result<()> {
        let number = self.numbers.last().map_or(1, |last| last + 1);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(self.path(number))?;
        self.numbers.push(number);
        self.open = Some((file, 0));
        self.let_go()
    }

    fn let_go(&mut self) -> io::Result<()> {
        while self.numbers.len() > self.files_max {
            let oldest = self.numbers[0];
            match fs::remove_file(self.path(oldest)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.numbers.remove(0);
        }
        Ok(())
    }
}

/// The bytes up to the end of the last whole line.
fn whole_lines(file: &File) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut whole, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok(whole);
        }
        whole += read as u64;
    }
}

/// Reads a position back from its text.
pub(super) fn read_position(timeline: &str, revision: u64, hash: &str) -> Option<Last> {
    Some(Last {
        position: Position {
            timeline: TimelineId(u128::from_str_radix(timeline, 16).ok()?),
            revision: Revision(revision),
        },
        chain: Hash::parse(hash)?,
    })
}
