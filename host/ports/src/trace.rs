//! Spans for a collector of traces.
//!
//! They are spans of the `tracing` crate with a target of their own: where no collector is configured nobody wants them, and a
//! place that makes one costs a look at a flag. Who exports them (the binary) also knows how a server is told of its caller.

use std::sync::OnceLock;

/// The target of spans that are exported.
pub const TARGET: &str = "otel";

static PARENT: OnceLock<fn() -> Option<String>> = OnceLock::new();

/// The span under way, as the header `traceparent` says it. None where it is not exported.
pub fn parent() -> Option<String> {
    PARENT.get().and_then(|tell| tell())
}

/// For the whole process; only the first call counts.
pub fn export_parents(tell: fn() -> Option<String>) {
    let _ = PARENT.set(tell);
}
