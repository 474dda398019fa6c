//! What a pod needs beside its sandbox: directories, cgroup, volumes, and the workers that probe it.

use super::pass::Pass;
use super::{Action, Volumes, teardown};
use crate::desired::{self, ContainerKind};

pub(super) fn prepare(pass: &mut Pass<'_>) {
    // All of these may be repeated: after a restart of the agent they are, for pods that run.
    if !pass.memory.dirs {
        pass.push(Action::EnsureDirs);
    }
    // Containers that run outside of it would never come under its limits (2 rule 4e).
    if pass.memory.cgroup_lost && pass.have.is_alive() {
        let grace = teardown::base_grace(&pass.want.pod);
        let reason = "its cgroup is gone".into();
        pass.push(Action::KillPod { grace, reason });
    } else if !pass.memory.cgroup {
        pass.push(Action::EnsureCgroup);
    }
    if pass.memory.volumes != Volumes::Mounted {
        pass.push(Action::MountVolumes);
    }
}

/// Probing begins before the first container starts. It comes first in its plan, so that no failed step can be before it.
pub(super) fn start_probes(pass: &mut Pass<'_>) {
    if pass.memory.probing || !has_probes(pass) {
        return;
    }
    let starts = pass
        .plan
        .actions
        .iter()
        .any(|a| matches!(a, Action::StartContainer { .. }));
    if starts || pass.have.running().next().is_some() {
        pass.plan.actions.insert(0, Action::StartProbes);
    }
}

fn has_probes(pass: &Pass<'_>) -> bool {
    desired::containers(&pass.spec)
        .filter(|(kind, _)| matches!(kind, ContainerKind::Regular | ContainerKind::Sidecar))
        .any(|(_, c)| c.startup_probe.is_some() || c.liveness_probe.is_some() || c.readiness_probe.is_some())
}
