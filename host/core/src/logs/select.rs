//! Which container's log a request means, from the status the agent knows (the kubelet contract, pod 11 rule 5).

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

/// The container id, such as `containerd://…`; or why there is nothing to read, in the words users see.
pub fn select<'a>(pod: &str, status: &'a PodStatus, container: &str, previous: bool) -> Result<&'a str, String> {
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let found = lists.into_iter().flatten().flatten().find(|c| c.name == container);
    let Some(found) = found else {
        return Err(format!("container {container:?} in pod {pod:?} is not available"));
    };
    let last = last_id(found);
    let state = found.state.as_ref();
    if previous {
        return last.ok_or_else(|| format!("previous terminated container {container:?} in pod {pod:?} not found"));
    }
    if state.is_some_and(|s| s.running.is_some()) {
        return Ok(found.container_id.as_deref().unwrap_or_default());
    }
    let terminated = state.and_then(|s| s.terminated.as_ref());
    let was_before = found.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
    if terminated.is_some() || was_before {
        // A container that could not be started has no id of its own: then the one before it.
        return terminated
            .and_then(|t| t.container_id.as_deref().filter(|id| !id.is_empty()))
            .or(last)
            .ok_or_else(|| format!("container {container:?} in pod {pod:?} is terminated"));
    }
    let waits = format!("container {container:?} in pod {pod:?} is waiting to start");
    Err(match state.and_then(|s| s.waiting.as_ref()) {
        None => format!("{waits} - no logs yet"),
        Some(waiting) => match waiting.reason.as_deref().unwrap_or_default() {
            "ErrImagePull" => format!("{waits}: image can't be pulled"),
            "ImagePullBackOff" => format!("{waits}: trying and failing to pull image"),
            reason => format!("{waits}: {reason}"),
        },
    })
}

fn last_id(status: &ContainerStatus) -> Option<&str> {
    let terminated = status.last_state.as_ref()?.terminated.as_ref()?;
    terminated.container_id.as_deref().filter(|id| !id.is_empty())
}
