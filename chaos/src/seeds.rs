//! Many seeds, each in a process of its own, some at a time.

use std::{
    io,
    process::{Command, Output, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Runs `count` seeds from `first`, `jobs` at a time; `told` is called after each, with what it came to.
///
/// # Errors
/// A process could not be started.
pub fn run(
    first: u64,
    count: u64,
    jobs: usize,
    more: &[String],
    told: impl FnMut(u64, &Output) + Send,
) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let next = AtomicU64::new(0);
    let told = Mutex::new(told);
    let work = || -> io::Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return Ok(());
            }
            let seed = first + at;
            let mut command = Command::new(&program);
            command
                .args(["run", "--seed", &seed.to_string()])
                .args(more)
                .stdin(Stdio::null());
            let output = command.output()?;
            told.lock().unwrap_or_else(PoisonError::into_inner)(seed, &output);
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, io::Result<()>>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a runner panicked")))
        };
        threads.into_iter().try_for_each(join)
    })
}
