//! The simulated peers of a development mesh: `meshkit-fleet`, as a child process beside the nodes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::exit::{Exit, Failure};

use super::children;
use super::layout::Layout;

/// The program that plays them; it is built and shipped beside this one.
const PROGRAM: &str = "meshkit-fleet";

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long it may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What is to be played.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How many peers.
    pub peers: u32,
    /// How many shards the namespace [`NAMESPACE`] has.
    pub shards: u32,
}

/// The namespace that the peers serve.
pub const NAMESPACE: &str = "demo";

/// The zones that they are spread over.
const ZONES: u32 = 3;

/// The process. Dropping it kills it.
#[derive(Debug)]
pub struct Fleet {
    child: Child,
    ready: PathBuf,
    log: PathBuf,
    reported: bool,
}

/// Where the program is.
///
/// # Errors
/// When it is not beside this one.
pub fn program() -> Result<PathBuf, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("this program's own file: {error}"));
    let path = std::env::current_exe().map_err(failed)?.with_file_name(PROGRAM);
    if path.is_file() {
        return Ok(path);
    }
    let why = format!("--peers needs {}, which is not there: it plays them", path.display());
    Err(Failure::new(Exit::Config, why))
}

impl Fleet {
    /// Starts it. As for the nodes, this has to be called on the process's main thread.
    pub fn start(layout: &Layout, program: &Path, mesh: &str, context: &Path, size: Size) -> Result<Self, Failure> {
        let (log, ready) = (layout.file("fleet.log"), layout.file("fleet.json"));
        let failed = |what: &Path| {
            let what = what.display().to_string();
            move |error: std::io::Error| Failure::new(Exit::Failed, format!("{what}: {error}"))
        };
        let child = Command::new(program)
            .args(["--namespace", NAMESPACE, "--mesh", mesh, "--log", "warn"])
            .args(["--zones", &ZONES.to_string(), "--peers", &size.peers.to_string()])
            .args(["--shards", &size.shards.to_string()])
            .arg("--context")
            .arg(context)
            .arg("--jwt-key")
            .arg(layout.file("jwt.key"))
            .arg("--ready-file")
            .arg(&ready)
            .arg("--die-with-parent")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(failed(&log))?)
            // Ctrl-C is for us alone; we tell it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed(program))?;
        Ok(Self {
            child,
            ready,
            log,
            reported: false,
        })
    }

    /// Waits until all peers are alive and every shard is served.
    ///
    /// # Errors
    /// When it ends before, or after `deadline`.
    pub async fn ready(&mut self, deadline: Instant) -> Result<(), String> {
        while !self.ready.exists() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!(
                    "the simulated peers have {}\n{}",
                    children::how(status),
                    self.last_lines()
                ));
            }
            if Instant::now() >= deadline {
                let told = self.last_lines();
                return Err(format!(
                    "the peers are not all alive, or not every shard is served\n{told}"
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Says so when it ends, until `stop` resolves. It is not started again.
    pub async fn watch_until(&mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(LOOK_EVERY) => self.report(),
            }
        }
    }

    fn report(&mut self) {
        if let Some(status) = self.ended()
            && !std::mem::replace(&mut self.reported, true)
        {
            eprintln!(
                "the simulated peers' process {}; its log is {}",
                children::how(status),
                self.log.display()
            );
        }
    }

    /// Asks it to stop, and kills it if it does not in time.
    pub async fn stop(&mut self) {
        let pid = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            eprintln!("the simulated peers cannot be told to stop: {error}");
        }
        if tokio::time::timeout(STOP_WITHIN, self.child.wait()).await.is_err() {
            // The only failure is that it has ended in this moment.
            let _ = self.child.kill().await;
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn last_lines(&self) -> String {
        let tail = children::tail(&self.log).unwrap_or_else(|error| error.to_string());
        format!("--- {}\n{}", self.log.display(), tail.trim_end())
    }
}
