//! The events of a resize.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::Serialize;

use super::PendingReason;
use crate::plan::Note;

#[derive(Serialize)]
struct Summary<'a> {
    #[serde(rename = "initContainers", skip_serializing_if = "Vec::is_empty")]
    init: Vec<One<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<One<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
struct One<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

/// Its new resources were allocated.
pub fn started(pod: &Pod, generation: i64) -> Note {
    note(false, "ResizeStarted", text("Pod resize started", pod, generation, ""))
}

/// All that runs has been given what was allocated.
pub fn completed(pod: &Pod, generation: i64) -> Note {
    note(
        false,
        "ResizeCompleted",
        text("Pod resize completed", pod, generation, ""),
    )
}

/// What was allocated could not be given.
pub fn failed(pod: &Pod, generation: i64, error: &str) -> Note {
    note(true, "ResizeError", text("Pod resize error", pod, generation, error))
}

/// `pod` as its spec wants it.
pub fn pending(pod: &Pod, reason: PendingReason, message: &str, generation: i64) -> Note {
    let event = match reason {
        PendingReason::Deferred => "ResizeDeferred",
        PendingReason::Infeasible => "ResizeInfeasible",
    };
    let prefix = format!("Pod resize {}", reason.as_str());
    note(true, event, text(&prefix, pod, generation, message))
}

fn text(prefix: &str, pod: &Pod, generation: i64, error: &str) -> String {
    fn all<'a>(containers: impl Iterator<Item = &'a Container>) -> Vec<One<'a>> {
        containers
            .map(|c| One {
                name: &c.name,
                resources: c.resources.clone().unwrap_or_default(),
            })
            .collect()
    }
    let spec = || pod.spec.iter();
    let summary = Summary {
        init: all(spec().flat_map(|s| s.init_containers.iter().flatten())),
        containers: all(spec().flat_map(|s| &s.containers)),
        generation,
        error,
    };
    match serde_json::to_string(&summary) {
        Ok(json) => format!("{prefix}: {json}"),
        Err(_) => prefix.to_owned(),
    }
}

fn note(warning: bool, reason: &str, message: String) -> Note {
    Note {
        warning,
        reason: reason.into(),
        message,
        field_path: None,
    }
}
