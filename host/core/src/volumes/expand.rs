//! Volumes that grow while they are mounted (the kubelet contract, volumes 8).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimCondition, PersistentVolumeClaimStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::resources::Quantity;

const STORAGE: &str = "storage";
const PENDING: &str = "NodeResizePending";
const IN_PROGRESS: &str = "NodeResizeInProgress";
const INFEASIBLE: &str = "NodeResizeInfeasible";
const RESIZE_ERROR: &str = "NodeResizeError";
/// Conditions that tell of a volume that grows.
const OF_RESIZING: [&str; 5] = [
    "FileSystemResizePending",
    "Resizing",
    "ControllerResizeError",
    RESIZE_ERROR,
    "ModifyVolumeError",
];
/// On a claim that several nodes have mounted: the driver needs no word from each of them.
const NOT_REQUIRED: &str = "volume.kubernetes.io/node-expansion-not-required";

fn storage(quantities: Option<&BTreeMap<String, ApiQuantity>>) -> Option<Quantity> {
    quantities?.get(STORAGE).map(Quantity::from_api)
}

/// The size of the volume itself.
pub fn capacity(found: &PersistentVolume) -> Option<Quantity> {
    storage(found.spec.as_ref()?.capacity.as_ref())
}

/// The size that the claim is known to have.
pub fn size(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    storage(claim.status.as_ref()?.capacity.as_ref())
}

/// What is to be told of it, before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Telling {
    /// The claim says already that it is so large: another node was faster.
    Nothing,
    /// Only that it is done, as controllers expect that know no more.
    End,
    /// That it is in progress, and how it ended.
    Steps,
}

/// What is to be done about a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Growth {
    /// It has its size, or it is not for this node to make it larger now.
    None,
    /// The pod must not change it. That is told, and taken for done.
    ReadOnly(Quantity),
    To {
        size: Quantity,
        telling: Telling,
    },
}

/// `known`: as large this node last made it; as the claim had it when it was mounted.
pub fn growth(claim: &PersistentVolumeClaim, found: &PersistentVolume, known: Quantity, read_only: bool) -> Growth {
    let Some(size_of_volume) = capacity(found) else {
        return Growth::None;
    };
    if size_of_volume <= known {
        return Growth::None;
    }
    if read_only {
        return Growth::ReadOnly(size_of_volume);
    }
    let status = claim.status.clone().unwrap_or_default();
    let progress = status.allocated_resource_statuses.as_ref().and_then(|s| s.get(STORAGE));
    let has_grown = size(claim).is_some_and(|size| size >= size_of_volume);
    match progress.map(String::as_str).filter(|p| !p.is_empty()) {
        Some(PENDING | IN_PROGRESS) => Growth::To {
            size: storage(status.allocated_resources.as_ref()).unwrap_or(size_of_volume),
            telling: Telling::Steps,
        },
        // The controller is at it, or has to take it back first.
        Some(_) => Growth::None,
        None if has_grown && !asks_each_node(claim) => Growth::None,
        None => Growth::To {
            size: size_of_volume,
            telling: if has_grown { Telling::Nothing } else { Telling::End },
        },
    }
}

fn asks_each_node(claim: &PersistentVolumeClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    annotations.is_none_or(|a| a.get(NOT_REQUIRED).is_none_or(|v| v == "false"))
}

fn with_progress(claim: &PersistentVolumeClaim, word: Option<&str>) -> PersistentVolumeClaimStatus {
    let mut status = claim.status.clone().unwrap_or_default();
    let mut progress = status.allocated_resource_statuses.take().unwrap_or_default();
    match word {
        Some(word) => progress.insert(STORAGE.to_owned(), word.to_owned()),
        None => progress.remove(STORAGE),
    };
    status.allocated_resource_statuses = (!progress.is_empty()).then_some(progress);
    status
}

pub fn in_progress(claim: &PersistentVolumeClaim) -> PersistentVolumeClaimStatus {
    with_progress(claim, Some(IN_PROGRESS))
}

pub fn finished(claim: &PersistentVolumeClaim, size: Quantity) -> PersistentVolumeClaimStatus {
    let mut status = with_progress(claim, None);
    let mut capacity = status.capacity.take().unwrap_or_default();
    capacity.insert(STORAGE.to_owned(), size.to_api());
    status.capacity = Some(capacity);
    let others = |c: &PersistentVolumeClaimCondition| !OF_RESIZING.contains(&c.type_.as_str());
    status.conditions = status
        .conditions
        .map(|all| all.into_iter().filter(others).collect::<Vec<_>>())
        .filter(|all| !all.is_empty());
    status
}

/// `never`: it cannot become that large, and the controller has to take the request back.
pub fn failed(claim: &PersistentVolumeClaim, why: &str, never: bool) -> PersistentVolumeClaimStatus {
    let mut status = if never {
        with_progress(claim, Some(INFEASIBLE))
    } else {
        claim.status.clone().unwrap_or_default()
    };
    let conditions = status.conditions.get_or_insert_default();
    let message = Some(format!("failed to expand pvc with {why}"));
    match conditions.iter_mut().find(|c| c.type_ == RESIZE_ERROR) {
        Some(condition) => {
            condition.status = "True".to_owned();
            condition.message = message;
        }
        None => conditions.push(PersistentVolumeClaimCondition {
            type_: RESIZE_ERROR.to_owned(),
            status: "True".to_owned(),
            message,
            ..PersistentVolumeClaimCondition::default()
        }),
    }
    status
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn claim(status: &Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": "c"}, "status": status})).unwrap()
    }

    fn volume(size: &str) -> PersistentVolume {
        serde_json::from_value(json!({"spec": {"capacity": {"storage": size}}})).unwrap()
    }

    fn quantity(text: &str) -> Quantity {
        Quantity::from_api(&ApiQuantity(text.to_owned()))
    }

    #[test]
    fn when_a_volume_grows() {
        let to = |size: &str, telling| Growth::To {
            size: quantity(size),
            telling,
        };
        for (status, known, size, expected) in [
            (json!({"capacity": {"storage": "1Gi"}}), "1Gi", "1Gi", Growth::None),
            (json!({"capacity": {"storage": "2Gi"}}), "2Gi", "1Gi", Growth::None),
            (
                json!({"capacity": {"storage": "1Gi"}}),
                "1Gi",
                "2Gi",
                to("2Gi", Telling::End),
            ),
            // Another node has told of it.
            (
                json!({"capacity": {"storage": "2Gi"}}),
                "1Gi",
                "2Gi",
                to("2Gi", Telling::Nothing),
            ),
            (
                json!({"capacity": {"storage": "1Gi"}, "allocatedResources": {"storage": "3Gi"},
                       "allocatedResourceStatuses": {"storage": "NodeResizePending"}}),
                "1Gi",
                "2Gi",
                to("3Gi", Telling::Steps),
            ),
            (
                json!({"capacity": {"storage": "1Gi"}, "allocatedResourceStatuses": {"storage": "NodeResizeInProgress"}}),
                "1Gi",
                "2Gi",
                to("2Gi", Telling::Steps),
            ),
            (
                json!({"capacity": {"storage": "1Gi"}, "allocatedResourceStatuses": {"storage": "NodeResizeInfeasible"}}),
                "1Gi",
                "2Gi",
                Growth::None,
            ),
        ] {
            let found = growth(&claim(&status), &volume(size), quantity(known), false);
            assert_eq!(found, expected, "{status} {known} {size}");
        }
        let old = claim(&json!({"capacity": {"storage": "1Gi"}}));
        assert_eq!(
            growth(&old, &volume("2Gi"), quantity("1Gi"), true),
            Growth::ReadOnly(quantity("2Gi"))
        );
        let mut many = claim(&json!({"capacity": {"storage": "2Gi"}}));
        many.metadata.annotations = Some([(NOT_REQUIRED.to_owned(), "yes".to_owned())].into());
        assert_eq!(growth(&many, &volume("2Gi"), quantity("1Gi"), false), Growth::None);
    }

    #[test]
    fn what_is_told() {
        let before = claim(&json!({
            "capacity": {"storage": "1Gi"},
            "allocatedResourceStatuses": {"storage": "NodeResizePending", "other": "x"},
            "conditions": [{"type": "FileSystemResizePending", "status": "True"}, {"type": "Mine", "status": "True"}],
        }));
        let text = |status| serde_json::to_value::<PersistentVolumeClaimStatus>(status).unwrap();
        assert_eq!(
            text(in_progress(&before))["allocatedResourceStatuses"]["storage"],
            "NodeResizeInProgress"
        );
        assert_eq!(
            text(finished(&before, quantity("2Gi"))),
            json!({"capacity": {"storage": "2Gi"}, "allocatedResourceStatuses": {"other": "x"},
                   "conditions": [{"type": "Mine", "status": "True"}]})
        );
        let never = text(failed(&before, "too large", true));
        assert_eq!(never["allocatedResourceStatuses"]["storage"], "NodeResizeInfeasible");
        assert_eq!(never["conditions"][2]["type"], "NodeResizeError");
        assert_eq!(never["conditions"][2]["message"], "failed to expand pvc with too large");
        let again = text(failed(&before, "busy", false));
        assert_eq!(again["allocatedResourceStatuses"]["storage"], "NodeResizePending");
    }
}
