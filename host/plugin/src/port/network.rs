use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use witlet_ports::network::{Attachment, Network, Sandbox};
use witlet_ports::{Error, Result};

use super::{mixed_up, none};
use crate::abi::{self, Linked};
use crate::config::Kind;
use crate::error::CallError;
use crate::supervisor::PluginHost;

impl PluginHost {
    /// The network plugin as it is now; the call ends on it, whatever is switched meanwhile.
    fn network(&self) -> Result<(Arc<str>, Arc<dyn abi::Network>)> {
        let slot = self
            .of_kind(Kind::Network)
            .into_iter()
            .next()
            .ok_or_else(|| none(Kind::Network, None))?;
        match &slot.current.load().linked {
            Linked::Network(driver) => Ok((Arc::clone(&slot.name), Arc::clone(driver))),
            _ => Err(mixed_up(Kind::Network)),
        }
    }
}

fn port(name: Arc<str>, func: &'static str) -> impl FnOnce(CallError) -> Error {
    move |error| error.into_port(&name, func)
}

#[async_trait]
impl Network for PluginHost {
    async fn setup(&self, pod: Option<&Arc<Pod>>, sandbox: &Sandbox) -> Result<Attachment> {
        let (name, driver) = self.network()?;
        driver.setup(pod, sandbox).await.map_err(port(name, "setup"))
    }

    async fn teardown(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()> {
        let (name, driver) = self.network()?;
        driver.teardown(sandbox, state).await.map_err(port(name, "teardown"))
    }

    async fn check(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()> {
        let (name, driver) = self.network()?;
        driver.check(sandbox, state).await.map_err(port(name, "check"))
    }

    async fn status(&self) -> Result<()> {
        let (name, driver) = self.network()?;
        driver.status().await.map_err(port(name, "status"))
    }
}
