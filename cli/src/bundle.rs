//! A support bundle: a compressed archive of small texts, with a table of contents that says what is missing.

pub mod scrub;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use tar::{EntryType, Header};

/// Size of one text; what is beyond is cut off.
const TEXT_BYTES_MAX: usize = 8 << 20;
/// Size of all of them.
const BUNDLE_BYTES_MAX: usize = 128 << 20;

/// What becomes a bundle.
pub struct Bundle {
    /// The folder that everything is in.
    folder: String,
    /// When, in seconds since 1970.
    made_s: u64,
    texts: Vec<(String, String)>,
    contents: Contents,
    bytes: usize,
}

/// The table of contents.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// When, RFC 3339.
    pub made: String,
    /// By which program.
    pub by: String,
    /// Nodes, and whether they answered.
    pub nodes: Vec<Visited>,
    files: Vec<File>,
    missing: Vec<Missing>,
}

/// A node that was asked.
#[derive(Debug, Serialize)]
pub struct Visited {
    /// Its id.
    pub node: u64,
    /// Where it was asked.
    pub api: String,
    /// Why it did not answer; absent where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    name: String,
    bytes: usize,
    truncated: bool,
    credentials_removed: usize,
}

#[derive(Debug, Serialize)]
struct Missing {
    name: String,
    error: String,
}

impl Bundle {
    /// An empty one.
    pub fn new(folder: String, made: jiff::Timestamp) -> Self {
        Self {
            folder,
            made_s: u64::try_from(made.as_second()).unwrap_or(0),
            texts: Vec::new(),
            contents: Contents {
                made: made.to_string(),
                by: concat!("mesh ", env!("CARGO_PKG_VERSION")).to_owned(),
                ..Contents::default()
            },
            bytes: 0,
        }
    }

    /// Takes a text in under a name such as `nodes/1/log.txt`, without anything in it that looks like a credential.
    pub fn add(&mut self, name: &str, text: &str, truncated: bool) {
        let (text, credentials_removed) = scrub::scrub(text);
        let room = TEXT_BYTES_MAX.min(BUNDLE_BYTES_MAX - self.bytes);
        let kept = &text[..text.floor_char_boundary(room)];
        self.bytes += kept.len();
        self.contents.files.push(File {
            name: name.to_owned(),
            bytes: kept.len(),
            truncated: truncated || kept.len() < text.len(),
            credentials_removed,
        });
        self.texts.push((name.to_owned(), kept.to_owned()));
    }

    /// Notes what could not be had, and why.
    pub fn missing(&mut self, name: &str, error: &str) {
        self.contents.missing.push(Missing {
            name: name.to_owned(),
            error: scrub::scrub(error).0.into_owned(),
        });
    }

    /// Notes a node that was asked.
    pub fn visited(&mut self, visited: Visited) {
        self.contents.nodes.push(visited);
    }

    /// How many nodes were asked, and how many of them answered.
    pub fn answered(&self) -> (usize, usize) {
        let nodes = &self.contents.nodes;
        (nodes.len(), nodes.iter().filter(|node| node.error.is_none()).count())
    }

    /// The archive.
    ///
    /// # Errors
    /// A name is too long for an archive.
    pub fn archive(&self) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let contents = serde_json::to_string_pretty(&self.contents)? + "\n";
        let all = [("contents.json".to_owned(), contents)];
        for (name, text) in all.iter().chain(&self.texts) {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o600);
            header.set_mtime(self.made_s);
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, format!("{}/{name}", self.folder), text.as_bytes())?;
        }
        archive.into_inner()?.finish()
    }
}

/// Writes a file that only its owner may read, whole or not at all. One that is there already is left alone.
///
/// # Errors
/// As the system says.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // What is there of it is of no use. It is ours: nobody had it before.
        drop(fs::remove_file(path));
    }
    written
}

/// A name that came from elsewhere, as part of a path.
pub fn file_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .take(64)
        .collect();
    match name.trim_start_matches('.') {
        "" => "unnamed".to_owned(),
        plain => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_says_what_it_holds_and_what_is_missing() {
        let mut bundle = Bundle::new("b".into(), jiff::Timestamp::UNIX_EPOCH);
        bundle.add("one.txt", "hello", false);
        bundle.add("long.txt", &"x".repeat(TEXT_BYTES_MAX + 1), false);
        bundle.add("key.txt", "-----BEGIN PRIVATE KEY-----\nMHcC", true);
        bundle.missing("two.txt", "nobody knows");
        bundle.visited(Visited {
            node: 1,
            api: "https://a:1".into(),
            error: Some("cannot connect".into()),
        });
        let bytes = bundle.archive().unwrap_or_default();
        let mut found = Vec::new();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        for entry in archive.entries().into_iter().flatten().flatten() {
            let mut entry = entry;
            assert_eq!(entry.header().mode().ok(), Some(0o600));
            let path = entry.path().map(|path| path.display().to_string()).unwrap_or_default();
            let mut text = String::new();
            assert!(entry.read_to_string(&mut text).is_ok());
            found.push((path, text));
        }
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b/contents.json", "b/one.txt", "b/long.txt", "b/key.txt"]);
        assert_eq!(found[2].1.len(), TEXT_BYTES_MAX);
        assert_eq!(found[3].1, scrub::REMOVED);
        let contents: serde_json::Value = serde_json::from_str(&found[0].1).unwrap_or_default();
        assert_eq!(contents["files"][1]["truncated"], true);
        assert_eq!(contents["files"][2]["credentialsRemoved"], 1);
        assert_eq!(contents["missing"][0]["error"], "nobody knows");
        assert_eq!(contents["nodes"][0]["error"], "cannot connect");
    }

    #[test]
    fn a_name_from_elsewhere_stays_in_its_folder() {
        for (name, kept) in [
            ("log.txt", "log.txt"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..", "unnamed"),
            ("", "unnamed"),
            ("a b\n", "a_b_"),
        ] {
            assert_eq!(file_name(name), kept);
        }
    }
}
