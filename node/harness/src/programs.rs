//! Where the built programs are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Error, Output, process};

/// The directory with `meshkit-node` and `mesh`.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

/// How long a program may take that a test runs to its end.
const RUN_WITHIN: Duration = Duration::from_secs(120);

impl Programs {
    /// `meshkit-node` of the feature level before.
    pub const PREVIOUS: &str = "meshkit-node-previous";

    /// Finds them: in `MESHKIT_BIN_DIR`, or in the `target/<profile>` that the test itself was built into.
    ///
    /// # Errors
    /// When one is missing. A test that needs a program fails without it; it is never skipped.
    pub fn find() -> Result<Self, Error> {
        let directory = match std::env::var_os("MESHKIT_BIN_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => beside_this_test()?,
        };
        let found = Self { directory };
        for program in ["meshkit-node", "mesh"] {
            let path = found.path(program);
            if !path.is_file() {
                return Err(Error::new(format!(
                    "{} is not there. These tests drive built programs: run `cargo build --release --workspace` \
                     first, or name their directory in MESHKIT_BIN_DIR",
                    path.display()
                )));
            }
        }
        Ok(found)
    }

    /// Those of a directory, whatever is in it.
    pub fn within(directory: &Path) -> Self {
        let directory = directory.to_owned();
        Self { directory }
    }

    /// Makes sure that the program of the feature level before is there, and of the same sources.
    ///
    /// # Errors
    /// It is missing or older than `meshkit-node`. Names the command that builds it.
    pub fn previous(&self) -> Result<(), Error> {
        let made = |program| std::fs::metadata(self.path(program)).and_then(|file| file.modified());
        let path = self.path(Self::PREVIOUS);
        let why = match (made(Self::PREVIOUS), made("meshkit-node")) {
            (Ok(previous), Ok(current)) if previous >= current => return Ok(()),
            (Ok(_), Ok(_)) => "is older than meshkit-node".to_owned(),
            (Err(error), _) | (_, Err(error)) => format!("is not there: {error}"),
        };
        Err(Error::new(format!(
            "{} {why}. Upgrade tests run the program of the feature level before: build it with `scripts/previous.sh`",
            path.display()
        )))
    }

    /// A program's file.
    pub fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }

    /// Runs `meshkit-node` with these arguments to its end.
    pub fn node<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Output {
        self.run("meshkit-node", arguments, &[], Path::new("."))
    }

    /// Runs a program to its end, with these variables added to a clean environment.
    pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: I,
        environment: &[(&str, &OsStr)],
        directory: &Path,
    ) -> Output {
        let mut command = self.command(program);
        command
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(directory)
            .stdin(Stdio::null());
        process::run(command, RUN_WITHIN)
    }

    /// A command for a program, with nothing of the tester's own settings in its environment.
    pub fn command(&self, program: &str) -> Command {
        self.command_of(Command::new(self.path(program)))
    }

    /// The same of a command that runs a program somewhere else.
    pub(crate) fn command_of(&self, mut command: Command) -> Command {
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("MESH_") || name_text.starts_with("MESHKIT_") {
                command.env_remove(&name);
            }
        }
        command.env("NO_COLOR", "1");
        command
    }
}

fn beside_this_test() -> Result<PathBuf, Error> {
    let test = std::env::current_exe().map_err(|error| Error::new(format!("the test's own file: {error}")))?;
    // target/<profile>/deps/it-0123456789abcdef, or target/<profile>/<program>.
    let directory = test.parent().unwrap_or(Path::new("."));
    let profile = if directory.ends_with("deps") {
        directory.parent()
    } else {
        Some(directory)
    };
    Ok(profile.unwrap_or(directory).to_owned())
}
