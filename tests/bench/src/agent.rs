//! Pods through the agent's API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use witlet_lab::{Agent, DEMO_WEB, PAUSE};

use crate::stats::Samples;

/// For everything to come up or go away.
const PATIENCE: Duration = Duration::from_secs(300);

/// When a pod was first seen Ready, and when it was gone.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    ready: Option<Instant>,
    gone: Option<Instant>,
}

pub(crate) struct Node {
    agent: Agent,
    /// To the API that kubectl talks to.
    pub(crate) api: Client,
    /// To the node's own HTTPS server.
    pub(crate) server: Client,
    pub(crate) pods: Api<Pod>,
    seen: watch::Receiver<Arc<BTreeMap<String, Seen>>>,
}

/// From the first creation, and from the first deletion.
pub(crate) struct Burst {
    pub(crate) all_ready: Duration,
    pub(crate) each_ready: Samples,
    pub(crate) all_gone: Duration,
    /// With all of them up.
    pub(crate) rss: u64,
}

pub(crate) struct Use {
    /// Of one processor.
    pub(crate) cpu_percent: f64,
    pub(crate) rss: u64,
}

pub(crate) struct Started {
    pub(crate) names: Vec<String>,
    all_ready: Duration,
    each_ready: Samples,
}

/// What a pod is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Make {
    /// One container that ends at once when told to.
    Idle,
    /// A web server that is asked each second whether it is ready, and logs it.
    Probed,
}

impl Node {
    pub(crate) async fn new(agent: Agent) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(&agent.endpoints.kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let mut server = config.clone();
        server.cluster_url = agent.endpoints.server.parse()?;
        // Its certificate is the node's own; the client is the one that has to prove who it is.
        server.accept_invalid_certs = true;
        let (api, server) = (Client::try_from(config)?, Client::try_from(server)?);
        let pods: Api<Pod> = Api::namespaced(api.clone(), "default");
        let (send, seen) = watch::channel(Arc::default());
        tokio::spawn(follow(pods.clone(), send));
        Ok(Self {
            agent,
            api,
            server,
            pods,
            seen,
        })
    }

    pub(crate) fn usage(&self) -> Result<(Duration, u64)> {
        self.agent.usage()
    }

    /// What the agent uses over this time, while nobody asks anything of it.
    pub(crate) async fn over(&self, time: Duration) -> Result<Use> {
        let (before, _) = self.usage()?;
        tokio::time::sleep(time).await;
        let (after, rss) = self.usage()?;
        Ok(Use {
            cpu_percent: 100.0 * (after - before).as_secs_f64() / time.as_secs_f64(),
            rss,
        })
    }

    /// Of the lab: where logs and state lie.
    pub(crate) fn logs(&self) -> PathBuf {
        self.agent.log().with_file_name("logs")
    }

    pub(crate) fn metrics(&self) -> Result<String> {
        Ok(self.agent.get("/metrics")?.1)
    }

    /// So many pods at once, and away again.
    pub(crate) async fn burst(&self, prefix: &str, count: usize) -> Result<Burst> {
        let started = self.start(prefix, count, Make::Idle).await?;
        let (_, rss) = self.usage()?;
        let (all_ready, each_ready) = (started.all_ready, started.each_ready.clone());
        let all_gone = self.finish(started).await?;
        Ok(Burst {
            all_ready,
            each_ready,
            all_gone,
            rss,
        })
    }

    /// Creates them and waits until all are Ready.
    pub(crate) async fn start(&self, prefix: &str, count: usize, make: Make) -> Result<Started> {
        let names: Vec<String> = (0..count).map(|i| format!("{prefix}{i}")).collect();
        let start = Instant::now();
        let create = |name: &String| {
            let pod = pod(name, make);
            async move {
                let created = Instant::now();
                self.pods
                    .create(&PostParams::default(), &pod?)
                    .await
                    .map_err(anyhow::Error::from)
                    .map(|_| created)
            }
        };
        let created: Vec<Instant> = futures::stream::iter(&names)
            .map(create)
            .buffered(16)
            .try_collect()
            .await?;
        let seen = self
            .wait(&names, |seen| seen.ready)
            .await
            .context("not all pods became Ready")?;
        let mut each_ready = Samples::default();
        for (created, ready) in created.iter().zip(&seen) {
            each_ready.add(ready.saturating_duration_since(*created));
        }
        let all_ready = seen
            .iter()
            .max()
            .map_or(Duration::ZERO, |last| last.saturating_duration_since(start));
        Ok(Started {
            names,
            all_ready,
            each_ready,
        })
    }

    /// Deletes them and waits until they are gone from the API.
    pub(crate) async fn finish(&self, started: Started) -> Result<Duration> {
        let start = Instant::now();
        let delete = |name: String| async move {
            self.pods
                .delete(&name, &DeleteParams::default())
                .await
                .map_err(anyhow::Error::from)
                .map(drop)
        };
        let names = started.names;
        futures::stream::iter(names.clone())
            .map(delete)
            .buffer_unordered(16)
            .try_collect::<Vec<()>>()
            .await?;
        let seen = self
            .wait(&names, |seen| seen.gone)
            .await
            .context("not all pods went away")?;
        Ok(seen
            .iter()
            .max()
            .map_or(Duration::ZERO, |last| last.saturating_duration_since(start)))
    }

    async fn wait(&self, names: &[String], see: impl Fn(&Seen) -> Option<Instant>) -> Result<Vec<Instant>> {
        let mut seen = self.seen.clone();
        let all =
            |map: &Arc<BTreeMap<String, Seen>>| names.iter().all(|n| map.get(n).is_some_and(|s| see(s).is_some()));
        let map = tokio::time::timeout(PATIENCE, seen.wait_for(all))
            .await
            .context("time is up")??
            .clone();
        Ok(names.iter().filter_map(|n| map.get(n).and_then(&see)).collect())
    }
}

/// Notes when what happens, from a watch: polling would cost the node more than the pods do.
async fn follow(pods: Api<Pod>, send: watch::Sender<Arc<BTreeMap<String, Seen>>>) {
    let mut version = match pods.list(&ListParams::default()).await {
        Ok(list) => list.metadata.resource_version.unwrap_or_default(),
        Err(_) => "0".to_owned(),
    };
    while !send.is_closed() {
        let Ok(stream) = pods.watch(&WatchParams::default(), &version).await else {
            continue;
        };
        let mut stream = std::pin::pin!(stream);
        while let Some(Ok(event)) = stream.next().await {
            let now = Instant::now();
            let note = |pod: &Pod, gone: bool| {
                send.send_modify(|map| {
                    let seen = Arc::make_mut(map).entry(pod.name_any()).or_default();
                    if gone {
                        seen.gone.get_or_insert(now);
                    } else if is_ready(pod) {
                        seen.ready.get_or_insert(now);
                    }
                });
            };
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    version = pod.resource_version().unwrap_or(version);
                    note(&pod, false);
                }
                WatchEvent::Deleted(pod) => {
                    version = pod.resource_version().unwrap_or(version);
                    note(&pod, true);
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(_) => break,
            }
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

fn pod(name: &str, make: Make) -> Result<Pod> {
    let container: Value = match make {
        Make::Idle => json!({ "name": "main", "image": PAUSE }),
        Make::Probed => json!({
            "name": "main",
            "image": DEMO_WEB,
            "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 },
        }),
    };
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": false,
            "containers": [container],
        },
    }))?)
}
