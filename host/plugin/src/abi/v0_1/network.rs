//! `witlet:network@0.1.0`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use k8s_openapi::api::core::v1;
use wasmtime::component::{HasSelf, InstancePre, Linker, Resource};
use witlet_ports::network::{Attachment, Command, Sandbox};

use self::bindings::exports::witlet::network::driver as guest;
use self::bindings::witlet::network as wit;
use self::bindings::{NetworkPlugin, NetworkPluginPre};
use super::base::{Error, give, millis};
use super::lifecycle;
use crate::abi::{self, Keeper, answers};
use crate::capability::{exec, handles};
use crate::engine::PluginEngine;
use crate::error::Fault;
use crate::grants::{Capability, Grants};
use crate::instance::{Caller, bindings};
use crate::state::{Plugin, State, not_granted};

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::unwrap_used,
    clippy::large_futures
)]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../../wit/base/0.1", "../../wit/network/0.1"],
        world: "witlet:network/network-plugin@0.1.0",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "witlet:base": crate::abi::v0_1::base::bindings::witlet::base,
            "witlet:network/sandboxes@0.1.0.sandbox": crate::capability::handles::Sandbox,
        },
        require_store_data_send: true,
    });
}

pub(super) fn add(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    wit::sandboxes::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    if grants.has(Capability::Exec) {
        wit::exec::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    Ok(())
}

bindings!(NetworkPluginPre, NetworkPlugin);

pub(super) struct Driver {
    caller: Arc<Caller<NetworkPluginPre<State>>>,
    grants: Grants,
}

impl Driver {
    pub(super) fn new(
        engine: Arc<PluginEngine>,
        plugin: Arc<Plugin>,
        pre: InstancePre<State>,
    ) -> wasmtime::Result<Self> {
        let grants = plugin.grants.clone();
        Ok(Self {
            caller: Arc::new(Caller::new(engine, plugin, NetworkPluginPre::new(pre)?)),
            grants,
        })
    }

    pub(super) fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        lifecycle::keeper(&self.caller)
    }
}

fn attachment(attachment: guest::Attachment) -> Attachment {
    Attachment {
        cni_result: attachment.cni_result,
        state: attachment.state,
        offline_teardown: attachment.offline_teardown.into_iter().map(command).collect(),
    }
}

fn command(command: wit::exec::Command) -> Command {
    Command {
        program: command.program,
        args: command.args,
        env: command.env,
        stdin: command.stdin,
    }
}

#[async_trait]
impl abi::Network for Driver {
    async fn setup(&self, pod: Option<&Arc<v1::Pod>>, sandbox: &Sandbox) -> abi::Result<Attachment> {
        let pod = pod.cloned();
        let sandbox = Arc::new(sandbox.clone());
        let answer = self
            .caller
            .call("setup", Duration::MAX, move |store, instance| {
                async move {
                    let pod = match pod {
                        Some(pod) => Some(store.data_mut().table.push(handles::Pod(pod))?),
                        None => None,
                    };
                    let sandbox = store.data_mut().table.push(handles::Sandbox(sandbox))?;
                    let lend = pod.as_ref().map(|p| Resource::new_borrow(p.rep()));
                    let answer = instance
                        .witlet_network_driver()
                        .call_setup(&mut *store, lend, Resource::new_borrow(sandbox.rep()))
                        .await?;
                    let table = &mut store.data_mut().table;
                    if let Some(pod) = pod {
                        table.delete(pod)?;
                    }
                    table.delete(sandbox)?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await?;
        answers::attachment(attachment(answer), &self.grants)
    }

    async fn teardown(&self, sandbox: &Sandbox, state: Option<&str>) -> abi::Result<()> {
        let sandbox = Arc::new(sandbox.clone());
        let state = state.map(str::to_owned);
        self.caller
            .call("teardown", Duration::MAX, move |store, instance| {
                async move {
                    let sandbox = store.data_mut().table.push(handles::Sandbox(sandbox))?;
                    let lend = Resource::new_borrow(sandbox.rep());
                    let driver = instance.witlet_network_driver();
                    let answer = driver.call_teardown(&mut *store, lend, state.as_deref()).await?;
                    store.data_mut().table.delete(sandbox)?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await
    }

    async fn check(&self, sandbox: &Sandbox, state: Option<&str>) -> abi::Result<()> {
        let sandbox = Arc::new(sandbox.clone());
        let state = state.map(str::to_owned);
        self.caller
            .call("check", Duration::MAX, move |store, instance| {
                async move {
                    let sandbox = store.data_mut().table.push(handles::Sandbox(sandbox))?;
                    let lend = Resource::new_borrow(sandbox.rep());
                    let driver = instance.witlet_network_driver();
                    let answer = driver.call_check(&mut *store, lend, state.as_deref()).await?;
                    store.data_mut().table.delete(sandbox)?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await
    }

    async fn status(&self) -> abi::Result<()> {
        self.caller
            .call("status", Duration::MAX, move |store, instance| {
                async move {
                    let answer = instance.witlet_network_driver().call_status(&mut *store).await?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await
    }
}

type Handle = Resource<handles::Sandbox>;

impl wit::sandboxes::Host for State {}

impl wit::sandboxes::HostSandbox for State {
    async fn id(&mut self, sandbox: Handle) -> wasmtime::Result<String> {
        Ok(self.table.get(&sandbox)?.0.id.clone())
    }

    async fn netns(&mut self, sandbox: Handle) -> wasmtime::Result<String> {
        Ok(self.table.get(&sandbox)?.0.netns.clone())
    }

    async fn ifname(&mut self, sandbox: Handle) -> wasmtime::Result<String> {
        Ok(self.table.get(&sandbox)?.0.ifname.clone())
    }

    async fn args(&mut self, sandbox: Handle) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.table.get(&sandbox)?.0.args.clone())
    }

    async fn config(&mut self, sandbox: Handle) -> wasmtime::Result<String> {
        Ok(self.table.get(&sandbox)?.0.config.clone())
    }

    async fn drop(&mut self, sandbox: Handle) -> wasmtime::Result<()> {
        self.table.delete(sandbox)?;
        Ok(())
    }
}

impl wit::exec::Host for State {
    async fn run(
        &mut self,
        wanted: wit::exec::Command,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<wit::exec::Output, Error>> {
        let timeout = self.remaining(millis(timeout_ms));
        let result = match &self.plugin.grants.exec {
            Some(grant) => exec::run(grant, command(wanted), timeout).await,
            None => Err(not_granted(Capability::Exec)),
        };
        let output = |o: exec::Output| wit::exec::Output {
            exit_code: o.exit_code,
            stdout: o.stdout,
            stderr: o.stderr,
        };
        give(self, Capability::Exec, result.map(output))
    }
}
