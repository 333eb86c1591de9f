//! What processes have used, as Linux counts it in `/proc`; and what the disk can do.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

pub use node_harness::Usage;

use crate::{Error, Result};

/// How often in a second 4 KiB can be appended to a file in `directory` and synced.
///
/// # Errors
/// Where the file cannot be written.
pub fn syncs_per_second(directory: &Path) -> Result<f64> {
    let path = directory.join("sync-probe");
    let failed = |error| Error::File {
        path: path.clone(),
        error,
    };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    let (start, block) = (Instant::now(), [7_u8; 4_096]);
    let mut syncs = 0_u32;
    while start.elapsed() < Duration::from_secs(2) {
        file.write_all(&block).and_then(|()| file.sync_data()).map_err(failed)?;
        syncs += 1;
    }
    let rate = f64::from(syncs) / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(rate)
}
