//! What the state files of the CPU and the memory manager share (the kubelet contract, node 113 to 115).

use serde::Deserialize;

/// The checksum that is written. A kubelet's goes over the memory of a Go program rather than over the file; it takes 0 for
/// "not checked".
pub(crate) const UNCHECKED: u64 = 0;

/// Another policy's file, or nobody's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadState {
    #[error("it is not what an agent writes: {0}")]
    Form(String),
    #[error("configured policy {configured:?} differs from state checkpoint policy {found:?}")]
    Policy { configured: &'static str, found: String },
}

impl BadState {
    pub(crate) fn form(error: &serde_json::Error) -> Self {
        Self::Form(error.to_string())
    }
}

pub(crate) fn same_policy(configured: &'static str, found: String) -> Result<(), BadState> {
    if found == configured {
        Ok(())
    } else {
        Err(BadState::Policy { configured, found })
    }
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
