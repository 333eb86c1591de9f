//! Why a run could not be done. A violation is no error: it is what a run is for.

use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Programs could not be started, killed or found.
    #[error(transparent)]
    Harness(#[from] node_harness::Error),
    /// A call that the run itself needed (not one of the workload's).
    #[error("{doing}: {error}")]
    Call {
        /// What was being done.
        doing: String,
        /// The mesh's answer, or why there was none.
        error: api_client::Error,
    },
    /// A file.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A line of a history that is none.
    #[error("{}:{line}: {error}", path.display())]
    Line {
        /// The history.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// What was waited for did not come.
    #[error("waited {seconds} s in vain for {what}")]
    Late {
        /// What.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// A watch could not be read.
    #[error("a watch: {why}")]
    Watch {
        /// Why.
        why: String,
    },
    /// The operating system gives no runtime.
    #[error("the runtime cannot be started: {0}")]
    Runtime(std::io::Error),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was being done when a call failed.
pub(crate) trait Doing<T> {
    /// `doing` in the present tense: `reading the audit trail`.
    fn doing(self, doing: &str) -> Result<T>;
}

impl<T> Doing<T> for api_client::Result<T> {
    fn doing(self, doing: &str) -> Result<T> {
        self.map_err(|error| Error::Call {
            doing: doing.to_owned(),
            error,
        })
    }
}
