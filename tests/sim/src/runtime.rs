//! The container runtime: sandboxes, containers that live and die by script, images, hints.
//!
//! It behaves as containerd does: a name (pod, container, attempt) is reserved as long as something has it, the end of a
//! sandbox is the end of its containers, and what it removes it stops before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::stream::BoxStream;
use jiff::Timestamp;
use rand::Rng;
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::observed::{Container, ContainerState, Sandbox, SandboxState};
use witlet_core::runtime::{ContainerConfig, Image, LinuxResources, NamespaceMode, RegistryAuth, SandboxConfig};
use witlet_core::stats::assemble::Counted;
use witlet_ports::runtime::{CgroupDriver, Condition, ExecOutput, Hint, ImageFilesystems, Runtime, Status, Version};
use witlet_ports::{Class, Error, Result};

use crate::clock;
use crate::pods::Run;
use crate::world::{Port, State, World};

/// What the machine has of containers.
#[derive(Default)]
pub struct Machine {
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub containers: BTreeMap<String, Instance>,
    images: BTreeSet<String>,
    /// How many instances of a container were ever started.
    pub starts: BTreeMap<(PodUid, String), usize>,
    /// Containers whose creation is under way, as the agent knows it.
    pub creating: BTreeSet<(PodUid, String)>,
    /// Containers that were started, or succeeded, in which sandbox.
    pub started: BTreeSet<(String, String)>,
    pub succeeded: BTreeSet<(String, String)>,
    /// Sandboxes whose network was given back: the agent stopped them.
    pub released: BTreeSet<String>,
    /// When something was last done for a pod that had been given up.
    pub surprised: BTreeMap<PodUid, Timestamp>,
    hints: Option<UnboundedSender<Hint>>,
    made: u32,
}

#[derive(Clone, Debug)]
pub struct Instance {
    pub it: Container,
    /// The image that the pod asked for.
    pub asked: String,
    pub run: Run,
}

impl Instance {
    pub fn runs(&self) -> bool {
        self.it.state == ContainerState::Running
    }

    /// Pod, name and attempt, for people.
    pub fn title(&self) -> String {
        format!("{}/{}#{}", self.it.uid, self.it.name, self.it.attempt)
    }
}

impl Machine {
    pub fn agent_died(&mut self) {
        self.hints = None;
        self.creating.clear();
    }

    pub fn running(&self, uid: &PodUid) -> impl Iterator<Item = &Instance> {
        self.containers.values().filter(move |c| c.it.uid == *uid && c.runs())
    }

    pub fn ready_sandboxes(&self, uid: &PodUid) -> usize {
        self.sandboxes
            .values()
            .filter(|s| s.uid == *uid && s.state == SandboxState::Ready)
            .count()
    }

    /// The newest instance of a container.
    pub fn latest(&self, uid: &PodUid, name: &str) -> Option<&Instance> {
        let own = self
            .containers
            .values()
            .filter(|c| c.it.uid == *uid && c.it.name == name);
        own.max_by_key(|c| (c.it.created_at, c.it.attempt))
    }

    fn id(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}{:04}", self.made)
    }
}

impl State {
    /// Tells whoever listens; the message may get lost, come twice, or late.
    fn hint(&mut self, uid: &PodUid, id: &str) {
        let copies = match () {
            () if self.chance(self.faults.hint_lost) => 0,
            () if self.chance(self.faults.hint_twice) => 2,
            () => 1,
        };
        let hint = match self.rng.random_range(0..10) {
            0..5 => Hint::Pod(uid.clone()),
            5..9 => Hint::Container(id.to_owned()),
            _ => Hint::Unknown,
        };
        for _ in 0..copies {
            let (late, hint) = (self.up_to(self.faults.hint_late_ms), hint.clone());
            self.after(late, move |state| {
                if let Some(listener) = &state.machine.hints {
                    // Nobody listens any more.
                    let _ = listener.unbounded_send(hint);
                }
            });
        }
    }

    /// The stream of hints breaks off.
    pub fn break_hints(&mut self) {
        self.note("--- the stream of hints breaks off");
        self.machine.hints = None;
    }

    fn run_sandbox(&mut self, config: &SandboxConfig) -> Result<String> {
        let uid = PodUid::from(&*config.uid);
        let taken = self
            .machine
            .sandboxes
            .values()
            .any(|s| s.uid == uid && s.attempt == config.attempt);
        if taken {
            return Err(Error::retry(format!(
                "name {}_{} is reserved",
                config.name, config.attempt
            )));
        }
        self.rule_run_sandbox(&uid);
        let id = self.machine.id("s");
        self.note(format!("{uid}: sandbox {id}#{} runs", config.attempt));
        let host = config.security.namespaces.network == NamespaceMode::Node;
        let number = self.machine.made;
        let address = IpAddr::V4(Ipv4Addr::from(0x0a58_0000 + number));
        let sandbox = Sandbox {
            id: id.clone(),
            pod: PodKey {
                namespace: config.namespace.clone(),
                name: config.name.clone(),
            },
            uid: uid.clone(),
            attempt: config.attempt,
            state: SandboxState::Ready,
            created_at: clock::now(),
            network: Some(config.security.namespaces.network),
            ips: if host { Vec::new() } else { vec![address] },
        };
        self.machine.sandboxes.insert(id.clone(), sandbox);
        self.surprise(&uid);
        self.hint(&uid, &id);
        Ok(id)
    }

    /// Its containers end with it. `Killed` by whom, for the rules.
    pub fn stop_sandbox(&mut self, id: &str, by_agent: bool) {
        if by_agent {
            self.machine.released.insert(id.to_owned());
        }
        let Some(sandbox) = self
            .machine
            .sandboxes
            .get(id)
            .filter(|s| s.state == SandboxState::Ready)
        else {
            return;
        };
        let uid = sandbox.uid.clone();
        let inside: Vec<String> = self
            .machine
            .containers
            .values()
            .filter(|c| c.it.sandbox_id == id && c.runs())
            .map(|c| c.it.id.clone())
            .collect();
        for container in inside {
            if by_agent {
                self.rule_kill(&container, "StopPodSandbox");
            }
            self.exit(&container, 137);
        }
        self.note(format!("{uid}: sandbox {id} stopped"));
        if let Some(sandbox) = self.machine.sandboxes.get_mut(id) {
            sandbox.state = SandboxState::NotReady;
            sandbox.ips.clear();
        }
        self.hint(&uid, id);
    }

    fn remove_sandbox(&mut self, id: &str) {
        self.stop_sandbox(id, true);
        if let Some(sandbox) = self.machine.sandboxes.remove(id) {
            self.machine.containers.retain(|_, c| c.it.sandbox_id != id);
            self.note(format!("{}: sandbox {id} removed", sandbox.uid));
            self.hint(&sandbox.uid, id);
        }
    }

    fn create(&mut self, sandbox_id: &str, config: &ContainerConfig, log_dir: &str) -> Result<String> {
        let sandbox = self.machine.sandboxes.get(sandbox_id).cloned();
        let sandbox = sandbox.ok_or_else(|| Error::not_found(format!("no sandbox {sandbox_id}")))?;
        if sandbox.state != SandboxState::Ready {
            return Err(Error::retry(format!("sandbox {sandbox_id} is not running")));
        }
        let same =
            |c: &&Instance| c.it.uid == sandbox.uid && c.it.name == config.name && c.it.attempt == config.attempt;
        if self.machine.containers.values().any(|c| same(&c)) {
            return Err(Error::retry(format!(
                "name {}_{} is reserved",
                config.name, config.attempt
            )));
        }
        if !self.machine.images.contains(&config.image) {
            return Err(Error::not_found(format!("no image {}", config.image)));
        }
        let id = self.machine.id("c");
        let container = Container {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            name: config.name.clone(),
            uid: sandbox.uid.clone(),
            attempt: config.attempt,
            state: ContainerState::Created,
            created_at: clock::now(),
            started_at: None,
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: config.user_specified_image.clone(),
            image_ref: config.image.clone(),
            image_id: config.image.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: format!("{log_dir}/{}", config.log_path),
            resources: None,
            user: None,
            stop_signal: None,
        };
        let instance = Instance {
            it: container,
            asked: config.user_specified_image.clone(),
            run: Run::Forever,
        };
        self.note(format!("{}: {id} created", instance.title()));
        self.machine.containers.insert(id.clone(), instance);
        self.hint(&sandbox.uid, &id);
        Ok(id)
    }

    fn start(&mut self, id: &str) -> Result<()> {
        let instance = self.machine.containers.get(id).cloned();
        let instance = instance.ok_or_else(|| Error::not_found(format!("no container {id}")))?;
        if instance.it.state != ContainerState::Created {
            return Err(Error::retry(format!("container {id} is not in created state")));
        }
        let sandbox = self.machine.sandboxes.get(&instance.it.sandbox_id);
        if sandbox.is_none_or(|s| s.state != SandboxState::Ready) {
            return Err(Error::retry(format!("the sandbox of {id} is not running")));
        }
        self.rule_start(&instance);
        self.surprise(&instance.it.uid);
        let (uid, name) = (instance.it.uid.clone(), instance.it.name.clone());
        let count = self.machine.starts.entry((uid.clone(), name.clone())).or_default();
        let nth = std::mem::replace(count, *count + 1);
        let script = self
            .plans
            .get(&uid)
            .and_then(|p| p.script().remove(&name))
            .unwrap_or_default();
        let run = script.get(nth).or(script.last()).copied().unwrap_or(Run::Forever);
        self.note(format!("{}: {id} started, {run:?}", instance.title()));
        if let Some(now) = self.machine.containers.get_mut(id) {
            now.it.state = ContainerState::Running;
            now.it.started_at = Some(clock::now());
            now.run = run;
        }
        self.machine.started.insert((instance.it.sandbox_id.clone(), name));
        if let Run::Exit { after_ms, code } = run {
            let id = id.to_owned();
            self.after(after_ms, move |state| state.exit(&id, code));
        }
        self.hint(&uid, id);
        Ok(())
    }

    /// The container's process ends, for whatever reason.
    pub fn exit(&mut self, id: &str, code: i32) {
        let Some(instance) = self.machine.containers.get_mut(id).filter(|c| c.runs()) else {
            return;
        };
        instance.it.state = ContainerState::Exited;
        instance.it.finished_at = Some(clock::now());
        instance.it.exit_code = code;
        instance.it.reason = if code == 0 { "Completed" } else { "Error" }.into();
        let (uid, title) = (instance.it.uid.clone(), instance.title());
        if code == 0 {
            let place = (instance.it.sandbox_id.clone(), instance.it.name.clone());
            self.machine.succeeded.insert(place);
        }
        self.note(format!("{title}: {id} exits with {code}"));
        self.hint(&uid, id);
    }

    /// Sends the signal to end; returns when the container will have ended.
    fn signal(&mut self, id: &str, timeout: Duration) -> Option<Timestamp> {
        let instance = self.machine.containers.get(id).filter(|c| c.runs())?;
        let uid = instance.it.uid.clone();
        self.rule_kill(id, "StopContainer");
        let stubborn = self.plans.get(&uid).is_some_and(|p| p.stubborn);
        let (wait, code) = if stubborn {
            (timeout, 137)
        } else {
            (timeout.min(Duration::from_millis(150)), 143)
        };
        let at = clock::later(clock::now(), wait);
        let id = id.to_owned();
        self.at(at, move |state| state.exit(&id, code));
        Some(at)
    }

    fn remove_container(&mut self, id: &str) {
        let Some(instance) = self.machine.containers.get(id).cloned() else {
            return;
        };
        if instance.runs() {
            self.rule_kill(id, "RemoveContainer");
        }
        self.machine.containers.remove(id);
        self.note(format!("{}: {id} removed", instance.title()));
        self.hint(&instance.it.uid, id);
    }
}

#[derive(Clone)]
pub struct FakeRuntime(pub World);

impl FakeRuntime {
    async fn call<T: Send + 'static>(
        &self,
        what: String,
        effect: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.0.call(Port::Runtime, what, effect).await
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<Version> {
        let version = Version {
            name: "fake".into(),
            version: "1".into(),
            api_version: "v1".into(),
        };
        self.call("Version".into(), |_| Ok(version)).await
    }

    async fn status(&self) -> Result<Status> {
        let condition = |name: &str| Condition {
            name: name.into(),
            status: true,
            ..Condition::default()
        };
        let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
        self.call("Status".into(), |_| {
            Ok(Status {
                conditions,
                ..Status::default()
            })
        })
        .await
    }

    async fn cgroup_driver(&self) -> Result<Option<CgroupDriver>> {
        Ok(Some(CgroupDriver::Cgroupfs))
    }

    async fn update_pod_cidr(&self, _cidr: &str) -> Result<()> {
        Ok(())
    }

    async fn run_sandbox(&self, config: &SandboxConfig, _handler: &str) -> Result<String> {
        let config = config.clone();
        self.0.lock().rule_begin(&PodUid::from(&*config.uid), "RunPodSandbox");
        self.call(format!("RunPodSandbox {}", config.uid), move |s| s.run_sandbox(&config))
            .await
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.call(format!("StopPodSandbox {id}"), move |s| {
            s.stop_sandbox(&id, true);
            Ok(())
        })
        .await
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.call(format!("RemovePodSandbox {id}"), move |s| {
            s.remove_sandbox(&id);
            Ok(())
        })
        .await
    }

    async fn sandbox(&self, id: &str) -> Result<Sandbox> {
        let id = id.to_owned();
        self.call(format!("PodSandboxStatus {id}"), move |s| {
            s.machine
                .sandboxes
                .get(&id)
                .cloned()
                .ok_or_else(|| Error::not_found(format!("no sandbox {id}")))
        })
        .await
    }

    async fn update_sandbox(&self, id: &str, _: &LinuxResources, _: &LinuxResources) -> Result<()> {
        self.call(format!("UpdatePodSandboxResources {id}"), |_| Ok(())).await
    }

    async fn sandboxes(&self, uid: Option<&PodUid>) -> Result<Vec<Sandbox>> {
        let uid = uid.cloned();
        self.call("ListPodSandbox".into(), move |s| {
            let found = s
                .machine
                .sandboxes
                .values()
                .filter(|s| uid.as_ref().is_none_or(|u| s.uid == *u));
            Ok(found
                .map(|s| Sandbox {
                    network: None,
                    ips: Vec::new(),
                    ..s.clone()
                })
                .collect())
        })
        .await
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: &ContainerConfig,
        sandbox: &SandboxConfig,
    ) -> Result<String> {
        let owner = (PodUid::from(&*sandbox.uid), config.name.clone());
        let what = format!("CreateContainer {}/{}#{}", owner.0, owner.1, config.attempt);
        {
            let mut state = self.0.lock();
            state.rule_begin(&owner.0, "CreateContainer");
            if !state.machine.creating.insert(owner.clone()) {
                state.violation(format!("{what} while another one is under way"));
            }
        }
        let _under_way = Creating { world: &self.0, owner };
        let (id, config, logs) = (sandbox_id.to_owned(), config.clone(), sandbox.log_directory.clone());
        self.call(what, move |s| s.create(&id, &config, &logs)).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let owner = self.0.lock().machine.containers.get(id).map(|c| c.it.uid.clone());
        if let Some(owner) = owner {
            self.0.lock().rule_begin(&owner, "StartContainer");
        }
        let id = id.to_owned();
        self.call(format!("StartContainer {id}"), move |s| s.start(&id)).await
    }

    async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        let container = id.to_owned();
        let ends = self
            .call(
                format!("StopContainer {id}"),
                move |s| Ok(s.signal(&container, timeout)),
            )
            .await?;
        if let Some(at) = ends {
            tokio::time::sleep_until(clock::instant(at)).await;
            // The world's own turn comes first.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.call(format!("RemoveContainer {id}"), move |s| {
            s.remove_container(&id);
            Ok(())
        })
        .await
    }

    async fn container(&self, id: &str) -> Result<Container> {
        let id = id.to_owned();
        self.call(format!("ContainerStatus {id}"), move |s| {
            let found = s.machine.containers.get(&id).map(|c| c.it.clone());
            found.ok_or_else(|| Error::not_found(format!("no container {id}")))
        })
        .await
    }

    async fn containers(&self, uid: Option<&PodUid>) -> Result<Vec<Container>> {
        let uid = uid.cloned();
        self.call("ListContainers".into(), move |s| {
            let found = s
                .machine
                .containers
                .values()
                .filter(|c| uid.as_ref().is_none_or(|u| c.it.uid == *u));
            let listed = |c: &Instance| Container {
                started_at: None,
                finished_at: None,
                exit_code: 0,
                reason: String::new(),
                mounts: Vec::new(),
                log_path: String::new(),
                ..c.it.clone()
            };
            Ok(found.map(listed).collect())
        })
        .await
    }

    async fn update_container(&self, id: &str, _resources: &LinuxResources) -> Result<()> {
        self.call(format!("UpdateContainerResources {id}"), |_| Ok(())).await
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        self.call(format!("ReopenContainerLog {id}"), |_| Ok(())).await
    }

    async fn exec_sync(&self, id: &str, _argv: &[String], _timeout: Option<Duration>) -> Result<ExecOutput> {
        self.call(format!("ExecSync {id}"), |_| Ok(ExecOutput::default())).await
    }

    async fn images(&self) -> Result<Vec<Image>> {
        self.call("ListImages".into(), |s| {
            Ok(s.machine.images.iter().map(|id| image(id)).collect())
        })
        .await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let id = image_id(reference);
        self.call(format!("ImageStatus {reference}"), move |s| {
            Ok(s.machine.images.get(&id).map(|id| image(id)))
        })
        .await
    }

    async fn pull_image(
        &self,
        reference: &str,
        _auth: Option<&RegistryAuth>,
        _sandbox: Option<&SandboxConfig>,
    ) -> Result<String> {
        let id = image_id(reference);
        let takes = self.0.lock().up_to(1500);
        tokio::time::sleep(Duration::from_millis(takes)).await;
        self.call(format!("PullImage {reference}"), move |s| {
            s.machine.images.insert(id.clone());
            Ok(id)
        })
        .await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let id = image_id(reference);
        self.call(format!("RemoveImage {reference}"), move |s| {
            s.machine.images.remove(&id);
            Ok(())
        })
        .await
    }

    async fn image_filesystems(&self) -> Result<ImageFilesystems> {
        Ok(ImageFilesystems::default())
    }

    async fn container_stats(&self) -> Result<Vec<Counted>> {
        Ok(Vec::new())
    }

    async fn hints(&self) -> Result<BoxStream<'static, Hint>> {
        if self.0.lock().faults.no_hints {
            return Err(Error::new(Class::Unimplemented, "no events here"));
        }
        self.call("GetContainerEvents".into(), |s| {
            let (listener, stream) = unbounded();
            s.machine.hints = Some(listener);
            Ok(stream.boxed())
        })
        .await
    }
}

/// The agent no longer waits for a creation, one way or the other.
struct Creating<'a> {
    world: &'a World,
    owner: (PodUid, String),
}

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        self.world.lock().machine.creating.remove(&self.owner);
    }
}

fn image_id(reference: &str) -> String {
    if reference.starts_with("sha256:") {
        reference.to_owned()
    } else {
        format!("sha256:{reference}")
    }
}

fn image(id: &str) -> Image {
    let name = id.trim_start_matches("sha256:").to_owned();
    Image {
        id: id.to_owned(),
        repo_tags: vec![name],
        size: 1000,
        ..Image::default()
    }
}
