//! Volumes, and what they may put where.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PodSpec, ProjectedVolumeSource, Volume, VolumeProjection,
};

use super::Errors;
use super::names::{data_key, dns_label, dns_subdomain};
use crate::manifest::volume_sources;
use crate::resources::Quantity;

/// Checks all volumes; returns them by name.
pub(super) fn volumes<'a>(errors: &mut Errors, spec: &'a PodSpec) -> BTreeMap<&'a str, &'a Volume> {
    let mut named = BTreeMap::new();
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("spec.volumes[{i}]");
        if volume.name.is_empty() {
            errors.required(format!("{path}.name"), "");
        } else {
            errors.name(format!("{path}.name"), &volume.name, dns_label);
            if named.insert(volume.name.as_str(), volume).is_some() {
                errors.duplicate(format!("{path}.name"), &volume.name);
            }
        }
        match volume_sources(volume).as_slice() {
            [] => errors.required(path.clone(), "must specify a volume type"),
            [_] => {}
            [_, others @ ..] => {
                for other in others {
                    errors.forbidden(format!("{path}.{other}"), "may not specify more than 1 volume type");
                }
            }
        }
        source(errors, &path, volume);
    }
    named
}

fn source(errors: &mut Errors, path: &str, volume: &Volume) {
    if let Some(dir) = &volume.empty_dir {
        if let Some(limit) = &dir.size_limit {
            let path = format!("{path}.emptyDir.sizeLimit");
            match limit.0.parse::<Quantity>() {
                Ok(size) if size < Quantity::ZERO => {
                    errors.forbidden(path, "SizeLimit field must be a valid resource quantity")
                }
                Ok(_) => {}
                Err(error) => errors.invalid(path, &limit.0, &error.to_string()),
            }
        }
        let medium = dir.medium.as_deref().unwrap_or_default();
        if !(matches!(medium, "" | "Memory" | "HugePages") || medium.starts_with("HugePages-")) {
            errors.one_of(
                format!("{path}.emptyDir.medium"),
                Some(medium),
                &["Memory", "HugePages", "HugePages-<size>"],
            );
        }
    }
    if let Some(host_path) = &volume.host_path {
        let at = format!("{path}.hostPath");
        if host_path.path.is_empty() {
            errors.required(format!("{at}.path"), "");
        }
        no_backsteps(errors, &format!("{at}.path"), &host_path.path);
        if let Some(kind) = host_path.type_.as_deref().filter(|t| !t.is_empty()) {
            let kinds = [
                "BlockDevice",
                "CharDevice",
                "Directory",
                "DirectoryOrCreate",
                "File",
                "FileOrCreate",
                "Socket",
            ];
            errors.one_of(format!("{at}.type"), Some(kind), &kinds);
        }
    }
    if let Some(map) = &volume.config_map {
        let at = format!("{path}.configMap");
        if map.name.is_empty() {
            errors.required(format!("{at}.name"), "");
        }
        mode(errors, format!("{at}.defaultMode"), map.default_mode);
        items(errors, &at, map.items.as_deref());
    }
    if let Some(secret) = &volume.secret {
        let at = format!("{path}.secret");
        if secret.secret_name.as_deref().unwrap_or_default().is_empty() {
            errors.required(format!("{at}.secretName"), "");
        }
        mode(errors, format!("{at}.defaultMode"), secret.default_mode);
        items(errors, &at, secret.items.as_deref());
    }
    if let Some(downward) = &volume.downward_api {
        let at = format!("{path}.downwardAPI");
        mode(errors, format!("{at}.defaultMode"), downward.default_mode);
        for (i, file) in downward.items.iter().flatten().enumerate() {
            downward_file(errors, &format!("{at}.items[{i}]"), file);
        }
    }
    if let Some(projected) = &volume.projected {
        self::projected(errors, &format!("{path}.projected"), projected);
    }
    if let Some(claim) = &volume.persistent_volume_claim
        && claim.claim_name.is_empty()
    {
        errors.required(format!("{path}.persistentVolumeClaim.claimName"), "");
    }
    if let Some(nfs) = &volume.nfs {
        if nfs.server.is_empty() {
            errors.required(format!("{path}.nfs.server"), "");
        }
        if nfs.path.is_empty() {
            errors.required(format!("{path}.nfs.path"), "");
        } else if !nfs.path.starts_with('/') {
            errors.invalid(format!("{path}.nfs.path"), &nfs.path, "must be an absolute path");
        }
    }
    if let Some(csi) = &volume.csi {
        if csi.driver.is_empty() {
            errors.required(format!("{path}.csi.driver"), "");
        } else {
            errors.name(format!("{path}.csi.driver"), &csi.driver.to_lowercase(), dns_subdomain);
        }
    }
    if let Some(image) = &volume.image {
        if image.reference.as_deref().unwrap_or_default().is_empty() {
            errors.required(format!("{path}.image.reference"), "");
        }
        let policies = ["Always", "IfNotPresent", "Never"];
        errors.one_of(
            format!("{path}.image.pullPolicy"),
            image.pull_policy.as_deref(),
            &policies,
        );
    }
}

fn mode(errors: &mut Errors, path: String, mode: Option<i32>) {
    match mode {
        Some(mode) if !(0..=0o777).contains(&mode) => {
            errors.invalid_number(
                path,
                mode,
                "must be a number between 0 and 0777 (octal), both inclusive",
            );
        }
        _ => {}
    }
}

fn items(errors: &mut Errors, path: &str, items: Option<&[KeyToPath]>) {
    for (i, item) in items.into_iter().flatten().enumerate() {
        let path = format!("{path}.items[{i}]");
        if item.key.is_empty() {
            errors.required(format!("{path}.key"), "");
        } else {
            errors.name(format!("{path}.key"), &item.key, data_key);
        }
        local_path(errors, &format!("{path}.path"), &item.path);
        mode(errors, format!("{path}.mode"), item.mode);
    }
}

/// A file's path inside a volume.
fn local_path(errors: &mut Errors, path: &str, value: &str) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    relative(errors, path, value);
    // Names that the writer of these volumes uses itself.
    if value.starts_with("..") && !value.starts_with("../") && value != ".." {
        errors.invalid(path, value, "must not start with '..'");
    }
}

/// A path that leads downwards only.
pub(super) fn relative(errors: &mut Errors, path: &str, value: &str) {
    if value.starts_with('/') {
        errors.invalid(path, value, "must be a relative path");
    }
    no_backsteps(errors, path, value);
}

fn no_backsteps(errors: &mut Errors, path: &str, value: &str) {
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
    if value.contains('\0') {
        errors.invalid(path, value, "must not contain NUL");
    }
}

const FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

fn downward_file(errors: &mut Errors, path: &str, file: &DownwardAPIVolumeFile) {
    local_path(errors, &format!("{path}.path"), &file.path);
    mode(errors, format!("{path}.mode"), file.mode);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(_), Some(_)) => {
            errors.invalid(
                path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            );
        }
        (Some(field), None) => super::container::field_ref(errors, &format!("{path}.fieldRef"), field, &FIELDS),
        (None, Some(resource)) => {
            if resource.container_name.as_deref().unwrap_or_default().is_empty() {
                errors.required(format!("{path}.resourceFieldRef.containerName"), "");
            }
            super::container::resource_ref(errors, &format!("{path}.resourceFieldRef"), resource);
        }
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
}

fn projected(errors: &mut Errors, path: &str, volume: &ProjectedVolumeSource) {
    mode(errors, format!("{path}.defaultMode"), volume.default_mode);
    for (i, source) in volume.sources.iter().flatten().enumerate() {
        let path = format!("{path}.sources[{i}]");
        let VolumeProjection {
            cluster_trust_bundle,
            config_map,
            downward_api,
            pod_certificate,
            secret,
            service_account_token,
        } = source;
        let count = [
            cluster_trust_bundle.is_some(),
            config_map.is_some(),
            downward_api.is_some(),
            pod_certificate.is_some(),
            secret.is_some(),
            service_account_token.is_some(),
        ];
        match count.iter().filter(|set| **set).count() {
            0 => errors.required(path.clone(), "must specify a volume source"),
            1 => {}
            _ => errors.forbidden(path.clone(), "may not specify more than 1 volume type"),
        }
        if let Some(map) = config_map {
            if map.name.is_empty() {
                errors.required(format!("{path}.configMap.name"), "");
            }
            items(errors, &format!("{path}.configMap"), map.items.as_deref());
        }
        if let Some(secret) = secret {
            if secret.name.is_empty() {
                errors.required(format!("{path}.secret.name"), "");
            }
            items(errors, &format!("{path}.secret"), secret.items.as_deref());
        }
        for (j, file) in downward_api.iter().flat_map(|d| d.items.iter().flatten()).enumerate() {
            downward_file(errors, &format!("{path}.downwardAPI.items[{j}]"), file);
        }
        if let Some(token) = service_account_token {
            let at = format!("{path}.serviceAccountToken");
            local_path(errors, &format!("{at}.path"), &token.path);
            match token.expiration_seconds {
                Some(seconds) if seconds < 600 => {
                    errors.invalid_number(
                        format!("{at}.expirationSeconds"),
                        seconds,
                        "may not specify a duration less than 10 minutes",
                    );
                }
                Some(seconds) if seconds > 1 << 32 => {
                    errors.invalid_number(
                        format!("{at}.expirationSeconds"),
                        seconds,
                        "may not specify a duration larger than 2^32 seconds",
                    );
                }
                _ => {}
            }
        }
        if let Some(bundle) = cluster_trust_bundle {
            local_path(errors, &format!("{path}.clusterTrustBundle.path"), &bundle.path);
        }
    }
}
