use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};
use witlet_core::resources::oom;
use witlet_ports::Result;
use witlet_ports::policy::{Access, Policies, Review};

use crate::abi::Linked;
use crate::config::{Fail, Kind, Mode};
use crate::error::CallError;
use crate::generation::Generation;
use crate::journal::About;
use crate::shadow;
use crate::slot::{Called, Slot};
use crate::supervisor::PluginHost;

/// One question to a policy. What comes back is none where the policy does not have the hook.
#[derive(Clone)]
enum Question {
    Admit,
    Container(Arc<Container>, Arc<str>),
    Access(Arc<Access>),
}

impl Question {
    fn func(&self) -> &'static str {
        match self {
            Self::Admit => "admit-pod",
            Self::Container(..) => "review-container",
            Self::Access(_) => "review-access",
        }
    }

    /// A policy without the hook is not asked. Of one that is not there yet nobody knows.
    fn concerns(&self, slot: &Slot) -> bool {
        let active = slot.current.load();
        match (active.as_ref().map(|g| &g.linked), self) {
            (Some(Linked::Policy(policy)), Self::Container(..)) => policy.has_container_hook(),
            (Some(Linked::Policy(policy)), Self::Access(_)) => policy.has_access_hook(),
            _ => true,
        }
    }

    async fn ask(&self, generation: &Generation, pod: &Arc<Pod>) -> crate::abi::Result<Option<Review>> {
        let Linked::Policy(policy) = &generation.linked else {
            return Err(CallError::Host("a policy was linked as another kind".to_owned()));
        };
        match self {
            Self::Admit => policy.admit(pod).await.map(Some),
            Self::Container(container, image) => policy.container(pod, container, image).await,
            Self::Access(access) => policy.access(pod, access).await,
        }
    }
}

impl PluginHost {
    /// Asks the policies in the order of their names, until one denies.
    async fn review(&self, pod: &Arc<Pod>, question: &Question) -> Result<Review> {
        let about = About::pod(pod);
        // A static pod may be what the plugin needs to work, and nobody can change the plugin through an API that is down.
        let may_pass = oom::is_static(pod) && !matches!(question, Question::Access(_));
        let mut all = Review::default();
        let policies = self.of_kind(Kind::Policy);
        for slot in policies.into_iter().filter(|slot| question.concerns(slot)) {
            let called = slot
                .call(question.func(), &about, |generation| async move {
                    question.ask(&generation, pod).await
                })
                .await;
            shadow::compare(&slot, &called.result, |generation| {
                let (question, pod) = (question.clone(), Arc::clone(pod));
                async move { question.ask(&generation, &pod).await }
            });
            take_in(&slot, question.func(), &about, called, may_pass, &mut all)?;
            if all.denied.is_some() {
                break;
            }
        }
        Ok(all)
    }
}

#[async_trait]
impl Policies for PluginHost {
    async fn admit(&self, pod: &Arc<Pod>) -> Result<Review> {
        self.review(pod, &Question::Admit).await
    }

    async fn container(&self, pod: &Arc<Pod>, container: &Container, image: &str) -> Result<Review> {
        let question = Question::Container(Arc::new(container.clone()), image.into());
        self.review(pod, &question).await
    }

    async fn access(&self, pod: &Arc<Pod>, access: &Access) -> Result<Review> {
        self.review(pod, &Question::Access(Arc::new(access.clone()))).await
    }
}

/// Adds what one policy said. `may_pass`: a plugin that does not answer stops nothing.
fn take_in(
    slot: &Slot,
    func: &'static str,
    about: &About,
    called: Called<Option<Review>>,
    may_pass: bool,
    all: &mut Review,
) -> Result<()> {
    let mode = match &called.generation {
        Some(generation) => generation.config.mode(),
        None => slot.stanza.load().mode(),
    };
    let review = match called.result {
        Ok(Some(review)) => review,
        Ok(None) => return Ok(()),
        Err(error) => {
            // Only where it was carried out is it known what the policy says; a policy that only watches stops nothing.
            let fault = !matches!(error, CallError::Guest(_));
            let open = called.fail == Fail::Open || mode != Mode::Enforce || (may_pass && fault);
            slot.metrics.decision("error", mode.as_str());
            let error = error.into_port(&slot.name, func);
            if !open {
                return Err(error);
            }
            if mode != Mode::Audit {
                let said = &error.message;
                all.warnings.push(format!(
                    "policy {} did not answer, and lets pods pass then: {said}",
                    slot.name
                ));
            }
            return Ok(());
        }
    };
    if mode != Mode::Audit {
        all.warnings.extend(review.warnings);
    }
    let Some(denied) = review.denied else {
        slot.metrics.decision("allow", mode.as_str());
        return Ok(());
    };
    slot.metrics.decision("deny", mode.as_str());
    slot.denied(func, about, &denied.reason, &denied.message, mode == Mode::Enforce);
    match mode {
        Mode::Enforce => all.denied = Some(denied),
        Mode::Warn => all.warnings.push(format!(
            "policy {} would deny it: {}: {}",
            slot.name, denied.reason, denied.message
        )),
        Mode::Audit => {}
    }
    Ok(())
}
