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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_rounded_up_and_saturate() {
        for (nanos, expected) in [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(millis(Duration::from_nanos(nanos)), expected);
        }
        assert_eq!(millis(Duration::MAX), u32::MAX);
    }

    #[test]
    fn time_goes_on() {
        assert!(now() > Duration::from_secs(1_600_000_000));
        let before = monotonic();
        assert!(monotonic() >= before);
    }
}
