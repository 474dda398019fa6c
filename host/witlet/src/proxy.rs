//! The way from the standalone API to the agent, for logs and streams into containers.

use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use futures::future::BoxFuture;
use witlet_server::{ApiRequest, Service};
use witlet_standalone::{NodeProxy, NodeRequest, ProxyBody, ProxyResponse};

/// The API is up before the agent, which is its client.
#[derive(Default)]
pub(crate) struct ToAgent(OnceLock<Arc<Service>>);

impl ToAgent {
    /// Only the first call counts.
    pub(crate) fn connect(&self, service: Arc<Service>) {
        let _ = self.0.set(service);
    }
}

impl NodeProxy for ToAgent {
    fn proxy(&self, request: NodeRequest) -> BoxFuture<'static, ProxyResponse<ProxyBody>> {
        let NodeRequest {
            pod,
            subresource,
            request,
        } = request;
        let service = self.0.get().cloned();
        async move {
            let asked = ApiRequest { pod, subresource };
            match service {
                Some(service) => service.answer_api(asked, request).await,
                None => witlet_server::not_yet(),
            }
        }
        .boxed()
    }
}
