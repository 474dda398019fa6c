//! The defaults that the API server gives to a pod of v1 (the kubelet contract, pod 1.1 rule 5).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, HTTPGetAction, LifecycleHandler, ObjectFieldSelector, Pod, PodSpec, Probe,
    ResourceRequirements, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::desired::is_sidecar;
use crate::resources::Quantity;

type Resources = BTreeMap<String, ApiQuantity>;

/// Idempotent. Everything that is set stays as it is, except that quantities get their canonical form.
pub fn default_pod(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    service_account(spec);

    let host_network = spec.host_network == Some(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        default_container(container);
        let ports = container.ports.iter_mut().flatten();
        for port in ports.filter(|p| host_network && p.host_port.is_none_or(|h| h == 0)) {
            port.host_port = Some(port.container_port);
        }
    }
    for ephemeral in spec.ephemeral_containers.iter_mut().flatten() {
        let image = ephemeral.image.as_deref().unwrap_or_default();
        set(&mut ephemeral.image_pull_policy, pull_policy(image));
        set(&mut ephemeral.termination_message_path, "/dev/termination-log");
        set(&mut ephemeral.termination_message_policy, "File");
        ephemeral.env.iter_mut().flatten().for_each(default_env);
    }
    spec.volumes.iter_mut().flatten().for_each(default_volume);
    pod_resources(spec);
    if let Some(overhead) = &mut spec.overhead {
        canonical(overhead);
    }
}

fn set(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; the API shows both.
fn service_account(spec: &mut PodSpec) {
    let name = [&spec.service_account_name, &spec.service_account]
        .into_iter()
        .flatten()
        .find(|n| !n.is_empty())
        .cloned();
    if name.is_some() {
        spec.service_account_name.clone_from(&name);
        spec.service_account = name;
    }
}

fn default_container(container: &mut Container) {
    let image = container.image.as_deref().unwrap_or_default();
    set(&mut container.image_pull_policy, pull_policy(image));
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
    }
    container.env.iter_mut().flatten().for_each(default_env);
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(default_probe);
    if let Some(lifecycle) = &mut container.lifecycle {
        let hooks = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
        hooks.into_iter().flatten().for_each(default_hook);
    }
    if let Some(resources) = &mut container.resources {
        default_resources(resources);
    }
}

/// `Always` for the tag `latest` and for an image with neither tag nor digest.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    if name.contains('@') {
        return "IfNotPresent";
    }
    match name.split_once(':') {
        None | Some((_, "latest" | "")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn default_env(env: &mut EnvVar) {
    if let Some(field) = env.value_from.as_mut().and_then(|v| v.field_ref.as_mut()) {
        default_field(field);
    }
}

fn default_field(field: &mut ObjectFieldSelector) {
    set(&mut field.api_version, "v1");
}

fn default_probe(probe: &mut Probe) {
    for (field, value) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if field.is_none_or(|v| v == 0) {
            *field = Some(value);
        }
    }
    if let Some(http) = &mut probe.http_get {
        default_http(http);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn default_hook(hook: &mut LifecycleHandler) {
    if let Some(http) = &mut hook.http_get {
        default_http(http);
    }
}

fn default_http(http: &mut HTTPGetAction) {
    set(&mut http.path, "/");
    set(&mut http.scheme, "HTTP");
}

fn default_resources(resources: &mut ResourceRequirements) {
    resources.limits.iter_mut().for_each(canonical);
    resources.requests.iter_mut().for_each(canonical);
    if let Some(limits) = &resources.limits {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
}

/// The shortest form, rounded up to thousandths. What does not parse is left for the validation to complain about.
fn canonical(list: &mut Resources) {
    for quantity in list.values_mut() {
        if let Ok(parsed) = quantity.0.parse::<Quantity>() {
            let millis = Quantity::from_millis(parsed.millis());
            *quantity = if millis == parsed || parsed.millis() == i64::MAX {
                parsed.to_api()
            } else {
                millis.with_format(parsed.format()).to_api()
            };
        }
    }
}

/// Resources of the pod as a whole: a request that is missing is what its containers ask for, or else the limit.
fn pod_resources(spec: &mut PodSpec) {
    let sums = container_requests(spec);
    let Some(resources) = &mut spec.resources else { return };
    resources.limits.iter_mut().for_each(canonical);
    resources.requests.iter_mut().for_each(canonical);
    if resources.limits.is_none() && resources.requests.is_none() {
        return;
    }
    let requests = resources.requests.get_or_insert_default();
    for (name, sum) in sums {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            requests.entry(name).or_insert_with(|| sum.to_api());
        }
    }
    for (name, limit) in resources.limits.iter().flatten() {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// Per resource: what all run at the same time, or the largest init container beside the sidecars started before it.
fn container_requests(spec: &PodSpec) -> BTreeMap<String, Quantity> {
    let mut regular = BTreeMap::<String, Quantity>::new();
    let add = |to: &mut BTreeMap<String, Quantity>, container: &Container| {
        for (name, quantity) in container.resources.iter().flat_map(|r| r.requests.iter().flatten()) {
            let sum = to.entry(name.clone()).or_default();
            *sum = sum.plus(Quantity::from_api(quantity));
        }
    };
    spec.containers.iter().for_each(|c| add(&mut regular, c));
    let (mut sidecars, mut peak) = (BTreeMap::new(), BTreeMap::<String, Quantity>::new());
    for container in spec.init_containers.iter().flatten() {
        let mut now = sidecars.clone();
        add(&mut now, container);
        if is_sidecar(container) {
            sidecars.clone_from(&now);
            add(&mut regular, container);
        }
        for (name, quantity) in now {
            let peak = peak.entry(name).or_default();
            *peak = (*peak).max(quantity);
        }
    }
    for (name, quantity) in peak {
        let sum = regular.entry(name).or_default();
        *sum = (*sum).max(quantity);
    }
    regular
}

const MODE: i32 = 0o644;

fn default_volume(volume: &mut Volume) {
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(MODE);
    }
    if let Some(config_map) = &mut volume.config_map {
        config_map.default_mode.get_or_insert(MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(MODE);
        downward
            .items
            .iter_mut()
            .flatten()
            .filter_map(|i| i.field_ref.as_mut())
            .for_each(default_field);
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(MODE);
        for source in projected.sources.iter_mut().flatten() {
            if let Some(token) = &mut source.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
            let items = source
                .downward_api
                .iter_mut()
                .flat_map(|d| d.items.iter_mut().flatten());
            items.filter_map(|i| i.field_ref.as_mut()).for_each(default_field);
        }
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.type_.get_or_insert_default();
    }
    if let Some(image) = &mut volume.image {
        let reference = image.reference.as_deref().unwrap_or_default();
        set(&mut image.pull_policy, pull_policy(reference));
    }
    if let Some(iscsi) = &mut volume.iscsi {
        set(&mut iscsi.iscsi_interface, "default");
    }
    let claim = volume.ephemeral.as_mut().and_then(|e| e.volume_claim_template.as_mut());
    if let Some(claim) = claim {
        set(&mut claim.spec.volume_mode, "Filesystem");
    }
    if super::volume_sources(volume).is_empty() {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
}
