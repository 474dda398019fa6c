//! What may change in a pod that exists.

use serde_json::{Value, json};

use super::pod::{complete, schedule};
use super::refuse_kind;
use crate::meta;
use crate::status::{ApiResult, Cause};
use crate::store::Txn;

const FORBIDDEN: &str = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
     `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be \
     set to 1 if it was previously negative)";

pub(crate) fn update(txn: &Txn<'_>, old: &Value, new: &mut Value) -> ApiResult<()> {
    complete(new, Vec::new())?;
    refuse_kind("", "Pod", new, &problems(&old["spec"], &new["spec"]))?;
    // The last gate may just have gone.
    if old["spec"]["schedulingGates"] != new["spec"]["schedulingGates"] {
        schedule(txn, new);
    }
    Ok(())
}

fn problems(old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    // Everything that may change is set to what it was; what then still differs may not.
    let mut masked = new.clone();
    for kind in ["containers", "initContainers"] {
        let (before, after) = (
            meta::list(old, &format!("/{kind}")),
            meta::list(new, &format!("/{kind}")),
        );
        if before.len() != after.len() {
            causes.push(Cause::new(
                format!("spec.{kind}"),
                "Forbidden: pod updates may not add or remove containers",
            ));
            return causes;
        }
        let Some(containers) = masked.get_mut(kind).and_then(Value::as_array_mut) else {
            continue;
        };
        for (container, before) in containers.iter_mut().zip(before) {
            container["image"] = before["image"].clone();
        }
    }
    let (before, after) = (
        meta::int(old, "/activeDeadlineSeconds"),
        meta::int(new, "/activeDeadlineSeconds"),
    );
    if before != after {
        let fine = after.is_some_and(|a| a > 0 && before.is_none_or(|b| a <= b));
        if !fine {
            let text = "Invalid value: must be less than or equal to previous value, and may not be removed";
            causes.push(Cause::new("spec.activeDeadlineSeconds", text));
        }
        put_back(&mut masked, old, "activeDeadlineSeconds");
    }
    if old["tolerations"] != new["tolerations"] {
        for toleration in meta::list(old, "/tolerations") {
            if !meta::list(new, "/tolerations")
                .iter()
                .any(|t| same_toleration(t, toleration))
            {
                causes.push(Cause::new(
                    "spec.tolerations",
                    "Forbidden: existing toleration can not be modified except its tolerationSeconds",
                ));
                break;
            }
        }
        put_back(&mut masked, old, "tolerations");
    }
    if meta::int(old, "/terminationGracePeriodSeconds").is_some_and(|g| g < 0)
        && meta::int(new, "/terminationGracePeriodSeconds") == Some(1)
    {
        put_back(&mut masked, old, "terminationGracePeriodSeconds");
    }
    if old["schedulingGates"] != new["schedulingGates"] {
        let known = meta::list(old, "/schedulingGates");
        for (i, gate) in meta::list(new, "/schedulingGates").iter().enumerate() {
            if !known.contains(gate) {
                causes.push(Cause::new(
                    format!("spec.schedulingGates[{i}]"),
                    "Forbidden: only deletion is allowed, but found new scheduling gate",
                ));
            }
        }
        put_back(&mut masked, old, "schedulingGates");
    }
    if !meta::list(old, "/schedulingGates").is_empty() {
        // A gated pod has not been placed: where it may go can still be narrowed.
        put_back(&mut masked, old, "nodeSelector");
        put_back(&mut masked, old, "affinity");
    }
    if masked != *old {
        causes.push(Cause::new("spec", FORBIDDEN));
    }
    causes
}

fn put_back(masked: &mut Value, old: &Value, key: &str) {
    let Some(fields) = masked.as_object_mut() else { return };
    match old.get(key) {
        Some(value) => fields.insert(key.to_owned(), value.clone()),
        None => fields.remove(key),
    };
}

fn same_toleration(a: &Value, b: &Value) -> bool {
    ["key", "operator", "value", "effect"]
        .iter()
        .all(|k| meta::text(a, &format!("/{k}")) == meta::text(b, &format!("/{k}")))
}

/// The `ephemeralcontainers` subresource: only additions to that list.
pub(crate) fn ephemeral_containers(old: &Value, new: &mut Value) -> ApiResult<()> {
    let wanted = new["spec"]["ephemeralContainers"].clone();
    let mut result = old.clone();
    if !wanted.is_null() {
        meta::set(&mut result, "spec", "ephemeralContainers", Some(wanted));
    }
    meta::set_metadata(
        &mut result,
        "resourceVersion",
        new.pointer("/metadata/resourceVersion").cloned(),
    );
    complete(&mut result, Vec::new())?;
    let mut causes = Vec::new();
    for (i, before) in meta::list(old, "/spec/ephemeralContainers").iter().enumerate() {
        match meta::list(&result, "/spec/ephemeralContainers")
            .iter()
            .find(|c| c["name"] == before["name"])
        {
            None => {
                let text = format!(
                    "Forbidden: existing ephemeral containers {} may not be removed",
                    before["name"]
                );
                causes.push(Cause::new("spec.ephemeralContainers", text));
            }
            Some(after) if after != before => {
                let text = format!(
                    "Forbidden: existing ephemeral containers {} may not be changed",
                    before["name"]
                );
                causes.push(Cause::new(format!("spec.ephemeralContainers[{i}]"), text));
            }
            Some(_) => {}
        }
    }
    *new = result;
    refuse_kind("", "Pod", new, &causes)
}

/// Only cpu and memory change while a container runs, and a bound that is there is not taken away.
fn resize_problems(old: &Value, new: &Value, field: &str, causes: &mut Vec<Cause>) {
    let list = |of: &Value, which: &str| of["resources"][which].as_object().cloned().unwrap_or_default();
    for which in ["requests", "limits"] {
        let (before, after) = (list(old, which), list(new, which));
        let field = format!("{field}.{which}");
        let resizable = |name: &str| matches!(name, "cpu" | "memory");
        if before.keys().any(|name| resizable(name) && !after.contains_key(name)) {
            causes.push(Cause::new(
                field.clone(),
                format!("Forbidden: resource {which} cannot be removed"),
            ));
        }
        let fixed = |list: &serde_json::Map<String, Value>| -> Vec<(String, Value)> {
            let kept = list.iter().filter(|(name, _)| !resizable(name));
            kept.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        if fixed(&before) != fixed(&after) {
            causes.push(Cause::new(
                field,
                "Forbidden: only cpu and memory resources are mutable",
            ));
        }
    }
}

/// The `resize` subresource: only resources and resize policies of containers, and resources of the pod as a whole.
pub(crate) fn resize(old: &Value, new: &mut Value) -> ApiResult<()> {
    let mut result = old.clone();
    meta::set(
        &mut result,
        "spec",
        "resources",
        new.pointer("/spec/resources").cloned(),
    );
    for kind in ["containers", "initContainers"] {
        let wanted = meta::list(new, &format!("/spec/{kind}")).to_vec();
        let Some(containers) = result["spec"].get_mut(kind).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            let Some(wanted) = wanted.iter().find(|w| w["name"] == container["name"]) else {
                continue;
            };
            for key in ["resources", "resizePolicy"] {
                container[key] = wanted.get(key).cloned().unwrap_or(Value::Null);
            }
        }
    }
    meta::set_metadata(
        &mut result,
        "resourceVersion",
        new.pointer("/metadata/resourceVersion").cloned(),
    );
    let typed = complete(&mut result, Vec::new())?;
    let class = witlet_core::resources::qos::compute(&typed);
    let mut causes = Vec::new();
    if !meta::text(old, "/metadata/annotations/kubernetes.io~1config.mirror").is_empty() {
        causes.push(Cause::new("spec", "Forbidden: static pods cannot be resized"));
    }
    resize_problems(&old["spec"], &result["spec"], "spec.resources", &mut causes);
    for kind in ["containers", "initContainers"] {
        let (before, after) = (
            meta::list(&old["spec"], &format!("/{kind}")),
            meta::list(&result["spec"], &format!("/{kind}")),
        );
        for (i, (before, after)) in before.iter().zip(after).enumerate() {
            resize_problems(before, after, &format!("spec.{kind}[{i}].resources"), &mut causes);
        }
    }
    if json!(class) != old["status"]["qosClass"] {
        let text = format!("Invalid value: {class:?}: Pod QOS Class may not change as a result of resizing");
        causes.push(Cause::new("spec", text));
    }
    *new = result;
    refuse_kind("", "Pod", new, &causes)
}
