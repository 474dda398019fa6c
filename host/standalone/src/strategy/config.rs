//! Config maps, secrets, services, claims and volumes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::refuse_kind;
use crate::meta;
use crate::status::{ApiResult, Cause};
use crate::store::Txn;

const DATA_LIMIT: usize = 1 << 20;

pub(crate) fn create_config_map(_: &Txn<'_>, object: &mut Value) -> ApiResult<()> {
    refuse_kind("", "ConfigMap", object, &data_problems(object, &["data", "binaryData"]))
}

pub(crate) fn update_config_map(_: &Txn<'_>, old: &Value, new: &mut Value) -> ApiResult<()> {
    let mut causes = immutable_problems(old, new, &["data", "binaryData"]);
    causes.extend(data_problems(new, &["data", "binaryData"]));
    refuse_kind("", "ConfigMap", new, &causes)
}

pub(crate) fn create_secret(_: &Txn<'_>, object: &mut Value) -> ApiResult<()> {
    default_secret(object);
    refuse_kind("", "Secret", object, &secret_problems(object))
}

pub(crate) fn update_secret(_: &Txn<'_>, old: &Value, new: &mut Value) -> ApiResult<()> {
    default_secret(new);
    let mut causes = immutable_problems(old, new, &["data"]);
    if old["type"] != new["type"] {
        causes.push(Cause::new(
            "type",
            format!("Invalid value: {}: field is immutable", new["type"]),
        ));
    }
    causes.extend(secret_problems(new));
    refuse_kind("", "Secret", new, &causes)
}

/// `stringData` is for writing only: it ends up in `data`.
fn default_secret(object: &mut Value) {
    let plain = object.as_object_mut().and_then(|o| o.remove("stringData"));
    if let Some(Value::Object(plain)) = plain
        && let Some(data) = meta::object_at(object, "data")
    {
        for (key, value) in plain {
            data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
        }
    }
    if meta::text(object, "/type").is_empty() {
        object["type"] = "Opaque".into();
    }
}

fn secret_problems(object: &Value) -> Vec<Cause> {
    let mut causes = data_problems(object, &["data"]);
    let required: &[&str] = match meta::text(object, "/type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in required {
        if object["data"].get(key).is_none() {
            causes.push(Cause::new(format!("data[{key}]"), "Required value"));
        }
    }
    causes
}

fn data_problems(object: &Value, fields: &[&str]) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut size = 0;
    for field in fields {
        let Some(data) = object[*field].as_object() else {
            continue;
        };
        for (key, value) in data {
            let text = value.as_str().unwrap_or_default();
            size += if *field == "data" && object["kind"] == "ConfigMap" {
                text.len()
            } else {
                text.len() / 4 * 3
            };
            let good = key.len() <= 253
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            if !good || key.is_empty() || key == "." || key.starts_with("..") {
                let text = format!(
                    "Invalid value: {key:?}: a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                     'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                );
                causes.push(Cause::new(format!("{field}[{key}]"), text));
            }
            if *field == "binaryData" && object["data"].get(key).is_some() {
                causes.push(Cause::new(
                    format!("binaryData[{key}]"),
                    "Invalid value: duplicate of key present in data",
                ));
            }
        }
    }
    if size > DATA_LIMIT {
        causes.push(Cause::new(
            "",
            format!("Too long: may not be more than {DATA_LIMIT} bytes"),
        ));
    }
    causes
}

fn immutable_problems(old: &Value, new: &Value, fields: &[&str]) -> Vec<Cause> {
    if old["immutable"] != json!(true) {
        return Vec::new();
    }
    let mut causes = Vec::new();
    if new["immutable"] != json!(true) {
        causes.push(Cause::new(
            "immutable",
            "Forbidden: field is immutable when `immutable` is set",
        ));
    }
    for field in fields {
        if old[*field] != new[*field] {
            causes.push(Cause::new(
                *field,
                "Forbidden: field is immutable when `immutable` is set",
            ));
        }
    }
    causes
}

pub(crate) fn create_service(_: &Txn<'_>, object: &mut Value) -> ApiResult<()> {
    service(object)?;
    object["status"] = json!({ "loadBalancer": {} });
    Ok(())
}

pub(crate) fn update_service(_: &Txn<'_>, _: &Value, new: &mut Value) -> ApiResult<()> {
    service(new)
}

/// Defaults only. No virtual IP is given out, for nothing on a node without a control plane would route it.
fn service(object: &mut Value) -> ApiResult<()> {
    meta::set_default(object, "spec", "type", "ClusterIP");
    meta::set_default(object, "spec", "sessionAffinity", "None");
    let mut causes = Vec::new();
    let headless = object["spec"]["type"] == "ExternalName" || object["spec"]["clusterIP"] == "None";
    if let Some(ports) = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut) {
        let many = ports.len() > 1;
        for (i, port) in ports.iter_mut().enumerate() {
            if port["protocol"].is_null() {
                port["protocol"] = "TCP".into();
            }
            if port["targetPort"].is_null() || port["targetPort"] == json!(0) {
                port["targetPort"] = port["port"].clone();
            }
            if !(1..=65535).contains(&port["port"].as_i64().unwrap_or(0)) {
                let text = format!(
                    "Invalid value: {}: must be between 1 and 65535, inclusive",
                    port["port"]
                );
                causes.push(Cause::new(format!("spec.ports[{i}].port"), text));
            }
            if many && meta::text(port, "/name").is_empty() {
                causes.push(Cause::new(format!("spec.ports[{i}].name"), "Required value"));
            }
        }
    }
    if !headless && meta::list(object, "/spec/ports").is_empty() {
        causes.push(Cause::new("spec.ports", "Required value"));
    }
    refuse_kind("", "Service", object, &causes)
}

pub(crate) fn create_claim(_: &Txn<'_>, object: &mut Value) -> ApiResult<()> {
    meta::set_default(object, "spec", "volumeMode", "Filesystem");
    object["status"] = json!({ "phase": "Pending" });
    Ok(())
}

pub(crate) fn create_volume(_: &Txn<'_>, object: &mut Value) -> ApiResult<()> {
    meta::set_default(object, "spec", "volumeMode", "Filesystem");
    meta::set_default(object, "spec", "persistentVolumeReclaimPolicy", "Retain");
    object["status"] = json!({ "phase": "Pending" });
    Ok(())
}
