//! Spans to a collector, by OTLP over gRPC (`KubeletConfiguration`'s `tracing`). Nothing of it is made where it is off.
//!
//! One thread of the library collects spans and sends them in batches. What cannot be sent is lost; the log says so, now and then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};
use tonic::transport::Endpoint;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry};
use witlet_core::collector::Collector;
use witlet_core::node::Outage;
use witlet_ports::trace;

use crate::config::Sections;

/// The last spans are not worth more at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// For a connection to the collector, and then for an answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Not within the runtime, which must go on running meanwhile.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_WORDS) {
            tracing::debug!(%error, "the last spans are not sent");
        }
    }
}

type Exported = Box<dyn Layer<Registry> + Send + Sync>;

/// None unless configured. Must be called within the runtime.
pub(crate) fn start(sections: &Sections) -> Result<(Option<Exported>, Option<Traces>), String> {
    let config = &sections.tracing;
    if config.sampling_per_million == 0 {
        return Ok((None, None));
    }
    let address = match config.endpoint()? {
        Collector::Tcp(address) => format!("http://{address}"),
        Collector::Unix(path) => format!("unix://{path}"),
    };
    let endpoint = Endpoint::from_shared(address).map_err(|e| format!("tracing.endpoint: {e}"))?;
    let channel = endpoint.connect_timeout(CONNECT).timeout(ANSWER).connect_lazy();
    let exporter = SpanExporter::builder().with_tonic().with_channel(channel).build();
    let exporter = exporter.map_err(|e| format!("tracing.endpoint: {e}"))?;
    let ratio = f64::from(config.sampling_per_million) / 1e6;
    let host = sections.node.name.clone().unwrap_or_else(host_name);
    let resource = Resource::builder_empty().with_attributes([
        KeyValue::new("service.name", "kubelet"),
        KeyValue::new("host.name", host.trim().to_lowercase()),
    ]);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(Told {
            inner: exporter,
            outage: Mutex::default(),
        })
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_resource(resource.build())
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("k8s.io/kubernetes/pkg/kubelet"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(trace::TARGET, LevelFilter::INFO));
    trace::export_parents(parent);
    Ok((Some(layer.boxed()), Some(Traces(provider))))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The header `traceparent` for the span under way.
fn parent() -> Option<String> {
    let context: Context = tracing::Span::current().context();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| {
        let flags = span.trace_flags().to_u8() & 1;
        format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id())
    })
}

/// Tells of a collector that cannot be reached, which the library keeps to itself.
#[derive(Debug)]
struct Told {
    inner: SpanExporter,
    outage: Mutex<Outage>,
}

impl opentelemetry_sdk::trace::SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(()) => {
                if let Some(lasted) = outage.worked(Timestamp::now()) {
                    tracing::info!(failed = %lasted, "spans are sent to the collector again");
                }
            }
            Err(error) => {
                if let Some(lasted) = outage.failed(Timestamp::now()) {
                    tracing::warn!(%error, spans, failed = %lasted, "cannot send spans to tracing.endpoint; they are lost");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
