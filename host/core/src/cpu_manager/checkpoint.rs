//! The file `cpu_manager_state` (the kubelet contract, node 113 and 114).

use serde::{Deserialize, Serialize};

use super::policy::Entries;
use super::{CpuSet, State};
use crate::manager_state::{BadState, UNCHECKED, same_policy};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    policy_name: String,
    default_cpu_set: CpuSet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entries: Option<Entries>,
    checksum: u64,
}

pub fn encode(policy: &str, state: &State) -> String {
    let file = File {
        policy_name: policy.to_owned(),
        default_cpu_set: state.shared.clone(),
        entries: Some(state.entries.clone()).filter(|e| !e.is_empty()),
        checksum: UNCHECKED,
    };
    // Maps with text as keys, and nothing that JSON cannot hold.
    serde_json::to_string(&file).unwrap_or_default()
}

pub fn decode(policy: &'static str, text: &str) -> Result<State, BadState> {
    let file: File = serde_json::from_str(text).map_err(|e| BadState::form(&e))?;
    same_policy(policy, file.policy_name)?;
    Ok(State {
        shared: file.default_cpu_set,
        entries: file.entries.unwrap_or_default(),
    })
}
