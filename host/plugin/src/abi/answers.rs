//! What a plugin answered is looked at before anything is done with it, whatever the plugin is made of.

use witlet_core::desired::Rejection;
use witlet_ports::network::{Attachment, Command};
use witlet_ports::policy::Review;
use witlet_ports::probe::{Outcome, Verdict};

use super::{Placed, Result};
use crate::capability::exec;
use crate::error::{CallError, clean};
use crate::grants::{Capability, Grants};
use crate::state::not_granted;

/// What an event can show of a probe's message.
const MAX_PROBE_MESSAGE: usize = 10 << 10;
/// An event shows 1 KiB of a message.
const MAX_MESSAGE: usize = 4 << 10;
const MAX_WARNINGS: usize = 32;
/// `status.reason` and an event's reason.
const MAX_REASON: usize = 128;
/// `status.reason` and event reasons of what a hook denies.
const HOOK_REASON: &str = "PolicyDenied";
const MAX_PATH: usize = 4096;
const MAX_RESULT: usize = 256 << 10;
const MAX_COMMANDS: usize = 32;

fn nonsense<T>(text: impl Into<String>) -> Result<T> {
    Err(CallError::Nonsense(text.into()))
}

pub(crate) fn outcome(verdict: Verdict, message: String) -> Outcome {
    Outcome {
        verdict,
        message: clean(message, MAX_PROBE_MESSAGE),
    }
}

/// `denied`: reason and message.
pub(crate) fn review(denied: Option<(String, String)>, all: Vec<String>) -> Result<Review> {
    let denied = match denied {
        None => None,
        Some((reason, message)) => {
            if !is_camel_case(&reason) {
                let shown = clean(reason, 64);
                return nonsense(format!("the reason {shown:?} of its denial is not a CamelCase word"));
            }
            Some(Rejection {
                reason,
                message: clean(message, MAX_MESSAGE),
            })
        }
    };
    let warnings = warnings(all);
    Ok(Review { denied, warnings })
}

/// Of a hook, whose denials have no reason of their own.
pub(crate) fn hook_review(denied: Option<String>, all: Vec<String>) -> Review {
    Review {
        denied: denied.map(|message| Rejection {
            reason: HOOK_REASON.to_owned(),
            message: clean(message, MAX_MESSAGE),
        }),
        warnings: warnings(all),
    }
}

fn warnings(all: Vec<String>) -> Vec<String> {
    let all = all.into_iter().take(MAX_WARNINGS);
    all.map(|w| clean(w, MAX_MESSAGE)).collect()
}

fn is_camel_case(reason: &str) -> bool {
    reason.len() <= MAX_REASON
        && reason.starts_with(|c: char| c.is_ascii_uppercase())
        && reason.bytes().all(|b| b.is_ascii_alphanumeric())
}

pub(crate) fn placed(placed: Placed) -> Result<Placed> {
    if placed.host_path.as_ref().is_some_and(|p| p.len() > MAX_PATH) {
        return nonsense(format!("a host path of more than {MAX_PATH} bytes"));
    }
    Ok(placed)
}

/// The attachment is kept and used without the plugin: what it says is looked at now.
pub(crate) fn attachment(attachment: Attachment, grants: &Grants) -> Result<Attachment> {
    if attachment.cni_result.len() > MAX_RESULT || attachment.state.len() > MAX_RESULT {
        return nonsense(format!("a result or state of more than {MAX_RESULT} bytes"));
    }
    if !serde_json::from_str::<serde_json::Value>(&attachment.cni_result).is_ok_and(|v| v.is_object()) {
        return nonsense("the CNI result is no JSON object");
    }
    if attachment.offline_teardown.len() > MAX_COMMANDS {
        return nonsense(format!("more than {MAX_COMMANDS} commands for the teardown"));
    }
    for Command { program, .. } in &attachment.offline_teardown {
        // They run later, without the plugin: within the same grant.
        let listed = match &grants.exec {
            Some(grant) => exec::listed(grant, program).map(drop),
            None => Err(not_granted(Capability::Exec)),
        };
        if let Err(fault) = listed {
            return nonsense(format!("offline teardown: {fault}"));
        }
    }
    Ok(attachment)
}
