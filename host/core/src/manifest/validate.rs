//! What the API server checks when a pod is created, as far as the node's safety and its users' nerves need it. The texts
//! are the API's.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

mod container;
pub(crate) mod names;
mod resources;
mod volume;

use names::*;

/// Every mistake of a pod that went through `default_pod`, as `path: what is wrong`.
pub fn validate_pod(pod: &Pod) -> Vec<String> {
    validate(pod)
        .into_iter()
        .map(|(path, message)| format!("{path}: {message}"))
        .collect()
}

pub(super) fn validate(pod: &Pod) -> Vec<(String, String)> {
    let mut errors = Errors::default();
    metadata(&mut errors, pod);
    match &pod.spec {
        Some(spec) => self::spec(&mut errors, spec),
        None => errors.required("spec", ""),
    }
    errors.0
}

/// Mistakes by path, in the forms of the API.
#[derive(Default)]
struct Errors(Vec<(String, String)>);

impl Errors {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push((path.into(), message.into()));
    }

    fn required(&mut self, path: impl Into<String>, why: &str) {
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(": {why}")
        };
        self.add(path, format!("Required value{why}"));
    }

    fn invalid(&mut self, path: impl Into<String>, value: &str, why: &str) {
        self.add(path, format!("Invalid value: {value:?}: {why}"));
    }

    fn invalid_number(&mut self, path: impl Into<String>, value: impl Into<i64>, why: &str) {
        self.add(path, format!("Invalid value: {}: {why}", value.into()));
    }

    fn forbidden(&mut self, path: impl Into<String>, why: &str) {
        self.add(path, format!("Forbidden: {why}"));
    }

    fn duplicate(&mut self, path: impl Into<String>, value: &str) {
        self.add(path, format!("Duplicate value: {value:?}"));
    }

    fn not_found(&mut self, path: impl Into<String>, value: &str) {
        self.add(path, format!("Not found: {value:?}"));
    }

    /// The value is one of a few, or required and missing.
    fn one_of(&mut self, path: impl Into<String>, value: Option<&str>, supported: &[&str]) {
        match value {
            None | Some("") => self.required(path, ""),
            Some(value) if supported.contains(&value) => {}
            Some(value) => {
                let list: Vec<_> = supported.iter().map(|s| format!("{s:?}")).collect();
                self.add(
                    path,
                    format!("Unsupported value: {value:?}: supported values: {}", list.join(", ")),
                );
            }
        }
    }

    /// A value that may be missing.
    fn optional_one_of(&mut self, path: impl Into<String>, value: Option<&str>, supported: &[&str]) {
        if value.is_some() {
            self.one_of(path, value, supported);
        }
    }

    /// Every complaint of a naming rule.
    fn name(&mut self, path: impl Into<String>, value: &str, rule: fn(&str) -> Vec<String>) {
        let path = path.into();
        for why in rule(value) {
            self.invalid(path.clone(), value, &why);
        }
    }

    fn not_negative(&mut self, path: impl Into<String>, value: Option<impl Into<i64>>) {
        self.at_least(path, value, 0);
    }

    fn at_least(&mut self, path: impl Into<String>, value: Option<impl Into<i64>>, low: i64) {
        match value.map(Into::into) {
            Some(value) if value < low => {
                self.invalid_number(path, value, &format!("must be greater than or equal to {low}"));
            }
            _ => {}
        }
    }

    fn within(&mut self, path: impl Into<String>, value: Option<impl Into<i64>>, low: i64, high: i64) {
        match value.map(Into::into) {
            Some(value) if value < low || value > high => {
                self.invalid_number(path, value, &format!("must be between {low} and {high}, inclusive"));
            }
            _ => {}
        }
    }
}

const MAX_ID: i64 = i32::MAX as i64;

fn metadata(errors: &mut Errors, pod: &Pod) {
    let meta = &pod.metadata;
    match meta.name.as_deref() {
        None | Some("") => errors.required("metadata.name", "name or generateName is required"),
        Some(name) => errors.name("metadata.name", name, dns_subdomain),
    }
    match meta.namespace.as_deref() {
        None | Some("") => errors.required("metadata.namespace", ""),
        Some(namespace) => errors.name("metadata.namespace", namespace, dns_label),
    }
    // It becomes the name of directories and cgroups.
    if let Some(uid) = meta.uid.as_deref().filter(|u| !u.is_empty() && !is_uid(u)) {
        errors.invalid(
            "metadata.uid",
            uid,
            "must consist of at most 63 alphanumeric characters or '-'",
        );
    }
    for (key, value) in meta.labels.iter().flatten() {
        errors.name("metadata.labels", key, qualified_name);
        errors.name("metadata.labels", value, label_value);
    }
    let mut size = 0;
    for (key, value) in meta.annotations.iter().flatten() {
        errors.name("metadata.annotations", &key.to_lowercase(), qualified_name);
        size += key.len() + value.len();
    }
    if size > 256 * 1024 {
        errors.add("metadata.annotations", "Too long: may not be more than 262144 bytes");
    }
}

fn spec(errors: &mut Errors, spec: &PodSpec) {
    let volumes = volume::volumes(errors, spec);
    container::containers(errors, spec, &volumes);
    errors.one_of(
        "spec.restartPolicy",
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
    );
    dns(errors, spec);
    errors.within("spec.activeDeadlineSeconds", spec.active_deadline_seconds, 1, MAX_ID);
    errors.not_negative(
        "spec.terminationGracePeriodSeconds",
        spec.termination_grace_period_seconds,
    );
    for (path, name) in [
        ("spec.nodeName", &spec.node_name),
        ("spec.serviceAccountName", &spec.service_account_name),
        ("spec.runtimeClassName", &spec.runtime_class_name),
        ("spec.priorityClassName", &spec.priority_class_name),
    ] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            errors.name(path, name, dns_subdomain);
        }
    }
    for (path, name) in [("spec.hostname", &spec.hostname), ("spec.subdomain", &spec.subdomain)] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            errors.name(path, name, dns_label);
        }
    }
    if let Some(name) = &spec.hostname_override {
        errors.name("spec.hostnameOverride", name, dns_subdomain);
        if spec.host_network == Some(true) {
            errors.forbidden("spec.hostnameOverride", "may not be set when `hostNetwork` is true");
        }
    }
    let scheduling = spec.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty());
    if scheduling && spec.node_name.as_deref().is_some_and(|n| !n.is_empty()) {
        errors.forbidden(
            "spec.nodeName",
            "cannot be set until all schedulingGates have been cleared",
        );
    }
    for (key, value) in spec.node_selector.iter().flatten() {
        errors.name("spec.nodeSelector", key, qualified_name);
        errors.name("spec.nodeSelector", value, label_value);
    }
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = format!("spec.hostAliases[{i}]");
        if alias.ip.parse::<std::net::IpAddr>().is_err() {
            errors.invalid(
                format!("{path}.ip"),
                &alias.ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
        for (j, name) in alias.hostnames.iter().flatten().enumerate() {
            errors.name(format!("{path}.hostnames[{j}]"), name, dns_subdomain);
        }
    }
    for (i, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if secret.name.is_empty() {
            errors.required(format!("spec.imagePullSecrets[{i}].name"), "");
        }
    }
    tolerations(errors, spec);
    security(errors, spec);
    if let Some(list) = &spec.resources {
        resources::requirements(errors, "spec.resources", list, true);
    }
    resources::pod_level(errors, spec);
    resources::overhead(errors, spec);
    let mut gates = BTreeSet::new();
    for (i, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = format!("spec.readinessGates[{i}].conditionType");
        errors.name(path.clone(), &gate.condition_type, qualified_name);
        if !gates.insert(&gate.condition_type) {
            errors.duplicate(path, &gate.condition_type);
        }
    }
    if let Some(os) = &spec.os {
        errors.one_of("spec.os.name", Some(&os.name), &["linux", "windows"]);
    }
}

fn dns(errors: &mut Errors, spec: &PodSpec) {
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.one_of("spec.dnsPolicy", spec.dns_policy.as_deref(), &policies);
    let config = spec.dns_config.clone().unwrap_or_default();
    let servers = config.nameservers.unwrap_or_default();
    if spec.dns_policy.as_deref() == Some("None") {
        if spec.dns_config.is_none() {
            errors.required("spec.dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required("spec.dnsConfig.nameservers", why);
        }
    }
    if servers.len() > 3 {
        let list = format!("{servers:?}");
        errors.add(
            "spec.dnsConfig.nameservers",
            format!("Invalid value: {list}: must not have more than 3 nameservers"),
        );
    }
    for (i, server) in servers.iter().enumerate() {
        if server.parse::<std::net::IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.invalid(format!("spec.dnsConfig.nameservers[{i}]"), server, why);
        }
    }
    let searches = config.searches.unwrap_or_default();
    if searches.len() > 32 {
        errors.add(
            "spec.dnsConfig.searches",
            "Invalid value: must not have more than 32 search paths",
        );
    }
    if searches.iter().map(|s| s.len() + 1).sum::<usize>() > 2049 {
        errors.add(
            "spec.dnsConfig.searches",
            "Invalid value: must not have more than 2048 characters (including spaces) in the search list",
        );
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, s)| *s != ".") {
        // A trailing dot and underscores are usual in search paths.
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "a");
        if !dns_subdomain(&name).is_empty() {
            errors.name(format!("spec.dnsConfig.searches[{i}]"), search, dns_subdomain);
        }
    }
    for (i, option) in config.options.unwrap_or_default().iter().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            errors.required(format!("spec.dnsConfig.options[{i}]"), "must not be empty");
        }
    }
}

fn tolerations(errors: &mut Errors, spec: &PodSpec) {
    for (i, toleration) in spec.tolerations.iter().flatten().enumerate() {
        let path = format!("spec.tolerations[{i}]");
        let key = toleration.key.as_deref().unwrap_or_default();
        let operator = toleration.operator.as_deref().unwrap_or_default();
        let value = toleration.value.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        if !key.is_empty() {
            errors.name(format!("{path}.key"), key, qualified_name);
        } else if operator != "Exists" {
            errors.invalid(
                format!("{path}.operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            errors.invalid(
                format!("{path}.effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "Exists" if !value.is_empty() => {
                errors.invalid(
                    format!("{path}.operator"),
                    value,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "" | "Equal" => errors.name(format!("{path}.operator"), value, label_value),
            _ => errors.one_of(
                format!("{path}.operator"),
                Some(operator),
                &["Equal", "Exists", "Lt", "Gt"],
            ),
        }
        if !effect.is_empty() {
            errors.one_of(
                format!("{path}.effect"),
                Some(effect),
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            );
        }
    }
}

fn security(errors: &mut Errors, spec: &PodSpec) {
    if spec.host_pid == Some(true) && spec.share_process_namespace == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid("spec.securityContext.shareProcessNamespace", "true", why);
    }
    if spec.host_users == Some(false) {
        for (field, set) in [
            ("hostNetwork", spec.host_network),
            ("hostPID", spec.host_pid),
            ("hostIPC", spec.host_ipc),
        ] {
            if set == Some(true) {
                errors.forbidden(format!("spec.{field}"), "when `hostUsers` is false");
            }
        }
    }
    let Some(context) = &spec.security_context else { return };
    let path = "spec.securityContext";
    errors.within(format!("{path}.runAsUser"), context.run_as_user, 0, MAX_ID);
    errors.within(format!("{path}.runAsGroup"), context.run_as_group, 0, MAX_ID);
    errors.within(format!("{path}.fsGroup"), context.fs_group, 0, MAX_ID);
    for (i, group) in context.supplemental_groups.iter().flatten().enumerate() {
        errors.within(format!("{path}.supplementalGroups[{i}]"), Some(*group), 0, MAX_ID);
    }
    let policy = context.fs_group_change_policy.as_deref();
    errors.optional_one_of(
        format!("{path}.fsGroupChangePolicy"),
        policy,
        &["Always", "OnRootMismatch"],
    );
    let policy = context.supplemental_groups_policy.as_deref();
    errors.optional_one_of(format!("{path}.supplementalGroupsPolicy"), policy, &["Merge", "Strict"]);
    container::seccomp(errors, path, context.seccomp_profile.as_ref());
    container::apparmor(errors, path, context.app_armor_profile.as_ref());
    let mut seen = BTreeSet::new();
    for (i, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let path = format!("{path}.sysctls[{i}].name");
        if sysctl.name.is_empty() {
            errors.required(path, "");
        } else if !is_sysctl(&sysctl.name) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9]$";
            errors.invalid(path, &sysctl.name, why);
        } else if !seen.insert(&sysctl.name) {
            errors.duplicate(path, &sysctl.name);
        }
    }
}
