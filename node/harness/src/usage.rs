//! What processes have used, as Linux counts it in `/proc`.

use std::time::Duration;

use crate::{Error, error::Doing};

/// `/proc` counts CPU time in hundredths of a second, on every Linux that this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time and memory of some processes together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time since they began.
    pub cpu: Duration,
    /// Memory in use now.
    pub rss_bytes: u64,
}

impl Usage {
    /// Of all `pids` together.
    ///
    /// # Errors
    /// Where one does not run any more.
    pub fn of(pids: &[u32]) -> Result<Self, Error> {
        let mut usage = Self::default();
        for pid in pids {
            let stat = read(format!("/proc/{pid}/stat"))?;
            let status = read(format!("/proc/{pid}/status"))?;
            usage.cpu += cpu(&stat).unwrap_or_default();
            usage.rss_bytes += rss_bytes(&status).unwrap_or_default();
        }
        Ok(usage)
    }
}

fn read(path: String) -> Result<String, Error> {
    std::fs::read_to_string(&path).doing(&path)
}

/// Fields 14 and 15; counted behind the name, which may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_right() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu("7 (a"), None);
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert!(Usage::of(&[std::process::id()]).unwrap().rss_bytes > 0);
    }
}
