//! The files `allocated_pods_state` and `actuated_pods_state` (the kubelet contract, pod 13, node I).

use serde::{Deserialize, Serialize};

use super::Records;
use crate::hash::fnv32a;

#[derive(Serialize, Deserialize)]
struct File {
    /// JSON in JSON, so that the checksum is over the very bytes that were written.
    data: String,
    checksum: u64,
}

#[derive(Serialize, Deserialize)]
struct Data {
    #[serde(default)]
    entries: Option<Records>,
}

/// A file that cannot be believed. What it says of running pods decides over their limits, so nothing is guessed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Corrupt {
    #[error("it is not what an agent writes: {0}")]
    Form(String),
    #[error("checkpoint is corrupted: its checksum is {found}, and should be {expected}")]
    Checksum { found: u64, expected: u64 },
}

pub fn encode(records: &Records) -> String {
    let data = Data {
        entries: Some(records.clone()),
    };
    // Maps with text as keys, and nothing that JSON cannot hold.
    let data = serde_json::to_string(&data).unwrap_or_default();
    let checksum = checksum(&data);
    serde_json::to_string(&File { data, checksum }).unwrap_or_default()
}

pub fn decode(text: &str) -> Result<Records, Corrupt> {
    let form = |e: serde_json::Error| Corrupt::Form(e.to_string());
    let file: File = serde_json::from_str(text).map_err(form)?;
    let expected = checksum(&file.data);
    if file.checksum != expected {
        let found = file.checksum;
        return Err(Corrupt::Checksum { found, expected });
    }
    let data: Data = serde_json::from_str(&file.data).map_err(form)?;
    Ok(data.entries.unwrap_or_default())
}

/// Go's deep dump of a string, hashed: a kubelet and this agent read each other's files.
fn checksum(data: &str) -> u64 {
    fnv32a(format!("(string){data}").as_bytes()).into()
}
