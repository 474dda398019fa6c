//! What a kubelet refuses of its managers of cpus, memory and topology (the kubelet contract, node A2 and 109).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::validate::Checks;
use crate::cpu_manager::{self, CpuSet, Maturity};
use crate::memory_manager;
use crate::resources::Quantity;
use crate::resources::requests::{HUGEPAGES_PREFIX, MEMORY};
use crate::topology;

pub(super) fn problems(checks: &Checks<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut refuse = |why: String| problems.push(format!("invalid configuration: {why}"));
    reserved_cpus(checks).into_iter().for_each(&mut refuse);
    reserved_memory(checks).into_iter().for_each(&mut refuse);
    let policy = checks.text("topologyManagerPolicy");
    if !policy.is_empty() && topology::Policy::parse(policy).is_none() {
        let known = topology::Policy::ALL.map(|p| format!("{:?}", p.as_str())).join(" ");
        refuse(format!(
            "topologyManagerPolicy (--topology-manager-policy) {policy:?} must be one of: [{known}]"
        ));
    }
    let scope = checks.text("topologyManagerScope");
    if !scope.is_empty() && topology::Scope::parse(scope).is_none() {
        refuse(format!(
            "topologyManagerScope (--topology-manager-scope) {scope:?} must be one of: \"container\", or \"pod\""
        ));
    }
    problems.extend(policies(checks));
    problems
}

/// These are told by the managers themselves.
fn policies(checks: &Checks<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for (field, known) in [
        (
            "cpuManagerPolicy",
            [cpu_manager::POLICY_NONE, cpu_manager::POLICY_STATIC],
        ),
        (
            "memoryManagerPolicy",
            [memory_manager::POLICY_NONE, memory_manager::POLICY_STATIC],
        ),
    ] {
        let policy = checks.text(field);
        if !policy.is_empty() && !known.contains(&policy) {
            problems.push(format!("unknown policy: {policy:?}"));
        }
    }
    let options = pairs(checks, "cpuManagerPolicyOptions");
    if checks.text("cpuManagerPolicy") == cpu_manager::POLICY_STATIC {
        let gates = [
            (
                Maturity::Alpha,
                "Alpha",
                checks.is("featureGates.CPUManagerPolicyAlphaOptions"),
            ),
            (
                Maturity::Beta,
                "Beta",
                !off(checks, "featureGates.CPUManagerPolicyBetaOptions"),
            ),
        ];
        for name in options.keys() {
            let maturity = cpu_manager::Options::maturity(name);
            let closed = gates.iter().find(|(m, _, open)| Some(*m) == maturity && !open);
            if let Some((_, level, _)) = closed {
                problems.push(format!(
                    "CPU Manager Policy {level}-level Options not enabled, but option {name:?} provided"
                ));
            }
        }
        let parsed = cpu_manager::Options::parse(&options);
        let policy = topology::Policy::parse(checks.text("topologyManagerPolicy")).unwrap_or_default();
        problems.extend(parsed.as_ref().err().map(ToString::to_string));
        problems.extend(parsed.ok().and_then(|parsed| parsed.conflict(policy)));
    } else if !options.is_empty() {
        let listed: Vec<String> = options.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        problems.push(format!(
            "None policy: received unsupported options=map[{}]",
            listed.join(" ")
        ));
    }
    if !matches!(checks.text("topologyManagerPolicy"), "" | "none") {
        let options = topology::Options::parse(&pairs(checks, "topologyManagerPolicyOptions"));
        problems.extend(options.err().map(|e| e.to_string()));
    }
    problems
}

fn reserved_cpus(checks: &Checks<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    let cpus = checks.text("reservedSystemCPUs");
    if cpus.is_empty() {
        return problems;
    }
    if !checks.text("systemReservedCgroup").is_empty() || !checks.text("kubeReservedCgroup").is_empty() {
        problems.push(
            "can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or \
             kubeReservedCgroup (--kube-reserved-cgroup)"
                .into(),
        );
    }
    if let Err(error) = cpus.parse::<CpuSet>() {
        problems.push(format!(
            "unable to parse reservedSystemCPUs (--reserved-cpus) {cpus}, error: {error}"
        ));
    }
    problems
}

fn reserved_memory(checks: &Checks<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let list = checks.get("reservedMemory").and_then(Value::as_array);
    for reservation in list.into_iter().flatten() {
        let node = reservation["numaNode"].as_u64().unwrap_or(0);
        for (name, amount) in reservation["limits"].as_object().into_iter().flatten() {
            if name != MEMORY && !name.starts_with(HUGEPAGES_PREFIX) {
                problems.push(format!(
                    "the limit type {name:?} for NUMA node {node} is not supported, only [memory hugepages-<HugePageSize>] is \
                     accepted"
                ));
            }
            let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
            match text.parse::<Quantity>() {
                Ok(amount) if amount.is_zero() => problems.push(format!(
                    "reserved memory may not be zero for NUMA node {node} and resource {name:?}"
                )),
                Ok(_) => {}
                Err(error) => problems.push(format!("reservedMemory of NUMA node {node}: {name}: {error}")),
            }
            if !seen.insert((node, name.clone())) {
                problems.push(format!(
                    "the reserved memory has a duplicate value for NUMA node {node} and resource {name:?}"
                ));
            }
        }
    }
    problems
}

fn off(checks: &Checks<'_>, field: &str) -> bool {
    checks.get(field) == Some(&Value::Bool(false))
}

fn pairs(checks: &Checks<'_>, field: &str) -> BTreeMap<String, String> {
    let map = checks.get(field).and_then(Value::as_object);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    map.into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}
