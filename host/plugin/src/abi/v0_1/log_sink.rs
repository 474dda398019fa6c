//! `witlet:sink-log@0.1.0`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::InstancePre;
use witlet_ports::sink::{LogEntry, OutputStream};

use self::bindings::exports::witlet::sink_log::sink as guest;
use self::bindings::{LogSink, LogSinkPre};
use crate::abi;
use crate::engine::PluginEngine;
use crate::error::Fault;
use crate::instance::{Bindings, Caller};
use crate::state::{Plugin, State};

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
        exports: { default: async },
        with: { "witlet:base": crate::abi::v0_1::base::bindings::witlet::base },
        require_store_data_send: true,
    });
}

impl Bindings for LogSinkPre<State> {
    type Instance = LogSink;

    fn instantiate<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<LogSink>> {
        self.instantiate_async(store).boxed()
    }
}

pub(super) struct Driver(Caller<LogSinkPre<State>>);

impl Driver {
    pub(super) fn new(
        engine: Arc<PluginEngine>,
        plugin: Arc<Plugin>,
        pre: InstancePre<State>,
    ) -> wasmtime::Result<Self> {
        Ok(Self(Caller::new(engine, plugin, LogSinkPre::new(pre)?)))
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
