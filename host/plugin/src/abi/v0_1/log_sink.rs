//! `witlet:sink-log@0.1.0`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use wasmtime::component::{HasSelf, InstancePre, Linker};
use witlet_ports::sink::{LogEntry, OutputStream};

use self::bindings::exports::witlet::sink_log::sink as guest;
use self::bindings::witlet::sink_log as wit;
use self::bindings::{LogSink, LogSinkPre};
use super::base::{Error, give};
use super::lifecycle;
use crate::abi::{self, Keeper};
use crate::capability::output_file;
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
        path: ["../../wit/base/0.1", "../../wit/sink-log/0.1"],
        world: "witlet:sink-log/log-sink@0.1.0",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "witlet:base": crate::abi::v0_1::base::bindings::witlet::base },
        require_store_data_send: true,
    });
}

pub(super) fn add(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    if grants.has(Capability::OutputFile) {
        wit::output_file::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    Ok(())
}

impl wit::output_file::Host for State {
    async fn append(&mut self, data: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        let result = match self.plugin.grants.output_file.clone() {
            Some(grant) => tokio::task::spawn_blocking(move || output_file::append(&grant, &data)).await?,
            None => Err(not_granted(Capability::OutputFile)),
        };
        give(self, Capability::OutputFile, result)
    }
}

bindings!(LogSinkPre, LogSink);

pub(super) struct Driver(Arc<Caller<LogSinkPre<State>>>);

impl Driver {
    pub(super) fn new(
        engine: Arc<PluginEngine>,
        plugin: Arc<Plugin>,
        pre: InstancePre<State>,
    ) -> wasmtime::Result<Self> {
        Ok(Self(Arc::new(Caller::new(engine, plugin, LogSinkPre::new(pre)?))))
    }

    pub(super) fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        lifecycle::keeper(&self.0)
    }
}

#[async_trait]
impl abi::LogSink for Driver {
    async fn push(&self, batch: &[LogEntry]) -> abi::Result<()> {
        let batch: Vec<_> = batch.iter().map(entry).collect();
        self.0
            .call("push", Duration::MAX, move |store, instance| {
                async move {
                    let answer = instance.witlet_sink_log_sink().call_push(&mut *store, &batch).await?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await
    }
}

fn entry(entry: &LogEntry) -> guest::Entry {
    guest::Entry {
        time: entry.time,
        namespace: entry.namespace.as_ref().to_owned(),
        pod: entry.pod.as_ref().to_owned(),
        pod_uid: entry.pod_uid.as_ref().to_owned(),
        container: entry.container.as_ref().to_owned(),
        restart_count: entry.restart_count,
        output_stream: match entry.stream {
            OutputStream::Stdout => guest::OutputStream::Stdout,
            OutputStream::Stderr => guest::OutputStream::Stderr,
        },
        line: entry.line.clone(),
    }
}
