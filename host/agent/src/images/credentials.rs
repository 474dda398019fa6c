//! Credentials from the pod's pull secrets.

use k8s_openapi::api::core::v1::Pod;
use witlet_core::desired::key;
use witlet_core::keyring::{Credential, Keyring};

use super::Failure;
use crate::context::Context;

pub(super) struct PodKeyring(Keyring);

impl PodKeyring {
    /// A missing secret is told and passed over; one that cannot be read is an error.
    pub(super) async fn new(context: &Context, pod: &Pod) -> Result<Self, Failure> {
        let namespace = key(pod).namespace;
        let mut keyring = Keyring::default();
        let mut missing = Vec::new();
        let references = pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten());
        // The API allows references without a name.
        for name in references.map(|r| &r.name).filter(|name| !name.is_empty()) {
            match context.ports.objects.secret(&namespace, name).await {
                Ok(secret) => keyring.add_secret(&secret).map_err(|e| {
                    let text = format!("image pull secret {namespace}/{name} is invalid: {e}");
                    Failure::new("ErrImagePull", text)
                })?,
                Err(_) => missing.push(name.clone()),
            }
        }
        if !missing.is_empty() {
            let text = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            context.event(pod, true, "FailedToRetrieveImagePullSecret", text);
        }
        Ok(Self(keyring))
    }

    pub(super) fn lookup(&self, repository: &str) -> Vec<Credential> {
        self.0.lookup(repository)
    }
}
