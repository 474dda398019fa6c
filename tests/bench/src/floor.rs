//! The same pods by direct calls to the container runtime: what no node agent can beat.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use witlet_core::runtime::{ContainerConfig, DnsConfig, LinuxResources, SandboxConfig};
use witlet_cri::{Config, Cri};
use witlet_lab::{Lab, PAUSE};
use witlet_ports::runtime::Runtime;

use crate::stats::Samples;

pub(crate) struct Floor {
    cri: Cri,
    logs: PathBuf,
    cgroup: String,
    /// How long sandboxes took, their networks included.
    sandboxes: Mutex<Samples>,
}

pub(crate) struct Burst {
    pub(crate) all_ready: Duration,
    pub(crate) all_gone: Duration,
}

impl Floor {
    pub(crate) async fn new(lab: &Lab) -> Result<Self> {
        let cri = witlet_cri::connect(Config::new(lab.names().runtime_endpoint())).await?;
        Ok(Self {
            cri,
            logs: lab.dir().join("logs"),
            cgroup: lab.cgroup_root(),
            sandboxes: Mutex::default(),
        })
    }

    /// What sandboxes took since the last time they were taken.
    pub(crate) fn take_sandboxes(&self) -> Samples {
        std::mem::take(&mut *self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// So many pods, so many of them at the same time.
    pub(crate) async fn burst(&self, prefix: &str, count: usize, concurrency: usize) -> Result<Burst> {
        let start = Instant::now();
        let started = futures::stream::iter(0..count).map(|i| self.start(format!("{prefix}{i}")));
        let pods: Vec<(String, String)> = started.buffered(concurrency).try_collect().await?;
        let all_ready = start.elapsed();
        let start = Instant::now();
        let stopped = futures::stream::iter(pods).map(|(sandbox, container)| self.stop(sandbox, container));
        stopped.buffer_unordered(concurrency).try_collect::<Vec<()>>().await?;
        Ok(Burst {
            all_ready,
            all_gone: start.elapsed(),
        })
    }

    /// The calls of a start, in their order.
    async fn start(&self, name: String) -> Result<(String, String)> {
        let sandbox = self.sandbox(&name);
        fs::create_dir_all(PathBuf::from(&sandbox.log_directory).join("main"))?;
        let begun = Instant::now();
        let id = self.cri.run_sandbox(&sandbox, "").await?;
        self.sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(begun.elapsed());
        self.cri.sandbox(&id).await?;
        self.cri.image(PAUSE).await?;
        let container = self.cri.create_container(&id, &container(&name), &sandbox).await?;
        self.cri.start_container(&container).await?;
        self.cri.container(&container).await?;
        Ok((id, container))
    }

    /// And of an end.
    async fn stop(&self, sandbox: String, container: String) -> Result<()> {
        self.cri.stop_container(&container, Duration::from_secs(5)).await?;
        self.cri.stop_sandbox(&sandbox).await?;
        self.cri.container(&container).await?;
        self.cri.remove_container(&container).await?;
        self.cri.remove_sandbox(&sandbox).await?;
        Ok(())
    }

    fn sandbox(&self, name: &str) -> SandboxConfig {
        SandboxConfig {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            uid: format!("uid-{name}"),
            hostname: name.to_owned(),
            log_directory: self.logs.join(name).display().to_string(),
            dns: Some(DnsConfig {
                servers: vec!["127.0.0.1".to_owned()],
                ..DnsConfig::default()
            }),
            labels: labels(name),
            cgroup_parent: format!("{}/{name}", self.cgroup),
            ..SandboxConfig::default()
        }
    }
}

fn container(name: &str) -> ContainerConfig {
    ContainerConfig {
        name: "main".to_owned(),
        image: PAUSE.to_owned(),
        user_specified_image: PAUSE.to_owned(),
        labels: labels(name),
        log_path: "main/0.log".to_owned(),
        resources: LinuxResources {
            cpu_shares: 2,
            oom_score_adj: 1000,
            ..LinuxResources::default()
        },
        ..ContainerConfig::default()
    }
}

fn labels(name: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("io.kubernetes.pod.name", name),
        ("io.kubernetes.pod.namespace", "default"),
        ("io.kubernetes.pod.uid", &format!("uid-{name}")),
        ("io.kubernetes.container.name", "main"),
    ];
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
