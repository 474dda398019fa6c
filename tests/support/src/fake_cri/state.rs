//! Sandboxes, containers and images, and what calls do to them. No IO and no tasks: the services put those around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use witlet_cri::proto::v1;
use witlet_cri::proto::v1::ContainerEventType as EventType;

use super::EventStreams;
use super::events::Event;

const POD_UID: &str = "io.kubernetes.pod.uid";

#[derive(Clone, PartialEq, Debug)]
pub struct Sandbox {
    pub id: String,
    pub config: v1::PodSandboxConfig,
    pub handler: String,
    pub ready: bool,
    pub created_at: i64,
    /// Empty on the host's network.
    pub ip: String,
}

impl Sandbox {
    pub fn uid(&self) -> &str {
        self.config
            .metadata
            .as_ref()
            .map(|m| m.uid.as_str())
            .unwrap_or_default()
    }

    fn network(&self) -> v1::NamespaceOption {
        let security = self.config.linux.as_ref().and_then(|l| l.security_context.as_ref());
        security.and_then(|s| s.namespace_options.clone()).unwrap_or_default()
    }

    pub(super) fn status(&self) -> v1::PodSandboxStatus {
        v1::PodSandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created_at,
            network: Some(v1::PodSandboxNetworkStatus {
                ip: self.ip.clone(),
                additional_ips: Vec::new(),
            }),
            linux: Some(v1::LinuxPodSandboxStatus {
                namespaces: Some(v1::Namespace {
                    options: Some(self.network()),
                }),
            }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.handler.clone(),
        }
    }

    pub(super) fn item(&self) -> v1::PodSandbox {
        v1::PodSandbox {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.handler.clone(),
        }
    }

    fn state(&self) -> v1::PodSandboxState {
        if self.ready {
            v1::PodSandboxState::SandboxReady
        } else {
            v1::PodSandboxState::SandboxNotready
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Container {
    pub id: String,
    pub sandbox_id: String,
    pub config: v1::ContainerConfig,
    pub state: v1::ContainerState,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image_ref: String,
    pub image_id: String,
    pub log_path: String,
    pub resources: v1::LinuxContainerResources,
    /// How often the log was opened anew.
    pub reopened: u32,
}

impl Container {
    pub fn name(&self) -> &str {
        self.config
            .metadata
            .as_ref()
            .map(|m| m.name.as_str())
            .unwrap_or_default()
    }

    pub fn attempt(&self) -> u32 {
        self.config.metadata.as_ref().map(|m| m.attempt).unwrap_or_default()
    }

    pub fn pod_uid(&self) -> &str {
        self.config.labels.get(POD_UID).map(String::as_str).unwrap_or_default()
    }

    pub fn is_running(&self) -> bool {
        self.state == v1::ContainerState::ContainerRunning
    }

    pub(super) fn status(&self) -> v1::ContainerStatus {
        v1::ContainerStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            exit_code: self.exit_code,
            image: Some(v1::ImageSpec {
                image: self.user_image().to_owned(),
                ..Default::default()
            }),
            image_ref: self.image_ref.clone(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: self.log_path.clone(),
            resources: Some(v1::ContainerResources {
                linux: Some(self.resources.clone()),
            }),
            image_id: self.image_id.clone(),
            user: None,
            stop_signal: self.config.stop_signal,
        }
    }

    pub(super) fn item(&self) -> v1::Container {
        v1::Container {
            id: self.id.clone(),
            pod_sandbox_id: self.sandbox_id.clone(),
            metadata: self.config.metadata.clone(),
            image: self.config.image.clone(),
            image_ref: self.image_ref.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            image_id: self.image_id.clone(),
        }
    }

    fn user_image(&self) -> &str {
        let Some(image) = &self.config.image else { return "" };
        if image.user_specified_image.is_empty() {
            &image.image
        } else {
            &image.user_specified_image
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Image {
    pub id: String,
    pub tags: Vec<String>,
    pub digests: Vec<String>,
    pub size: u64,
    pub uid: Option<i64>,
    pub username: String,
    pub pinned: bool,
}

impl Image {
    /// The same for the same name.
    pub fn named(name: &str) -> Self {
        // FNV, twice; it only has to look like a digest and to differ.
        let hash = |seed: u64| {
            name.bytes()
                .fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
        };
        let digest = format!("sha256:{:016x}{:016x}{:032x}", hash(0xcbf2_9ce4_8422_2325), hash(7), 0);
        let repository = name
            .rsplit_once(':')
            .filter(|(_, tag)| !tag.contains('/'))
            .map_or(name, |(repository, _)| repository);
        Self {
            digests: vec![format!("{repository}@{digest}")],
            id: digest,
            tags: vec![name.to_owned()],
            size: 1 << 20,
            uid: None,
            username: String::new(),
            pinned: false,
        }
    }

    fn is(&self, reference: &str) -> bool {
        self.id == reference || self.tags.iter().chain(&self.digests).any(|name| name == reference)
    }

    pub(super) fn reference(&self) -> String {
        self.digests.first().unwrap_or(&self.id).clone()
    }

    pub(super) fn message(&self) -> v1::Image {
        v1::Image {
            id: self.id.clone(),
            repo_tags: self.tags.clone(),
            repo_digests: self.digests.clone(),
            size: self.size,
            uid: self.uid.map(|value| v1::Int64Value { value }),
            username: self.username.clone(),
            spec: None,
            pinned: self.pinned,
        }
    }
}

/// How a container behaves once it is started.
#[derive(Clone, PartialEq, Debug)]
pub struct Life {
    /// It ends by itself after this time with this code. It runs until it is stopped if none.
    pub exits: Option<(Duration, i32)>,
    /// How long it takes to end after it was asked to; if that is longer than its grace period, it is killed.
    pub stops_in: Duration,
    /// With which code it then ends.
    pub stop_code: i32,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            exits: None,
            stops_in: Duration::ZERO,
            stop_code: 143,
        }
    }
}

/// What a command in a container does: how long it takes and what comes of it.
pub type ExecHandler =
    Arc<dyn Fn(&Container, &[String]) -> (Duration, Result<v1::ExecSyncResponse, Status>) + Send + Sync>;

pub(super) struct State {
    pub(super) sandboxes: BTreeMap<String, Sandbox>,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) images: Vec<Image>,
    /// What a pull finds.
    pub(super) registry: Vec<Image>,
    /// The credentials of the last pull.
    pub(super) last_auth: Option<v1::AuthConfig>,
    pub(super) version: v1::VersionResponse,
    pub(super) conditions: Vec<v1::RuntimeCondition>,
    pub(super) handlers: Vec<v1::RuntimeHandler>,
    pub(super) cgroup_driver: Option<v1::CgroupDriver>,
    pub(super) pod_cidr: String,
    pub(super) streams: EventStreams,
    pub(super) muted: bool,
    /// By the name of the container.
    pub(super) lives: BTreeMap<String, Life>,
    pub(super) exec: ExecHandler,
    pub(super) clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    last_time: i64,
    next_id: u64,
    /// Collected by what changes something, sent when the lock is free again.
    pub(super) events: Vec<Event>,
}

impl Default for State {
    fn default() -> Self {
        let ready = |name: &str| v1::RuntimeCondition {
            r#type: name.into(),
            status: true,
            ..Default::default()
        };
        Self {
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images: Vec::new(),
            registry: Vec::new(),
            last_auth: None,
            version: v1::VersionResponse {
                version: "0.1.0".into(),
                runtime_name: "fake".into(),
                runtime_version: "1.0".into(),
                runtime_api_version: "v1".into(),
            },
            conditions: vec![ready("RuntimeReady"), ready("NetworkReady")],
            handlers: Vec::new(),
            cgroup_driver: Some(v1::CgroupDriver::Cgroupfs),
            pod_cidr: String::new(),
            streams: EventStreams::Cri,
            muted: false,
            lives: BTreeMap::new(),
            exec: Arc::new(|_, _| (Duration::ZERO, Ok(v1::ExecSyncResponse::default()))),
            clock: Arc::new(|| i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)),
            last_time: 0,
            next_id: 1,
            events: Vec::new(),
        }
    }
}

impl State {
    /// Two moments are never the same, so that an order by time is an order.
    fn now(&mut self) -> i64 {
        self.last_time = (self.clock)().max(self.last_time + 1);
        self.last_time
    }

    /// Sortable, and as long as real ones are.
    fn new_id(&mut self, what: u8) -> String {
        let id = self.next_id;
        self.next_id += 1;
        format!("{what:x}{id:063x}")
    }

    pub(super) fn run_sandbox(&mut self, request: v1::RunPodSandboxRequest) -> Result<String, Status> {
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("config is missing"))?;
        let metadata = config
            .metadata
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("sandbox config must include metadata"))?;
        if let Some(other) = self
            .sandboxes
            .values()
            .find(|s| s.config.metadata.as_ref() == Some(metadata))
        {
            let name = format!(
                "{}_{}_{}_{}",
                metadata.name, metadata.namespace, metadata.uid, metadata.attempt
            );
            return Err(Status::unknown(format!(
                "failed to reserve sandbox name {name:?}: name {name:?} is reserved for {:?}",
                other.id
            )));
        }
        let id = self.new_id(0xa);
        let created_at = self.now();
        let mut sandbox = Sandbox {
            id: id.clone(),
            config,
            handler: request.runtime_handler,
            ready: true,
            created_at,
            ip: String::new(),
        };
        if sandbox.network().network() != v1::NamespaceMode::Node {
            let [.., third, fourth] = self.next_id.to_be_bytes();
            sandbox.ip = format!("10.88.{third}.{fourth}");
        }
        self.sandboxes.insert(id.clone(), sandbox);
        self.tell(&id, &id, EventType::ContainerCreatedEvent);
        self.tell(&id, &id, EventType::ContainerStartedEvent);
        Ok(id)
    }

    pub(super) fn stop_sandbox(&mut self, id: &str) {
        let running: Vec<_> = self
            .containers
            .values()
            .filter(|c| c.sandbox_id == id && c.is_running())
            .map(|c| c.id.clone())
            .collect();
        for container in running {
            self.exit(&container, 137, "Error");
        }
        let Some(sandbox) = self.sandboxes.get_mut(id) else {
            return;
        };
        sandbox.ip.clear();
        if std::mem::take(&mut sandbox.ready) {
            self.tell(id, id, EventType::ContainerStoppedEvent);
        }
    }

    pub(super) fn remove_sandbox(&mut self, id: &str) {
        self.stop_sandbox(id);
        let containers: Vec<_> = self
            .containers
            .values()
            .filter(|c| c.sandbox_id == id)
            .map(|c| c.id.clone())
            .collect();
        for container in containers {
            self.remove_container(&container);
        }
        if self.sandboxes.contains_key(id) {
            self.tell(id, id, EventType::ContainerDeletedEvent);
            self.sandboxes.remove(id);
        }
    }

    pub(super) fn sandbox(&self, id: &str) -> Result<&Sandbox, Status> {
        self.sandboxes.get(id).ok_or_else(|| {
            Status::not_found(format!(
                "an error occurred when try to find sandbox: sandbox {id:?}: not found"
            ))
        })
    }

    pub(super) fn create_container(&mut self, request: v1::CreateContainerRequest) -> Result<String, Status> {
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("config is missing"))?;
        let metadata = config
            .metadata
            .clone()
            .ok_or_else(|| Status::invalid_argument("container config must include metadata"))?;
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        if !sandbox.ready {
            return Err(Status::unknown(format!("sandbox {:?} is not running", sandbox.id)));
        }
        let log_path = match (&*sandbox.config.log_directory, &*config.log_path) {
            ("", _) | (_, "") => String::new(),
            (directory, file) => format!("{directory}/{file}"),
        };
        let sandbox_id = sandbox.id.clone();
        let taken = |c: &&Container| c.sandbox_id == sandbox_id && c.config.metadata.as_ref() == Some(&metadata);
        if let Some(other) = self.containers.values().find(taken) {
            let name = format!("{}_{}", metadata.name, metadata.attempt);
            return Err(Status::unknown(format!(
                "failed to reserve container name {name:?}: name {name:?} is reserved for {:?}",
                other.id
            )));
        }
        let reference = config.image.as_ref().map(|i| i.image.as_str()).unwrap_or_default();
        let image = self
            .image(reference)
            .ok_or_else(|| Status::not_found(format!("failed to resolve image {reference:?}: not found")))?;
        let (image_ref, image_id) = (image.reference(), image.id.clone());
        let resources = config
            .linux
            .as_ref()
            .and_then(|l| l.resources.clone())
            .unwrap_or_default();
        let id = self.new_id(0xc);
        let container = Container {
            id: id.clone(),
            sandbox_id: sandbox_id.clone(),
            config,
            state: v1::ContainerState::ContainerCreated,
            created_at: self.now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image_ref,
            image_id,
            log_path,
            resources,
            reopened: 0,
        };
        self.containers.insert(id.clone(), container);
        self.tell(&id, &sandbox_id, EventType::ContainerCreatedEvent);
        Ok(id)
    }

    pub(super) fn start_container(&mut self, id: &str) -> Result<Life, Status> {
        let now = self.now();
        let container = self.container(id)?;
        if container.state != v1::ContainerState::ContainerCreated {
            return Err(Status::unknown(format!(
                "failed to start container {id:?}: container is in {} state",
                container.state.as_str_name()
            )));
        }
        let sandbox = self.sandbox(&container.sandbox_id)?;
        if !sandbox.ready {
            return Err(Status::unknown(format!(
                "sandbox container {:?} is not running",
                sandbox.id
            )));
        }
        let sandbox_id = sandbox.id.clone();
        let life = self.lives.get(container.name()).cloned().unwrap_or_default();
        if let Some(container) = self.containers.get_mut(id) {
            container.state = v1::ContainerState::ContainerRunning;
            container.started_at = now;
        }
        self.tell(id, &sandbox_id, EventType::ContainerStartedEvent);
        Ok(life)
    }

    pub(super) fn container(&self, id: &str) -> Result<&Container, Status> {
        self.containers.get(id).ok_or_else(|| {
            Status::not_found(format!(
                "an error occurred when try to find container {id:?}: not found"
            ))
        })
    }

    /// A running container ends. Nothing happens to one that does not run.
    pub(super) fn exit(&mut self, id: &str, code: i32, reason: &str) {
        let now = self.now();
        let Some(container) = self.containers.get_mut(id).filter(|c| c.is_running()) else {
            return;
        };
        container.state = v1::ContainerState::ContainerExited;
        container.finished_at = now;
        container.exit_code = code;
        container.reason = reason.to_owned();
        let sandbox_id = container.sandbox_id.clone();
        self.tell(id, &sandbox_id, EventType::ContainerStoppedEvent);
    }

    pub(super) fn remove_container(&mut self, id: &str) {
        self.exit(id, 137, "Error");
        let Some(container) = self.containers.remove(id) else {
            return;
        };
        self.tell(id, &container.sandbox_id, EventType::ContainerDeletedEvent);
    }

    pub(super) fn image(&self, reference: &str) -> Option<&Image> {
        self.images.iter().find(|i| i.is(reference))
    }

    pub(super) fn pull(&mut self, reference: &str) -> Result<String, Status> {
        let Some(image) = self.registry.iter().find(|i| i.is(reference)).cloned() else {
            return Err(Status::not_found(format!(
                "failed to pull and unpack image {reference:?}: failed to resolve reference {reference:?}: {reference}: not found"
            )));
        };
        let answer = image.reference();
        if self.image(&image.id).is_none() {
            self.images.push(image);
        }
        Ok(answer)
    }

    fn tell(&mut self, id: &str, sandbox_id: &str, kind: EventType) {
        if self.muted {
            return;
        }
        let created_at = self.now();
        let sandbox = self.sandboxes.get(sandbox_id).map(Sandbox::status);
        self.events.push(Event {
            id: id.to_owned(),
            kind,
            created_at,
            sandbox,
        });
    }
}

/// Does an object with these labels match a selector?
pub(super) fn selected(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
