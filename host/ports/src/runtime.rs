//! The container runtime: CRI v1, as the agent uses it.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use witlet_core::ids::PodUid;
use witlet_core::observed::{Container, Sandbox};
use witlet_core::runtime::{ContainerConfig, Image, LinuxResources, RegistryAuth, SandboxConfig};

use witlet_core::stats::assemble::Counted;

use crate::{Class, Error, Result};

/// Who the runtime is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Version {
    /// `containerd`, `cri-o`
    pub name: String,
    pub version: String,
    pub api_version: String,
}

/// One condition of the runtime, such as `RuntimeReady` or `NetworkReady`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Condition {
    pub name: String,
    pub status: bool,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Handler {
    pub name: String,
    pub recursive_read_only_mounts: bool,
    pub user_namespaces: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    pub conditions: Vec<Condition>,
    pub handlers: Vec<Handler>,
    pub supplemental_groups_policy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CgroupDriver {
    Cgroupfs,
    Systemd,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

/// Which streams of a process are wanted. A terminal has no stderr of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// A hint that something happened to a pod. The list is the truth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hint {
    Pod(PodUid),
    /// The stream does not say which pod: a container or a sandbox, by its id.
    Container(String),
    /// Events may have been lost.
    Unknown,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FilesystemUsage {
    pub timestamp: Option<Timestamp>,
    pub mountpoint: String,
    pub used_bytes: u64,
    pub inodes_used: u64,
}

/// Where images are, and where the writable layers of containers are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImageFilesystems {
    pub images: Vec<FilesystemUsage>,
    /// Empty where the runtime keeps both together.
    pub containers: Vec<FilesystemUsage>,
}

#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    async fn version(&self) -> Result<Version>;
    async fn status(&self) -> Result<Status>;
    /// None where the runtime does not say.
    async fn cgroup_driver(&self) -> Result<Option<CgroupDriver>>;
    async fn update_pod_cidr(&self, cidr: &str) -> Result<()>;

    async fn run_sandbox(&self, config: &SandboxConfig, handler: &str) -> Result<String>;
    /// No error if there is none.
    async fn stop_sandbox(&self, id: &str) -> Result<()>;
    /// No error if there is none.
    async fn remove_sandbox(&self, id: &str) -> Result<()>;
    async fn sandbox(&self, id: &str) -> Result<Sandbox>;
    /// Tells of the size that the pod is about to have. No error from a runtime that has no use for it.
    async fn update_sandbox(&self, id: &str, overhead: &LinuxResources, resources: &LinuxResources) -> Result<()>;
    /// Without network and addresses, which only `sandbox` reports. Of one pod, or of all.
    async fn sandboxes(&self, uid: Option<&PodUid>) -> Result<Vec<Sandbox>>;

    /// `image` carries the resolved image and the name the user gave it.
    async fn create_container(
        &self,
        sandbox_id: &str,
        config: &ContainerConfig,
        sandbox: &SandboxConfig,
    ) -> Result<String>;
    async fn start_container(&self, id: &str) -> Result<()>;
    /// No error if there is none.
    async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()>;
    /// No error if there is none.
    async fn remove_container(&self, id: &str) -> Result<()>;
    async fn container(&self, id: &str) -> Result<Container>;
    /// Without times, exit code, mounts and messages, which only `container` reports. Of one pod, or of all.
    async fn containers(&self, uid: Option<&PodUid>) -> Result<Vec<Container>>;
    async fn update_container(&self, id: &str, resources: &LinuxResources) -> Result<()>;
    async fn reopen_log(&self, id: &str) -> Result<()>;
    /// No timeout if none. `Class::Timeout` when it ran out.
    async fn exec_sync(&self, id: &str, argv: &[String], timeout: Option<Duration>) -> Result<ExecOutput>;

    /// The URL where the runtime waits for the command's streams.
    async fn exec(&self, _id: &str, _argv: &[String], _streams: Streams) -> Result<String> {
        Err(lacks("Exec"))
    }
    /// The URL where the runtime waits for the streams of the container's own process.
    async fn attach(&self, _id: &str, _streams: Streams) -> Result<String> {
        Err(lacks("Attach"))
    }
    /// The URL where the runtime waits for connections to ports of the sandbox.
    async fn port_forward(&self, _sandbox_id: &str, _ports: &[u16]) -> Result<String> {
        Err(lacks("PortForward"))
    }
    /// Writes the container's state to this file.
    async fn checkpoint(&self, _id: &str, _location: &Path, _timeout: Duration) -> Result<()> {
        Err(lacks("CheckpointContainer"))
    }

    async fn images(&self) -> Result<Vec<Image>>;
    /// None if the runtime does not have it.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;
    /// The image's id or digest reference. The sandbox tells the runtime whose network namespace to use, where it cares.
    async fn pull_image(
        &self,
        reference: &str,
        auth: Option<&RegistryAuth>,
        sandbox: Option<&SandboxConfig>,
    ) -> Result<String>;
    async fn remove_image(&self, reference: &str) -> Result<()>;
    async fn image_filesystems(&self) -> Result<ImageFilesystems>;
    /// What running containers use, as far as the runtime counts it.
    async fn container_stats(&self) -> Result<Vec<Counted>>;

    /// What happens to containers, from CRI events where the runtime has them, else from the runtime's own. It ends when the
    /// connection does. `Class::Unimplemented` where there is no such stream.
    async fn hints(&self) -> Result<BoxStream<'static, Hint>>;
}

/// Of calls that not every runtime has.
fn lacks(call: &str) -> Error {
    Error::new(Class::Unimplemented, format!("the container runtime has no {call}"))
}
