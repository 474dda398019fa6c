//! The steps by which a running pod gets what was allocated to it (rules 35 and 36).
//!
//! Nothing inside a pod may ever be allowed more than the pod: the pod's cgroup grows before its containers and shrinks
//! after them, and of the containers those that shrink come first. Memory is done before cpu, because it is what can be
//! refused.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::PodResources;
use super::resources::{limit_of, request_of};
use crate::config::NodeSettings;
use crate::desired;
use crate::observed::ObservedPod;
use crate::resources::requests::{CPU, MEMORY};
use crate::resources::{Quantity, linux, pod_cgroup};
use crate::runtime::LinuxResources;

/// A pod's cgroup as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cgroup {
    pub cpu_shares: u64,
    /// Microseconds a period; none: no limit.
    pub cpu_quota: Option<i64>,
    /// Bytes; none: no limit.
    pub memory_limit: Option<u64>,
}

/// What is to be written; none leaves a value alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct CgroupChange {
    pub cpu_shares: Option<u64>,
    /// Microseconds a period.
    pub cpu_quota: Option<i64>,
    /// Goes with the quota.
    pub cpu_period: u64,
    pub memory_limit: Option<u64>,
}

#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub enum Step {
    /// The runtime hears of the pod's size before its cgroup changes, and again of the old one if that fails.
    Sandbox {
        id: String,
        overhead: LinuxResources,
        resources: LinuxResources,
        before: LinuxResources,
    },
    Pod(CgroupChange),
    Container {
        id: String,
        name: String,
        resources: LinuxResources,
        /// What it then has.
        given: ResourceRequirements,
    },
}

/// Memory limits that come down, and must not fall below what is in use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decreases {
    pub pod: Option<u64>,
    /// Id, name, new limit.
    pub containers: Vec<(String, String, u64)>,
}

/// A pod with its allocated resources, and what it has of them.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub pod: &'a Pod,
    pub actuated: &'a PodResources,
    pub have: &'a ObservedPod,
    pub cgroup: &'a Cgroup,
    pub node: &'a NodeSettings,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Resource {
    Memory,
    Cpu,
}

/// A running container that does not have what was allocated.
struct Change {
    id: String,
    container: Container,
    old: ResourceRequirements,
}

impl Situation<'_> {
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let wanted = pod_cgroup(self.pod, self.node);
        let period = wanted.cpu_period;
        // A limit that is not there any more stays as it is: taking limits away from a running pod is not supported.
        let limit = wanted.memory_limit.filter(|l| Some(*l) != self.cgroup.memory_limit);
        let memory = limit.map(|limit| {
            let grows = self.cgroup.memory_limit.is_some_and(|now| limit > now);
            let change = CgroupChange {
                memory_limit: Some(limit),
                ..CgroupChange::default()
            };
            (grows, change)
        });
        let quota = wanted.cpu_quota.filter(|q| Some(*q) != self.cgroup.cpu_quota);
        let quota = quota.map(|quota| {
            let grows = self.cgroup.cpu_quota.is_some_and(|now| quota > now);
            let change = CgroupChange {
                cpu_quota: Some(quota),
                cpu_period: period,
                ..CgroupChange::default()
            };
            (grows, change)
        });
        let shares = (wanted.cpu_shares != self.cgroup.cpu_shares).then(|| {
            let change = CgroupChange {
                cpu_shares: Some(wanted.cpu_shares),
                ..CgroupChange::default()
            };
            (wanted.cpu_shares > self.cgroup.cpu_shares, change)
        });
        if memory.is_some() || quota.is_some() || shares.is_some() {
            steps.extend(self.tell_runtime());
        }
        self.around(&mut steps, Resource::Memory, [memory, None]);
        // Growing, limits come before requests; shrinking, requests before limits.
        self.around(&mut steps, Resource::Cpu, [quota, shares]);
        steps
    }

    /// What must be asked for its usage before the first step.
    pub fn decreases(&self) -> Decreases {
        let limit = pod_cgroup(self.pod, self.node).memory_limit;
        let pod = limit.filter(|new| self.cgroup.memory_limit.is_none_or(|now| *new < now));
        let mut containers = Vec::new();
        for change in self.changes(Resource::Memory) {
            let (old, new) = (
                limit_of(Some(&change.old), MEMORY),
                limit_of(change.container.resources.as_ref(), MEMORY),
            );
            if !new.is_zero() && (old.is_zero() || new < old) {
                let bytes = u64::try_from(new.value()).unwrap_or(0);
                containers.push((change.id, change.container.name, bytes));
            }
        }
        Decreases { pod, containers }
    }

    /// Before and after the containers' part, as each change of the pod's cgroup demands.
    fn around(&self, steps: &mut Vec<Step>, resource: Resource, pod: [Option<(bool, CgroupChange)>; 2]) {
        let growing = pod.iter().flatten().filter(|(grows, _)| *grows);
        steps.extend(growing.map(|(_, change)| Step::Pod(*change)));
        for change in self.changes(resource) {
            let given = match resource {
                Resource::Memory => mixed(&change.old, change.container.resources.as_ref()),
                Resource::Cpu => change.container.resources.clone().unwrap_or_default(),
            };
            let container = Container {
                resources: Some(given.clone()),
                ..change.container.clone()
            };
            steps.push(Step::Container {
                id: change.id,
                name: change.container.name,
                resources: linux::container(self.pod, &container, self.node),
                given,
            });
        }
        let shrinking = pod.iter().rev().flatten().filter(|(grows, _)| !grows);
        steps.extend(shrinking.map(|(_, change)| Step::Pod(*change)));
    }

    /// Running containers whose part of the resource changes; those that shrink first.
    fn changes(&self, resource: Resource) -> Vec<Change> {
        let name = match resource {
            Resource::Memory => MEMORY,
            Resource::Cpu => CPU,
        };
        let mut changes = Vec::new();
        let spec = self.pod.spec.iter();
        for (kind, container) in spec.flat_map(desired::containers) {
            let Some(old) = self.actuated.containers.get(&container.name) else {
                continue;
            };
            let Some(instance) = self.have.latest(&container.name) else {
                continue;
            };
            let new = container.resources.as_ref();
            let limits = (limit_of(Some(old), name), limit_of(new, name));
            let requests = (request_of(Some(old), name), request_of(new, name));
            let running = instance.state == crate::observed::ContainerState::Running;
            if kind == desired::ContainerKind::Ephemeral
                || !running
                || (limits.0 == limits.1 && requests.0 == requests.1)
            {
                continue;
            }
            let (before, after) = if limits.0 == limits.1 { requests } else { limits };
            changes.push((
                size(after) > size(before),
                Change {
                    id: instance.id.clone(),
                    old: old.clone(),
                    container: container.into_owned(),
                },
            ));
        }
        // A stable sort: else in the order of the spec.
        changes.sort_by_key(|(grows, _)| *grows);
        changes.into_iter().map(|(_, change)| change).collect()
    }

    fn tell_runtime(&self) -> Option<Step> {
        let before = self.actuated.substitute(self.pod);
        Some(Step::Sandbox {
            id: self.have.sandbox()?.id.clone(),
            overhead: linux::overhead(self.pod, self.node),
            resources: linux::sandbox(self.pod, self.node),
            before: linux::sandbox(before.as_ref().unwrap_or(self.pod), self.node),
        })
    }
}

/// No limit is more than any.
fn size(quantity: Quantity) -> (bool, Quantity) {
    (quantity.is_zero(), quantity)
}

/// Memory is new, everything else still old.
fn mixed(old: &ResourceRequirements, new: Option<&ResourceRequirements>) -> ResourceRequirements {
    let mut mixed = old.clone();
    let parts = [
        (&mut mixed.requests, new.and_then(|n| n.requests.as_ref())),
        (&mut mixed.limits, new.and_then(|n| n.limits.as_ref())),
    ];
    for (list, new) in parts {
        match new.and_then(|n| n.get(MEMORY)) {
            Some(memory) => drop(list.get_or_insert_default().insert(MEMORY.into(), memory.clone())),
            None => drop(list.as_mut().and_then(|l| l.remove(MEMORY))),
        }
    }
    mixed
}

impl Decreases {
    pub fn is_empty(&self) -> bool {
        self.pod.is_none() && self.containers.is_empty()
    }

    /// `pod` and `containers` are what is in use; none where it could not be read. A limit at or below that would at once
    /// kill something.
    pub fn check(&self, pod: Option<u64>, containers: &[Option<u64>]) -> Result<(), String> {
        let mut errors = Vec::new();
        if let Some(limit) = self.pod {
            match pod {
                None => errors.push("missing pod memory usage".to_owned()),
                Some(usage) if usage >= limit => errors.push(format!(
                    "attempting to set pod memory limit ({limit}) below current usage ({usage})"
                )),
                Some(_) => {}
            }
        }
        for (i, (_, name, limit)) in self.containers.iter().enumerate() {
            match containers.get(i).copied().flatten() {
                None => errors.push(format!("missing container {name:?} memory usage")),
                Some(usage) if usage >= *limit => errors.push(format!(
                    "attempting to set container {name:?} memory limit ({limit}) below current usage ({usage})"
                )),
                Some(_) => {}
            }
        }
        match errors.as_slice() {
            [] => Ok(()),
            [only] => Err(format!("cannot decrease memory limits: {only}")),
            many => Err(format!("cannot decrease memory limits: [{}]", many.join(", "))),
        }
    }
}
