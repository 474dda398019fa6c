//! `witlet:probe@0.1.0`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use wasmtime::component::{HasSelf, InstancePre, Linker, Resource};
use witlet_ports::probe::{Check, Outcome, Verdict};

use self::bindings::exports::witlet::probe::probe as guest;
use self::bindings::witlet::probe as wit;
use self::bindings::{ProbePlugin, ProbePluginPre};
use super::base::{Error, give, millis};
use super::lifecycle;
use crate::abi::{self, Keeper, answers};
use crate::capability::{container_exec, grpc, handles, pod_net};
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
        path: ["../../wit/base/0.1", "../../wit/probe/0.1"],
        world: "witlet:probe/probe-plugin@0.1.0",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "witlet:base": crate::abi::v0_1::base::bindings::witlet::base,
            "witlet:probe/pod-net@0.1.0.connection": crate::capability::pod_net::Connection,
        },
        require_store_data_send: true,
    });
}

pub(super) fn add(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    if grants.has(Capability::PodNet) {
        wit::pod_net::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    if grants.has(Capability::ContainerExec) {
        wit::container_exec::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    Ok(())
}

bindings!(ProbePluginPre, ProbePlugin);

pub(super) struct Driver(Arc<Caller<ProbePluginPre<State>>>);

impl Driver {
    pub(super) fn new(
        engine: Arc<PluginEngine>,
        plugin: Arc<Plugin>,
        pre: InstancePre<State>,
    ) -> wasmtime::Result<Self> {
        Ok(Self(Arc::new(Caller::new(engine, plugin, ProbePluginPre::new(pre)?))))
    }

    pub(super) fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        lifecycle::keeper(&self.0)
    }
}

#[async_trait]
impl abi::Probe for Driver {
    async fn check(&self, check: &Check, wall: Duration) -> abi::Result<Outcome> {
        let check = check.clone();
        let timeout = u32::try_from(check.timeout.as_millis()).unwrap_or(u32::MAX);
        self.0
            .call("check", wall, move |store, instance| {
                async move {
                    let id = Some(check.container_id).filter(|id| !id.is_empty());
                    let pod = store.data_mut().table.push(handles::Pod(check.pod))?;
                    let container = store.data_mut().table.push(handles::Container {
                        container: check.container,
                        id,
                    })?;
                    // The guest borrows: it gets the handles' numbers, the objects stay here.
                    let lend = (Resource::new_borrow(pod.rep()), Resource::new_borrow(container.rep()));
                    let answer = instance
                        .witlet_probe_probe()
                        .call_check(&mut *store, lend.0, lend.1, &check.params, timeout)
                        .await?;
                    let table = &mut store.data_mut().table;
                    table.delete(pod)?;
                    table.delete(container)?;
                    Ok(answer.map(outcome).map_err(Fault::from))
                }
                .boxed()
            })
            .await
    }
}

fn outcome(outcome: guest::Outcome) -> Outcome {
    let verdict = match outcome.verdict {
        guest::Verdict::Pass => Verdict::Pass,
        guest::Verdict::Warn => Verdict::Warn,
        guest::Verdict::Fail => Verdict::Fail,
        guest::Verdict::Unknown => Verdict::Unknown,
    };
    answers::outcome(verdict, outcome.message)
}

type Pod = Resource<handles::Pod>;

impl wit::pod_net::Host for State {
    async fn http_get(
        &mut self,
        pod: Pod,
        request: wit::pod_net::HttpRequest,
    ) -> wasmtime::Result<Result<wit::pod_net::HttpReply, Error>> {
        let pod = Arc::clone(&self.table.get(&pod)?.0);
        let request = pod_net::HttpRequest {
            tls: matches!(request.scheme, wit::pod_net::Scheme::Https),
            host: request.host,
            port: request.port,
            path: request.path,
            headers: request.headers,
            timeout: self.remaining(millis(request.timeout_ms)),
            body_limit: request.body_limit,
        };
        let result = match &self.plugin.grants.pod_net {
            Some(grant) => pod_net::http_get(grant, &pod, request).await,
            None => Err(not_granted(Capability::PodNet)),
        };
        let reply = |r: pod_net::HttpReply| wit::pod_net::HttpReply {
            status: r.status,
            headers: r.headers,
            body: r.body,
        };
        give(self, Capability::PodNet, result.map(reply))
    }

    async fn tcp_connect(
        &mut self,
        pod: Pod,
        host: Option<String>,
        port: u16,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Resource<pod_net::Connection>, Error>> {
        let pod = Arc::clone(&self.table.get(&pod)?.0);
        let timeout = self.remaining(millis(timeout_ms));
        let result = match &self.plugin.grants.pod_net {
            Some(grant) => pod_net::tcp_connect(grant, &pod, host.as_deref(), port, timeout).await,
            None => Err(not_granted(Capability::PodNet)),
        };
        let result = match result {
            Ok(connection) => Ok(self.table.push(connection)?),
            Err(fault) => Err(fault),
        };
        give(self, Capability::PodNet, result)
    }

    async fn grpc_unary(
        &mut self,
        pod: Pod,
        request: wit::pod_net::GrpcRequest,
    ) -> wasmtime::Result<Result<wit::pod_net::GrpcReply, Error>> {
        let pod = Arc::clone(&self.table.get(&pod)?.0);
        let request = grpc::GrpcRequest {
            port: request.port,
            method: request.method,
            metadata: request.metadata,
            message: request.message,
            timeout: self.remaining(millis(request.timeout_ms)),
        };
        let result = match &self.plugin.grants.pod_net {
            Some(grant) => grpc::unary(grant, &pod, request).await,
            None => Err(not_granted(Capability::PodNet)),
        };
        let reply = |r: grpc::GrpcReply| wit::pod_net::GrpcReply {
            code: r.code,
            status_message: r.message_text,
            message: r.message,
        };
        give(self, Capability::PodNet, result.map(reply))
    }
}

impl wit::pod_net::HostConnection for State {
    async fn write(
        &mut self,
        connection: Resource<pod_net::Connection>,
        data: Vec<u8>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<(), Error>> {
        let timeout = self.remaining(millis(timeout_ms));
        Ok(self
            .table
            .get_mut(&connection)?
            .write(&data, timeout)
            .await
            .map_err(Error::from))
    }

    async fn read(
        &mut self,
        connection: Resource<pod_net::Connection>,
        max: u32,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let timeout = self.remaining(millis(timeout_ms));
        Ok(self
            .table
            .get_mut(&connection)?
            .read(max, timeout)
            .await
            .map_err(Error::from))
    }

    async fn drop(&mut self, connection: Resource<pod_net::Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl wit::container_exec::Host for State {
    async fn run(
        &mut self,
        container: Resource<handles::Container>,
        argv: Vec<String>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<wit::container_exec::Output, Error>> {
        let id = self.table.get(&container)?.id.clone();
        let timeout = self.remaining(millis(timeout_ms));
        let runtime = Arc::clone(&self.plugin.deps.runtime);
        let result = match &self.plugin.grants.container_exec {
            Some(grant) => container_exec::run(runtime, grant, id.as_deref(), &argv, timeout).await,
            None => Err(not_granted(Capability::ContainerExec)),
        };
        let output = |o: witlet_ports::runtime::ExecOutput| wit::container_exec::Output {
            exit_code: o.exit_code,
            stdout: o.stdout,
            stderr: o.stderr,
        };
        give(self, Capability::ContainerExec, result.map(output))
    }
}
