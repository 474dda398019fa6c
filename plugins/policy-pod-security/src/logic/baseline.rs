//! Controls of the level `baseline`.

use std::collections::BTreeSet;

use super::pod::{Pod, Profile, SeLinux};
use super::{Violation, containers, plural, quoted, setters};

const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What a container may get beyond nothing, since runtimes give it by default.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const SE_LINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

/// Sysctls that are isolated from the node and from other pods.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

pub(super) fn app_armor(pod: &Pod) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let mut is_bad = |profile: &Option<Profile>| {
        let found = profile
            .as_ref()
            .filter(|p| !["RuntimeDefault", "Localhost"].contains(&p.kind.as_str()));
        bad.extend(found.map(|p| p.kind.clone()));
        found.is_some()
    };
    let by_pod = is_bad(&pod.spec.security_context.app_armor_profile);
    let names = pod.names(|c| is_bad(&c.security_context.app_armor_profile));
    let allowed = |v: &str| v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
    let annotations: Vec<_> = pod
        .metadata
        .annotations
        .iter()
        .filter(|(key, value)| key.starts_with(APP_ARMOR_ANNOTATION) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let by_annotation =
        (!annotations.is_empty()).then(|| plural(annotations.len(), "annotation", "annotations").to_owned());
    let who: Vec<_> = setters(by_pod, &names).into_iter().chain(by_annotation).collect();
    if who.is_empty() {
        return None;
    }
    let values: Vec<_> = bad.into_iter().chain(annotations).collect();
    Some(Violation::new(
        plural(
            values.len(),
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
        ),
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            quoted(&values)
        ),
    ))
}

pub(super) fn capabilities(pod: &Pod) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let names = pod.names(|c| {
        let added = c.security_context.capabilities.iter().flat_map(|c| &c.add);
        let before = added
            .filter(|c| !DEFAULT_CAPABILITIES.contains(&c.as_str()))
            .map(|c| bad.insert(c.clone()))
            .count();
        before > 0
    });
    let bad: Vec<_> = bad.into_iter().collect();
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&names),
            quoted(&bad)
        );
        Violation::new("non-default capabilities", detail)
    })
}

pub(super) fn host_namespaces(pod: &Pod) -> Option<Violation> {
    let spec = &pod.spec;
    let all = [
        ("hostNetwork=true", spec.host_network),
        ("hostPID=true", spec.host_pid),
        ("hostIPC=true", spec.host_ipc),
    ];
    let used: Vec<_> = all
        .into_iter()
        .filter(|(_, used)| *used)
        .map(|(name, _)| name)
        .collect();
    (!used.is_empty()).then(|| Violation::new("host namespaces", used.join(", ")))
}

pub(super) fn host_path_volumes(pod: &Pod) -> Option<Violation> {
    let names: Vec<_> = pod
        .spec
        .volumes
        .iter()
        .filter(|v| v.get("hostPath").is_some_and(|source| !source.is_null()))
        .filter_map(|v| v.get("name")?.as_str())
        .collect();
    (!names.is_empty()).then(|| {
        Violation::new(
            "hostPath volumes",
            format!("{} {}", plural(names.len(), "volume", "volumes"), quoted(&names)),
        )
    })
}

pub(super) fn host_ports(pod: &Pod) -> Option<Violation> {
    // Ordered as text, as the API server orders them.
    let mut ports = BTreeSet::new();
    let names = pod.names(|c| {
        ports.extend(
            c.ports
                .iter()
                .filter(|p| p.host_port != 0)
                .map(|p| p.host_port.to_string()),
        );
        c.ports.iter().any(|p| p.host_port != 0)
    });
    let ports: Vec<_> = ports.into_iter().collect();
    (!names.is_empty()).then(|| {
        let verb = plural(names.len(), "uses", "use");
        let what = plural(ports.len(), "hostPort", "hostPorts");
        Violation::new(
            "hostPort",
            format!("{} {verb} {what} {}", containers(&names), ports.join(", ")),
        )
    })
}

pub(super) fn probe_hosts(pod: &Pod) -> Option<Violation> {
    let mut hosts = BTreeSet::new();
    let mut names = pod.names(|c| {
        hosts.extend(c.action_hosts().map(str::to_owned));
        c.action_hosts().next().is_some()
    });
    names.sort_unstable();
    let hosts: Vec<_> = hosts.into_iter().collect();
    (!names.is_empty()).then(|| {
        let verb = plural(names.len(), "uses", "use");
        let what = plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts");
        Violation::new(
            "probe or lifecycle host",
            format!("{} {verb} {what} {}", containers(&names), quoted(&hosts)),
        )
    })
}

pub(super) fn privileged(pod: &Pod) -> Option<Violation> {
    let names = pod.names(|c| c.security_context.privileged == Some(true));
    (!names.is_empty()).then(|| {
        Violation::new(
            "privileged",
            format!("{} must not set securityContext.privileged=true", containers(&names)),
        )
    })
}

pub(super) fn proc_mount(pod: &Pod) -> Option<Violation> {
    if pod.has_own_users() { None } else { any_proc_mount(pod) }
}

/// The same for pods with users of their own, as `restricted` has it.
pub(super) fn any_proc_mount(pod: &Pod) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let names = pod.names(|c| {
        let found = c.security_context.proc_mount.as_ref().filter(|p| *p != "Default");
        bad.extend(found.cloned());
        found.is_some()
    });
    let bad: Vec<_> = bad.into_iter().collect();
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} must not set securityContext.procMount to {}",
            containers(&names),
            quoted(&bad)
        );
        Violation::new("procMount", detail)
    })
}

pub(super) fn se_linux(pod: &Pod) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let (mut user, mut role) = (false, false);
    let mut is_bad = |options: &Option<SeLinux>| {
        let Some(options) = options else { return false };
        let bad_type = !SE_LINUX_TYPES.contains(&options.kind.as_str());
        if bad_type {
            types.insert(options.kind.clone());
        }
        user |= !options.user.is_empty();
        role |= !options.role.is_empty();
        bad_type || !options.user.is_empty() || !options.role.is_empty()
    };
    let by_pod = is_bad(&pod.spec.security_context.se_linux_options);
    let names = pod.names(|c| is_bad(&c.security_context.se_linux_options));
    let who = setters(by_pod, &names)?;
    let types: Vec<_> = types.into_iter().collect();
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural(types.len(), "type", "types"), quoted(&types)));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let detail = format!(
        "{who} set forbidden securityContext.seLinuxOptions: {}",
        what.join("; ")
    );
    Some(Violation::new("seLinuxOptions", detail))
}

pub(super) fn seccomp(pod: &Pod) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let mut is_bad = |profile: &Option<Profile>| {
        let found = profile.as_ref().filter(|p| !is_seccomp_confined(p));
        bad.extend(found.map(|p| p.kind.clone()));
        found.is_some()
    };
    let by_pod = is_bad(&pod.spec.security_context.seccomp_profile);
    let names = pod.names(|c| is_bad(&c.security_context.seccomp_profile));
    let who = setters(by_pod, &names)?;
    let bad: Vec<_> = bad.into_iter().collect();
    let detail = format!(
        "{who} must not set securityContext.seccompProfile.type to {}",
        quoted(&bad)
    );
    Some(Violation::new("seccompProfile", detail))
}

pub(super) fn is_seccomp_confined(profile: &Profile) -> bool {
    ["RuntimeDefault", "Localhost"].contains(&profile.kind.as_str())
}

pub(super) fn sysctls(pod: &Pod) -> Option<Violation> {
    let all = pod.spec.security_context.sysctls.iter().map(|s| s.name.as_str());
    let bad: Vec<_> = all.filter(|name| !SAFE_SYSCTLS.contains(name)).collect();
    (!bad.is_empty()).then(|| Violation::new("forbidden sysctls", bad.join(", ")))
}

pub(super) fn windows_host_process(pod: &Pod) -> Option<Violation> {
    let by_pod = pod.spec.security_context.windows_options.host_process == Some(true);
    let names = pod.names(|c| c.security_context.windows_options.host_process == Some(true));
    let who = setters(by_pod, &names)?;
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Violation::new("hostProcess", detail))
}
