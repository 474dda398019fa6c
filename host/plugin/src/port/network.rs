use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use witlet_ports::Result;
use witlet_ports::network::{Attachment, Network, Sandbox};

use super::{mixed_up, none};
use crate::abi::{self, Linked};
use crate::config::Kind;
use crate::journal::About;
use crate::supervisor::PluginHost;

impl PluginHost {
    /// Asks the network plugin as it is now; the call ends on it, whatever is switched meanwhile.
    async fn network<R, F, Fut>(&self, func: &'static str, about: About, call: F) -> Result<R>
    where
        F: Fn(Arc<dyn abi::Network>) -> Fut,
        Fut: Future<Output = abi::Result<R>>,
    {
        let slot = self
            .of_kind(Kind::Network)
            .into_iter()
            .next()
            .ok_or_else(|| none(Kind::Network, None))?;
        let called = slot
            .call(func, &about, |generation| {
                let driver = match &generation.linked {
                    Linked::Network(driver) => Some(Arc::clone(driver)),
                    _ => None,
                };
                let answer = driver.map(&call);
                async move {
                    match answer {
                        Some(answer) => answer.await.map(Some),
                        None => Ok(None),
                    }
                }
            })
            .await;
        called
            .result
            .map_err(|e| e.into_port(&slot.name, func))?
            .ok_or_else(|| mixed_up(Kind::Network))
    }
}

#[async_trait]
impl Network for PluginHost {
    async fn setup(&self, pod: Option<&Arc<Pod>>, sandbox: &Sandbox) -> Result<Attachment> {
        let about = pod.map_or_else(|| About::other(&sandbox.id), |pod| About::pod(pod));
        self.network("setup", about, |driver| async move { driver.setup(pod, sandbox).await })
            .await
    }

    async fn teardown(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()> {
        self.network("teardown", About::other(&sandbox.id), |driver| async move {
            driver.teardown(sandbox, state).await
        })
        .await
    }

    async fn check(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()> {
        self.network("check", About::other(&sandbox.id), |driver| async move {
            driver.check(sandbox, state).await
        })
        .await
    }

    async fn status(&self) -> Result<()> {
        self.network(
            "status",
            About::default(),
            |driver| async move { driver.status().await },
        )
        .await
    }
}
