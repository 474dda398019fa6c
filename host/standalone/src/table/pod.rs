//! The pod row. STATUS follows the API server's printer step by step, since scripts read it.

use jiff::Timestamp;
use serde_json::Value;

use super::{NAME, Printer, column, created, or_none, since, wide};
use crate::meta::{self, int, list, text};

pub(crate) static POD: Printer = Printer {
    columns: &[
        NAME,
        column("Ready"),
        column("Status"),
        column("Restarts"),
        column("Age"),
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ],
    cells,
};

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarise(pod);
    let restarts = match summary.last_restart {
        Some(at) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, since(&meta::rfc3339(at), now)),
        _ => summary.restarts.to_string(),
    };
    let ip = list(pod, "/status/podIPs").first().map_or("", |ip| text(ip, "/ip"));
    vec![
        meta::name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        created(pod, now).into(),
        or_none(ip),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        gates(pod).into(),
    ]
}

fn gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let met = gates
        .iter()
        .filter(|g| condition(pod, text(g, "/conditionType"), "True"))
        .count();
    format!("{met}/{}", gates.len())
}

fn condition(pod: &Value, kind: &str, status: &str) -> bool {
    list(pod, "/status/conditions")
        .iter()
        .any(|c| c["type"] == kind && c["status"] == status)
}

struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    reason: String,
}

fn restarted(container: &Value) -> Option<Timestamp> {
    meta::parse_time(text(container, "/lastState/terminated/finishedAt"))
}

/// Why a container ended, in the words of the STATUS column.
fn ended(container: &Value) -> String {
    let reason = text(container, "/state/terminated/reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match int(container, "/state/terminated/signal") {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", int(container, "/state/terminated/exitCode").unwrap_or(0)),
    }
}

fn summarise(pod: &Value) -> Summary {
    let phase = text(pod, "/status/phase");
    let mut reason = match text(pod, "/status/reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    if list(pod, "/status/conditions")
        .iter()
        .any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated")
    {
        reason = "SchedulingGated".into();
    }
    let init = list(pod, "/spec/initContainers");
    let sidecar = |name: &Value| {
        init.iter()
            .any(|c| c["name"] == *name && c["restartPolicy"] == "Always")
    };
    let total = list(pod, "/spec/containers").len() + init.iter().filter(|c| c["restartPolicy"] == "Always").count();
    let (mut ready, mut restarts, mut last_restart) = (0, 0, None);
    let (mut sidecar_restarts, mut last_sidecar_restart) = (0, None);

    let mut initializing = false;
    for (i, container) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
        let count = int(container, "/restartCount").unwrap_or(0);
        restarts += count;
        last_restart = last_restart.max(restarted(container));
        let is_sidecar = sidecar(&container["name"]);
        if is_sidecar {
            sidecar_restarts += count;
            last_sidecar_restart = last_sidecar_restart.max(restarted(container));
        }
        let terminated = container["state"]["terminated"].is_object();
        if terminated && int(container, "/state/terminated/exitCode").unwrap_or(0) == 0 {
            continue;
        }
        if is_sidecar && container["started"] == true {
            ready += usize::from(container["ready"] == true);
            continue;
        }
        let waiting = text(container, "/state/waiting/reason");
        reason = if terminated {
            format!("Init:{}", ended(container))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", init.len())
        };
        initializing = true;
        break;
    }

    if !initializing || condition(pod, "Initialized", "True") {
        restarts = sidecar_restarts;
        last_restart = last_sidecar_restart;
        let mut running = false;
        for container in list(pod, "/status/containerStatuses").iter().rev() {
            restarts += int(container, "/restartCount").unwrap_or(0);
            last_restart = last_restart.max(restarted(container));
            let waiting = text(container, "/state/waiting/reason");
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if container["state"]["terminated"].is_object() {
                reason = ended(container);
            } else if container["ready"] == true && container["state"]["running"].is_object() {
                running = true;
                ready += 1;
            }
        }
        // One that completed does not hide another that still runs.
        if reason == "Completed" && running {
            reason = if condition(pod, "Ready", "True") {
                "Running"
            } else {
                "NotReady"
            }
            .into();
        }
    }

    if meta::is_deleting(pod) {
        if text(pod, "/status/reason") == "NodeLost" {
            reason = "Unknown".into();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            reason = "Terminating".into();
        }
    }
    Summary {
        ready,
        total,
        restarts,
        last_restart,
        reason,
    }
}
