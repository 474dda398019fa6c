use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use witlet_ports::Result;
use witlet_ports::policy::{Policies, Review};

use super::mixed_up;
use crate::abi::Linked;
use crate::config::{Fail, Kind};
use crate::supervisor::PluginHost;

#[async_trait]
impl Policies for PluginHost {
    async fn admit(&self, pod: &Arc<Pod>) -> Result<Review> {
        let mut all = Review::default();
        for slot in self.of_kind(Kind::Policy) {
            let (generation, result) = slot
                .call(|generation| async move {
                    match &generation.linked {
                        Linked::Policy(policy) => policy.admit(pod).await.map(Some),
                        _ => Ok(None),
                    }
                })
                .await;
            let review = match result {
                Ok(review) => review.ok_or_else(|| mixed_up(Kind::Policy))?,
                Err(error) if generation.plugin.fail == Fail::Open => {
                    let said = error.into_port(&slot.name, "admit-pod").message;
                    all.warnings.push(format!(
                        "policy {} did not answer, and lets pods pass then: {said}",
                        slot.name
                    ));
                    continue;
                }
                Err(error) => return Err(error.into_port(&slot.name, "admit-pod")),
            };
            all.warnings.extend(review.warnings);
            if review.denied.is_some() {
                all.denied = review.denied;
                break;
            }
        }
        Ok(all)
    }
}
