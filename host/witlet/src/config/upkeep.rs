//! Sections about looking after the node: what it is short of, what pods use, how long their logs grow, and what is left of
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use witlet_agent::rotation;
use witlet_core::dead;
use witlet_core::rotation::Policy;
use witlet_core::stats::pressure::{self, Thresholds, default_thresholds};
use witlet_plugin_host::units::{Size, Span};

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Eviction {
    /// None: the kubelet's.
    pub(crate) hard: Option<BTreeMap<String, String>>,
    pub(crate) pressure_transition: Span,
}

impl Default for Eviction {
    fn default() -> Self {
        Self {
            hard: None,
            pressure_transition: Span(Duration::from_secs(300)),
        }
    }
}

impl Eviction {
    pub(crate) fn thresholds(&self) -> Result<Thresholds, Vec<String>> {
        match &self.hard {
            None => Ok(default_thresholds()),
            Some(given) => pressure::parse(given.iter().map(|(signal, value)| (signal.as_str(), value.as_str()))),
        }
    }
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Stats {
    pub(crate) volumes: Span,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            volumes: Span(Duration::from_secs(60)),
        }
    }
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Logs {
    pub(crate) max_size: Size,
    pub(crate) max_files: usize,
    pub(crate) workers: usize,
    pub(crate) interval: Span,
    pub(crate) held_for_sinks: Size,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            max_size: Size(10 << 20),
            max_files: 5,
            workers: 1,
            interval: Span(Duration::from_secs(10)),
            held_for_sinks: Size(512 << 20),
        }
    }
}

impl Logs {
    pub(crate) fn rotation(&self) -> rotation::Settings {
        rotation::Settings {
            policy: Policy {
                max_size: Some(self.max_size.0).filter(|size| *size > 0),
                max_files: self.max_files,
            },
            workers: self.workers,
            interval: self.interval.0,
            held_for_sinks: self.held_for_sinks.0,
        }
    }

    /// The kubelet contract, node A2.
    pub(crate) fn problems(&self) -> Vec<String> {
        let checks = [
            (
                self.max_files > 1,
                "logs.max_files: at least 2, the log and one that was rotated",
            ),
            (self.workers > 0, "logs.workers: at least 1"),
            (self.interval.0 >= Duration::from_secs(3), "logs.interval: at least 3s"),
        ];
        let wrong = checks.into_iter().filter(|(good, _)| !good);
        wrong.map(|(_, why)| why.to_owned()).collect()
    }
}

/// What is kept of the dead.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gc {
    pub(crate) dead_containers: i64,
    pub(crate) dead_containers_total: i64,
    pub(crate) dead_containers_min_age: Span,
    pub(crate) interval: Span,
}

impl Default for Gc {
    fn default() -> Self {
        Self {
            dead_containers: 1,
            dead_containers_total: -1,
            dead_containers_min_age: Span(Duration::ZERO),
            interval: Span(Duration::from_secs(60)),
        }
    }
}

impl Gc {
    /// Numbers below zero are no limit.
    pub(crate) fn policy(&self) -> dead::Policy {
        dead::Policy {
            min_age: self.dead_containers_min_age.0,
            per_container: usize::try_from(self.dead_containers).ok(),
            total: usize::try_from(self.dead_containers_total).ok(),
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let checks = [
            (
                self.dead_containers != 0,
                "gc.dead_containers = 0: at least 1, as a pod's status is made of it; or -1 for no limit",
            ),
            (!self.interval.0.is_zero(), "gc.interval must be longer than 0"),
        ];
        let wrong = checks.into_iter().filter(|(good, _)| !good);
        wrong.map(|(_, why)| why.to_owned()).collect()
    }
}
