//! The wall clock, as the whole agent reads it, so that a simulation can make it go with its virtual time.

use std::sync::OnceLock;

use jiff::Timestamp;

static SOURCE: OnceLock<fn() -> Timestamp> = OnceLock::new();

pub fn now() -> Timestamp {
    SOURCE.get().map_or_else(Timestamp::now, |source| source())
}

/// For the whole process, before anything of the agent is made. Only the first call counts.
pub fn replace(source: fn() -> Timestamp) {
    // A second simulation in one process brings the same clock along.
    let _ = SOURCE.set(source);
}
