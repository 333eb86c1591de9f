//! Child processes that do not outlive the test.

use std::io::Read;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::error::Doing;
use crate::{Error, Output, wait_until};

/// More output than this is a program gone wild; the rest is dropped.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;

/// A child process; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

type Spawn = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts a child on a thread that never ends.
///
/// `--die-with-parent` makes the kernel kill a child when the *thread* that made it ends, and a
/// test's thread ends before a mesh shared between tests should.
fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Spawn>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (send, receive) = mpsc::channel::<Spawn>();
        thread::spawn(move || {
            for (mut command, answer) in receive {
                // Whoever asked may have gone; then nobody wants the child either.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                    let _ = child.kill();
                }
            }
        });
        Mutex::new(send)
    });
    let (answer, spawned) = mpsc::channel();
    let gone = || std::io::Error::other("the thread that starts processes is gone");
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| gone())?;
    spawned.recv().map_err(|_| gone())?
}

impl Running {
    /// Starts a child.
    pub fn start(command: Command) -> Result<Self, Error> {
        let what = format!("starting {command:?}");
        Ok(Self {
            child: spawn(command).doing(what)?,
        })
    }

    /// Its input and output, where its command has them piped; once.
    ///
    /// # Errors
    /// When it has none, or they were taken.
    pub fn pipes(&mut self) -> Result<(ChildStdin, ChildStdout), Error> {
        let pipes = self.child.stdin.take().zip(self.child.stdout.take());
        pipes.ok_or_else(|| Error::new(format!("process {} has no pipes", self.child.id())))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child
            .try_wait()
            .doing(format!("looking at process {}", self.child.id()))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `within`.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus, Error> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if start.elapsed() >= within {
                return Err(Error::new(format!(
                    "process {} still runs after {within:?}",
                    self.child.id()
                )));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        // Not reaped yet, so the number is still its own.
        if self.ended()?.is_some() {
            return Err(Error::new(format!("process {} has ended already", self.child.id())));
        }
        send(self.child.id(), signal)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that is not our child.
pub(crate) fn send(pid: u32, signal: Signal) -> Result<(), Error> {
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let target = target.ok_or_else(|| Error::new(format!("{pid} is no process id")))?;
    kill_process(target, signal).doing(format!("sending {signal:?} to process {pid}"))
}

/// Whether a process that is not our child exists and was started with `argument`. Asked before a
/// signal is sent: the number may have been given to another process.
pub(crate) fn is_running_with(pid: u32, argument: &str) -> bool {
    let exists = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .is_some_and(|pid| test_kill_process(pid).is_ok());
    // A process that has ended and was not waited for has no command line any more.
    exists
        && std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()))
}

/// Waits until such a process is gone, with the last of its threads: until then its files are open and locked.
pub(crate) fn wait_gone(pid: u32, argument: &str, within: Duration) -> Result<(), Error> {
    wait_until(within, &format!("the end of process {pid}"), || {
        !is_running_with(pid, argument) && !is_ending(pid)
    })
}

/// Whether a process has lost its memory, and its command line with that, but not yet all of its threads. One that has ended
/// and was not waited for counts as one thread in state Z.
fn is_ending(pid: u32) -> bool {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let (Some(line), Some(status)) = (read("cmdline"), read("status")) else {
        return false;
    };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next())
    };
    line.is_empty() && (field("State:"), field("Threads:")) != (Some("Z"), Some("1"))
}

/// Runs a command to its end, but not longer than `within`.
pub(crate) fn run(mut command: Command, within: Duration) -> Output {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let told = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut output = Output {
        command: told,
        stdout: String::new(),
        stderr: String::new(),
        code: None,
    };
    let mut running = match Running::start(command) {
        Ok(running) => running,
        Err(error) => {
            output.stderr = error.to_string();
            return output;
        }
    };
    let stdout = running
        .child
        .stdout
        .take()
        .map(|pipe| thread::spawn(move || read(pipe)));
    let stderr = running
        .child
        .stderr
        .take()
        .map(|pipe| thread::spawn(move || read(pipe)));
    let ended = running.wait(within);
    // Ends it if it still runs, so that the pipes end too.
    drop(running);
    let text =
        |reader: Option<thread::JoinHandle<String>>| reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
    output.stdout = text(stdout);
    output.stderr = text(stderr);
    match ended {
        Ok(status) => output.code = status.code(),
        Err(error) => output.stderr.push_str(&format!("\n{error}\n")),
    }
    output
}

fn read(pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is still worth showing.
    let _ = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
