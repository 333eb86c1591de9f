//! What this node says of itself to whoever has to find out what is wrong with it: configuration, disk, certificates,
//! and the last log lines. Never a key or a token: key files are not opened, and the configuration has only paths.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api_server::ports::{Inspect, LogLevel, Section};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::VERSION;
use crate::config::{Config, print};
use crate::logs::Levels;
use crate::tls::Certificates;

const CONFIG_BYTES_MAX: usize = 64 << 10;
const DISK_BYTES_MAX: usize = 64 << 10;
const CERTIFICATES_BYTES_MAX: usize = 256 << 10;
const PROCESS_BYTES_MAX: usize = 16 << 10;
/// As much as is kept.
const LOG_BYTES_MAX: usize = 1 << 20;

/// Files of a store that are counted; what is beyond is said to be.
const FILES_MAX: usize = 100_000;
/// Certificates of one file that are described.
const CERTIFICATES_MAX: usize = 64;

/// Puts the report together.
pub struct Reporter {
    /// As it was read at the start. What SIGHUP has changed since is what the files say now.
    pub config: Config,
    /// Those in use.
    pub certificates: Arc<Certificates>,
    /// Levels and the last lines.
    pub levels: Levels,
    /// When the process started.
    pub started: SystemTime,
}

impl Inspect for Reporter {
    fn sections(&self) -> Vec<Section> {
        let (log, older_gone) = self.levels.lines();
        let mut log = Section::tail("log.txt", log, LOG_BYTES_MAX);
        log.truncated |= older_gone;
        let pretty = |value: &Value| format!("{value:#}\n");
        vec![
            Section::head("process.json", pretty(&self.process()), PROCESS_BYTES_MAX),
            Section::head("config.toml", print::brief(&self.config), CONFIG_BYTES_MAX),
            Section::head("disk.json", pretty(&disk(&self.config.node.data_dir)), DISK_BYTES_MAX),
            Section::head(
                "certificates.json",
                pretty(&self.certificates()),
                CERTIFICATES_BYTES_MAX,
            ),
            log,
        ]
    }

    fn log_level(&self, change: Option<(&str, Duration)>) -> Result<LogLevel, String> {
        self.levels.set(change)
    }
}

impl Reporter {
    fn process(&self) -> Value {
        let (filter, until) = self.levels.in_force();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let of_status = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim().to_owned())
        };
        json!({
            "version": VERSION,
            "pid": std::process::id(),
            "startedAt": unix_s(self.started),
            "now": unix_s(SystemTime::now()),
            "log": { "filter": filter, "until": until.map(unix_s) },
            "memory": { "rss": of_status("VmRSS"), "peak": of_status("VmHWM") },
            "threads": of_status("Threads"),
            "openFiles": fs::read_dir("/proc/self/fd").map(Iterator::count).ok(),
            "openFilesLimit": open_files.and_then(|limits| limits.split_whitespace().next()),
        })
    }

    fn certificates(&self) -> Value {
        let tls = &self.config.tls;
        let in_use = self.certificates.expiries().into_iter().map(|expiry| {
            json!({ "of": expiry.of.as_str(), "fingerprint": expiry.fingerprint, "notAfter": expiry.unix_s() })
        });
        json!({
            "inUse": in_use.collect::<Vec<_>>(),
            "certFile": certificates_of(&tls.cert_file),
            "caFile": certificates_of(&tls.ca_file),
            // Only whether it is there, and for whom: what is in it is nobody's to see.
            "keyFile": file(&tls.key_file),
        })
    }
}

fn unix_s(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn file(path: &Path) -> Value {
    match fs::metadata(path) {
        Ok(found) => json!({
            "path": path.display().to_string(),
            "mode": format!("{:o}", found.mode() & 0o7777),
            "user": found.uid(),
            "changedAt": found.mtime(),
        }),
        Err(error) => json!({ "path": path.display().to_string(), "error": error.to_string() }),
    }
}

/// The certificates in a PEM file as it is now.
fn certificates_of(path: &Path) -> Value {
    let mut told = file(path);
    let found = CertificateDer::pem_file_iter(path).and_then(|all| {
        all.take(CERTIFICATES_MAX)
            .map(|certificate| Ok(certificate_of(&certificate?)))
            .collect::<Result<Vec<_>, rustls::pki_types::pem::Error>>()
    });
    match found {
        Ok(certificates) => told["certificates"] = certificates.into(),
        // Not what the library says of it: it may repeat a line of the file.
        Err(_) => told["error"] = "not a file of PEM certificates, or not to be read".into(),
    }
    told
}

fn certificate_of(der: &[u8]) -> Value {
    let hash = digest(&SHA256, der);
    let fingerprint: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return json!({ "sha256": fingerprint, "error": "not a certificate" });
    };
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.iter().map(name).collect::<Vec<_>>());
    json!({
        "subject": parsed.subject().to_string(),
        "issuer": parsed.issuer().to_string(),
        "serial": parsed.raw_serial_as_string(),
        "names": names.unwrap_or_default(),
        "notBefore": parsed.validity().not_before.timestamp(),
        "notAfter": parsed.validity().not_after.timestamp(),
        "authority": parsed.is_ca(),
        "sha256": fingerprint,
    })
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::IPAddress([a, b, c, d]) => format!("{a}.{b}.{c}.{d}"),
        GeneralName::IPAddress(bytes) => match <[u8; 16]>::try_from(*bytes) {
            Ok(bytes) => std::net::Ipv6Addr::from(bytes).to_string(),
            Err(_) => "an address of another length".to_owned(),
        },
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => (*text).to_owned(),
        other => other.to_string(),
    }
}

/// What the data directory takes, and how much room its file system has.
fn disk(directory: &Path) -> Value {
    let mut parts = serde_json::Map::new();
    match fs::read_dir(directory) {
        Ok(entries) => {
            let mut left = FILES_MAX;
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                parts.insert(name, size(entry.path(), &mut left));
            }
        }
        Err(error) => drop(parts.insert("error".to_owned(), error.to_string().into())),
    }
    let room = match rustix::fs::statvfs(directory) {
        Ok(found) => json!({
            "bytes": found.f_blocks.saturating_mul(found.f_frsize),
            "freeBytes": found.f_bavail.saturating_mul(found.f_frsize),
            "files": found.f_files,
            "freeFiles": found.f_favail,
        }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    json!({
        "directory": directory.display().to_string(),
        "parts": parts,
        "fileSystem": room,
    })
}

/// Files and bytes below a path. Links are not followed.
fn size(path: PathBuf, left: &mut usize) -> Value {
    let (mut files, mut bytes, mut unread) = (0_u64, 0_u64, 0_u64);
    let mut open = vec![path];
    while let Some(path) = open.pop() {
        let Some(rest) = left.checked_sub(1) else {
            unread += 1;
            break;
        };
        *left = rest;
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => match fs::read_dir(&path) {
                Ok(entries) => open.extend(entries.flatten().take(FILES_MAX).map(|entry| entry.path())),
                Err(_) => unread += 1,
            },
            Ok(found) => (files, bytes) = (files + 1, bytes.saturating_add(found.len())),
            // Gone in the meantime, as files of a store may be, or not for us to see.
            Err(_) => unread += 1,
        }
    }
    json!({ "files": files, "bytes": bytes, "unread": unread })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_measured() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir_all(path.join("log/deeper")).unwrap();
        fs::write(path.join("log/one"), [0; 100]).unwrap();
        fs::write(path.join("log/deeper/two"), [0; 23]).unwrap();
        fs::write(path.join("LOCK"), "").unwrap();
        let told = disk(path);
        assert_eq!(told["parts"]["log"], json!({ "files": 2, "bytes": 123, "unread": 0 }));
        assert_eq!(told["parts"]["LOCK"], json!({ "files": 1, "bytes": 0, "unread": 0 }));
        assert!(told["fileSystem"]["freeBytes"].as_u64().unwrap() > 0);
        let told = disk(&path.join("nowhere"));
        assert!(told["parts"]["error"].is_string() && told["fileSystem"]["error"].is_string());
    }

    #[test]
    fn a_key_where_a_certificate_should_be_is_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wrong.crt");
        fs::write(
            &path,
            "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let told = certificates_of(&path).to_string();
        assert!(
            !told.contains("c2VjcmV0") && told.contains("\"certificates\":[]"),
            "{told}"
        );
        let told = certificates_of(&directory.path().join("none")).to_string();
        assert!(told.contains("error"), "{told}");
    }
}
