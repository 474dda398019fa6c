//! Waiting for conditions.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(20);

/// Until `probe` has something, or fails, or time runs out, or somebody pressed Ctrl-C.
pub fn wait_for<T>(what: &str, timeout: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if crate::interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        if start.elapsed() > timeout {
            bail!("{what}: not within {timeout:?}");
        }
        thread::sleep(POLL);
    }
}

/// The same, with nothing to return.
pub fn wait_until(what: &str, timeout: Duration, mut probe: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, timeout, || Ok(probe()?.then_some(())))
}
