//! `kubelet_internal_checkpoint`: who has which devices, and which resources there were (the kubelet contract, node 125).
//!
//! A kubelet and this agent read each other's file: the checksum is over what Go prints of the structure.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Book, Ids};
use crate::hash::fnv32a;
use crate::ids::PodUid;

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(rename = "Data")]
    data: Data,
    #[serde(rename = "Checksum")]
    checksum: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Option<Vec<Entry>>,
    registered_devices: Option<BTreeMap<String, Option<Vec<String>>>>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(rename = "ContainerName")]
    container_name: String,
    #[serde(rename = "ResourceName")]
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<BTreeMap<i64, Option<Vec<String>>>>,
    #[serde(rename = "AllocResp")]
    alloc_resp: Option<String>,
}

/// What a container had of a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Saved {
    pub uid: PodUid,
    pub container: String,
    pub resource: String,
    pub devices: BTreeMap<i64, Ids>,
    /// As its plugin said it.
    pub answer: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Corrupt {
    #[error("it is not what an agent writes: {0}")]
    Form(String),
    #[error("checkpoint is corrupted: its checksum is {found}, and should be {expected}")]
    Checksum { found: u64, expected: u64 },
}

pub fn encode(book: &Book) -> String {
    let mut entries = Vec::new();
    for (uid, containers) in &book.pods {
        for (container, owned) in containers {
            for (resource, allocation) in owned {
                let devices = allocation.devices.iter();
                entries.push(Entry {
                    pod_uid: uid.as_str().to_owned(),
                    container_name: container.clone(),
                    resource_name: resource.clone(),
                    device_ids: Some(
                        devices
                            .map(|(node, ids)| (*node, Some(ids.iter().cloned().collect())))
                            .collect(),
                    ),
                    alloc_resp: Some(STANDARD.encode(&allocation.answer)),
                });
            }
        }
    }
    let registered = book.resources.iter().map(|(name, entry)| {
        let ids = entry.healthy().map(|(id, _)| id.clone()).collect();
        (name.clone(), Some(ids))
    });
    let data = Data {
        pod_device_entries: (!entries.is_empty()).then_some(entries),
        registered_devices: Some(registered.collect()),
    };
    let checksum = checksum(&data).unwrap_or_default();
    // Maps with text as keys, and nothing that JSON cannot hold.
    serde_json::to_string(&File { data, checksum }).unwrap_or_default()
}

/// What containers had, and the names of the resources that there were.
pub fn decode(text: &str) -> Result<(Vec<Saved>, Vec<String>), Corrupt> {
    let form = |e: &dyn std::fmt::Display| Corrupt::Form(e.to_string());
    let file: File = serde_json::from_str(text).map_err(|e| form(&e))?;
    let expected = checksum(&file.data).map_err(|e| form(&e))?;
    if file.checksum != expected {
        let found = file.checksum;
        return Err(Corrupt::Checksum { found, expected });
    }
    let mut saved = Vec::new();
    for entry in file.data.pod_device_entries.into_iter().flatten() {
        let devices = entry.device_ids.into_iter().flatten();
        saved.push(Saved {
            uid: entry.pod_uid.as_str().into(),
            container: entry.container_name,
            resource: entry.resource_name,
            devices: devices
                .map(|(node, ids)| (node, ids.into_iter().flatten().collect()))
                .collect(),
            answer: bytes(entry.alloc_resp.as_deref()).map_err(|e| form(&e))?,
        });
    }
    let registered = file.data.registered_devices.into_iter().flatten();
    Ok((saved, registered.map(|(name, _)| name).collect()))
}

fn bytes(base64: Option<&str>) -> Result<Vec<u8>, base64::DecodeError> {
    STANDARD.decode(base64.unwrap_or_default())
}

fn checksum(data: &Data) -> Result<u64, base64::DecodeError> {
    Ok(fnv32a(dump(data)?.as_bytes()).into())
}

/// As Go prints the structure, with types and sorted keys.
fn dump(data: &Data) -> Result<String, base64::DecodeError> {
    let mut text = "(checkpoint.checkpointData){PodDeviceEntries:([]checkpoint.PodDevicesEntry)".to_owned();
    match &data.pod_device_entries {
        None => text.push_str("<nil>"),
        Some(entries) => {
            let parts: Result<Vec<_>, _> = entries.iter().map(dump_entry).collect();
            // Writing to a string does not fail.
            let _ = write!(text, "[{}]", parts?.join(" "));
        }
    }
    text.push_str(" RegisteredDevices:(map[string][]string)");
    match &data.registered_devices {
        None => text.push_str("<nil>"),
        Some(registered) => dump_map(&mut text, registered),
    }
    text.push('}');
    Ok(text)
}

fn dump_entry(entry: &Entry) -> Result<String, base64::DecodeError> {
    let mut text = format!(
        "{{PodUID:(string){} ContainerName:(string){} ResourceName:(string){} DeviceIDs:(checkpoint.DevicesPerNUMA)",
        entry.pod_uid, entry.container_name, entry.resource_name
    );
    match &entry.device_ids {
        None => text.push_str("<nil>"),
        Some(ids) => dump_map(&mut text, ids),
    }
    text.push_str(" AllocResp:([]uint8)");
    match &entry.alloc_resp {
        None => text.push_str("<nil>"),
        Some(answer) => {
            let numbers: Vec<_> = bytes(Some(answer))?.iter().map(u8::to_string).collect();
            let _ = write!(text, "[{}]", numbers.join(" "));
        }
    }
    text.push('}');
    Ok(text)
}

fn dump_map<K: std::fmt::Display>(text: &mut String, map: &BTreeMap<K, Option<Vec<String>>>) {
    let parts: Vec<_> = map
        .iter()
        .map(|(key, ids)| match ids {
            None => format!("{key}:<nil>"),
            Some(ids) => format!("{key}:[{}]", ids.join(" ")),
        })
        .collect();
    let _ = write!(text, "map[{}]", parts.join(" "));
}
