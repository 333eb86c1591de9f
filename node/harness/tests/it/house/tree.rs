//! The files of the workspace.

use std::path::{Path, PathBuf};

/// A file of the workspace: path from its root, and text.
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Whether it is only there for tests or benchmarks.
    pub fn is_test(&self) -> bool {
        let below =
            |folder: &str| self.path.starts_with(&format!("{folder}/")) || self.path.contains(&format!("/{folder}/"));
        below("tests") || below("benches") || self.path.ends_with("/tests.rs")
    }

    /// Whether a program wrote it.
    pub fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }
}

pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .unwrap()
            .to_owned();
        assert!(root.join("proto").is_dir(), "{} is not the workspace", root.display());
        Self { root }
    }

    pub fn sources(&self) -> Vec<File> {
        let files = self.files(|path| path.extension().is_some_and(|extension| extension == "rs"));
        assert!(files.len() > 100, "only {} source files were found", files.len());
        files
    }

    pub fn manifests(&self) -> Vec<File> {
        let files = self.files(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"));
        files.into_iter().filter(|file| file.path != "Cargo.toml").collect()
    }

    /// The names of the pages under `docs/errors`, without extension.
    pub fn error_pages(&self) -> Vec<String> {
        let pages = std::fs::read_dir(self.root.join("docs/errors")).unwrap();
        pages
            .map(|page| page.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect()
    }

    fn files(&self, wanted: impl Fn(&Path) -> bool) -> Vec<File> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    if name != "target" && !name.starts_with('.') {
                        folders.push(path);
                    }
                } else if wanted(&path) {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let path = path.strip_prefix(&self.root).unwrap().to_string_lossy().into_owned();
                    found.push(File { path, text });
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }
}
