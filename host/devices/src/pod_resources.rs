//! Who has what, for those who watch devices (the kubelet contract, node 134).

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{Service as _, http};
use tonic::{Request, Response, Status};
use tracing::warn;
use witlet_core::ids::PodKey;
use witlet_ports::devices::{Group, MemoryBlock, PodResources, ResourceLister, Resources};

use crate::proto::pod_resources as v1;
use crate::proto::pod_resources::pod_resources_lister_server as v1_server;
use crate::proto::pod_resources_alpha as alpha;
use crate::proto::pod_resources_alpha::pod_resources_lister_server as alpha_server;
use crate::{METERS, socket};

const PER_SECOND: f64 = 100.0;
const BURST: f64 = 10.0;
const V1: &[&str] = &["v1"];
const ALPHA: &[&str] = &["v1alpha1"];

/// Listens at `path` and answers until shutdown. Must be called within a tokio runtime.
pub fn serve(path: &Path, lister: Arc<dyn ResourceLister>, shutdown: CancellationToken) -> io::Result<()> {
    let listener = socket::listen(path)?;
    let service = Service {
        lister,
        left: Arc::new(Mutex::new(Left {
            tokens: BURST,
            at: Instant::now(),
        })),
    };
    let now = v1_server::PodResourcesListerServer::new(service.clone());
    let once = alpha_server::PodResourcesListerServer::new(service);
    let both = tower::service_fn(move |request: http::Request<Body>| {
        let (mut now, mut once) = (now.clone(), once.clone());
        async move {
            match request.uri().path().starts_with("/v1alpha1.") {
                true => once.call(request).await,
                false => now.call(request).await,
            }
        }
    });
    tokio::spawn(async move {
        let incoming = UnixListenerStream::new(listener);
        let ended = tonic::transport::Server::builder()
            .serve_with_incoming_shutdown(both, incoming, shutdown.cancelled_owned())
            .await;
        if let Err(error) = ended {
            warn!(%error, "nobody can ask any more which pod has which devices");
        }
    });
    Ok(())
}

#[derive(Clone)]
struct Service {
    lister: Arc<dyn ResourceLister>,
    left: Arc<Mutex<Left>>,
}

/// How many calls may still come.
struct Left {
    tokens: f64,
    at: Instant,
}

impl Left {
    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND;
        self.tokens = (self.tokens + gained).min(BURST);
        self.at = now;
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }
}

impl Service {
    // A status is what tonic wants.
    #[allow(clippy::result_large_err)]
    fn may(&self) -> Result<(), Status> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.take(Instant::now()) {
            return Ok(());
        }
        Err(Status::resource_exhausted("rejected by rate limit"))
    }
}

#[tonic::async_trait]
impl v1_server::PodResourcesLister for Service {
    async fn list(
        &self,
        _: Request<v1::ListPodResourcesRequest>,
    ) -> Result<Response<v1::ListPodResourcesResponse>, Status> {
        self.may()?;
        METERS.requests.add(V1);
        METERS.lists.add(V1);
        let pod_resources = self.lister.list().into_iter().map(pod).collect();
        Ok(Response::new(v1::ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<v1::AllocatableResourcesRequest>,
    ) -> Result<Response<v1::AllocatableResourcesResponse>, Status> {
        self.may()?;
        METERS.requests.add(V1);
        METERS.allocatables.add(V1);
        let all = self.lister.allocatable();
        Ok(Response::new(v1::AllocatableResourcesResponse {
            devices: all.devices.into_iter().map(devices).collect(),
            cpu_ids: all.cpus,
            memory: all.memory.into_iter().map(memory).collect(),
        }))
    }

    async fn get(
        &self,
        request: Request<v1::GetPodResourcesRequest>,
    ) -> Result<Response<v1::GetPodResourcesResponse>, Status> {
        self.may()?;
        METERS.requests.add(V1);
        METERS.gets.add(V1);
        let request = request.into_inner();
        let key = PodKey {
            namespace: request.pod_namespace,
            name: request.pod_name,
        };
        let Some(found) = self.lister.get(&key) else {
            METERS.failed_gets.add(V1);
            let PodKey { name, namespace } = key;
            return Err(Status::unknown(format!(
                "pod {name} in namespace {namespace} not found"
            )));
        };
        Ok(Response::new(v1::GetPodResourcesResponse {
            pod_resources: Some(pod(found)),
        }))
    }
}

#[tonic::async_trait]
impl alpha_server::PodResourcesLister for Service {
    async fn list(
        &self,
        _: Request<alpha::ListPodResourcesRequest>,
    ) -> Result<Response<alpha::ListPodResourcesResponse>, Status> {
        self.may()?;
        METERS.requests.add(ALPHA);
        METERS.lists.add(ALPHA);
        let pod_resources = self.lister.list().into_iter().map(alpha_pod).collect();
        Ok(Response::new(alpha::ListPodResourcesResponse { pod_resources }))
    }
}

fn pod(pod: PodResources) -> v1::PodResources {
    let container = |(name, has): (String, Resources)| v1::ContainerResources {
        name,
        devices: has.devices.into_iter().map(devices).collect(),
        cpu_ids: has.cpus,
        memory: has.memory.into_iter().map(memory).collect(),
    };
    v1::PodResources {
        name: pod.name,
        namespace: pod.namespace,
        containers: pod.containers.into_iter().map(container).collect(),
    }
}

fn devices(group: Group) -> v1::ContainerDevices {
    v1::ContainerDevices {
        resource_name: group.resource,
        device_ids: group.ids,
        topology: group.numa.map(|node| topology([node])),
    }
}

fn memory(block: MemoryBlock) -> v1::ContainerMemory {
    v1::ContainerMemory {
        memory_type: block.kind,
        size: block.bytes,
        topology: Some(topology(block.numa)),
    }
}

fn topology(nodes: impl IntoIterator<Item = i64>) -> v1::TopologyInfo {
    v1::TopologyInfo {
        nodes: nodes.into_iter().map(|id| v1::NumaNode { id }).collect(),
    }
}

fn alpha_pod(pod: PodResources) -> alpha::PodResources {
    let devices = |group: Group| alpha::ContainerDevices {
        resource_name: group.resource,
        device_ids: group.ids,
    };
    let container = |(name, has): (String, Resources)| alpha::ContainerResources {
        name,
        devices: has.devices.into_iter().map(devices).collect(),
    };
    alpha::PodResources {
        name: pod.name,
        namespace: pod.namespace,
        containers: pod.containers.into_iter().map(container).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut left = Left {
            tokens: BURST,
            at: start,
        };
        assert_eq!((0..20).filter(|_| left.take(start)).count(), 10);
        assert!(left.take(start + Duration::from_millis(11)));
        assert!(!left.take(start + Duration::from_millis(11)));
    }
}
