//! Why a measurement could not be done.

use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Programs could not be started or found.
    #[error(transparent)]
    Harness(#[from] node_harness::Error),
    /// A call of the SDK.
    #[error("{doing}: {error}")]
    Call {
        /// What was being done.
        doing: String,
        /// The mesh's answer, or why there was none.
        error: api_client::Error,
    },
    /// A gRPC call without the SDK.
    #[error("{doing}: {error}")]
    Grpc {
        /// What was being done.
        doing: String,
        /// The answer.
        error: Box<tonic::Status>,
    },
    /// No connection.
    #[error("{endpoint}: {why}")]
    Connect {
        /// Where to.
        endpoint: String,
        /// Why not.
        why: String,
    },
    /// A file.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// What was waited for did not come.
    #[error("waited {seconds} s in vain for {what}")]
    Late {
        /// What.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// A measurement that says nothing.
    #[error("{0}")]
    Worthless(String),
    /// The operating system gives no runtime.
    #[error("the runtime cannot be started: {0}")]
    Runtime(std::io::Error),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
