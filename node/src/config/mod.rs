//! The node's configuration: one TOML file, overridden by `MESHKIT_<SECTION>__<KEY>`.
//!
//! Nothing is guessed: an unknown key, a missing one or a value out of range refuses the whole
//! file, and every problem is reported at once with line and caret. `sections/` declares the
//! keys; this module reads a file into them.

pub mod check;
pub mod document;
pub mod parts;
pub mod print;
pub mod report;
pub mod sections;
pub mod settings;
pub mod value;

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use document::{Document, Overrides, Place, Problem, Problems};
pub use report::Invalid;
use sections::{Api, Audit, Auth, Limits, Log, Mesh, Node, Raft, Retention, Storage, Telemetry, Tls};
use settings::Section;

/// A configuration file larger than this is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;

macro_rules! config {
    ($( $(#[doc = $doc:literal])* $name:ident : $ty:ty; )*) => {
        /// Everything a node is told at its start.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Config { $( $(#[doc = $doc])* pub $name: $ty, )* }

        /// The sections' names, in the order of documentation.
        pub const SECTIONS: &[&str] = &[$(stringify!($name)),*];

        impl Config {
            fn read(document: &mut Document<'_>, problems: &mut Problems) -> Self {
                Self { $(
                    $name: {
                        let entries = document.take(stringify!($name));
                        let section = <$ty>::read(&entries, problems);
                        check::$name(&section, &entries, problems);
                        section
                    },
                )* }
            }

            /// Calls `visit` with each section's name, documentation, keys, values and arrays.
            fn each_section(&self, mut visit: impl FnMut(print::Shown)) {
                $( visit(print::Shown::new(stringify!($name), &self.$name)); )*
            }
        }
    };
}

config! {
    /// This process.
    node: Node;
    /// The mesh and cluster it belongs to.
    mesh: Mesh;
    /// The API listener.
    api: Api;
    /// Consensus.
    raft: Raft;
    /// The stores on disk.
    storage: Storage;
    /// Certificates.
    tls: Tls;
    /// Who may do what.
    auth: Auth;
    /// Bounds on requests.
    limits: Limits;
    /// How much of the past is kept.
    retention: Retention;
    /// The audit trail in files.
    audit: Audit;
    /// Log lines.
    log: Log;
    /// Metrics and traces.
    telemetry: Telemetry;
}

impl Config {
    /// Reads `file` under the environment's overrides.
    ///
    /// Relative paths in it are relative to the directory of the file.
    pub fn load(file: &Path) -> Result<Self, Box<Invalid>> {
        let unreadable = |message: String| {
            let problem = Problem {
                place: Place::Nowhere,
                message,
                help: Some("`meshkit-node config print-default` shows a complete file".to_owned()),
            };
            Box::new(Invalid {
                file: file.to_owned(),
                text: String::new(),
                problems: vec![problem],
            })
        };
        let size = std::fs::metadata(file)
            .map_err(|error| unreadable(format!("cannot be read: {error}")))?
            .len();
        if size > FILE_BYTES_MAX {
            return Err(unreadable(format!("is {size} bytes long, more than {FILE_BYTES_MAX}")));
        }
        let text = std::fs::read_to_string(file).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        // Variables that are not text cannot be meant for us: their names are checked as text.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut config = Self::parse(file, &text, environment)?;
        config.resolve_paths(file.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Reads the text of a configuration, overridden by `environment`. `file` only names it.
    pub fn parse(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Box<Invalid>> {
        let invalid = |problems| {
            Err(Box::new(Invalid {
                file: file.to_owned(),
                text: text.to_owned(),
                problems,
            }))
        };
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let place = error.span().map_or(Place::Nowhere, Place::File);
                return invalid(vec![Problem {
                    place,
                    message: error.message().to_owned(),
                    help: None,
                }]);
            }
        };
        let environment = Overrides::parse(environment);
        let overrides = environment.values();
        let mut problems = Problems::default();
        let mut document = Document::new(&table, &overrides, SECTIONS, &mut problems);
        let bindings = document.places("auth", "binding", "spiffe");
        let config = Self::read(&mut document, &mut problems);
        check::across(&config, &bindings, &mut problems);
        problems.0.sort_by_key(|problem| match &problem.place {
            Place::File(range) => range.start,
            Place::Env(_) | Place::Nowhere => usize::MAX,
        });
        if problems.0.is_empty() {
            Ok(config)
        } else {
            invalid(problems.0)
        }
    }

    /// Makes every relative path relative to `base`.
    fn resolve_paths(&mut self, base: &Path) {
        let resolve = |path: &mut PathBuf| {
            if !path.as_os_str().is_empty() && path.is_relative() {
                *path = base.join(&path);
            }
        };
        resolve(&mut self.node.data_dir);
        resolve(&mut self.tls.ca_file);
        resolve(&mut self.tls.cert_file);
        resolve(&mut self.tls.key_file);
        let optional = self.audit.directory.iter_mut().chain(&mut self.auth.jwks_file);
        for file in optional.chain(&mut self.auth.key_files.0) {
            resolve(file);
        }
    }
}

#[cfg(test)]
mod tests;
