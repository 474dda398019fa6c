//! `witlet:sink-metric@0.1.0`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use wasmtime::component::InstancePre;
use witlet_ports::sink::{Family, MetricKind, Sample};

use self::bindings::exports::witlet::sink_metric::sink as guest;
use self::bindings::{MetricSink, MetricSinkPre};
use super::lifecycle;
use crate::abi::{self, Keeper};
use crate::engine::PluginEngine;
use crate::error::Fault;
use crate::instance::{Caller, bindings};
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
        path: ["../../wit/base/0.1", "../../wit/sink-metric/0.1"],
        world: "witlet:sink-metric/metric-sink@0.1.0",
        exports: { default: async },
        with: { "witlet:base": crate::abi::v0_1::base::bindings::witlet::base },
        require_store_data_send: true,
    });
}

bindings!(MetricSinkPre, MetricSink);

pub(super) struct Driver(Arc<Caller<MetricSinkPre<State>>>);

impl Driver {
    pub(super) fn new(
        engine: Arc<PluginEngine>,
        plugin: Arc<Plugin>,
        pre: InstancePre<State>,
    ) -> wasmtime::Result<Self> {
        Ok(Self(Arc::new(Caller::new(engine, plugin, MetricSinkPre::new(pre)?))))
    }

    pub(super) fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        lifecycle::keeper(&self.0)
    }
}

#[async_trait]
impl abi::MetricSink for Driver {
    async fn push(&self, time: u64, families: &[Family]) -> abi::Result<()> {
        let families: Vec<_> = families.iter().map(family).collect();
        self.0
            .call("push", Duration::MAX, move |store, instance| {
                async move {
                    let answer = instance
                        .witlet_sink_metric_sink()
                        .call_push(&mut *store, time, &families)
                        .await?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await
    }
}

fn family(family: &Family) -> guest::Family {
    let kind = match family.kind {
        MetricKind::Counter => guest::Kind::Counter,
        MetricKind::Gauge => guest::Kind::Gauge,
        MetricKind::Histogram => guest::Kind::Histogram,
        MetricKind::Summary => guest::Kind::Summary,
        MetricKind::Unknown => guest::Kind::Unknown,
    };
    let samples = family.samples.iter().map(sample).collect();
    guest::Family {
        name: family.name.clone(),
        help: family.help.clone(),
        kind,
        samples,
    }
}

fn sample(sample: &Sample) -> guest::Sample {
    guest::Sample {
        name: sample.name.clone(),
        labels: sample.labels.clone(),
        value: sample.value,
    }
}
