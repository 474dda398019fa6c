//! The port's methods, one call each, with the deadlines of the kubelet contract's table (pod 12.2).

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use witlet_core::ids::PodUid;
use witlet_core::observed::{Container, Sandbox};
use witlet_core::runtime::{ContainerConfig, Image, LinuxResources, RegistryAuth, SandboxConfig};
use witlet_core::stats::assemble::Counted;
use witlet_ports::runtime::{CgroupDriver, ExecOutput, Hint, ImageFilesystems, Runtime, Status, Streams, Version};
use witlet_ports::{Class, Error, Result};

use crate::error::{gone_is_fine, incomplete};
use crate::proto::v1;
use crate::{Cri, decode, encode, request};

/// One call of the runtime service; the deadline is T unless another is given.
macro_rules! runtime {
    ($self:ident.$method:ident($message:expr)) => {
        runtime!($self.$method($message), Some($self.timeout))
    };
    ($self:ident.$method:ident($message:expr), $deadline:expr) => {{
        let deadline: Option<Duration> = $deadline;
        let mut client = $self.runtime.clone();
        $self
            .call(
                stringify!($method),
                deadline,
                &$self.socket,
                client.$method(request($message, deadline)),
            )
            .await
    }};
}

/// The same of the image service.
macro_rules! images {
    ($self:ident.$method:ident($message:expr)) => {
        images!($self.$method($message), Some($self.timeout))
    };
    ($self:ident.$method:ident($message:expr), $deadline:expr) => {{
        let deadline: Option<Duration> = $deadline;
        let mut client = $self.images.clone();
        $self
            .call(
                stringify!($method),
                deadline,
                &$self.image_socket,
                client.$method(request($message, deadline)),
            )
            .await
    }};
}

#[async_trait]
impl Runtime for Cri {
    async fn version(&self) -> Result<Version> {
        decode::version(runtime!(self.version(v1::VersionRequest {
            version: "0.1.0".to_owned()
        }))?)
    }

    async fn status(&self) -> Result<Status> {
        decode::status(runtime!(self.status(v1::StatusRequest { verbose: false }))?)
    }

    async fn cgroup_driver(&self) -> Result<Option<CgroupDriver>> {
        match runtime!(self.runtime_config(v1::RuntimeConfigRequest {})) {
            Ok(answer) => decode::cgroup_driver(&answer),
            Err(e) if e.class == Class::Unimplemented => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn update_pod_cidr(&self, cidr: &str) -> Result<()> {
        let network_config = Some(v1::NetworkConfig {
            pod_cidr: cidr.to_owned(),
        });
        let runtime_config = Some(v1::RuntimeConfig { network_config });
        runtime!(self.update_runtime_config(v1::UpdateRuntimeConfigRequest { runtime_config })).map(drop)
    }

    async fn run_sandbox(&self, config: &SandboxConfig, handler: &str) -> Result<String> {
        let message = v1::RunPodSandboxRequest {
            config: Some(encode::sandbox(config)),
            runtime_handler: handler.to_owned(),
        };
        let began = tokio::time::Instant::now();
        let answer = runtime!(self.run_pod_sandbox(message), Some(self.timeout * 2));
        self.metrics.sandbox(handler, began.elapsed(), answer.is_ok());
        let id = answer?.pod_sandbox_id;
        if id.is_empty() {
            Err(incomplete("the new sandbox", "id"))
        } else {
            Ok(id)
        }
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let message = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        gone_is_fine(runtime!(self.stop_pod_sandbox(message)).map(drop))
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let message = v1::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        gone_is_fine(runtime!(self.remove_pod_sandbox(message)).map(drop))
    }

    async fn sandbox(&self, id: &str) -> Result<Sandbox> {
        let message = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        decode::sandbox(runtime!(self.pod_sandbox_status(message))?)
    }

    async fn update_sandbox(&self, id: &str, overhead: &LinuxResources, resources: &LinuxResources) -> Result<()> {
        let message = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id.to_owned(),
            overhead: Some(encode::resources(overhead)),
            resources: Some(encode::resources(resources)),
        };
        match runtime!(self.update_pod_sandbox_resources(message)) {
            // Older runtimes do not know it, and some of them say so in words.
            Err(e) if e.class == Class::Unimplemented || e.message.contains("not implemented") => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn sandboxes(&self, uid: Option<&PodUid>) -> Result<Vec<Sandbox>> {
        let message = v1::ListPodSandboxRequest {
            filter: encode::sandbox_filter(uid),
        };
        let items = runtime!(self.list_pod_sandbox(message))?.items;
        Ok(items.into_iter().filter_map(decode::listed_sandbox).collect())
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: &ContainerConfig,
        sandbox: &SandboxConfig,
    ) -> Result<String> {
        let message = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(encode::container(config, sandbox)?),
            sandbox_config: Some(encode::sandbox(sandbox)),
        };
        let id = runtime!(self.create_container(message))?.container_id;
        if id.is_empty() {
            return Err(incomplete("the new container", "id"));
        }
        self.owners.learn(&id, sandbox_id);
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        runtime!(self.start_container(v1::StartContainerRequest {
            container_id: id.to_owned()
        }))
        .map(drop)
    }

    async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        let message = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: seconds(timeout),
        };
        let deadline = self.timeout.saturating_add(timeout);
        gone_is_fine(runtime!(self.stop_container(message), Some(deadline)).map(drop))
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let message = v1::RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        gone_is_fine(runtime!(self.remove_container(message)).map(drop))?;
        self.owners.forget(id);
        Ok(())
    }

    async fn container(&self, id: &str) -> Result<Container> {
        let message = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let mut container = decode::container(runtime!(self.container_status(message))?)?;
        container.sandbox_id = match self.owners.of(&container.id) {
            Some(sandbox) => sandbox,
            None => self.look_up_sandbox(&container.id).await?,
        };
        Ok(container)
    }

    async fn containers(&self, uid: Option<&PodUid>) -> Result<Vec<Container>> {
        let message = v1::ListContainersRequest {
            filter: encode::container_filter(uid),
        };
        let containers = runtime!(self.list_containers(message))?.containers;
        let containers: Vec<_> = containers.into_iter().filter_map(decode::listed_container).collect();
        self.owners.listed(&containers, uid.is_none());
        Ok(containers)
    }

    async fn update_container(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        let message = v1::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(encode::resources(resources)),
            ..Default::default()
        };
        runtime!(self.update_container_resources(message)).map(drop)
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        runtime!(self.reopen_container_log(v1::ReopenContainerLogRequest {
            container_id: id.to_owned()
        }))
        .map(drop)
    }

    async fn exec_sync(&self, id: &str, argv: &[String], timeout: Option<Duration>) -> Result<ExecOutput> {
        let timeout = timeout.filter(|t| !t.is_zero());
        let message = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: argv.to_vec(),
            timeout: timeout.map_or(0, seconds),
        };
        // A command without a timeout may take for ever.
        let deadline = timeout.map(|t| self.timeout.saturating_add(t));
        let answer = runtime!(self.exec_sync(message), deadline)?;
        Ok(ExecOutput {
            stdout: answer.stdout,
            stderr: answer.stderr,
            exit_code: answer.exit_code,
        })
    }

    async fn exec(&self, id: &str, argv: &[String], streams: Streams) -> Result<String> {
        let message = v1::ExecRequest {
            container_id: id.to_owned(),
            cmd: argv.to_vec(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        url("Exec", runtime!(self.exec(message))?.url)
    }

    async fn attach(&self, id: &str, streams: Streams) -> Result<String> {
        let message = v1::AttachRequest {
            container_id: id.to_owned(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        url("Attach", runtime!(self.attach(message))?.url)
    }

    async fn port_forward(&self, sandbox_id: &str, ports: &[u16]) -> Result<String> {
        let message = v1::PortForwardRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            port: ports.iter().map(|p| (*p).into()).collect(),
        };
        url("PortForward", runtime!(self.port_forward(message))?.url)
    }

    async fn checkpoint(&self, id: &str, location: &Path, timeout: Duration) -> Result<()> {
        let message = v1::CheckpointContainerRequest {
            container_id: id.to_owned(),
            location: location.display().to_string(),
            timeout: seconds(timeout),
        };
        runtime!(self.checkpoint_container(message), Some(self.timeout.max(timeout))).map(drop)
    }

    async fn images(&self) -> Result<Vec<Image>> {
        let images = images!(self.list_images(v1::ListImagesRequest { filter: None }))?.images;
        Ok(images.into_iter().map(decode::image).collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let message = v1::ImageStatusRequest {
            image: Some(encode::image(reference)),
            verbose: false,
        };
        match images!(self.image_status(message)) {
            Ok(v1::ImageStatusResponse { image: Some(image), .. }) if image.id.is_empty() => {
                Err(incomplete("the image's status", "id"))
            }
            Ok(answer) => Ok(answer.image.map(decode::image)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn pull_image(
        &self,
        reference: &str,
        auth: Option<&RegistryAuth>,
        sandbox: Option<&SandboxConfig>,
    ) -> Result<String> {
        let message = v1::PullImageRequest {
            image: Some(encode::annotated_image(reference, sandbox)),
            auth: auth.map(encode::auth),
            sandbox_config: sandbox.map(encode::sandbox),
        };
        let image_ref = images!(self.pull_image(message), None)?.image_ref;
        if image_ref.is_empty() {
            Err(incomplete("the pulled image", "image_ref"))
        } else {
            Ok(image_ref)
        }
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        images!(self.remove_image(v1::RemoveImageRequest {
            image: Some(encode::image(reference))
        }))
        .map(drop)
    }

    async fn image_filesystems(&self) -> Result<ImageFilesystems> {
        let answer = images!(self.image_fs_info(v1::ImageFsInfoRequest {}))?;
        let list = |all: Vec<_>| all.into_iter().map(decode::filesystem).collect();
        Ok(ImageFilesystems {
            images: list(answer.image_filesystems),
            containers: list(answer.container_filesystems),
        })
    }

    async fn container_stats(&self) -> Result<Vec<Counted>> {
        let answer = runtime!(self.list_container_stats(v1::ListContainerStatsRequest { filter: None }))?;
        Ok(answer.stats.into_iter().filter_map(decode::counted).collect())
    }

    async fn hints(&self) -> Result<BoxStream<'static, Hint>> {
        self.open_hints().await
    }
}

impl Cri {
    async fn look_up_sandbox(&self, container: &str) -> Result<String> {
        let filter = v1::ContainerFilter {
            id: container.to_owned(),
            ..Default::default()
        };
        let found = runtime!(self.list_containers(v1::ListContainersRequest { filter: Some(filter) }))?.containers;
        let Some(item) = found.into_iter().find(|c| c.id == container) else {
            return Err(Error::not_found(format!(
                "container {container:?} vanished while it was looked at"
            )));
        };
        self.owners.learn(container, &item.pod_sandbox_id);
        Ok(item.pod_sandbox_id)
    }
}

fn url(call: &str, url: String) -> Result<String> {
    if url.is_empty() {
        Err(incomplete(&format!("the answer to {call}"), "url"))
    } else {
        Ok(url)
    }
}

/// Rounded up: 0 would mean at once for a stop, and never for a command.
fn seconds(duration: Duration) -> i64 {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    whole.try_into().unwrap_or(i64::MAX)
}
