//! The command line, in process and as the built binary, against nodes that answer as they are told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod alarms;
mod approvals;
mod backup;
mod binary;
mod clusters;
// The SDK's tests use the same node.
mod drains;
#[path = "../../../api/client/tests/it/fake.rs"]
mod fake;
mod flows;
mod golden;
mod members;
mod records;
mod shards;
mod terminal;
mod trail;
mod upgrade;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use api_client::context::Environment;
use meshkit_cli::Streams;

/// What a run said.
pub(crate) struct Ran {
    pub exit: u8,
    pub out: String,
    pub err: String,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `mesh` with `line` split at blanks, and these variables.
pub(crate) async fn mesh_with(line: &str, variables: &[(&str, &str)]) -> Ran {
    let arguments = std::iter::once("mesh")
        .chain(line.split_whitespace())
        .map(Into::into)
        .collect();
    let environment: Environment = variables
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let (out, err) = (Buffer::default(), Buffer::default());
    let mut streams = Streams::plain(Box::new(out.clone()), Box::new(err.clone()), records::now());
    let exit = meshkit_cli::run(arguments, environment, &mut streams).await;
    Ran {
        exit,
        out: out.text(),
        err: err.text(),
    }
}

/// Runs `mesh` against `node`.
pub(crate) async fn mesh(node: &fake::Fake, line: &str) -> Ran {
    let endpoint = format!("http://{}", node.serve().await);
    mesh_with(line, &[("MESH_ENDPOINTS", &endpoint)]).await
}
