//! Calls of the runtime as spans, under the names that gRPC has for them.

use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tracing::{Span, field};
use witlet_ports::{Error, trace};

/// A channel on which the runtime is told which span calls it, so that its own spans go beneath.
pub(crate) type Traced = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>;

pub(crate) fn told(channel: Channel) -> Traced {
    InterceptedService::new(channel, tell)
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of an interceptor")]
fn tell(mut request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(parent) = trace::parent().and_then(|parent| MetadataValue::try_from(parent).ok()) {
        request.metadata_mut().insert("traceparent", parent);
    }
    Ok(request)
}

pub(crate) fn call(method: &'static str) -> Span {
    if !tracing::enabled!(target: trace::TARGET, tracing::Level::INFO) {
        return Span::none();
    }
    tracing::info_span!(
        target: trace::TARGET,
        "call",
        otel.name = name(method),
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = service(method),
        rpc.method = pascal(method),
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
    )
}

pub(crate) fn failed(span: &Span, error: &Error) {
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", error.message.as_str());
}

fn name(method: &str) -> String {
    format!("{}/{}", service(method), pascal(method))
}

fn service(method: &str) -> &'static str {
    match method {
        "list_images" | "image_status" | "pull_image" | "remove_image" | "image_fs_info" => "runtime.v1.ImageService",
        _ => "runtime.v1.RuntimeService",
    }
}

fn pascal(method: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_uppercase() + rest
    };
    method.split('_').map(capital).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_runtime_is_told_who_calls() {
        let told = || tell(Request::new(())).unwrap().metadata().get("traceparent").cloned();
        assert_eq!(told(), None, "nothing is exported");
        trace::export_parents(|| Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()));
        assert_eq!(
            told().unwrap(),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        );
    }

    #[test]
    fn spans_bear_the_names_of_calls() {
        assert_eq!(name("run_pod_sandbox"), "runtime.v1.RuntimeService/RunPodSandbox");
        assert_eq!(name("version"), "runtime.v1.RuntimeService/Version");
        assert_eq!(name("pull_image"), "runtime.v1.ImageService/PullImage");
        assert_eq!(name("image_fs_info"), "runtime.v1.ImageService/ImageFsInfo");
    }
}
