//! Reading certificates, keys and levels again while the node runs: on SIGHUP, and when a file changes.
//!
//! SIGHUP reads the configuration and everything that it names. In between, the files of `[tls]` and `[auth]` are looked
//! at every `tls.reload_interval_ms`; a change counts once two looks in a row find the same, so that a file which is
//! being written, or the second of two that belong together, gets its time. What cannot be used changes nothing, is
//! said once, and is tried again when a file changes again.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api_server::Authenticator;

use crate::config::Config;
use crate::logs::Levels;
use crate::signals;
use crate::tls::Certificates;

/// What shows that a file is another, or has other content: device, inode, mode, size, and when content and inode were
/// last changed, in seconds and nanoseconds. `None` where there is no file.
type Stamp = Option<(u64, u64, u32, u64, [i64; 4])>;

/// Symbolic links are followed: some deployments replace files by turning a link.
fn stamp(file: &Path) -> Stamp {
    let found = std::fs::metadata(file).ok()?;
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    Some((found.dev(), found.ino(), found.mode(), found.size(), times))
}

/// Files that are read together.
#[derive(Clone, Debug, Default)]
struct Group {
    files: Vec<PathBuf>,
    /// As they were when they were last read, whatever came of it.
    read: Vec<Stamp>,
    /// As the last look found them, where that was different.
    found: Option<Vec<Stamp>>,
}

impl Group {
    fn of(files: Vec<PathBuf>) -> Self {
        let read = files.iter().map(|file| stamp(file)).collect();
        Self {
            files,
            read,
            found: None,
        }
    }

    /// Whether the files have changed since they were read, and have come to rest.
    fn settled(&mut self) -> bool {
        let now: Vec<_> = self.files.iter().map(|file| stamp(file)).collect();
        if now == self.read {
            self.found = None;
            return false;
        }
        if self.found.as_ref() == Some(&now) {
            // Before they are read: what changes from here on is found by the next look.
            self.read = now;
            self.found = None;
            return true;
        }
        self.found = Some(now);
        false
    }
}

/// The files that are looked at.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    tls: Group,
    auth: Group,
}

impl Watched {
    /// The files that `config` names, as they are now. Has to be called before they are read.
    pub fn of(config: &Config) -> Self {
        let (tls, auth) = (&config.tls, &config.auth);
        let tls = [&tls.ca_file, &tls.cert_file, &tls.key_file].map(PathBuf::clone);
        let auth = auth.jwks_file.iter().chain(&auth.key_files.0).cloned();
        Self {
            tls: Group::of(tls.to_vec()),
            auth: Group::of(auth.collect()),
        }
    }
}

/// Which of the sections are to be read again.
#[derive(Clone, Copy, Debug)]
struct Asked {
    tls: bool,
    auth: bool,
}

/// What is read again, and where it goes.
pub struct Reloader {
    /// The configuration file.
    pub file: PathBuf,
    /// The configuration in force.
    pub config: Config,
    /// What the listeners and the dialler use.
    pub certificates: Arc<Certificates>,
    /// Who callers are.
    pub auth: Arc<Authenticator>,
    /// Levels of the log.
    pub levels: Levels,
    /// The files, as they were when they were read.
    pub watched: Watched,
}

impl Reloader {
    /// Reads again whenever there is reason to, until it is dropped.
    pub async fn run(mut self, mut signal: signals::Reload) {
        loop {
            let interval = Duration::from_millis(self.config.tls.reload_interval_ms);
            let asked = tokio::select! {
                () = signal.asked() => true,
                () = tokio::time::sleep(interval) => false,
            };
            // Reading files blocks, if only for a moment; checking all connections takes its time.
            let work = move || {
                if asked {
                    self.on_request();
                } else {
                    self.on_change();
                }
                self
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(reloader) => self = reloader,
                Err(error) => {
                    tracing::error!(%error, "nothing is reloaded any more until the node is started again");
                    return;
                }
            }
        }
    }

    /// SIGHUP: `tls`, `auth` and `log` as the configuration file says now.
    fn on_request(&mut self) {
        let file = self.file.display();
        let config = match Config::load(&self.file) {
            Ok(config) => config,
            Err(invalid) => {
                tracing::error!(%file, "not reloaded, everything stays as it was:\n{invalid}");
                return;
            }
        };
        let watched = Watched::of(&config);
        let failed_levels = self.levels.reload(&config.log).err();
        if let Some(why) = &failed_levels {
            tracing::error!(section = "log", %why, "this section was not reloaded and stays as it was");
        }
        let (tls, auth) = self.read(&config, Asked { tls: true, auth: true });
        // What could not be used is not what counts from now on; its files, as they were, still are.
        if tls {
            (self.config.tls, self.watched.tls) = (config.tls, watched.tls);
        }
        if auth {
            (self.config.auth, self.watched.auth) = (config.auth, watched.auth);
            self.config.limits = config.limits;
        }
        if tls && auth && failed_levels.is_none() {
            tracing::info!(%file, "reloaded tls, auth and log");
        }
    }

    /// What the configuration in force names, where it has changed.
    fn on_change(&mut self) {
        let asked = Asked {
            tls: self.watched.tls.settled(),
            auth: self.watched.auth.settled(),
        };
        let (tls, auth) = self.read(&self.config, asked);
        for section in [tls.then_some("tls"), auth.then_some("auth")].into_iter().flatten() {
            tracing::info!(section, "files have changed and were reloaded");
        }
    }

    /// Reads what is asked for, by `config`. Answers what was asked for and could be used.
    fn read(&self, config: &Config, asked: Asked) -> (bool, bool) {
        let kept = |section: &str, why: String| {
            tracing::warn!(section, %why, "this section was not reloaded and stays as it was");
        };
        let tls = asked.tls
            && match self.certificates.reload(&config.tls) {
                Ok(withdrawn) => {
                    if withdrawn > 0 {
                        tracing::info!(
                            withdrawn,
                            "connections are closed: their authority is not trusted any more"
                        );
                    }
                    true
                }
                Err(error) => {
                    kept("tls", error.to_string());
                    false
                }
            };
        let replace = || {
            let rules = config.authentication()?;
            self.auth.replace(&rules).map_err(|error| error.to_string())
        };
        let auth = asked.auth && replace().map_err(|why| kept("auth", why)).is_ok();
        (tls, auth)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_has_come_to_rest() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        std::fs::write(&one, "1").unwrap();
        let mut group = Group::of(vec![one.clone(), two.clone()]);
        assert!(!group.settled() && !group.settled());
        std::fs::write(&one, "half").unwrap();
        assert!(!group.settled());
        // Still being written.
        std::fs::write(&one, "half and half").unwrap();
        assert!(!group.settled());
        assert!(group.settled());
        assert!(!group.settled());
        // One that was not there, one that goes, and one that is replaced by another of the same size and time.
        std::fs::write(&two, "2").unwrap();
        assert!(!group.settled() && group.settled());
        std::fs::remove_file(&two).unwrap();
        assert!(!group.settled() && group.settled());
        let (other, time) = (
            directory.path().join("other"),
            std::fs::metadata(&one).unwrap().modified().unwrap(),
        );
        std::fs::write(&other, &b"another fellow"[..13]).unwrap();
        std::fs::File::open(&other).unwrap().set_modified(time).unwrap();
        std::fs::rename(&other, &one).unwrap();
        assert!(!group.settled() && group.settled());
    }
}
