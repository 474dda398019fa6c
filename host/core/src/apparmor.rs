//! AppArmor profiles of containers (the kubelet contract, pod 3.1 rule 7).

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod};

use crate::desired::{annotation, containers};
use crate::runtime::SecurityProfile;

const ANNOTATION_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The container's own profile, else that of the pod's annotation, else the pod's; none if nothing is said.
pub(crate) fn profile(pod: &Pod, container: &Container) -> Result<Option<SecurityProfile>, String> {
    if let Some(own) = container
        .security_context
        .as_ref()
        .and_then(|c| c.app_armor_profile.as_ref())
    {
        return of(own).map(Some);
    }
    if let Some(value) = annotation(pod, &format!("{ANNOTATION_PREFIX}{}", container.name)) {
        return Ok(match value {
            "runtime/default" => Some(SecurityProfile::RuntimeDefault),
            "unconfined" => Some(SecurityProfile::Unconfined),
            other => other
                .strip_prefix("localhost/")
                .map(|p| SecurityProfile::Localhost(p.to_owned())),
        });
    }
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    context.and_then(|c| c.app_armor_profile.as_ref()).map(of).transpose()
}

fn of(profile: &AppArmorProfile) -> Result<SecurityProfile, String> {
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(SecurityProfile::RuntimeDefault),
        "Unconfined" => Ok(SecurityProfile::Unconfined),
        "Localhost" => match &profile.localhost_profile {
            Some(name) => Ok(SecurityProfile::Localhost(name.clone())),
            None => Err("missing localhost apparmor profile name".to_owned()),
        },
        other => Err(format!("invalid AppArmor profile type: {other:?}")),
    }
}

/// Can the node confine the pod's containers as they require?
pub(crate) fn enforceable(pod: &Pod, enabled: bool) -> Result<(), String> {
    let mut required = Vec::new();
    for (_, container) in pod.spec.iter().flat_map(containers) {
        match profile(pod, &container)? {
            None | Some(SecurityProfile::Unconfined) => {}
            Some(profile) => required.push(profile),
        }
    }
    if !required.is_empty() && !enabled {
        return Err("AppArmor is not enabled on the host".to_owned());
    }
    if required
        .iter()
        .any(|p| matches!(p, SecurityProfile::Localhost(name) if name.trim().is_empty()))
    {
        return Err("localhost AppArmor profile name is empty".to_owned());
    }
    Ok(())
}
