//! The runtime service and containerd's events, as far as agents call them. Every call goes through [`Shared::handle`].

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};
use witlet_cri::proto::events::events_server::Events;
use witlet_cri::proto::events::{Envelope, SubscribeRequest};
use witlet_cri::proto::v1;
use witlet_cri::proto::v1::runtime_service_server::RuntimeService;

use super::events::{self, EventStream};
use super::state::{self, State};
use super::{EventStreams, Shared};

type Answer<T> = Result<Response<T>, Status>;

impl Shared {
    /// Writes the call down, lets the script have its way, and does it.
    pub(super) async fn handle<T>(
        &self,
        method: &'static str,
        subject: &str,
        effect: impl FnOnce(&mut State) -> Result<T, Status>,
    ) -> Answer<T> {
        let mut fate = self.script().begin(method, subject);
        self.changed.notify_waiters();
        fate.before().await?;
        let answer = self.change(effect)?;
        fate.after()?;
        Ok(Response::new(answer))
    }

    /// Changes the state and sends the events of it in the order of the changes.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        for event in state.events.drain(..) {
            // Nobody may listen.
            let _ = self.events.send(event);
        }
        drop(state);
        self.changed.notify_waiters();
        result
    }

    /// A started container that does not live for ever ends in the background.
    fn live(self: &Arc<Self>, id: String, exits: Option<(Duration, i32)>) {
        let Some((after, code)) = exits else { return };
        let reason = if code == 0 { "Completed" } else { "Error" };
        if after.is_zero() {
            self.change(|state| state.exit(&id, code, reason));
            return;
        }
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(shared) = shared.upgrade() {
                shared.change(|state| state.exit(&id, code, reason));
            }
        });
    }
}

#[derive(Clone)]
pub(super) struct Service(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        self.0.handle("Version", "", |state| Ok(state.version.clone())).await
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let status = |state: &mut State| {
            Ok(v1::StatusResponse {
                status: Some(v1::RuntimeStatus {
                    conditions: state.conditions.clone(),
                }),
                runtime_handlers: state.handlers.clone(),
                ..Default::default()
            })
        };
        self.0.handle("Status", "", status).await
    }

    async fn runtime_config(&self, _: Request<v1::RuntimeConfigRequest>) -> Answer<v1::RuntimeConfigResponse> {
        let config = |state: &mut State| match state.cgroup_driver {
            None => Err(Status::unimplemented(
                "unknown method RuntimeConfig for service runtime.v1.RuntimeService",
            )),
            Some(driver) => Ok(v1::RuntimeConfigResponse {
                linux: Some(v1::LinuxRuntimeConfiguration {
                    cgroup_driver: driver.into(),
                }),
            }),
        };
        self.0.handle("RuntimeConfig", "", config).await
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        let config = request
            .into_inner()
            .runtime_config
            .and_then(|c| c.network_config)
            .unwrap_or_default();
        let subject = config.pod_cidr.clone();
        let update = |state: &mut State| {
            state.pod_cidr = config.pod_cidr;
            Ok(v1::UpdateRuntimeConfigResponse {})
        };
        self.0.handle("UpdateRuntimeConfig", &subject, update).await
    }

    async fn run_pod_sandbox(&self, request: Request<v1::RunPodSandboxRequest>) -> Answer<v1::RunPodSandboxResponse> {
        let request = request.into_inner();
        let metadata = request.config.as_ref().and_then(|c| c.metadata.as_ref());
        let subject = metadata
            .map(|m| format!("{}/{}", m.namespace, m.name))
            .unwrap_or_default();
        let run = |state: &mut State| {
            state
                .run_sandbox(request)
                .map(|pod_sandbox_id| v1::RunPodSandboxResponse { pod_sandbox_id })
        };
        self.0.handle("RunPodSandbox", &subject, run).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let stop = |state: &mut State| {
            state.stop_sandbox(&id);
            Ok(v1::StopPodSandboxResponse {})
        };
        self.0.handle("StopPodSandbox", &id, stop).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let remove = |state: &mut State| {
            state.remove_sandbox(&id);
            Ok(v1::RemovePodSandboxResponse {})
        };
        self.0.handle("RemovePodSandbox", &id, remove).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let status = |state: &mut State| {
            let status = state.sandbox(&id)?.status();
            Ok(v1::PodSandboxStatusResponse {
                status: Some(status),
                ..Default::default()
            })
        };
        self.0.handle("PodSandboxStatus", &id, status).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = |state: &mut State| {
            let wanted = state.sandboxes.values().map(state::Sandbox::item).filter(|s| {
                (filter.id.is_empty() || s.id == filter.id)
                    && filter.state.as_ref().is_none_or(|f| s.state == f.state)
                    && state::selected(&s.labels, &filter.label_selector)
            });
            Ok(v1::ListPodSandboxResponse {
                items: wanted.collect(),
            })
        };
        self.0.handle("ListPodSandbox", "", list).await
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let metadata = request.config.as_ref().and_then(|c| c.metadata.as_ref());
        let subject = metadata.map(|m| m.name.clone()).unwrap_or_default();
        let create = |state: &mut State| {
            state
                .create_container(request)
                .map(|container_id| v1::CreateContainerResponse { container_id })
        };
        self.0.handle("CreateContainer", &subject, create).await
    }

    async fn start_container(&self, request: Request<v1::StartContainerRequest>) -> Answer<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        let mut life = None;
        let start = |state: &mut State| {
            life = Some(state.start_container(&id)?);
            Ok(v1::StartContainerResponse {})
        };
        let answer = self.0.handle("StartContainer", &id, start).await;
        self.0.live(id, life.and_then(|l| l.exits));
        answer
    }

    async fn stop_container(&self, request: Request<v1::StopContainerRequest>) -> Answer<v1::StopContainerResponse> {
        let v1::StopContainerRequest {
            container_id: id,
            timeout,
        } = request.into_inner();
        let mut fate = self.0.script().begin("StopContainer", &id);
        self.0.changed.notify_waiters();
        fate.before().await?;
        let life = {
            let state = self.0.state();
            let running = state.containers.get(&id).filter(|c| c.is_running());
            running.map(|c| state.lives.get(c.name()).cloned().unwrap_or_default())
        };
        if let Some(life) = life {
            let grace = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
            let (wait, code) = if life.stops_in <= grace {
                (life.stops_in, life.stop_code)
            } else {
                (grace, 137)
            };
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            self.0
                .change(|state| state.exit(&id, code, if code == 0 { "Completed" } else { "Error" }));
        }
        fate.after()?;
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        let remove = |state: &mut State| {
            state.remove_container(&id);
            Ok(v1::RemoveContainerResponse {})
        };
        self.0.handle("RemoveContainer", &id, remove).await
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let id = request.into_inner().container_id;
        let status = |state: &mut State| {
            let status = state.container(&id)?.status();
            Ok(v1::ContainerStatusResponse {
                status: Some(status),
                ..Default::default()
            })
        };
        self.0.handle("ContainerStatus", &id, status).await
    }

    async fn list_containers(&self, request: Request<v1::ListContainersRequest>) -> Answer<v1::ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = |state: &mut State| {
            let wanted = state.containers.values().map(state::Container::item).filter(|c| {
                (filter.id.is_empty() || c.id == filter.id)
                    && (filter.pod_sandbox_id.is_empty() || c.pod_sandbox_id == filter.pod_sandbox_id)
                    && filter.state.as_ref().is_none_or(|f| c.state == f.state)
                    && state::selected(&c.labels, &filter.label_selector)
            });
            Ok(v1::ListContainersResponse {
                containers: wanted.collect(),
            })
        };
        self.0.handle("ListContainers", "", list).await
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let v1::UpdateContainerResourcesRequest {
            container_id: id,
            linux,
            ..
        } = request.into_inner();
        let update = |state: &mut State| {
            state.container(&id)?;
            if let (Some(container), Some(linux)) = (state.containers.get_mut(&id), linux) {
                container.resources = linux;
            }
            Ok(v1::UpdateContainerResourcesResponse {})
        };
        self.0.handle("UpdateContainerResources", &id, update).await
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        let id = request.into_inner().container_id;
        let reopen = |state: &mut State| {
            if !state.container(&id)?.is_running() {
                return Err(Status::unknown("container is not running"));
            }
            if let Some(container) = state.containers.get_mut(&id) {
                container.reopened += 1;
            }
            Ok(v1::ReopenContainerLogResponse {})
        };
        self.0.handle("ReopenContainerLog", &id, reopen).await
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        let v1::ExecSyncRequest {
            container_id: id,
            cmd,
            timeout,
        } = request.into_inner();
        let run = |state: &mut State| {
            let container = state.container(&id)?;
            if !container.is_running() {
                return Err(Status::unknown(format!(
                    "failed to exec in container: container is in {} state",
                    container.state.as_str_name()
                )));
            }
            let handler = Arc::clone(&state.exec);
            Ok((handler, container.clone()))
        };
        let (handler, container) = self.0.handle("ExecSync", &id, run).await?.into_inner();
        let (takes, outcome) = handler(&container, &cmd);
        let limit = u64::try_from(timeout).ok().filter(|t| *t > 0).map(Duration::from_secs);
        match limit {
            Some(limit) if takes > limit => {
                tokio::time::sleep(limit).await;
                Err(Status::deadline_exceeded(format!(
                    "failed to exec in container: timeout {timeout}s exceeded: context deadline exceeded"
                )))
            }
            _ => {
                tokio::time::sleep(takes).await;
                outcome.map(Response::new)
            }
        }
    }

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<EventStream<v1::ContainerEventResponse>> {
        let receiver = self.0.events.subscribe();
        let allowed = |state: &mut State| match state.streams {
            EventStreams::Cri => Ok(()),
            _ => Err(Status::unimplemented(
                "unknown method GetContainerEvents for service runtime.v1.RuntimeService",
            )),
        };
        self.0.handle("GetContainerEvents", "", allowed).await?;
        events::stream(receiver, events::cri).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl Events for Service {
    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Answer<EventStream<Envelope>> {
        let namespace = request
            .metadata()
            .get("containerd-namespace")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let receiver = self.0.events.subscribe();
        let allowed = |state: &mut State| match state.streams {
            EventStreams::Containerd => Ok(()),
            _ => Err(Status::unimplemented(
                "unknown service containerd.services.events.v1.Events",
            )),
        };
        self.0.handle("Subscribe", namespace, allowed).await?;
        events::stream(receiver, events::containerd).await.map(Response::new)
    }
}
