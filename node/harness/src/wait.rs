//! Waiting for what will be so, not for how long it might take.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Error;

const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Looks until `is_so` says yes.
///
/// # Errors
/// After `within`, naming `what` was waited for.
pub fn wait_until(within: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), Error> {
    wait_for(within, what, || is_so().then_some(()))
}

/// Looks until there is something, and answers it.
///
/// # Errors
/// After `within`, naming `what` was waited for.
pub fn wait_for<T>(within: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Error> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed() >= within {
            return Err(Error::new(format!("waited {within:?} in vain for {what}")));
        }
        sleep(LOOK_EVERY);
    }
}
