//! Containers.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, ContainerPort, EnvFromSource, EnvVar, LifecycleHandler, ObjectFieldSelector, PodSpec,
    Probe, ResourceFieldSelector, SeccompProfile, Volume,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{data_key, dns_label, env_name, port_name, qualified_name};
use super::{Errors, MAX_ID, resources, volume};
use crate::desired::is_sidecar;

type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

const POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

pub(super) fn containers(errors: &mut Errors, spec: &PodSpec, volumes: &Volumes<'_>) {
    if spec.containers.is_empty() {
        errors.required("spec.containers", "");
    }
    let mut seen = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    let lists = [
        ("containers", spec.containers.as_slice()),
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
    ];
    for (list, containers) in lists {
        let init = list == "initContainers";
        for (i, container) in containers.iter().enumerate() {
            let path = format!("spec.{list}[{i}]");
            if container.name.is_empty() {
                errors.required(format!("{path}.name"), "");
            } else {
                errors.name(format!("{path}.name"), &container.name, dns_label);
                if !seen.insert(container.name.as_str()) {
                    errors.duplicate(format!("{path}.name"), &container.name);
                }
            }
            self::container(errors, &path, container, spec, volumes);
            if init && !is_sidecar(container) {
                for (field, set) in [
                    ("lifecycle", container.lifecycle.is_some()),
                    ("livenessProbe", container.liveness_probe.is_some()),
                    ("readinessProbe", container.readiness_probe.is_some()),
                    ("startupProbe", container.startup_probe.is_some()),
                ] {
                    if set {
                        let why = "may not be set for init containers without restartPolicy=Always";
                        errors.forbidden(format!("{path}.{field}"), why);
                    }
                }
            }
            if !init || is_sidecar(container) {
                host_port_conflicts(errors, &path, container, &mut host_ports);
            }
        }
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()) {
        errors.forbidden("spec.ephemeralContainers", "cannot be set on create");
    }
}

fn container(errors: &mut Errors, path: &str, container: &Container, spec: &PodSpec, volumes: &Volumes<'_>) {
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        errors.required(format!("{path}.image"), "");
    } else if image.trim() != image {
        errors.invalid(
            format!("{path}.image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
    errors.one_of(
        format!("{path}.imagePullPolicy"),
        container.image_pull_policy.as_deref(),
        &POLICIES,
    );
    let message = container.termination_message_policy.as_deref();
    errors.one_of(
        format!("{path}.terminationMessagePolicy"),
        message,
        &["File", "FallbackToLogsOnError"],
    );
    let restart = container.restart_policy.as_deref();
    errors.optional_one_of(
        format!("{path}.restartPolicy"),
        restart,
        &["Always", "Never", "OnFailure"],
    );
    ports(
        errors,
        path,
        container.ports.as_deref().unwrap_or_default(),
        spec.host_network == Some(true),
    );
    for (i, env) in container.env.iter().flatten().enumerate() {
        self::env(errors, &format!("{path}.env[{i}]"), env);
    }
    for (i, from) in container.env_from.iter().flatten().enumerate() {
        env_from(errors, &format!("{path}.envFrom[{i}]"), from);
    }
    mounts(errors, path, container, volumes);
    if let Some(resources) = &container.resources {
        resources::requirements(errors, &format!("{path}.resources"), resources, false);
    }
    for (field, probe, once) in [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ] {
        let Some(probe) = probe else { continue };
        let path = format!("{path}.{field}");
        self::probe(errors, &path, probe);
        if let Some(threshold) = probe.success_threshold.filter(|t| once && *t != 1) {
            errors.invalid_number(format!("{path}.successThreshold"), threshold, "must be 1");
        }
        if !once && probe.termination_grace_period_seconds.is_some() {
            errors.forbidden(
                format!("{path}.terminationGracePeriodSeconds"),
                "must not be set for readinessProbes",
            );
        }
    }
    if let Some(lifecycle) = &container.lifecycle {
        for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(hook) = hook {
                self::hook(errors, &format!("{path}.lifecycle.{field}"), hook);
            }
        }
    }
    security(errors, &format!("{path}.securityContext"), container);
}

fn is_port(number: i32) -> bool {
    (1..=65535).contains(&number)
}

const PORT: &str = "must be between 1 and 65535, inclusive";

fn ports(errors: &mut Errors, path: &str, ports: &[ContainerPort], host_network: bool) {
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = format!("{path}.ports[{i}]");
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            errors.name(format!("{path}.name"), name, port_name);
            if !names.insert(name) {
                errors.duplicate(format!("{path}.name"), name);
            }
        }
        if port.container_port == 0 {
            errors.required(format!("{path}.containerPort"), "");
        } else if !is_port(port.container_port) {
            errors.invalid_number(format!("{path}.containerPort"), port.container_port, PORT);
        }
        let host = port.host_port.unwrap_or(0);
        if host != 0 && !is_port(host) {
            errors.invalid_number(format!("{path}.hostPort"), host, PORT);
        } else if host_network && host != port.container_port {
            let why = "must match `containerPort` when `hostNetwork` is true";
            errors.invalid_number(format!("{path}.hostPort"), host, why);
        }
        if let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty())
            && ip.parse::<std::net::IpAddr>().is_err()
        {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.invalid(format!("{path}.hostIP"), ip, why);
        }
        errors.one_of(
            format!("{path}.protocol"),
            port.protocol.as_deref(),
            &["SCTP", "TCP", "UDP"],
        );
    }
}

fn host_port_conflicts(errors: &mut Errors, path: &str, container: &Container, seen: &mut BTreeSet<String>) {
    for (i, port) in container.ports.iter().flatten().enumerate() {
        let Some(number) = port.host_port.filter(|p| *p != 0) else {
            continue;
        };
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let key = format!("{protocol}/{}/{number}", port.host_ip.as_deref().unwrap_or_default());
        if !seen.insert(key.clone()) {
            errors.duplicate(format!("{path}.ports[{i}].hostPort"), &key);
        }
    }
}

const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn env(errors: &mut Errors, path: &str, env: &EnvVar) {
    if env.name.is_empty() {
        errors.required(format!("{path}.name"), "");
    } else {
        errors.name(format!("{path}.name"), &env.name, env_name);
    }
    let Some(from) = &env.value_from else { return };
    let path = format!("{path}.valueFrom");
    let count = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    match count.iter().filter(|set| **set).count() {
        0 => errors.invalid(
            path.clone(),
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        1 if env.value.as_deref().is_some_and(|v| !v.is_empty()) => {
            errors.invalid(path.clone(), "", "may not be specified when `value` is not empty");
        }
        1 => {}
        _ => errors.invalid(path.clone(), "", "may not have more than one field specified at a time"),
    }
    if let Some(field) = &from.field_ref {
        field_ref(errors, &format!("{path}.fieldRef"), field, &FIELDS);
    }
    if let Some(resource) = &from.resource_field_ref {
        resource_ref(errors, &format!("{path}.resourceFieldRef"), resource);
    }
    let refs = [
        (
            "configMapKeyRef",
            from.config_map_key_ref.as_ref().map(|r| (&r.name, &r.key)),
        ),
        ("secretKeyRef", from.secret_key_ref.as_ref().map(|r| (&r.name, &r.key))),
    ];
    for (field, (name, key)) in refs.into_iter().filter_map(|(f, r)| r.map(|r| (f, r))) {
        if name.is_empty() {
            errors.required(format!("{path}.{field}.name"), "");
        }
        if key.is_empty() {
            errors.required(format!("{path}.{field}.key"), "");
        } else {
            errors.name(format!("{path}.{field}.key"), key, data_key);
        }
    }
}

fn env_from(errors: &mut Errors, path: &str, from: &EnvFromSource) {
    if let Some(prefix) = from.prefix.as_deref().filter(|p| !p.is_empty()) {
        errors.name(format!("{path}.prefix"), prefix, env_name);
    }
    match (&from.config_map_ref, &from.secret_ref) {
        (None, None) => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
        (Some(_), Some(_)) => errors.invalid(path, "", "may not have more than one field specified at a time"),
        (Some(map), None) if map.name.is_empty() => errors.required(format!("{path}.configMapRef.name"), ""),
        (None, Some(secret)) if secret.name.is_empty() => errors.required(format!("{path}.secretRef.name"), ""),
        _ => {}
    }
}

/// `metadata.labels['key']` and `metadata.annotations['key']` are allowed everywhere.
pub(super) fn field_ref(errors: &mut Errors, path: &str, field: &ObjectFieldSelector, supported: &[&str]) {
    let at = format!("{path}.fieldPath");
    let value = field.field_path.as_str();
    if value.is_empty() {
        errors.required(at, "");
        return;
    }
    if let Some((map, key)) = value
        .split_once("['")
        .and_then(|(map, key)| Some((map, key.strip_suffix("']")?)))
    {
        match map {
            "metadata.labels" => errors.name(at, key, qualified_name),
            "metadata.annotations" => errors.name(at, &key.to_lowercase(), qualified_name),
            _ => errors.invalid(at, map, "does not support subscript"),
        }
        return;
    }
    errors.one_of(at, Some(value), supported);
}

pub(super) fn resource_ref(errors: &mut Errors, path: &str, field: &ResourceFieldSelector) {
    let kind = field
        .resource
        .strip_prefix("limits.")
        .or_else(|| field.resource.strip_prefix("requests."));
    let known =
        kind.is_some_and(|k| matches!(k, "cpu" | "memory" | "ephemeral-storage") || k.starts_with("hugepages-"));
    if field.resource.is_empty() {
        errors.required(format!("{path}.resource"), "");
    } else if !known {
        let supported = [
            "limits.cpu",
            "limits.ephemeral-storage",
            "limits.memory",
            "requests.cpu",
            "requests.ephemeral-storage",
            "requests.memory",
        ];
        errors.one_of(format!("{path}.resource"), Some(&field.resource), &supported);
    }
    if let Some(divisor) = &field.divisor
        && divisor.0.parse::<crate::resources::Quantity>().is_err()
    {
        errors.invalid(format!("{path}.divisor"), &divisor.0, "must be a quantity");
    }
}

fn mounts(errors: &mut Errors, path: &str, container: &Container, volumes: &Volumes<'_>) {
    let mut points = BTreeSet::new();
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = format!("{path}.volumeMounts[{i}]");
        if mount.name.is_empty() {
            errors.required(format!("{path}.name"), "");
        } else if !volumes.contains_key(mount.name.as_str()) {
            errors.not_found(format!("{path}.name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errors.required(format!("{path}.mountPath"), "");
        } else if !points.insert(mount.mount_path.as_str()) {
            errors.invalid(format!("{path}.mountPath"), &mount.mount_path, "must be unique");
        }
        let (sub, expr) = (
            mount.sub_path.as_deref().unwrap_or_default(),
            mount.sub_path_expr.as_deref().unwrap_or_default(),
        );
        volume::relative(errors, &format!("{path}.subPath"), sub);
        volume::relative(errors, &format!("{path}.subPathExpr"), expr);
        if !sub.is_empty() && !expr.is_empty() {
            errors.invalid(
                format!("{path}.subPathExpr"),
                expr,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        let propagation = mount.mount_propagation.as_deref();
        let kinds = ["Bidirectional", "HostToContainer", "None"];
        errors.optional_one_of(format!("{path}.mountPropagation"), propagation, &kinds);
        let privileged = container.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
        if propagation == Some("Bidirectional") && !privileged {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.forbidden(format!("{path}.mountPropagation"), why);
        }
        let recursive = mount.recursive_read_only.as_deref();
        errors.optional_one_of(
            format!("{path}.recursiveReadOnly"),
            recursive,
            &["Disabled", "Enabled", "IfPossible"],
        );
        if recursive.is_some_and(|r| r != "Disabled") && mount.read_only != Some(true) {
            errors.forbidden(
                format!("{path}.recursiveReadOnly"),
                "may only be specified when readOnly is true",
            );
        }
    }
    for (i, device) in container.volume_devices.iter().flatten().enumerate() {
        let path = format!("{path}.volumeDevices[{i}]");
        if !volumes.contains_key(device.name.as_str()) {
            errors.not_found(format!("{path}.name"), &device.name);
        }
        if device.device_path.is_empty() {
            errors.required(format!("{path}.devicePath"), "");
        } else {
            if !points.insert(device.device_path.as_str()) {
                errors.invalid(format!("{path}.devicePath"), &device.device_path, "must be unique");
            }
            if device.device_path.split('/').any(|p| p == "..") {
                errors.invalid(
                    format!("{path}.devicePath"),
                    &device.device_path,
                    "can not contain backsteps ('..')",
                );
            }
        }
    }
}

// === Probes and hooks ===

fn probe(errors: &mut Errors, path: &str, probe: &Probe) {
    let set = [
        ("exec", probe.exec.is_some()),
        ("httpGet", probe.http_get.is_some()),
        ("tcpSocket", probe.tcp_socket.is_some()),
        ("grpc", probe.grpc.is_some()),
    ];
    one_handler(errors, path, &set);
    if let Some(exec) = &probe.exec {
        command(errors, path, exec.command.as_deref());
    }
    if let Some(http) = &probe.http_get {
        self::http(errors, &format!("{path}.httpGet"), http);
    }
    if let Some(tcp) = &probe.tcp_socket {
        port(errors, &format!("{path}.tcpSocket.port"), &tcp.port);
    }
    if let Some(grpc) = probe.grpc.as_ref().filter(|g| !is_port(g.port)) {
        errors.invalid_number(format!("{path}.grpc.port"), grpc.port, PORT);
    }
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.not_negative(format!("{path}.{field}"), value);
    }
    errors.at_least(
        format!("{path}.terminationGracePeriodSeconds"),
        probe.termination_grace_period_seconds,
        1,
    );
}

fn one_handler(errors: &mut Errors, path: &str, handlers: &[(&str, bool)]) {
    let mut set = handlers.iter().filter(|(_, set)| *set);
    if set.next().is_none() {
        errors.required(path, "must specify a handler type");
    }
    for (name, _) in set {
        errors.forbidden(format!("{path}.{name}"), "may not specify more than 1 handler type");
    }
}

fn hook(errors: &mut Errors, path: &str, hook: &LifecycleHandler) {
    let set = [
        ("exec", hook.exec.is_some()),
        ("httpGet", hook.http_get.is_some()),
        ("tcpSocket", hook.tcp_socket.is_some()),
        ("sleep", hook.sleep.is_some()),
    ];
    one_handler(errors, path, &set);
    if let Some(exec) = &hook.exec {
        command(errors, path, exec.command.as_deref());
    }
    if let Some(http) = &hook.http_get {
        self::http(errors, &format!("{path}.httpGet"), http);
    }
    errors.not_negative(format!("{path}.sleep.seconds"), hook.sleep.as_ref().map(|s| s.seconds));
}

fn command(errors: &mut Errors, path: &str, command: Option<&[String]>) {
    if command.unwrap_or_default().is_empty() {
        errors.required(format!("{path}.exec.command"), "");
    }
}

fn http(errors: &mut Errors, path: &str, http: &k8s_openapi::api::core::v1::HTTPGetAction) {
    port(errors, &format!("{path}.port"), &http.port);
    errors.one_of(format!("{path}.scheme"), http.scheme.as_deref(), &["HTTP", "HTTPS"]);
    for (i, header) in http.http_headers.iter().flatten().enumerate() {
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if header.name.is_empty() || !header.name.bytes().all(token) {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errors.invalid(format!("{path}.httpHeaders[{i}].name"), &header.name, why);
        }
    }
}

fn port(errors: &mut Errors, path: &str, port: &IntOrString) {
    match port {
        IntOrString::Int(number) if !is_port(*number) => errors.invalid_number(path, *number, PORT),
        IntOrString::Int(_) => {}
        IntOrString::String(name) => errors.name(path, name, port_name),
    }
}

// === Security ===

fn security(errors: &mut Errors, path: &str, container: &Container) {
    let Some(context) = &container.security_context else {
        return;
    };
    errors.within(format!("{path}.runAsUser"), context.run_as_user, 0, MAX_ID);
    errors.within(format!("{path}.runAsGroup"), context.run_as_group, 0, MAX_ID);
    errors.optional_one_of(
        format!("{path}.procMount"),
        context.proc_mount.as_deref(),
        &["Default", "Unmasked"],
    );
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, "", why);
        }
        let added = context.capabilities.iter().flat_map(|c| c.add.iter().flatten());
        if added.into_iter().any(|c| c == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, "", why);
        }
    }
    seccomp(errors, path, context.seccomp_profile.as_ref());
    apparmor(errors, path, context.app_armor_profile.as_ref());
}

pub(super) fn seccomp(errors: &mut Errors, path: &str, profile: Option<&SeccompProfile>) {
    let Some(profile) = profile else { return };
    let path = format!("{path}.seccompProfile");
    errors.one_of(
        format!("{path}.type"),
        Some(&profile.type_),
        &["Localhost", "RuntimeDefault", "Unconfined"],
    );
    let file = profile.localhost_profile.as_deref().unwrap_or_default();
    match (profile.type_ == "Localhost", file.is_empty()) {
        (true, true) => errors.required(
            format!("{path}.localhostProfile"),
            "must be set when seccomp type is Localhost",
        ),
        (true, false) => volume::relative(errors, &format!("{path}.localhostProfile"), file),
        (false, false) => {
            errors.invalid(
                format!("{path}.localhostProfile"),
                file,
                "can only be set when seccomp type is Localhost",
            );
        }
        (false, true) => {}
    }
}

pub(super) fn apparmor(errors: &mut Errors, path: &str, profile: Option<&AppArmorProfile>) {
    let Some(profile) = profile else { return };
    let path = format!("{path}.appArmorProfile");
    errors.one_of(
        format!("{path}.type"),
        Some(&profile.type_),
        &["Localhost", "RuntimeDefault", "Unconfined"],
    );
    let name = profile.localhost_profile.as_deref().unwrap_or_default();
    match (profile.type_ == "Localhost", name.trim().is_empty()) {
        (true, true) => errors.required(
            format!("{path}.localhostProfile"),
            "must be set when AppArmor type is Localhost",
        ),
        (false, false) => {
            errors.invalid(
                format!("{path}.localhostProfile"),
                name,
                "can only be set when AppArmor type is Localhost",
            );
        }
        _ => {}
    }
}
