//! What the node's HTTPS server is answered: pods, logs, and the runtime's addresses for streams into containers.
//!
//! No task of its own. In: the pod sources, the statuses, the runtime. Out: [`witlet_ports::serve::Node`].

mod follow;
mod resources;
mod tail;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use tokio::sync::watch;
use witlet_core::desired::{containers, is_mirror, key, uid};
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::logs::{self, LogOptions};
use witlet_core::observed::{Container, ContainerState, SandboxState};
use witlet_ports::policy::{Access, Verb};
use witlet_ports::runtime::Streams;
use witlet_ports::serve::{Check, ContainerRef, MetricsOf, Node};
use witlet_ports::sink::Family;
use witlet_ports::source::PodSet;
use witlet_ports::{Class, Error, Result};

use crate::context::Context;
use crate::metrics;
use crate::stats::Stats;

/// The agent as its server sees it.
pub struct NodeService {
    pub(crate) context: Arc<Context>,
    pub(crate) api: watch::Receiver<PodSet>,
    pub(crate) files: watch::Receiver<PodSet>,
    pub(crate) families: Arc<dyn Fn() -> Vec<Family> + Send + Sync>,
    pub(crate) stats: Stats,
}

impl NodeService {
    fn find(&self, wanted: &PodKey) -> Option<Arc<Pod>> {
        let is = |pod: &&Arc<Pod>| !is_mirror(pod) && key(pod) == *wanted;
        // A static pod first: of an API pod of the same name nothing runs.
        let file = self.files.borrow().pods.values().find(is).cloned();
        file.or_else(|| self.api.borrow().pods.values().find(is).cloned())
    }

    /// What the agent knows of the pod now; the API may be behind.
    fn status(&self, pod: &Pod) -> Arc<PodStatus> {
        let known = self.context.status.latest(&uid(pod));
        known.unwrap_or_else(|| Arc::new(pod.status.clone().unwrap_or_default()))
    }

    /// Asks the policies whether somebody may get into the pod.
    async fn let_in(&self, pod: &Arc<Pod>, access: Access) -> Result<()> {
        let review = self.context.ports.policies.access(pod, &access).await?;
        for warning in review.warnings {
            self.context.event(pod, true, "PolicyWarning", warning);
        }
        match review.denied {
            Some(denied) => Err(Error::denied(denied.message)),
            None => Ok(()),
        }
    }

    fn pod_of(&self, container: &ContainerRef) -> Result<Arc<Pod>> {
        self.find(&container.pod)
            .ok_or_else(|| Error::not_found("pod does not exist"))
    }

    /// The running container, or none.
    async fn running(&self, pod: &Pod, container: &ContainerRef) -> Result<Option<Container>> {
        let uid = uid(pod);
        if container.uid.as_ref().is_some_and(|wanted| !self.is_uid(wanted, &uid)) {
            return Ok(None);
        }
        let mut all = self.context.ports.runtime.containers(Some(&uid)).await?;
        all.retain(|c| c.name == container.container && c.state == ContainerState::Running);
        Ok(all.into_iter().max_by_key(|c| c.created_at))
    }

    /// Whether `wanted` means the pod `uid`: its own UID, or that of its mirror.
    fn is_uid(&self, wanted: &PodUid, uid: &PodUid) -> bool {
        wanted == uid || crate::mirrors::stands_for(&self.api.borrow(), wanted, uid)
    }
}

fn not_found(container: &ContainerRef) -> Error {
    Error::terminal(format!("container not found ({:?})", container.container))
}

fn access(verb: Verb, container: &ContainerRef, command: &[String], streams: Streams) -> Access {
    Access {
        verb,
        container: container.container.clone(),
        command: command.to_vec(),
        stdin: streams.stdin,
        tty: streams.tty,
        ports: Vec::new(),
    }
}

fn spec_of<'a>(pod: &'a Pod, name: &str) -> Option<std::borrow::Cow<'a, ContainerSpec>> {
    containers(pod.spec.as_ref()?).map(|(_, c)| c).find(|c| c.name == name)
}

#[async_trait]
impl Node for NodeService {
    fn pods(&self) -> Vec<Arc<Pod>> {
        let api = self.api.borrow().pods.clone();
        let files = self.files.borrow().pods.clone();
        let own = files.values().map(|pod| {
            let mut pod = (**pod).clone();
            pod.status = Some((*self.status(&pod)).clone());
            Arc::new(pod)
        });
        api.values().filter(|p| !is_mirror(p)).cloned().chain(own).collect()
    }

    fn pod(&self, key: &PodKey) -> Option<Arc<Pod>> {
        self.find(key)
    }

    async fn running_pods(&self) -> Result<Vec<Pod>> {
        let runtime = &self.context.ports.runtime;
        let (sandboxes, containers) = futures::try_join!(runtime.sandboxes(None), runtime.containers(None))?;
        let mut pods = std::collections::BTreeMap::new();
        for sandbox in sandboxes.into_iter().filter(|s| s.state == SandboxState::Ready) {
            pods.insert(sandbox.uid.clone(), running_pod(&sandbox.uid, &sandbox.pod));
        }
        for c in containers.into_iter().filter(|c| c.state == ContainerState::Running) {
            if let Some(spec) = pods.get_mut(&c.uid).and_then(|p| p.spec.as_mut()) {
                spec.containers.push(ContainerSpec {
                    name: c.name,
                    image: Some(c.image_ref),
                    ..Default::default()
                });
            }
        }
        Ok(pods.into_values().collect())
    }

    async fn logs(&self, container: &ContainerRef, options: LogOptions) -> Result<BoxStream<'static, Bytes>> {
        let name = &container.pod.name;
        let pod = self
            .find(&container.pod)
            .ok_or_else(|| Error::not_found(format!("pod {name:?} does not exist")))?;
        if spec_of(&pod, &container.container).is_none() {
            let text = format!("container {:?} not found in pod {name:?}", container.container);
            return Err(Error::not_found(text));
        }
        let status = self.status(&pod);
        let full_id = logs::select(name, &status, &container.container, options.previous).map_err(Error::terminal)?;
        let id = full_id.split_once("://").map_or(full_id, |(_, id)| id);
        let runtime = self.context.ports.runtime.clone();
        let found = runtime
            .container(id)
            .await
            .map_err(|e| Error::terminal(format!("unable to retrieve container logs for {full_id}")).with_source(e))?;
        let alive = follow::runs(runtime, found.id);
        Ok(follow::stream(alive, PathBuf::from(found.log_path), options))
    }

    async fn run(&self, container: &ContainerRef, command: &[String]) -> Result<Vec<u8>> {
        let pod = self.pod_of(container)?;
        let found = self.running(&pod, container).await?;
        let found = found.ok_or_else(|| not_found(container))?;
        let access = access(Verb::Exec, container, command, Streams::default());
        self.let_in(&pod, access).await?;
        let output = self.context.ports.runtime.exec_sync(&found.id, command, None).await?;
        if output.exit_code != 0 {
            let (said, line) = (String::from_utf8_lossy(&output.stderr), command.join(" "));
            let text = format!("command '{line}' exited with {}: {said}", output.exit_code);
            return Err(Error::terminal(text));
        }
        Ok([output.stdout, output.stderr].concat())
    }

    async fn exec(&self, container: &ContainerRef, command: &[String], streams: Streams) -> Result<String> {
        let pod = self.pod_of(container)?;
        let found = self.running(&pod, container).await.map_err(inside)?;
        let found = found.ok_or_else(|| not_found(container))?;
        self.let_in(&pod, access(Verb::Exec, container, command, streams))
            .await?;
        self.context.ports.runtime.exec(&found.id, command, streams).await
    }

    async fn attach(&self, container: &ContainerRef, streams: Streams) -> Result<(String, Streams)> {
        let pod = self.pod_of(container)?;
        let found = self.running(&pod, container).await.map_err(inside)?;
        let (Some(found), Some(spec)) = (found, spec_of(&pod, &container.container)) else {
            let PodKey { namespace, name } = &container.pod;
            let text = format!("container {} not found in pod {name}_{namespace}", container.container);
            return Err(Error::terminal(text));
        };
        let tty = spec.tty == Some(true);
        let streams = Streams {
            stderr: streams.stderr && !tty,
            tty,
            ..streams
        };
        self.let_in(&pod, access(Verb::Attach, container, &[], streams)).await?;
        let url = self.context.ports.runtime.attach(&found.id, streams).await?;
        Ok((url, streams))
    }

    async fn port_forward(&self, wanted: &PodKey, ports: &[u16]) -> Result<String> {
        let pod = self
            .find(wanted)
            .ok_or_else(|| Error::not_found("pod does not exist"))?;
        let runtime = &self.context.ports.runtime;
        let sandboxes = runtime.sandboxes(Some(&uid(&pod))).await.map_err(inside)?;
        let ready = sandboxes.into_iter().filter(|s| s.state == SandboxState::Ready);
        let newest = ready.max_by_key(|s| (s.attempt, s.created_at));
        let PodKey { namespace, name } = wanted;
        let newest = newest.ok_or_else(|| Error::terminal(format!("pod not found (\"{name}_{namespace}\")")))?;
        let access = Access {
            verb: Verb::PortForward,
            container: String::new(),
            command: Vec::new(),
            stdin: false,
            tty: false,
            ports: ports.to_vec(),
        };
        self.let_in(&pod, access).await?;
        runtime.port_forward(&newest.id, ports).await
    }

    async fn checkpoint(&self, container: &ContainerRef, timeout: Option<Duration>) -> Result<PathBuf> {
        let pod = self.pod_of(container)?;
        if spec_of(&pod, &container.container).is_none() {
            return Err(Error::not_found(format!(
                "container {} does not exist",
                container.container
            )));
        }
        let found = self.running(&pod, container).await.map_err(inside)?;
        let found = found.ok_or_else(|| not_found(container))?;
        let PodKey { namespace, name } = &container.pod;
        let now = crate::clock::now();
        let file = format!("checkpoint-{name}_{namespace}-{}-{now:.0}.tar", container.container);
        let path = self.context.node.root_dir.join("checkpoints").join(file);
        let timeout = timeout.unwrap_or_default();
        self.context.ports.runtime.checkpoint(&found.id, &path, timeout).await?;
        Ok(path)
    }

    fn health(&self) -> Vec<Check> {
        let fine = |name| Check { name, problem: None };
        let syncloop = Check {
            name: "syncloop",
            problem: self.context.sync_loop.problem(),
        };
        let devices = Check {
            name: "device-plugin",
            problem: self.context.devices.problem(),
        };
        vec![fine("ping"), fine("log"), syncloop, devices]
    }

    async fn metrics(&self, of: MetricsOf) -> Result<String> {
        match of {
            MetricsOf::Agent => {
                self.stats.refresh().await;
                Ok(metrics::text(&(self.families)()))
            }
            MetricsOf::Containers => Ok(self.stats.cadvisor_metrics().await),
            MetricsOf::Resource => Ok(self.stats.resource_metrics().await),
            MetricsOf::Probes => Ok(self.stats.probe_metrics().await),
        }
    }

    async fn summary(&self, only_cpu_and_memory: bool) -> Result<Value> {
        let summary = self.stats.summary(only_cpu_and_memory).await?;
        serde_json::to_value(summary)
            .map_err(|e| Error::new(Class::Bug, "what pods use cannot be written as JSON").with_source(e))
    }
}

/// What the runtime does not find while the agent looks for a container is not what the client asked for.
fn inside(error: Error) -> Error {
    Error::terminal(error.message.clone()).with_source(error)
}

/// As far as the runtime knows a pod.
fn running_pod(uid: &PodUid, key: &PodKey) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: Some(uid.as_str().to_owned()),
            ..Default::default()
        },
        spec: Some(PodSpec::default()),
        status: None,
    }
}
