//! The kubelet's own metrics, under its names, as far as what they count exists here (`tests/contract/metrics.md`).

use std::time::Duration;

use witlet_core::desired::ContainerKind;
use witlet_ports::meter::{About, Counter, DEFAULT_BOUNDS, Gauge, Histogram};
use witlet_ports::sink::Family;

const START_BOUNDS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0,
    600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
const STATUS_BOUNDS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
const PULL_BOUNDS: &[f64] = &[
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0,
    3600.0,
];
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// From which size on an image falls into which class.
const PULL_SIZES: [(u64, &str); 12] = [
    (100 * GIB, "GT100GB"),
    (60 * GIB, "60GB-100GB"),
    (40 * GIB, "40GB-60GB"),
    (30 * GIB, "30GB-40GB"),
    (20 * GIB, "20GB-30GB"),
    (10 * GIB, "10GB-20GB"),
    (5 * GIB, "5GB-10GB"),
    (GIB, "1GB-5GB"),
    (500 * MIB, "500MB-1GB"),
    (100 * MIB, "100MB-500MB"),
    (10 * MIB, "10MB-100MB"),
    (0, "0-10MB"),
];

macro_rules! meters {
    (
        counters { $($counter:ident $c_name:literal [$($c_label:literal),*] $c_help:literal)+ }
        gauges { $($gauge:ident $g_name:literal [$($g_label:literal),*] $g_help:literal)+ }
        histograms { $($histogram:ident $h_name:literal [$($h_label:literal),*] $bounds:ident $h_help:literal)+ }
    ) => {
        pub struct Kubelet {
            $(pub $counter: Counter,)+
            $(pub $gauge: Gauge,)+
            $(pub $histogram: Histogram,)+
        }

        impl Default for Kubelet {
            fn default() -> Self {
                Self {
                    $($counter: Counter::new(About::new($c_name, $c_help, &[$($c_label),*])),)+
                    $($gauge: Gauge::new(About::new($g_name, $g_help, &[$($g_label),*])),)+
                    $($histogram: Histogram::new(About::new($h_name, $h_help, &[$($h_label),*]), $bounds),)+
                }
            }
        }

        impl Kubelet {
            pub fn families(&self) -> Vec<Family> {
                vec![$(self.$counter.family(),)+ $(self.$gauge.family(),)+ $(self.$histogram.family(),)+]
            }
        }
    };
}

meters! {
    counters {
        admission_rejections "kubelet_admission_rejections_total" ["reason"]
            "[ALPHA] Cumulative number pod admission rejections by the Kubelet."
        started_pods "kubelet_started_pods_total" []
            "[ALPHA] Cumulative number of pods started"
        started_pods_errors "kubelet_started_pods_errors_total" []
            "[ALPHA] Cumulative number of errors when starting pods"
        started_containers "kubelet_started_containers_total" ["container_type"]
            "[ALPHA] Cumulative number of containers started"
        started_containers_errors "kubelet_started_containers_errors_total" ["container_type", "code"]
            "[ALPHA] Cumulative number of errors when starting containers"
        terminated_containers "kubelet_terminated_containers_total" ["container_type", "exit_code", "reason"]
            "[ALPHA] Cumulative number of container terminations."
        events_opened "kubelet_evented_pleg_connection_success_count" []
            "[ALPHA] The number of times a streaming client was obtained to receive CRI Events."
        events_failed "kubelet_evented_pleg_connection_error_count" []
            "[ALPHA] The number of errors encountered during the establishment of streaming connection with the CRI runtime."
        ensured_images "kubelet_image_manager_ensure_image_requests_total"
            ["present_locally", "pull_policy", "pull_required"]
            "[ALPHA] Number of ensure-image requests processed by the kubelet."
        preemptions "kubelet_preemptions" ["preemption_signal"]
            "[ALPHA] Cumulative number of pod preemptions by preemption resource"
        orphans "kubelet_orphaned_runtime_pods_total" []
            "[ALPHA] Number of pods that have been detected in the container runtime without being already known to the pod worker. This typically indicates the kubelet was restarted while a pod was force deleted in the API or in the local configuration, which is unusual."
        user_namespaced "kubelet_started_user_namespaced_pods_total" []
            "[ALPHA] Cumulative number of pods with user namespaces started. This metric will only be collected on Linux."
        user_namespaced_errors "kubelet_started_user_namespaced_pods_errors_total" []
            "[ALPHA] Cumulative number of errors when starting pods with user namespaces. This metric will only be collected on Linux."
        restarted_pods "kubelet_restarted_pods_total" ["static"]
            "[ALPHA] Number of pods that have been restarted because they were deleted and recreated with the same UID while the kubelet was watching them (common for static pods, extremely uncommon for API pods)"
        sleeps_cut_short "kubelet_sleep_action_terminated_early_total" []
            "[ALPHA] The number of times lifecycle sleep handler got terminated before it finishes"
        hook_fallbacks "kubelet_lifecycle_handler_http_fallbacks_total" []
            "[ALPHA] The number of times lifecycle handlers successfully fell back to http from https."
        image_volumes "kubelet_image_volume_requested_total" []
            "[BETA] Number of requested image volumes."
        image_volume_errors "kubelet_image_volume_mounted_errors_total" []
            "[BETA] Number of failed image volume mounts."
        image_volumes_mounted "kubelet_image_volume_mounted_succeed_total" []
            "[BETA] Number of successful image volume mounts."
        requested_resizes "kubelet_container_requested_resizes_total" ["resource", "requirement", "operation"]
            "[ALPHA] Number of requested resizes, counted at the container level. Different resources on the same container are counted separately. The 'requirement' label refers to 'memory' or 'limits'; the 'operation' label can be one of 'add', 'remove', 'increase' or 'decrease'."
        infeasible_resizes "kubelet_pod_infeasible_resizes_total" ["reason_detail"]
            "[ALPHA] Number of infeasible resizes for pods."
        deferred_resizes "kubelet_pod_deferred_accepted_resizes_total" ["retry_trigger"]
            "[ALPHA] Cumulative number of resizes that were accepted after being deferred."
        credential_checks "kubelet_imagemanager_image_mustpull_checks_total" ["result"]
            "[ALPHA] Counter for how many times kubelet checked whether credentials need to be re-verified to access an image"
        credential_provider_errors "kubelet_credential_provider_plugin_errors_total" ["plugin_name"]
            "[ALPHA] Number of errors from credential provider plugin"
        cpu_pinning "kubelet_cpu_manager_pinning_requests_total" []
            "[ALPHA] The number of cpu core allocations which required pinning."
        cpu_pinning_errors "kubelet_cpu_manager_pinning_errors_total" []
            "[ALPHA] The number of cpu core allocations which required pinning failed."
        memory_pinning "kubelet_memory_manager_pinning_requests_total" []
            "[ALPHA] The number of memory pages allocations which required pinning."
        memory_pinning_errors "kubelet_memory_manager_pinning_errors_total" []
            "[ALPHA] The number of memory pages allocations which required pinning that failed."
        topology_admissions "kubelet_topology_manager_admission_requests_total" []
            "[ALPHA] The number of admission requests where resources have to be aligned."
        topology_errors "kubelet_topology_manager_admission_errors_total" []
            "[ALPHA] The number of admission request failures where resources could not be aligned."
        aligned "kubelet_container_aligned_compute_resources_count" ["scope", "boundary"]
            "[ALPHA] Cumulative number of aligned compute resources allocated to containers by alignment type."
        not_aligned "kubelet_container_aligned_compute_resources_failure_count" ["scope", "boundary"]
            "[ALPHA] Cumulative number of failures to allocate aligned compute resources to containers by alignment type."
        images_removed "kubelet_image_garbage_collected_total" ["reason"]
            "[ALPHA] Total number of images garbage collected by the kubelet, whether through disk usage or image age."
    }
    gauges {
        working_pods "kubelet_working_pods" ["config", "lifecycle", "static"]
            "[ALPHA] Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is desired, orphaned, or runtime only (also orphaned), and whether the pod is static. An orphaned pod has been removed from local configuration or force deleted in the API and consumes resources that are not otherwise visible."
        first_network_pod "kubelet_first_network_pod_start_sli_duration_seconds" []
            "[INTERNAL] Duration in seconds to start the first network pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch"
        before_agent "kubelet_node_startup_pre_kubelet_duration_seconds" []
            "[ALPHA] Duration in seconds of node startup before kubelet starts."
        before_registration "kubelet_node_startup_pre_registration_duration_seconds" []
            "[ALPHA] Duration in seconds of node startup before registration."
        registration "kubelet_node_startup_registration_duration_seconds" []
            "[ALPHA] Duration in seconds of node startup during registration."
        after_registration "kubelet_node_startup_post_registration_duration_seconds" []
            "[ALPHA] Duration in seconds of node startup after registration."
        node_startup "kubelet_node_startup_duration_seconds" []
            "[ALPHA] Duration in seconds of node startup in total."
        credential_provider_config "kubelet_credential_provider_config_info" ["hash"]
            "[ALPHA] Information about the last applied credential provider configuration with hash as label"
    }
    histograms {
        containers_per_pod "kubelet_containers_per_pod_count" [] CONTAINERS
            "[ALPHA] The number of containers per pod."
        worker "kubelet_pod_worker_duration_seconds" ["operation_type"] DEFAULT_BOUNDS
            "[ALPHA] Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync"
        pod_start "kubelet_pod_start_duration_seconds" [] START_BOUNDS
            "[ALPHA] Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run"
        pod_start_total "kubelet_pod_start_total_duration_seconds" [] START_BOUNDS
            "[ALPHA] Duration in seconds to start a pod since creation, including time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch"
        status_sync "kubelet_pod_status_sync_duration_seconds" [] STATUS_BOUNDS
            "[ALPHA] Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status until the API is successfully updated for that pod, even if multiple intevening changes to pod status occur."
        relist "kubelet_pleg_relist_duration_seconds" [] DEFAULT_BOUNDS
            "[ALPHA] Duration in seconds for relisting pods in PLEG."
        relist_interval "kubelet_pleg_relist_interval_seconds" [] DEFAULT_BOUNDS
            "[ALPHA] Interval in seconds between relisting in PLEG."
        cgroups "kubelet_cgroup_manager_duration_seconds" ["operation_type"] DEFAULT_BOUNDS
            "[ALPHA] Duration in seconds for cgroup manager operations. Broken down by method."
        pod_start_sli "kubelet_pod_start_sli_duration_seconds" [] START_BOUNDS
            "[ALPHA] Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch"
        resize "kubelet_pod_resize_duration_milliseconds" ["success"] RESIZE_BOUNDS
            "[ALPHA] Duration in milliseconds to actuate a pod resize"
        topology_admission "kubelet_topology_manager_admission_duration_ms" [] TOPOLOGY_BOUNDS
            "[ALPHA] Duration in milliseconds to serve a pod admission request."
        credential_provider "kubelet_credential_provider_plugin_duration" ["plugin_name"] DEFAULT_BOUNDS
            "[ALPHA] Duration of execution in seconds for credential provider plugin"
        image_pull "kubelet_image_pull_duration_seconds" ["image_size_in_bytes"] PULL_BOUNDS
            "[ALPHA] Duration in seconds to pull an image."
        device_allocations "kubelet_device_plugin_alloc_duration_seconds" ["resource_name"] DEFAULT_BOUNDS
            "[ALPHA] Duration in seconds to serve a device plugin Allocation request. Broken down by resource name."
        volume_count "kubelet_volume_metric_collection_duration_seconds" ["metric_source"] DEFAULT_BOUNDS
            "[ALPHA] Duration in seconds to calculate volume stats"
    }
}

/// From ten milliseconds, each double the one before.
const RESIZE_BOUNDS: &[f64] = &[
    10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 5120.0, 10240.0, 20480.0, 40960.0, 81920.0, 163_840.0,
];
/// From a twentieth of a millisecond, each double the one before.
const TOPOLOGY_BOUNDS: &[f64] = &[
    0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2,
];
const CONTAINERS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0];

impl Kubelet {
    pub fn pulled(&self, bytes: u64, took: Duration) {
        let class = PULL_SIZES.iter().find(|(from, _)| bytes >= *from);
        let class = class.map_or("0-10MB", |(_, name)| name);
        self.image_pull.took(&[class], took);
    }
}

/// What the kubelet's metrics call a kind of container.
pub fn container_type(kind: ContainerKind) -> &'static str {
    match kind {
        ContainerKind::Regular => "container",
        ContainerKind::Init | ContainerKind::Sidecar => "init_container",
        ContainerKind::Ephemeral => "ephemeral_container",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_are_classed_by_the_size_of_the_image() {
        let kubelet = Kubelet::default();
        for bytes in [1, 9 * MIB, 10 * MIB, 140 * GIB] {
            kubelet.pulled(bytes, Duration::from_secs(2));
        }
        let family = kubelet.image_pull.family();
        let count = |class: &str| {
            family
                .samples
                .iter()
                .find(|s| s.name.ends_with("_count") && s.labels[0].1 == class)
                .map(|s| s.value)
        };
        assert_eq!(
            (count("0-10MB"), count("10MB-100MB"), count("GT100GB"), count("1GB-5GB")),
            (Some(2.0), Some(1.0), Some(1.0), None)
        );
    }
}
