//! Controls that the level `restricted` has besides, or instead of, those of `baseline`.

use std::collections::BTreeSet;

use super::pod::Pod;
use super::{Violation, baseline, containers, plural, quoted, setters};

/// What a volume may be. Everything else is named after itself in the message.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub(super) fn privilege_escalation(pod: &Pod) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    let names = pod.names(|c| c.security_context.allow_privilege_escalation != Some(false));
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            containers(&names)
        );
        Violation::new("allowPrivilegeEscalation != false", detail)
    })
}

pub(super) fn capabilities(pod: &Pod) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    let keeping = pod.names(|c| {
        let drops = c
            .security_context
            .capabilities
            .as_ref()
            .map(|c| c.drop.as_slice())
            .unwrap_or_default();
        !drops.iter().any(|c| c == "ALL")
    });
    let mut bad = BTreeSet::new();
    let adding = pod.names(|c| {
        let added = c.security_context.capabilities.iter().flat_map(|c| &c.add);
        added
            .filter(|c| *c != "NET_BIND_SERVICE")
            .map(|c| bad.insert(c.clone()))
            .count()
            > 0
    });
    let bad: Vec<_> = bad.into_iter().collect();
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keeping)
        ));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            quoted(&bad)
        ));
    }
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

pub(super) fn proc_mount(pod: &Pod) -> Option<Violation> {
    baseline::any_proc_mount(pod)
}

pub(super) fn volumes(pod: &Pod) -> Option<Violation> {
    let mut names = Vec::new();
    let mut types = BTreeSet::new();
    for volume in &pod.spec.volumes {
        let set = || {
            volume
                .iter()
                .filter(|(key, value)| *key != "name" && !value.is_null())
                .map(|(key, _)| key.as_str())
        };
        if set().any(|key| VOLUMES.contains(&key)) {
            continue;
        }
        names.push(volume.get("name").and_then(|n| n.as_str()).unwrap_or_default());
        types.insert(set().next().unwrap_or("unknown"));
    }
    let types: Vec<_> = types.into_iter().collect();
    (!names.is_empty()).then(|| {
        let volumes = plural(names.len(), "volume", "volumes");
        let verb = plural(names.len(), "uses", "use");
        let what = plural(types.len(), "restricted volume type", "restricted volume types");
        let detail = format!("{volumes} {} {verb} {what} {}", quoted(&names), quoted(&types));
        Violation::new("restricted volume types", detail)
    })
}

pub(super) fn non_root(pod: &Pod) -> Option<Violation> {
    if pod.has_own_users() {
        return None;
    }
    const CONTROL: &str = "runAsNonRoot != true";
    let of_pod = pod.spec.security_context.run_as_non_root;
    let names = pod.names(|c| c.security_context.run_as_non_root == Some(false));
    if let Some(who) = setters(of_pod == Some(false), &names) {
        return Some(Violation::new(
            CONTROL,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        ));
    }
    if of_pod == Some(true) {
        return None;
    }
    let names = pod.names(|c| c.security_context.run_as_non_root.is_none());
    (!names.is_empty()).then(|| {
        Violation::new(
            CONTROL,
            format!(
                "pod or {} must set securityContext.runAsNonRoot=true",
                containers(&names)
            ),
        )
    })
}

pub(super) fn user(pod: &Pod) -> Option<Violation> {
    if pod.has_own_users() {
        return None;
    }
    let names = pod.names(|c| c.security_context.run_as_user == Some(0));
    let who = setters(pod.spec.security_context.run_as_user == Some(0), &names)?;
    Some(Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0")))
}

pub(super) fn seccomp(pod: &Pod) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    if let Some(unconfined) = baseline::seccomp(pod) {
        return Some(unconfined);
    }
    // A profile of the pod holds for all, and it is a good one.
    if pod.spec.security_context.seccomp_profile.is_some() {
        return None;
    }
    let names = pod.names(|c| c.security_context.seccomp_profile.is_none());
    (!names.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&names)
        );
        Violation::new("seccompProfile", detail)
    })
}
