//! The nodes as child processes.

use std::fs::File;
use std::future::Future;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::exit::{Exit, Failure};

use super::summary::DevNode;

/// How long a child may take to stop before it is killed. More than a node takes by itself.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// How often the children are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How much of a log is shown when the nodes do not become ready.
const LOG_TAIL_BYTES: u64 = 2_000;

struct Running {
    node: DevNode,
    pid: u32,
    child: Child,
    /// How it ended, once it has.
    ended: Option<ExitStatus>,
    reported: bool,
}

/// All of them. Dropping it kills those that run.
pub struct Children {
    running: Vec<Running>,
}

impl Children {
    /// Starts a process per node.
    ///
    /// The children ask the kernel to kill them when the *thread* that made them ends, so this
    /// has to be called on the process's main thread.
    pub fn start(nodes: &[DevNode]) -> Result<Self, Failure> {
        let failed = |what: String| move |error: std::io::Error| Failure::new(Exit::Failed, format!("{what}: {error}"));
        let program = std::env::current_exe().map_err(failed("this program's own file".to_owned()))?;
        let mut running = Vec::with_capacity(nodes.len());
        for node in nodes {
            let log = File::create(&node.log).map_err(failed(format!("{}", node.log.display())))?;
            let child = Command::new(&program)
                .arg("--config")
                .arg(&node.config)
                .arg("--die-with-parent")
                .arg(std::process::id().to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                // Ctrl-C is for us alone; we tell the children.
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .map_err(failed(format!("node {} cannot be started", node.ports.node)))?;
            let pid = child.id().unwrap_or_default();
            running.push(Running {
                node: node.clone(),
                pid,
                child,
                ended: None,
                reported: false,
            });
        }
        Ok(Self { running })
    }

    /// The process id of a node, also after it has ended.
    pub fn pid(&self, node: u16) -> u32 {
        self.running
            .iter()
            .find(|child| child.node.ports.node == node)
            .map_or(0, |child| child.pid)
    }

    /// Looks which have ended. Answers whether any still runs.
    fn look(&mut self) -> bool {
        let mut alive = false;
        for child in &mut self.running {
            if child.ended.is_none() {
                match child.child.try_wait() {
                    Ok(ended) => child.ended = ended,
                    Err(error) => eprintln!("node {}: cannot be waited for: {error}", child.node.ports.node),
                }
            }
            alive |= child.ended.is_none();
        }
        alive
    }

    /// Says of each child that has ended, once, how it did.
    pub fn report(&mut self) {
        self.look();
        for child in &mut self.running {
            let Some(status) = child.ended else { continue };
            if std::mem::replace(&mut child.reported, true) {
                continue;
            }
            eprintln!(
                "node {} (pid {}) {}. It is not started again; to do so:\n  meshkit-node --config {}",
                child.node.ports.node,
                child.pid,
                how(status),
                child.node.config.display()
            );
        }
    }

    /// Resolves when none runs any more; reports each that ends before.
    pub async fn all_dead(&mut self) {
        while self.look() {
            self.report();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reports children that end, until `stop` resolves. Goes on when all are dead.
    pub async fn watch_until(&mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(LOOK_EVERY) => self.report(),
            }
        }
    }

    /// Asks all to stop, and kills what has not stopped in time.
    pub async fn stop(&mut self) {
        self.look();
        for child in self.running.iter().filter(|child| child.ended.is_none()) {
            let pid = i32::try_from(child.pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid
                && let Err(error) = kill_process(pid, Signal::TERM)
            {
                eprintln!(
                    "node {} (pid {}): cannot be told to stop: {error}",
                    child.node.ports.node, child.pid
                );
            }
        }
        let deadline = tokio::time::Instant::now() + STOP_WITHIN;
        for child in self.running.iter_mut().filter(|child| child.ended.is_none()) {
            if tokio::time::timeout_at(deadline, child.child.wait()).await.is_err() {
                eprintln!(
                    "node {} (pid {}) did not stop in time and is killed",
                    child.node.ports.node, child.pid
                );
                // The only failure is that it has ended in this moment.
                let _ = child.child.kill().await;
            }
        }
    }

    /// The end of each node's log.
    pub fn last_lines(&self) -> String {
        let mut told = String::new();
        for child in &self.running {
            let tail = tail(&child.node.log).unwrap_or_else(|error| error.to_string());
            told.push_str(&format!("--- {}\n{}\n", child.node.log.display(), tail.trim_end()));
        }
        told
    }
}

pub(super) fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

pub(super) fn tail(log: &std::path::Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
