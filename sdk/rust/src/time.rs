//! Time. `std::time`'s own clocks do not work in a component.

use std::time::Duration;

/// Since 1970-01-01T00:00:00Z.
pub fn now() -> Duration {
    #[cfg(target_arch = "wasm32")]
    return Duration::from_nanos(crate::base::bindings::witlet::base::clock::now());
    #[cfg(not(target_arch = "wasm32"))]
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Since some fixed point; never goes back.
pub fn monotonic() -> Duration {
    #[cfg(target_arch = "wasm32")]
    return Duration::from_nanos(crate::base::bindings::witlet::base::clock::monotonic());
    #[cfg(not(target_arch = "wasm32"))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// As host functions take it: whole milliseconds, never 0 for something that is more.
pub fn millis(duration: Duration) -> u32 {
    let rounded = duration.as_nanos().div_ceil(1_000_000);
    u32::try_from(rounded).unwrap_or(u32::MAX)
}
