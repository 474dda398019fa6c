//! A new pod: defaults, admission (service account, priority, tolerations), validation, and the choice of the node.
//!
//! Differences from a full control plane, all on purpose: there is one node, so that scheduling is binding to it, and no token
//! is mounted unless `automountServiceAccountToken: true` is said by the pod (or by its service account, where the pod is
//! silent), because on a node of its own the token opens nothing that a container should want.

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize as _;
use serde_json::{Value, json};
use witlet_core::manifest::{default_pod, validate_pod};
use witlet_core::resources::qos;

use super::{NameRule, refuse_kind};
use crate::meta;
use crate::registry;
use crate::status::{ApiError, ApiResult, Cause};
use crate::store::Txn;

pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(crate) fn create(txn: &Txn<'_>, pod: &mut Value) -> ApiResult<()> {
    let mirror = pod["metadata"]["annotations"].get(MIRROR).is_some();
    if !mirror {
        service_account(txn, pod)?;
    }
    priority(txn, pod)?;
    tolerations(pod);
    pod["status"] = json!({ "phase": "Pending" });
    let mut causes = Vec::new();
    if !meta::list(pod, "/spec/ephemeralContainers").is_empty() {
        causes.push(Cause::new(
            "spec.ephemeralContainers",
            "Forbidden: cannot be set on create",
        ));
    }
    let typed = complete(pod, causes)?;
    pod["status"]["qosClass"] = qos::compute(&typed).into();
    schedule(txn, pod);
    Ok(())
}

/// Gives the defaults and refuses an invalid pod; answers the typed pod.
pub(super) fn complete(pod: &mut Value, mut causes: Vec<Cause>) -> ApiResult<Pod> {
    let mut typed =
        Pod::deserialize(&*pod).map_err(|e| ApiError::bad_request(format!("Pod cannot be handled as a Pod: {e}")))?;
    default_pod(&mut typed);
    causes.extend(ephemeral_problems(&typed));
    // The shared check is for manifests, which may not have ephemeral containers at all.
    let mut checked = typed.clone();
    if let Some(spec) = &mut checked.spec {
        spec.ephemeral_containers = None;
    }
    for problem in validate_pod(&checked) {
        let cause = Cause::parse(&problem);
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    *pod = serde_json::to_value(&typed).map_err(ApiError::internal)?;
    refuse_kind("", "Pod", pod, &causes)?;
    Ok(typed)
}

fn ephemeral_problems(pod: &Pod) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &pod.spec else { return causes };
    let mut names: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|c| c.name.as_str())
        .collect();
    for (i, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let field = |name: &str| format!("spec.ephemeralContainers[{i}].{name}");
        if let Some(problem) = NameRule::Label.problem(&container.name) {
            causes.push(Cause::new(
                field("name"),
                format!("Invalid value: {:?}: {problem}", container.name),
            ));
        } else if names.contains(&container.name.as_str()) {
            causes.push(Cause::new(
                field("name"),
                format!("Duplicate value: {:?}", container.name),
            ));
        }
        if container.image.as_deref().unwrap_or_default().is_empty() {
            causes.push(Cause::new(field("image"), "Required value"));
        }
        names.push(&container.name);
    }
    causes
}

fn service_account(txn: &Txn<'_>, pod: &mut Value) -> ApiResult<()> {
    let given = ["/spec/serviceAccountName", "/spec/serviceAccount"].map(|p| meta::text(pod, p));
    let name = given
        .into_iter()
        .find(|n| !n.is_empty())
        .unwrap_or("default")
        .to_owned();
    let namespace = meta::namespace(pod).to_owned();
    let Some(account) = txn.get(registry::service_accounts(), &namespace, &name) else {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(ApiError::forbidden("", "pods", meta::name(pod), &why));
    };
    let account = account.value()?;
    meta::set(pod, "spec", "serviceAccountName", Some(name.clone().into()));
    meta::set(pod, "spec", "serviceAccount", Some(name.into()));
    if meta::list(pod, "/spec/imagePullSecrets").is_empty() && !meta::list(&account, "/imagePullSecrets").is_empty() {
        meta::set(
            pod,
            "spec",
            "imagePullSecrets",
            Some(account["imagePullSecrets"].clone()),
        );
    }
    let mount = match &pod["spec"]["automountServiceAccountToken"] {
        Value::Bool(said) => *said,
        _ => account["automountServiceAccountToken"] == json!(true),
    };
    if mount {
        mount_token(pod);
    }
    Ok(())
}

/// The volume that the API server's admission adds, for each container that has nothing mounted at its place.
fn mount_token(pod: &mut Value) {
    let volume = format!("kube-api-access-{}", meta::name_suffix());
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        let Some(containers) = pod["spec"].get_mut(kind).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            if meta::list(container, "/volumeMounts")
                .iter()
                .any(|m| m["mountPath"] == TOKEN_MOUNT)
            {
                continue;
            }
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            if let Some(mounts) = mounts.as_array_mut() {
                mounts.push(json!({ "name": volume, "mountPath": TOKEN_MOUNT, "readOnly": true }));
                used = true;
            }
        }
    }
    if !used {
        return;
    }
    let Some(spec) = meta::object_at(pod, "spec") else {
        return;
    };
    if let Some(volumes) = spec.entry("volumes").or_insert_with(|| json!([])).as_array_mut() {
        volumes.push(json!({ "name": volume, "projected": { "defaultMode": 420, "sources": [
            { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
        ] } }));
    }
}

/// Resolves the class to its number, as admission does. Classes other than the two built-in ones are objects.
fn priority(txn: &Txn<'_>, pod: &mut Value) -> ApiResult<()> {
    let class = meta::text(pod, "/spec/priorityClassName").to_owned();
    let (value, policy) = match class.as_str() {
        "" => (json!(0), json!("PreemptLowerPriority")),
        "system-node-critical" => (json!(2_000_001_000), json!("PreemptLowerPriority")),
        "system-cluster-critical" => (json!(2_000_000_000), json!("PreemptLowerPriority")),
        other => {
            let Some(found) = txn.get(registry::priority_classes(), "", other) else {
                let why = format!("no PriorityClass with name {other} was found");
                return Err(ApiError::forbidden("", "pods", meta::name(pod), &why));
            };
            let found = found.value()?;
            let policy = found["preemptionPolicy"]
                .as_str()
                .unwrap_or("PreemptLowerPriority")
                .into();
            (found["value"].clone(), policy)
        }
    };
    let given = pod["spec"]["priority"].clone();
    // A static pod's mirror may carry a number that no class stands for.
    if class.is_empty() && !given.is_null() {
        return Ok(());
    }
    if !given.is_null() && given != value {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(ApiError::forbidden("", "pods", meta::name(pod), &why));
    }
    meta::set(pod, "spec", "priority", Some(value));
    meta::set_default(pod, "spec", "preemptionPolicy", policy);
    Ok(())
}

/// Five minutes for a node that is gone, as everywhere.
fn tolerations(pod: &mut Value) {
    let Some(spec) = meta::object_at(pod, "spec") else {
        return;
    };
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = list.iter().any(|t| {
            let (k, effect) = (meta::text(t, "/key"), meta::text(t, "/effect"));
            (k == key || k.is_empty()) && (effect.is_empty() || effect == "NoExecute")
        });
        if !covered {
            list.push(json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }));
        }
    }
}

/// The whole scheduler: one node takes everything. Without one, or while it is cordoned, the pod waits and says why.
pub(crate) fn schedule(txn: &Txn<'_>, pod: &mut Value) {
    if !meta::text(pod, "/spec/nodeName").is_empty() || meta::is_deleting(pod) {
        return;
    }
    let scheduler = meta::text(pod, "/spec/schedulerName");
    if !scheduler.is_empty() && scheduler != "default-scheduler" {
        return;
    }
    if !meta::list(pod, "/spec/schedulingGates").is_empty() {
        let text = "Scheduling is blocked due to non-empty scheduling gates";
        set_condition(pod, "PodScheduled", "False", "SchedulingGated", text);
        return;
    }
    match the_node(txn) {
        Ok(node) => {
            meta::set(pod, "spec", "nodeName", Some(node.into()));
            set_condition(pod, "PodScheduled", "True", "", "");
        }
        Err(why) => set_condition(pod, "PodScheduled", "False", "Unschedulable", why),
    }
}

fn the_node(txn: &Txn<'_>) -> Result<String, &'static str> {
    let nodes = txn.list(registry::nodes(), None);
    let found = nodes
        .iter()
        .find(|n| n.name() == txn.node_name())
        .or(if nodes.len() == 1 { nodes.first() } else { None });
    let Some(node) = found else {
        return Err("0/0 nodes are available: the node has not registered yet.");
    };
    match node.value() {
        Ok(value) if value["spec"]["unschedulable"] == json!(true) => {
            Err("0/1 nodes are available: 1 node(s) were unschedulable.")
        }
        Ok(_) => Ok(node.name().to_owned()),
        Err(_) => Err("0/1 nodes are available: the node cannot be read."),
    }
}

/// Sets one condition of the pod's status; its time changes only with its status.
pub(crate) fn set_condition(pod: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    let generation = pod["metadata"]["generation"].clone();
    let Some(holder) = meta::object_at(pod, "status") else {
        return;
    };
    let Some(list) = holder.entry("conditions").or_insert_with(|| json!([])).as_array_mut() else {
        return;
    };
    let mut condition = json!({ "type": kind, "status": status, "lastTransitionTime": meta::rfc3339(meta::now()), "observedGeneration": generation });
    for (key, text) in [("reason", reason), ("message", message)] {
        if !text.is_empty() {
            condition[key] = text.into();
        }
    }
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(old) => {
            if old["status"] == status {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = condition;
        }
        None => list.push(condition),
    }
}

/// Binds as the binding subresource does: once, and only if nobody else did.
pub(crate) fn bind(pod: &mut Value, node: &str, uid: &str) -> ApiResult<()> {
    let name = meta::name(pod).to_owned();
    let conflict = |why: String| Err(ApiError::conflict("", "pods/binding", &name, &why));
    if !uid.is_empty() && uid != meta::uid(pod) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(pod)
        ));
    }
    if meta::is_deleting(pod) {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let bound = meta::text(pod, "/spec/nodeName");
    if !bound.is_empty() {
        let why = format!("pod {name} is already assigned to node {bound:?}");
        return conflict(why);
    }
    if !meta::list(pod, "/spec/schedulingGates").is_empty() {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    meta::set(pod, "spec", "nodeName", Some(node.into()));
    set_condition(pod, "PodScheduled", "True", "", "");
    Ok(())
}
