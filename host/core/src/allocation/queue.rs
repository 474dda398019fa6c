//! The order in which pending resizes are decided (rule 32).

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::is_increasing;
use crate::resources::qos::{GUARANTEED, qos_class};

/// A pod whose spec wants other resources than it has.
#[derive(Clone, Copy, Debug)]
pub struct Pending<'a> {
    /// As its spec is.
    pub wanted: &'a Pod,
    pub allocated: &'a Pod,
    /// Since when it waits.
    pub since: Timestamp,
}

/// Those that take nothing come first, as they make room; then priority, then Guaranteed pods, then the longest wait.
pub fn order(pending: &mut [Pending<'_>]) {
    pending.sort_by_cached_key(|p| {
        let priority = p.wanted.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
        (
            is_increasing(p.allocated, p.wanted),
            Reverse(priority),
            qos_class(p.wanted) != GUARANTEED,
            p.since,
        )
    });
}
