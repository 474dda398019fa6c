//! The node that all scenarios share, and the view one scenario has of it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::future::Future;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use witlet_lab::{Agent, Containerd, Lab};

/// For a pod that has everything it needs to come up on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// For what happens at the end of one of the node's periods.
pub(crate) const LATE: Duration = Duration::from_secs(150);

pub(crate) struct World {
    pub(crate) witlet: PathBuf,
    /// Where the tests are built.
    pub(crate) target: PathBuf,
    // Before the lab: fields are dropped in this order.
    agent: Mutex<Agent>,
    containerd: Mutex<Containerd>,
    pub(crate) lab: Lab,
}

impl World {
    /// Starts everything and waits for the node.
    pub(crate) fn new() -> Result<Self> {
        let (target, witlet, cni) = programs()?;
        let images = witlet_lab::build_archive(&target)?;
        let lab = Lab::new()?;
        lab.link_cni("witlet-cni", &cni)?;
        let containerd = lab.containerd()?;
        containerd.import(&images)?;
        lab.write_agent_config(
            "[metrics]\npush_interval = \"1s\"\n[logs]\nmax_size = \"1MiB\"\nmax_files = 3\ninterval = \"3s\"\n[stats]\nvolumes = \"5s\"\n",
        )?;
        let url = serve_file(lab.dir().join(STATIC_DOCUMENT))?;
        let drop_ins = lab.dir().join("conf.d");
        fs::create_dir_all(&drop_ins)?;
        let text = format!("[static_pods]\nurl = \"{url}\"\nurl_poll = \"1s\"\n");
        fs::write(drop_ins.join("static-url.toml"), text)?;
        let agent = lab.agent(&witlet)?;
        Ok(Self {
            witlet,
            target,
            agent: Mutex::new(agent),
            containerd: Mutex::new(containerd),
            lab,
        })
    }

    /// May block for as long as the agent takes to start or to end: scenarios that use it run alone.
    pub(crate) fn agent<T>(&self, act: impl FnOnce(&mut Agent) -> Result<T>) -> Result<T> {
        tokio::task::block_in_place(|| act(&mut self.agent.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The same for containerd.
    pub(crate) fn containerd<T>(&self, act: impl FnOnce(&mut Containerd) -> Result<T>) -> Result<T> {
        tokio::task::block_in_place(|| act(&mut self.containerd.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What the node's `static_pods.url` shows.
    pub(crate) fn static_document(&self) -> PathBuf {
        self.lab.dir().join(STATIC_DOCUMENT)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.agent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .endpoints
            .kubeconfig
            .clone()
    }

    /// `https://…` of the node's own server.
    pub(crate) fn server(&self) -> String {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        agent.endpoints.server.clone()
    }

    /// Made anew each time: after a restart the agent listens elsewhere.
    pub(crate) async fn client(&self) -> Result<Client> {
        let file = self.kubeconfig();
        let kubeconfig = Kubeconfig::read_from(&file).with_context(|| format!("read {}", file.display()))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// The agent's log since the beginning.
    pub(crate) fn agent_log(&self) -> String {
        let path = self.lab.dir().join("witlet.log");
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    pub(crate) fn close(self) -> Result<()> {
        // The agent ends in order before its containerd is taken away.
        let ended = self.agent.into_inner().unwrap_or_else(PoisonError::into_inner).stop();
        self.lab.close()?;
        let status = ended.context("the agent does not end on SIGTERM")?;
        ensure!(status.success(), "on SIGTERM the agent ended with {status}");
        Ok(())
    }
}

const STATIC_DOCUMENT: &str = "static-url";

/// Serves a file, empty at first, to whoever asks, for as long as the process lives.
fn serve_file(file: PathBuf) -> Result<String> {
    fs::write(&file, "")?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let body = fs::read_to_string(&file).unwrap_or_default();
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    Ok(url)
}

/// The target directory and the two programs.
fn programs() -> Result<(PathBuf, PathBuf, PathBuf)> {
    // target/debug/deps/e2e-0123456789abcdef
    let own = std::env::current_exe()?;
    let profile = own.parent().and_then(Path::parent).context("where am I?")?.to_owned();
    let target = profile.parent().context("where am I?")?.to_owned();
    let find = |variable: &str, name: &str| {
        let path = std::env::var_os(variable).map_or_else(|| profile.join(name), PathBuf::from);
        ensure!(path.exists(), "{} is not built; run `cargo xtask test`", path.display());
        Ok(path)
    };
    let (witlet, cni) = (find("WITLET_BIN", "witlet")?, find("WITLET_CNI_BIN", "witlet-cni")?);
    Ok((target, witlet, cni))
}

/// One scenario's part of the node.
#[derive(Clone)]
pub(crate) struct Ctx {
    pub(crate) world: Arc<World>,
    pub(crate) ns: String,
}

impl Ctx {
    /// Makes the namespace.
    pub(crate) async fn new(world: Arc<World>, name: &str) -> Result<Self> {
        let name = name.rsplit("::").next().unwrap_or(name).replace('_', "-");
        let ns = name.get(..40).unwrap_or(&name).trim_end_matches('-').to_owned();
        let namespaces: Api<Namespace> = Api::all(world.client().await?);
        let namespace = serde_json::from_value(json!({ "metadata": { "name": ns } }))?;
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .context("create a namespace")?;
        let ctx = Self { world, ns };
        fs::create_dir_all(ctx.scratch())?;
        Ok(ctx)
    }

    /// A directory on the node for this scenario's hostPath volumes.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.world.lab.dir().join("scratch").join(&self.ns)
    }

    pub(crate) async fn pods(&self) -> Result<Api<Pod>> {
        Ok(Api::namespaced(self.world.client().await?, &self.ns))
    }

    pub(crate) async fn create(&self, pod: &Value) -> Result<Pod> {
        let pod: Pod = serde_json::from_value(pod.clone()).context("the pod of the test itself is malformed")?;
        let created = self.pods().await?.create(&PostParams::default(), &pod).await;
        created.context("create the pod")
    }

    pub(crate) async fn config_map(&self, name: &str, data: &Value) -> Result<()> {
        let api: Api<ConfigMap> = Api::namespaced(self.world.client().await?, &self.ns);
        let object = serde_json::from_value(json!({ "metadata": { "name": name }, "data": data }))?;
        api.create(&PostParams::default(), &object)
            .await
            .context("create the configMap")?;
        Ok(())
    }

    pub(crate) async fn secret(&self, name: &str, data: &Value) -> Result<()> {
        let api: Api<Secret> = Api::namespaced(self.world.client().await?, &self.ns);
        let object = serde_json::from_value(json!({ "metadata": { "name": name }, "stringData": data }))?;
        api.create(&PostParams::default(), &object)
            .await
            .context("create the secret")?;
        Ok(())
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        self.pods()
            .await?
            .delete(name, &DeleteParams::default())
            .await
            .with_context(|| format!("delete {name}"))?;
        Ok(())
    }

    /// Until `see` has something to say about the pod.
    pub(crate) async fn wait<T>(
        &self,
        name: &str,
        what: &str,
        timeout: Duration,
        see: impl Fn(&Pod) -> Option<T>,
    ) -> Result<T> {
        let api = self.pods().await?;
        let see = &see;
        eventually(&format!("pod {name}: {what}"), timeout, || async {
            let pod = api.get_opt(name).await?;
            Ok(pod.as_ref().and_then(see))
        })
        .await
    }

    pub(crate) async fn wait_phase(&self, name: &str, phase: &str) -> Result<Pod> {
        self.wait(name, phase, SOON, |pod| (pod.phase() == phase).then(|| pod.clone()))
            .await
    }

    pub(crate) async fn wait_ready(&self, name: &str) -> Result<Pod> {
        self.wait(name, "Ready", SOON, |pod| pod.condition("Ready").then(|| pod.clone()))
            .await
    }

    pub(crate) async fn wait_gone(&self, name: &str) -> Result<()> {
        let api = self.pods().await?;
        eventually(&format!("pod {name} to be gone"), SOON, || async {
            Ok(api.get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    /// A container's whole log, every attempt's.
    pub(crate) fn log(&self, pod: &Pod, container: &str) -> Result<String> {
        let dir = format!("{}_{}_{}", self.ns, pod.name_any(), pod.uid().unwrap_or_default());
        let dir = self.world.lab.dir().join("logs").join(dir).join(container);
        let mut files: Vec<PathBuf> = fs::read_dir(&dir)
            .with_context(|| format!("no logs in {}", dir.display()))?
            .flatten()
            .map(|e| e.path())
            .collect();
        files.sort();
        let mut text = String::new();
        for file in files {
            // Time, stream and tag precede each line.
            let lines = fs::read_to_string(file)?;
            text.extend(
                lines
                    .lines()
                    .filter_map(|l| l.splitn(4, ' ').nth(3))
                    .flat_map(|l| [l, "\n"]),
            );
        }
        Ok(text)
    }

    /// Events about one of this scenario's objects.
    pub(crate) async fn events(&self, object: &str) -> Result<Vec<Event>> {
        let api: Api<Event> = Api::namespaced(self.world.client().await?, &self.ns);
        let list = api.list(&ListParams::default()).await?;
        Ok(list
            .items
            .into_iter()
            .filter(|e| e.involved_object.name.as_deref() == Some(object))
            .collect())
    }

    /// An event with that reason, and its message.
    pub(crate) async fn wait_event(&self, object: &str, reason: &str) -> Result<String> {
        self.wait_event_that(object, reason, "").await
    }

    /// The same, of those whose message contains `words`.
    pub(crate) async fn wait_event_that(&self, object: &str, reason: &str, words: &str) -> Result<String> {
        eventually(&format!("an event {reason} {words:?} about {object}"), SOON, || async {
            let events = self.events(object).await?;
            let mut messages = events
                .into_iter()
                .filter(|e| e.reason.as_deref() == Some(reason))
                .filter_map(|e| e.message);
            Ok(messages.find(|m| m.contains(words)))
        })
        .await
    }

    /// Deletes the scenario's pods and waits until the node let go of them.
    pub(crate) async fn clean_up(&self) -> Result<()> {
        let pods = self.pods().await?;
        for pod in pods.list(&ListParams::default()).await? {
            // Static pods go with their file.
            if pod.annotations().contains_key("kubernetes.io/config.mirror") {
                continue;
            }
            let delete = pods
                .delete(&pod.name_any(), &DeleteParams::default().grace_period(1))
                .await;
            if let Err(error) = delete
                && !matches!(&error, kube::Error::Api(status) if status.code == 404)
            {
                return Err(error.into());
            }
        }
        eventually("all pods to be gone", SOON, || async {
            let left = pods.list(&ListParams::default()).await?;
            Ok(left.items.is_empty().then_some(()))
        })
        .await
    }

    /// For the report of a failure.
    pub(crate) async fn what_is(&self) -> String {
        let mut text = format!("scenario in namespace {}", self.ns);
        if let Ok(pods) = self.pods().await
            && let Ok(list) = pods.list(&ListParams::default()).await
        {
            for pod in list.items.iter().take(3) {
                let status = serde_json::to_string(&pod.status).unwrap_or_default();
                text.push_str(&format!("\n    {}: {status}", pod.name_any()));
            }
        }
        let log = self.world.agent_log();
        let lines: Vec<&str> = log.lines().filter(|l| l.contains(&self.ns)).collect();
        for line in &lines[lines.len().saturating_sub(12)..] {
            text.push_str(&format!("\n    | {line}"));
        }
        text.push_str("\n    ");
        text
    }
}

/// Polls until there is something; an error counts as nothing until time is up.
pub(crate) async fn eventually<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    timeout: Duration,
    probe: impl Fn() -> F,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match probe().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() > timeout {
            let error = anyhow!("{what}: not within {timeout:?}");
            return Err(match last {
                Some(last) => error.context(format!("{last:#}")),
                None => error,
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What scenarios read of a pod's status.
pub(crate) trait See {
    fn phase(&self) -> &str;
    fn condition(&self, name: &str) -> bool;
    fn ip(&self) -> Result<&str>;
    fn status_of(&self, container: &str) -> Option<&k8s_openapi::api::core::v1::ContainerStatus>;
    /// Container ids in the spec's order, which stay the same as long as nothing is restarted.
    fn container_ids(&self) -> Vec<String>;
    fn restarts(&self) -> i32;
}

impl See for Pod {
    fn phase(&self) -> &str {
        self.status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or_default()
    }

    fn condition(&self, name: &str) -> bool {
        let conditions = self.status.as_ref().and_then(|s| s.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|c| c.type_ == name && c.status == "True")
    }

    fn ip(&self) -> Result<&str> {
        self.status
            .as_ref()
            .and_then(|s| s.pod_ip.as_deref())
            .filter(|ip| !ip.is_empty())
            .context("the pod has no IP")
    }

    fn status_of(&self, container: &str) -> Option<&k8s_openapi::api::core::v1::ContainerStatus> {
        let status = self.status.as_ref()?;
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
            .find(|c| c.name == container)
    }

    fn container_ids(&self) -> Vec<String> {
        let statuses = self.status.as_ref().and_then(|s| s.container_statuses.as_ref());
        statuses
            .into_iter()
            .flatten()
            .filter_map(|c| c.container_id.clone())
            .collect()
    }

    fn restarts(&self) -> i32 {
        let statuses = self.status.as_ref().and_then(|s| s.container_statuses.as_ref());
        statuses.into_iter().flatten().map(|c| c.restart_count).sum()
    }
}

/// A page of a pod.
pub(crate) async fn fetch(ip: &str, port: u16, path: &str) -> Result<(u16, String)> {
    let (authority, path) = (format!("{ip}:{port}"), path.to_owned());
    tokio::task::spawn_blocking(move || witlet_lab::http_get(&authority, &path)).await?
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "called with values that are made on the spot"
)]
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: T, should: T) -> Result<()> {
    if is != should {
        bail!("{what} is {is:?} and should be {should:?}");
    }
    Ok(())
}
