//! The kubelet's metrics of how things stand now: nobody counts them up, they are looked at when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::PodStatus;
use tokio::sync::watch;
use witlet_core::desired::is_mirror;
use witlet_core::stats::reading::{Filesystem, Pod, Readings};
use witlet_ports::meter::About;
use witlet_ports::sink::Family;

use crate::context::Context;
use crate::pleg::{Health, RuntimePods};
use crate::stats::Stats;
use crate::supervisor::Sources;

pub struct Now {
    pub node_name: String,
    pub cgroup_v2: bool,
    pub context: Arc<Context>,
    pub sources: Sources,
    pub listed: watch::Receiver<RuntimePods>,
    pub pleg: Arc<Health>,
    pub stats: Stats,
}

const NODE_NAME: About = About::new(
    "kubelet_node_name",
    "[ALPHA] The node's name. The count is always 1.",
    &["node"],
);
const CGROUP_VERSION: About = About::new("kubelet_cgroup_version", "[ALPHA] cgroup version on the hosts.", &[]);
const PROVIDER: About = About::new(
    "kubelet_metrics_provider",
    "[ALPHA] Metrics provider used by kubelet to collect container stats. Values can be 'cadvisor' and 'cri'",
    &["provider"],
);
const DESIRED: About = About::new(
    "kubelet_desired_pods",
    "[ALPHA] The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
    &["static"],
);
const ACTIVE: About = About::new(
    "kubelet_active_pods",
    "[ALPHA] The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.",
    &["static"],
);
const MIRRORS: About = About::new(
    "kubelet_mirror_pods",
    "[ALPHA] The number of mirror pods the kubelet will try to create (one per admitted static pod)",
    &[],
);
const EPHEMERAL: About = About::new(
    "kubelet_managed_ephemeral_containers",
    "[ALPHA] Current number of ephemeral containers in pods managed by this kubelet.",
    &[],
);
const RUNNING_PODS: About = About::new(
    "kubelet_running_pods",
    "[ALPHA] Number of pods that have a running pod sandbox",
    &[],
);
const RUNNING: About = About::new(
    "kubelet_running_containers",
    "[ALPHA] Number of containers currently running",
    &["container_state"],
);
const PENDING_RESIZES: About = About::new(
    "kubelet_pod_pending_resizes",
    "[ALPHA] Number of pending resizes for pods.",
    &["reason"],
);
const RESIZES: About = About::new(
    "kubelet_pod_in_progress_resizes",
    "[ALPHA] Number of in-progress resizes for pods.",
    &[],
);
const PULL_INTENTS: About = About::new(
    "kubelet_imagemanager_ondisk_pullintents",
    "[ALPHA] Number of ImagePullIntents stored on disk.",
    &[],
);
const PULL_RECORDS: About = About::new(
    "kubelet_imagemanager_ondisk_pulledrecords",
    "[ALPHA] Number of ImagePulledRecords stored on disk.",
    &[],
);
const LAST_SEEN: About = About::new(
    "kubelet_pleg_last_seen_seconds",
    "[ALPHA] Timestamp in seconds when PLEG was last seen active.",
    &[],
);
const LOGS: About = About::new(
    "kubelet_container_log_filesystem_used_bytes",
    "[ALPHA] Bytes used by the container's logs on the filesystem.",
    &["container", "namespace", "pod", "uid"],
);

impl Now {
    pub fn families(&self) -> Vec<Family> {
        let one = |about: About, value: f64| about.gauge([(vec![], value)]);
        let mut all = vec![
            NODE_NAME.gauge([(vec![&*self.node_name], 1.0)]),
            one(CGROUP_VERSION, if self.cgroup_v2 { 2.0 } else { 1.0 }),
            PROVIDER.gauge([(vec!["cadvisor"], 1.0)]),
        ];
        let (intents, records) = self.context.images.pull_records();
        all.push(one(PULL_INTENTS, intents as f64));
        all.push(one(PULL_RECORDS, records as f64));
        all.extend(self.context.managers.families());
        all.extend(resizes(&self.context.status.all()));
        all.extend(self.pods());
        all.extend(self.runtime());
        if let Some(at) = self.pleg.last_list() {
            all.push(one(LAST_SEEN, at.as_millisecond() as f64 / 1000.0));
        }
        all.extend(self.stats.last(used).into_iter().flatten());
        all
    }

    fn pods(&self) -> Vec<Family> {
        let (api, files) = (self.sources.api.borrow().clone(), self.sources.files.borrow().clone());
        let own: Vec<_> = api.pods.values().filter(|pod| !is_mirror(pod)).collect();
        let ended = |pod: &k8s_openapi::api::core::v1::Pod| {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let active = own.iter().filter(|pod| !ended(pod)).count();
        let of_files = files.pods.len() as f64;
        let ephemeral: usize = own
            .iter()
            .filter_map(|pod| pod.spec.as_ref()?.ephemeral_containers.as_ref())
            .map(Vec::len)
            .sum();
        let by_source = |about: About, api: f64| about.gauge([(vec![""], api), (vec!["true"], of_files)]);
        vec![
            by_source(DESIRED, own.len() as f64),
            by_source(ACTIVE, active as f64),
            MIRRORS.gauge([(vec![], of_files)]),
            EPHEMERAL.gauge([(vec![], ephemeral as f64)]),
        ]
    }

    fn runtime(&self) -> Vec<Family> {
        let listed = self.listed.borrow().clone();
        let Some(pods) = listed else { return Vec::new() };
        let ready = pods.values().filter(|pod| pod.has_ready_sandbox()).count();
        let mut states: BTreeMap<&'static str, f64> = BTreeMap::new();
        for state in pods.values().flat_map(|pod| pod.container_states()) {
            *states.entry(state).or_default() += 1.0;
        }
        vec![
            RUNNING_PODS.gauge([(vec![], ready as f64)]),
            RUNNING.gauge(states.into_iter().map(|(state, n)| (vec![state], n))),
        ]
    }
}

/// As the pods' statuses tell of them.
fn resizes(statuses: &[Arc<PodStatus>]) -> Vec<Family> {
    let mut pending: BTreeMap<String, f64> = BTreeMap::new();
    let mut in_progress = 0.0;
    for condition in statuses.iter().flat_map(|s| s.conditions.iter().flatten()) {
        match condition.type_.as_str() {
            "PodResizePending" => {
                let reason = condition.reason.as_deref().unwrap_or_default().to_lowercase();
                *pending.entry(reason).or_default() += 1.0;
            }
            "PodResizeInProgress" => in_progress += 1.0,
            _ => {}
        }
    }
    vec![
        PENDING_RESIZES.gauge(pending.iter().map(|(reason, n)| (vec![reason.as_str()], *n))),
        RESIZES.gauge([(vec![], in_progress)]),
    ]
}

type Value = (About, fn(&Filesystem) -> u64);

/// What is known of files from the last readings.
fn used(readings: &Readings) -> Vec<Family> {
    let logs = readings.pods.iter().flat_map(|pod| {
        pod.containers.iter().filter_map(|container| {
            let names = vec![&*container.name, &*pod.key.namespace, &*pod.key.name, pod.uid.as_str()];
            Some((names, container.logs?.bytes as f64))
        })
    });
    let mut all = vec![LOGS.gauge(logs)];
    let volumes: [Value; 6] = [
        (
            volume(
                "kubelet_volume_stats_available_bytes",
                "[ALPHA] Number of available bytes in the volume",
            ),
            |fs| fs.available,
        ),
        (
            volume(
                "kubelet_volume_stats_capacity_bytes",
                "[ALPHA] Capacity in bytes of the volume",
            ),
            |fs| fs.capacity,
        ),
        (
            volume(
                "kubelet_volume_stats_inodes",
                "[ALPHA] Maximum number of inodes in the volume",
            ),
            |fs| fs.inodes,
        ),
        (
            volume(
                "kubelet_volume_stats_inodes_free",
                "[ALPHA] Number of free inodes in the volume",
            ),
            |fs| fs.inodes_free,
        ),
        (
            volume(
                "kubelet_volume_stats_inodes_used",
                "[ALPHA] Number of used inodes in the volume",
            ),
            |fs| fs.inodes_used,
        ),
        (
            volume(
                "kubelet_volume_stats_used_bytes",
                "[ALPHA] Number of used bytes in the volume",
            ),
            |fs| fs.used,
        ),
    ];
    for (about, value) in volumes {
        // Several pods may use one claim.
        let claims: BTreeMap<_, _> = readings.pods.iter().flat_map(|pod| claims(pod, value)).collect();
        all.push(
            about.gauge(
                claims
                    .into_iter()
                    .map(|((namespace, claim), value)| (vec![namespace, claim], value)),
            ),
        );
    }
    all
}

const fn volume(name: &'static str, help: &'static str) -> About {
    About::new(name, help, &["namespace", "persistentvolumeclaim"])
}

fn claims(pod: &Pod, value: fn(&Filesystem) -> u64) -> impl Iterator<Item = ((&str, &str), f64)> {
    pod.volumes.iter().filter_map(move |volume| {
        let claim = volume.claim.as_deref()?;
        Some(((&*pod.key.namespace, claim), value(&volume.filesystem) as f64))
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use witlet_core::ids::{PodKey, PodUid};
    use witlet_core::stats::reading::{Container, Usage, Volume};

    use super::*;

    fn pod(uid: &str) -> Pod {
        let filesystem = Filesystem {
            at: Timestamp::UNIX_EPOCH,
            device: 1,
            capacity: 100,
            available: 60,
            inodes: 10,
            inodes_free: 7,
            used: 40,
            inodes_used: 3,
        };
        let volume = |name: &str, claim: Option<&str>| Volume {
            name: name.into(),
            claim: claim.map(str::to_owned),
            ephemeral: false,
            filesystem,
        };
        Pod {
            key: PodKey {
                namespace: "ns".into(),
                name: uid.into(),
            },
            uid: PodUid::from(uid),
            created_at: Timestamp::UNIX_EPOCH,
            cgroup: None,
            sandbox: None,
            network_at: None,
            interfaces: Vec::new(),
            containers: vec![Container {
                id: "id".into(),
                name: "c".into(),
                image: String::new(),
                started_at: Timestamp::UNIX_EPOCH,
                cgroup: None,
                layer: None,
                logs: Some(Usage {
                    at: None,
                    bytes: 4096,
                    inodes: 1,
                }),
            }],
            volumes: vec![volume("data", Some("claim")), volume("scratch", None)],
            logs: Usage::default(),
            hosts_file: Usage::default(),
        }
    }

    #[test]
    fn resizes_are_counted_from_the_statuses() {
        let status = |conditions: &[(&str, &str)]| -> Arc<PodStatus> {
            let one =
                |(kind, reason): &(&str, &str)| serde_json::json!({ "type": kind, "status": "True", "reason": reason });
            let list: Vec<_> = conditions.iter().map(one).collect();
            Arc::new(serde_json::from_value(serde_json::json!({ "conditions": list })).unwrap_or_default())
        };
        let text = crate::metrics::text(&resizes(&[
            status(&[("Ready", ""), ("PodResizePending", "Deferred")]),
            status(&[("PodResizePending", "Deferred"), ("PodResizeInProgress", "Error")]),
            status(&[("PodResizePending", "Infeasible")]),
            status(&[]),
        ]));
        for line in [
            "kubelet_pod_pending_resizes{reason=\"deferred\"} 2",
            "kubelet_pod_pending_resizes{reason=\"infeasible\"} 1",
            "kubelet_pod_in_progress_resizes 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        let none = crate::metrics::text(&resizes(&[]));
        assert!(none.lines().any(|l| l == "kubelet_pod_in_progress_resizes 0"), "{none}");
    }

    #[test]
    fn claims_are_measured_once() {
        let readings = Readings {
            pods: vec![pod("a"), pod("b")],
            ..Readings::default()
        };
        let text = crate::metrics::text(&used(&readings));
        let claim = "{namespace=\"ns\",persistentvolumeclaim=\"claim\"}";
        let lines = |name: &str| {
            text.lines()
                .filter(|l| l.starts_with(&format!("{name}{claim}")))
                .count()
        };
        assert_eq!(lines("kubelet_volume_stats_used_bytes"), 1, "{text}");
        assert!(
            text.contains(&format!("kubelet_volume_stats_inodes_free{claim} 7\n")),
            "{text}"
        );
        assert!(!text.contains("scratch"));
        for uid in ["a", "b"] {
            let log = format!(
                "kubelet_container_log_filesystem_used_bytes{{container=\"c\",namespace=\"ns\",pod=\"{uid}\",uid=\"{uid}\"}} 4096\n"
            );
            assert!(text.contains(&log), "{text}");
        }
    }
}
