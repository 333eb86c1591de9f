//! What RocksDB's errors mean.

use std::io;

use raft::engine::EngineError;
use rocksdb::ErrorKind;

/// RocksDB names the file in its message; `context` says what was being done.
pub(crate) fn translate(context: &str, error: rocksdb::Error) -> EngineError {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::Corruption => EngineError::corrupt(context, message),
        ErrorKind::IOError if message.contains("While lock file") || message.contains("lock hold by") => {
            EngineError::Foreign {
                place: context.to_owned(),
                detail: format!("in use by another process ({message})"),
            }
        }
        ErrorKind::InvalidArgument if message.contains("olumn famil") => EngineError::Foreign {
            place: context.to_owned(),
            detail: format!("has other tables than this release knows ({message})"),
        },
        // The directory was there, and was made whole: a file that its other files name is lost.
        ErrorKind::IOError if message.contains("No such file") => EngineError::corrupt(context, message),
        ErrorKind::IOError if message.contains("No space left") => {
            EngineError::io(context, io::Error::new(io::ErrorKind::StorageFull, message))
        }
        _ => EngineError::io(context, io::Error::other(message)),
    }
}
