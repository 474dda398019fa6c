//! Sections about cpus and memory that are pods' alone.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use witlet_core::cpu_manager;
use witlet_core::resources::Quantity;
use witlet_core::resources::requests::{HUGEPAGES_PREFIX, MEMORY, ResourceList};
use witlet_core::topology;
use witlet_plugin_host::units::Span;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ManagerPolicy {
    #[default]
    None,
    Static,
}

/// An option's value, with or without quotation marks.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(untagged, expecting = "true, false, a number or a text")]
pub(crate) enum OptionValue {
    Flag(bool),
    Number(i64),
    Text(String),
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

type ManagerOptions = BTreeMap<String, OptionValue>;

fn texts(options: &ManagerOptions) -> BTreeMap<String, String> {
    options.iter().map(|(k, v)| (k.clone(), v.to_string())).collect()
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CpuManager {
    pub(crate) policy: ManagerPolicy,
    pub(crate) options: ManagerOptions,
    pub(crate) reconcile: Span,
}

impl Default for CpuManager {
    fn default() -> Self {
        Self {
            policy: ManagerPolicy::None,
            options: ManagerOptions::new(),
            reconcile: Span(Duration::from_secs(10)),
        }
    }
}

impl CpuManager {
    pub(crate) fn is_static(&self) -> bool {
        self.policy == ManagerPolicy::Static
    }

    pub(crate) fn options(&self) -> Result<cpu_manager::Options, String> {
        let parsed = cpu_manager::Options::parse(&texts(&self.options));
        parsed.map_err(|why| format!("cpu_manager.options: {why}"))
    }

    pub(super) fn problems(&self, topology: &TopologyManager) -> Vec<String> {
        let mut problems = Vec::new();
        if self.reconcile.0.is_zero() {
            problems.push("cpu_manager.reconcile must be longer than 0".into());
        }
        match self.options() {
            Err(why) => problems.push(why),
            Ok(_) if !self.is_static() && !self.options.is_empty() => {
                problems
                    .push("cpu_manager.options: only the policy \"static\" has options; set it, or remove them".into());
            }
            Ok(options) => {
                let policy = topology.settings().map(|s| s.policy).unwrap_or_default();
                let conflict = options.conflict(policy);
                problems.extend(conflict.map(|why| format!("cpu_manager.options: {why}")));
            }
        }
        problems
    }
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MemoryManager {
    pub(crate) policy: ManagerPolicy,
    /// By the number of a NUMA node.
    pub(crate) reserved: BTreeMap<String, BTreeMap<String, String>>,
}

impl MemoryManager {
    pub(crate) fn is_static(&self) -> bool {
        self.policy == ManagerPolicy::Static
    }

    /// Amounts by node.
    pub(crate) fn reserved(&self) -> Result<BTreeMap<u32, ResourceList>, String> {
        let mut nodes = BTreeMap::new();
        for (node, limits) in &self.reserved {
            let key = || format!("memory_manager.reserved.{node}");
            let id: u32 = node
                .parse()
                .map_err(|_| format!("{}: {node:?} is no number of a NUMA node", key()))?;
            let mut amounts = ResourceList::new();
            for (name, text) in limits {
                if name != MEMORY && !name.starts_with(HUGEPAGES_PREFIX) {
                    return Err(format!(
                        "{}: {name:?} is not supported, only memory and hugepages-<size> such as hugepages-2Mi",
                        key()
                    ));
                }
                let amount: Quantity = text.parse().map_err(|why| format!("{}: {name}: {why}", key()))?;
                if !amount.is_positive() {
                    return Err(format!("{}: {name} = {text:?}: must be more than 0", key()));
                }
                amounts.insert(name.clone(), amount);
            }
            nodes.insert(id, amounts);
        }
        Ok(nodes)
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.reserved().err().into_iter().collect()
    }
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TopologyManager {
    pub(crate) policy: String,
    pub(crate) scope: String,
    pub(crate) options: ManagerOptions,
}

impl Default for TopologyManager {
    fn default() -> Self {
        Self {
            policy: topology::Policy::None.as_str().into(),
            scope: topology::Scope::Container.as_str().into(),
            options: ManagerOptions::new(),
        }
    }
}

impl TopologyManager {
    pub(crate) fn settings(&self) -> Result<topology::Settings, Vec<String>> {
        let mut problems = Vec::new();
        let policy = topology::Policy::parse(&self.policy);
        if policy.is_none() {
            let known = topology::Policy::ALL.map(|p| format!("{:?}", p.as_str())).join(", ");
            let found = &self.policy;
            problems.push(format!("topology_manager.policy = {found:?}: must be one of {known}"));
        }
        let scope = topology::Scope::parse(&self.scope);
        if scope.is_none() {
            let found = &self.scope;
            problems.push(format!(
                "topology_manager.scope = {found:?}: must be \"container\" or \"pod\""
            ));
        }
        let options = topology::Options::parse(&texts(&self.options));
        if let Err(why) = &options {
            problems.push(format!("topology_manager.options: {why}"));
        }
        match (policy, scope, options) {
            (Some(policy), Some(scope), Ok(options)) => Ok(topology::Settings { policy, scope, options }),
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Sections;

    fn problems(text: &str) -> Vec<String> {
        let sections: Sections = toml::from_str(&format!("[standalone]\n{text}")).unwrap();
        sections.problems()
    }

    #[test]
    fn managers_are_checked() {
        let good = "[node]\nreserved_cpus = \"0\"\n[cpu_manager]\npolicy = \"static\"\noptions = { full-pcpus-only = true }\n\
                    [memory_manager]\npolicy = \"static\"\nreserved = { 0 = { memory = \"1Gi\" } }\n\
                    [topology_manager]\npolicy = \"restricted\"\nscope = \"pod\"\noptions = { max-allowable-numa-nodes = 9 }";
        assert_eq!(problems(good), [""; 0]);
        for (text, problem) in [
            (
                "[cpu_manager]\npolicy = \"static\"",
                "cpu_manager.policy = \"static\": at least one cpu must be reserved; write node.reserved_cpus, or cpu in \
                 node.system_reserved or node.kube_reserved",
            ),
            (
                "[cpu_manager]\noptions = { full-pcpus-only = true }",
                "cpu_manager.options: only the policy \"static\" has options; set it, or remove them",
            ),
            (
                "[cpu_manager]\noptions = { fast = \"true\" }",
                "cpu_manager.options: unknown CPU Manager Policy option: \"fast\"",
            ),
            (
                "[node]\nreserved_cpus = \"0\"\n[cpu_manager]\npolicy = \"static\"\noptions = { align-by-socket = true }\n\
                 [topology_manager]\npolicy = \"single-numa-node\"",
                "cpu_manager.options: Topology manager single-numa-node policy is incompatible with CPUManager \
                 align-by-socket policy option",
            ),
            (
                "[cpu_manager]\nreconcile = \"0s\"",
                "cpu_manager.reconcile must be longer than 0",
            ),
            (
                "[node]\nreserved_cpus = \"first\"",
                "node.reserved_cpus: \"first\" is no list of cpus such as \"0-2,7\"",
            ),
            (
                "[node]\nreserved_cpus = \"0\"\nsystem_reserved_cgroup = \"/system.slice\"",
                "node.reserved_cpus cannot be used with node.system_reserved_cgroup or node.kube_reserved_cgroup",
            ),
            (
                "[memory_manager.reserved]\nall = { memory = \"1Gi\" }",
                "memory_manager.reserved.all: \"all\" is no number of a NUMA node",
            ),
            (
                "[memory_manager.reserved]\n0 = { cpu = \"1\" }",
                "memory_manager.reserved.0: \"cpu\" is not supported, only memory and hugepages-<size> such as hugepages-2Mi",
            ),
            (
                "[memory_manager.reserved]\n0 = { memory = \"0\" }",
                "memory_manager.reserved.0: memory = \"0\": must be more than 0",
            ),
            (
                "[topology_manager]\npolicy = \"best\"",
                "topology_manager.policy = \"best\": must be one of \"none\", \"best-effort\", \"restricted\", \"single-numa-node\"",
            ),
            (
                "[topology_manager]\nscope = \"node\"",
                "topology_manager.scope = \"node\": must be \"container\" or \"pod\"",
            ),
            (
                "[topology_manager]\noptions = { prefer-closest-numa-nodes = \"maybe\" }",
                "topology_manager.options: bad value for option \"prefer-closest-numa-nodes\": \"maybe\" is neither true nor false",
            ),
        ] {
            let found = problems(text);
            assert!(found.iter().any(|p| p == problem), "{text}: {found:?}");
        }
    }
}
