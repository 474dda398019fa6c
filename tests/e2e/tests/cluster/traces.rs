//! Traces of the built agent in a collector, and the level of its log.

use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::codegen::Service;
use tonic::{Request, Response, Status};
use witlet_test_api::{Mode, OPERATOR_TOKEN, VIEWER_TOKEN};

use crate::node::Node;

/// Spans with what they are of.
type Spans = Arc<Mutex<Vec<(Vec<KeyValue>, Span)>>>;

#[derive(Default, Clone)]
struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of in request.into_inner().resource_spans {
            let resource = of.resource.unwrap_or_default().attributes;
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let mut all = self.0.lock().unwrap();
            all.extend(spans.map(|span| (resource.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = TraceServiceServer::new(self.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                let answer = service_fn(move |request: http::Request<Incoming>| service.clone().call(request));
                tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer));
            }
        });
        address
    }

    fn find(&self, wanted: impl Fn(&Span) -> bool) -> Option<Span> {
        let all = self.0.lock().unwrap();
        all.iter().map(|(_, span)| span).find(|span| wanted(span)).cloned()
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|a| a.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

#[tokio::test]
async fn spans_reach_a_collector() {
    let collector = Collector::default();
    let address = collector.listen().await;
    let mut node = Node::new(Mode::Sign).await;
    node.configure(&format!(
        "tracing: {{endpoint: '{address}', samplingRatePerMillion: 1000000}}\n"
    ));
    node.start(&[]);
    node.until_ready().await;
    node.until_told(&["kubelet-server", "there is a new certificate"]).await;
    node.run_pod("first").await;
    assert_eq!(node.ask(Some(OPERATOR_TOKEN), "/pods").await, 200);
    assert_eq!(node.ask(Some(VIEWER_TOKEN), "/pods").await, 403);

    let find = |name: &str| collector.find(|span| span.name == name);
    let of_pod = |span: &Span| text(&span.attributes, "k8s.pod").as_deref() == Some("default/first");
    let mut found = None;
    node.until("the spans of the pod and of the request", async || {
        found = collector.find(|s| s.name == "syncPod" && of_pod(s)).zip(find("/pods"));
        found.is_some()
    })
    .await;
    let (sync, request) = found.unwrap();
    assert_eq!(text(&sync.attributes, "k8s.pod.name").as_deref(), Some("first"));
    assert_eq!(text(&sync.attributes, "k8s.namespace.name").as_deref(), Some("default"));
    assert_eq!(text(&sync.attributes, "k8s.pod.update_type").as_deref(), Some("create"));
    assert_eq!(
        text(&request.attributes, "http.response.status_code").as_deref(),
        Some("200")
    );
    // The calls of the runtime belong to the pass that makes them.
    let inner = |name: &str| collector.find(|s| s.name == name && s.trace_id == sync.trace_id);
    let sandbox = inner("runtime.v1.RuntimeService/RunPodSandbox").expect("the sandbox was made in that pass");
    assert_eq!(sandbox.parent_span_id, sync.span_id);
    let all = collector.0.lock().unwrap();
    let (resource, _) = &all[0];
    assert_eq!(text(resource, "service.name").as_deref(), Some("kubelet"));
    assert_eq!(text(resource, "host.name").as_deref(), Some(crate::node::NAME));
    let requests = all.iter().filter(|(_, span)| span.name == "/pods").count();
    assert_eq!(requests, 1, "who is not let in makes no span");
}

#[tokio::test]
async fn the_log_level_is_changed_while_the_agent_runs() {
    let mut node = Node::new(Mode::Sign).await;
    node.start(&[]);
    node.until_ready().await;
    node.until_told(&["kubelet-server", "there is a new certificate"]).await;
    let put = async |token, level: &str| {
        let request = http::Request::put("/debug/flags/v");
        node.send(Some(token), request, level).await
    };
    assert_eq!(node.told(&["DEBUG"]), 0);
    assert_eq!(put(VIEWER_TOKEN, "4").await.0, 403);
    let (status, text) = put(OPERATOR_TOKEN, "4").await;
    assert_eq!(
        (status, text.trim()),
        (200, "successfully set klog.logging.verbosity to 4")
    );
    node.until_told(&["DEBUG"]).await;
    let (status, text) = put(OPERATOR_TOKEN, "much").await;
    let wrong = "failed set klog.logging.verbosity much: strconv.ParseInt: parsing \"much\": invalid syntax";
    assert_eq!((status, text.trim()), (400, wrong));
    assert_eq!(put(OPERATOR_TOKEN, "2").await.0, 200);
    assert_eq!(node.ask(Some(OPERATOR_TOKEN), "/debug/flags/v").await, 406);
}
