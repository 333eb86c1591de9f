//! What the service manager is told: that the node is ready, how it is, that it still moves, and that it stops.
//!
//! The protocol is systemd's (sd_notify(3)): datagrams of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names.
//! `WATCHDOG=1` is only sent after the apply loop has done something: a process whose timer runs while its state does
//! not move is not alive, and is better started again.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use raft::{Handle, Status};
use tokio_util::task::AbortOnDropHandle;

/// While the node waits for its cluster, the manager is asked this often …
const WAITING_SAID_EVERY: Duration = Duration::from_secs(5);

/// … for this much patience more.
const PATIENCE: Duration = Duration::from_secs(30);

/// A changed status line is sent at most this often.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// The service manager's end.
#[derive(Clone, Debug)]
pub struct Manager {
    socket: Arc<UnixDatagram>,
    address: SocketAddr,
    /// How often it wants a sign of life, if at all: a third of the time after which it gives up on us.
    beat_every: Option<Duration>,
}

impl Manager {
    /// The manager that started this process, if one did that wants to be told.
    ///
    /// # Errors
    /// It names a socket that cannot be used.
    pub fn of_this_process() -> io::Result<Option<Self>> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(path) = variable("NOTIFY_SOCKET") else {
            return Ok(None);
        };
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        // Of a watchdog for another process nothing is expected of us.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|us| *us > 0 && ours);
        Self::at(&path, watchdog.map(Duration::from_micros)).map(Some)
    }

    /// A manager at `path` (`@` stands for the abstract namespace) that gives up on us after `watchdog` of silence.
    ///
    /// # Errors
    /// As [`Manager::of_this_process`].
    pub fn at(path: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not hold the node up.
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Arc::new(socket),
            address,
            beat_every: watchdog.map(|watchdog| watchdog / 3),
        })
    }

    fn send(&self, state: &str) {
        if let Err(error) = self.socket.send_to_addr(state.as_bytes(), &self.address) {
            tracing::debug!(%error, state, "the service manager was not told");
        }
    }

    /// The node stops, for this reason.
    pub fn stopping(&self, why: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}", one_line(why)));
    }

    /// Tells the manager of a node until dropped.
    pub fn follow(&self, handle: Handle) -> AbortOnDropHandle<()> {
        let manager = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { manager.tell(handle).await }))
    }

    async fn tell(&self, handle: Handle) {
        let mut status = handle.watch_status();
        let mut last = loop {
            let (ready, line) = {
                let status = status.borrow_and_update();
                (status.is_ready(), describe(&status))
            };
            if ready {
                self.send(&format!("READY=1\nSTATUS={line}"));
                break line;
            }
            // Until its cluster is there a node is not ready, and not stuck either.
            self.send(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={line}", PATIENCE.as_micros()));
            let ended = async { status.wait_for(Status::is_ready).await.is_err() };
            if tokio::time::timeout(WAITING_SAID_EVERY, ended).await == Ok(true) {
                return;
            }
        };
        let lines = async {
            loop {
                tokio::time::sleep(STATUS_EVERY).await;
                let line = describe(&status.borrow_and_update());
                if line != last {
                    self.send(&format!("STATUS={line}"));
                    last = line;
                }
                if status.changed().await.is_err() {
                    return;
                }
            }
        };
        match self.beat_every {
            Some(every) => tokio::join!(lines, self.beat(&handle, every)).0,
            None => lines.await,
        }
    }

    /// Feeds the watchdog for as long as the apply loop moves.
    async fn beat(&self, handle: &Handle, every: Duration) {
        let mut applied = handle.watch_applied();
        loop {
            applied.mark_unchanged();
            let mut moves = pin!(async {
                tokio::select! {
                    turn = handle.turn() => turn.is_ok(),
                    // It may be long until it is our turn where much is applied before.
                    changed = applied.changed() => changed.is_ok(),
                }
            });
            let mut waited = Duration::ZERO;
            // The deadline of this wait is the watchdog itself, which ends the process.
            let moved = loop {
                match tokio::time::timeout(every, &mut moves).await {
                    Ok(moved) => break moved,
                    Err(_) => {
                        waited += every;
                        tracing::error!(
                            for_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
                            "the apply loop does not move; the watchdog is not fed"
                        );
                    }
                }
            };
            if !moved {
                // The node stops, and says so elsewhere.
                return;
            }
            self.send("WATCHDOG=1");
            tokio::time::sleep(every).await;
        }
    }
}

/// One line for `systemctl status`.
fn describe(status: &Status) -> String {
    if let Some(fatal) = &status.fatal {
        return one_line(&format!("stops: {fatal}"));
    }
    if !status.initialized {
        return format!("node {}: waits for its cluster to find it", status.node);
    }
    let leader = match &status.leader {
        Some(leader) if leader.node == status.node => "leads".to_owned(),
        Some(leader) => format!("follows node {}", leader.node),
        None => "there is no leader".to_owned(),
    };
    let quorum = if status.quorum.ok { "" } else { ", no quorum" };
    let recovering = if status.recovering {
        ", catches up before it votes"
    } else {
        ""
    };
    format!(
        "node {}: {leader}, term {}{quorum}{recovering}",
        status.node, status.term
    )
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
