//! The file `cpu_manager_state` (the kubelet contract, node 113 and 114).

use serde::{Deserialize, Serialize};

use super::policy::Entries;
use super::{CpuSet, State};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    policy_name: String,
    default_cpu_set: CpuSet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entries: Option<Entries>,
    /// Over the memory of a Go program rather than over what is written. A kubelet takes 0 for "not checked".
    checksum: u64,
}

/// Another policy's file, or nobody's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadState {
    #[error("it is not what an agent writes: {0}")]
    Form(String),
    #[error("configured policy {configured:?} differs from state checkpoint policy {found:?}")]
    Policy { configured: &'static str, found: String },
}

pub fn encode(policy: &str, state: &State) -> String {
    let file = File {
        policy_name: policy.to_owned(),
        default_cpu_set: state.shared.clone(),
        entries: Some(state.entries.clone()).filter(|e| !e.is_empty()),
        checksum: 0,
    };
    // Maps with text as keys, and nothing that JSON cannot hold.
    serde_json::to_string(&file).unwrap_or_default()
}

pub fn decode(policy: &'static str, text: &str) -> Result<State, BadState> {
    let file: File = serde_json::from_str(text).map_err(|e| BadState::Form(e.to_string()))?;
    if file.policy_name != policy {
        return Err(BadState::Policy {
            configured: policy,
            found: file.policy_name,
        });
    }
    Ok(State {
        shared: file.default_cpu_set,
        entries: file.entries.unwrap_or_default(),
    })
}

/// Whose file it is, whatever else it says.
pub fn policy_name(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Name {
        policy_name: String,
    }
    serde_json::from_str::<Name>(text).ok().map(|name| name.policy_name)
}
