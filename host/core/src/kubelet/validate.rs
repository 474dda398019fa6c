//! Configurations that a kubelet refuses (the kubelet contract, node A2). All problems at once.

use serde_json::Value;

use super::file::nanoseconds;
use super::managers;
use crate::collector::Collector;
use crate::resources::reserved::{Enforcement, Keys};

const SECOND: u64 = 1_000_000_000;

pub(super) fn problems(config: &Value) -> Vec<String> {
    let checks = Checks { config };
    let mut problems = Vec::new();
    let mut refuse = |wrong: bool, why: &str| {
        if wrong {
            problems.push(format!("invalid configuration: {why}"));
        }
    };
    let int = |field: &str, default: i64| checks.int(field, default);
    let span = |field: &str, default: u64| checks.span(field, default);
    let outside = |value: i64, low: i64, high: i64| value < low || value > high;

    let (low, high) = (
        int("imageGCLowThresholdPercent", 80),
        int("imageGCHighThresholdPercent", 85),
    );
    refuse(
        outside(low, 0, 100) || outside(high, 0, 100),
        "imageGCLowThresholdPercent and imageGCHighThresholdPercent must be between 0 and 100",
    );
    refuse(
        low >= high,
        "imageGCLowThresholdPercent must be less than imageGCHighThresholdPercent",
    );
    let oldest = span("imageMaximumGCAge", 0);
    refuse(
        oldest != 0 && oldest <= span("imageMinimumGCAge", 120 * SECOND),
        "imageMaximumGCAge must be greater than imageMinimumGCAge",
    );
    refuse(
        outside(int("port", 10250), 1, 65535),
        "port must be between 1 and 65535, inclusive",
    );
    for field in ["healthzPort", "readOnlyPort"] {
        refuse(
            outside(int(field, 0), 0, 65535),
            &format!("{field} must be between 0 and 65535, inclusive"),
        );
    }
    for field in [
        "eventBurst",
        "eventRecordQPS",
        "kubeAPIBurst",
        "kubeAPIQPS",
        "maxOpenFiles",
        "maxPods",
        "podsPerCore",
        "registryBurst",
        "registryPullQPS",
    ] {
        refuse(int(field, 0) < 0, &format!("{field} must not be a negative number"));
    }
    refuse(
        int("nodeLeaseDurationSeconds", 40) <= 0,
        "nodeLeaseDurationSeconds must be greater than 0",
    );
    refuse(
        outside(int("oomScoreAdj", -999), -1000, 1000),
        "oomScoreAdj must be between -1000 and 1000, inclusive",
    );
    let period = span("cpuCFSQuotaPeriod", SECOND / 10);
    refuse(
        !(SECOND / 1000..=SECOND).contains(&period),
        "cpuCFSQuotaPeriod must be between 1ms and 1s, inclusive",
    );
    refuse(checks.is("runOnce"), "runOnce is not supported any more");
    let parallel = int("maxParallelImagePulls", 1);
    refuse(parallel < 1, "maxParallelImagePulls must be a positive number");
    refuse(
        parallel > 1 && checks.is("serializeImagePulls"),
        "maxParallelImagePulls cannot be larger than 1 unless serializeImagePulls is false",
    );
    let (total, critical) = (
        span("shutdownGracePeriod", 0),
        span("shutdownGracePeriodCriticalPods", 0),
    );
    refuse(
        critical > total,
        "shutdownGracePeriodCriticalPods must be less than or equal to shutdownGracePeriod",
    );
    for (field, value) in [
        ("shutdownGracePeriod", total),
        ("shutdownGracePeriodCriticalPods", critical),
    ] {
        refuse(
            value > 0 && value < SECOND,
            &format!("{field} must be either zero or otherwise >= 1 sec"),
        );
    }
    refuse(
        (total > 0 || critical > 0) && checks.any("shutdownGracePeriodByPodPriority"),
        "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time",
    );
    refuse(
        int("containerLogMaxFiles", 5) <= 1,
        "containerLogMaxFiles must be greater than 1",
    );
    refuse(
        int("containerLogMaxWorkers", 1) < 1,
        "containerLogMaxWorkers must be greater than or equal to 1",
    );
    refuse(
        span("containerLogMonitorInterval", 10 * SECOND) < 3 * SECOND,
        "containerLogMonitorInterval must be greater than or equal to 3s",
    );
    let restart = span("crashLoopBackOff.maxContainerRestartPeriod", 300 * SECOND);
    refuse(
        !(SECOND..=300 * SECOND).contains(&restart),
        "crashLoopBackOff.maxContainerRestartPeriod must be set between 1s and 300s",
    );
    let sampled = int("tracing.samplingRatePerMillion", 0);
    refuse(
        sampled < 0,
        "tracing.samplingRatePerMillion: sampling rate must be positive",
    );
    refuse(
        sampled > 1_000_000,
        "tracing.samplingRatePerMillion: sampling rate per million must be less than or equal to one million",
    );
    if let Err(why) = Collector::parse(checks.text("tracing.endpoint")) {
        refuse(true, &format!("tracing.endpoint: {why}"));
    }
    refuse(
        checks.is("enableSystemLogQuery") && checks.get("enableSystemLogHandler") == Some(&Value::Bool(false)),
        "enableSystemLogHandler is required for enableSystemLogQuery",
    );
    let swap = checks.text("memorySwap.swapBehavior");
    refuse(
        !matches!(swap, "" | "NoSwap" | "LimitedSwap"),
        "memorySwap.swapBehavior must be one of: \"\", \"NoSwap\" or \"LimitedSwap\"",
    );
    let ids = int("userNamespaces.idsPerPod", 65536);
    refuse(
        ids < 65536 || ids % 65536 != 0,
        "userNamespaces.idsPerPod must be a multiple of 65536, and at least that",
    );
    refuse(
        !checks.text("systemCgroups").is_empty() && checks.text("cgroupRoot").is_empty(),
        "systemCgroups was specified and cgroupRoot was not specified",
    );
    refuse(
        !matches!(checks.text("cgroupDriver"), "" | "cgroupfs" | "systemd"),
        "cgroupDriver must be one of: \"cgroupfs\" or \"systemd\"",
    );
    problems.extend(enforce(&checks));
    problems.extend(managers::problems(&checks));
    problems
}

fn enforce(checks: &Checks<'_>) -> Vec<String> {
    let Some(Value::Array(levels)) = checks.get("enforceNodeAllocatable") else {
        return Vec::new();
    };
    let levels: Vec<_> = levels.iter().filter_map(Value::as_str).collect();
    let (system, kube) = (checks.text("systemReservedCgroup"), checks.text("kubeReservedCgroup"));
    let enforcement = Enforcement::new(&levels, Some(system), Some(kube), &ENFORCEMENT);
    let problems = enforcement.err().unwrap_or_default();
    problems
        .into_iter()
        .map(|p| format!("invalid configuration: {p}"))
        .collect()
}

const ENFORCEMENT: Keys = Keys {
    levels: "enforceNodeAllocatable (--enforce-node-allocatable)",
    system_cgroup: "systemReservedCgroup (--system-reserved-cgroup)",
    kube_cgroup: "kubeReservedCgroup (--kube-reserved-cgroup)",
};

pub(super) struct Checks<'a> {
    config: &'a Value,
}

impl Checks<'_> {
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.config.pointer(&format!("/{}", field.replace('.', "/")))
    }

    fn int(&self, field: &str, default: i64) -> i64 {
        self.get(field).and_then(Value::as_i64).unwrap_or(default)
    }

    pub(super) fn text(&self, field: &str) -> &str {
        self.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn is(&self, field: &str) -> bool {
        self.get(field).and_then(Value::as_bool).unwrap_or(false)
    }

    fn any(&self, field: &str) -> bool {
        self.get(field)
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
    }

    fn span(&self, field: &str, default: u64) -> u64 {
        self.get(field)
            .and_then(Value::as_str)
            .and_then(nanoseconds)
            .unwrap_or(default)
    }
}
