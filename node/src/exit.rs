//! How the process ends, as a supervisor sees it.

use std::fmt;
use std::process::ExitCode;

use raft::{Fatal, FatalKind};

/// The exit codes. A supervisor restarts on none of 2 to 6: a person has to look first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Stopped because it was asked to.
    Stopped = 0,
    /// Something else went wrong; starting again may help.
    Failed = 1,
    /// The configuration or the command line is wrong.
    Config = 2,
    /// The data directory is in use, another node's, or a newer program's.
    Directory = 3,
    /// What is on disk is not what was written there.
    Corrupt = 4,
    /// The disk failed to write or sync.
    Disk = 5,
    /// The cluster has removed this node.
    Removed = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the node stopped other than by being asked.
#[derive(Debug)]
pub struct Failure {
    /// The process's exit code.
    pub exit: Exit,
    /// What happened, for people: names the file, and says what to do where that is known.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Fatal> for Failure {
    fn from(fatal: Fatal) -> Self {
        let exit = match fatal.kind {
            FatalKind::Corrupt => Exit::Corrupt,
            FatalKind::Disk => Exit::Disk,
            FatalKind::Foreign => Exit::Directory,
            FatalKind::Removed => Exit::Removed,
            FatalKind::Internal => Exit::Failed,
        };
        Self::new(exit, fatal.to_string())
    }
}
