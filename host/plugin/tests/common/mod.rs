//! Plugins written as text, and the rest of a node for them to run on.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use tokio::sync::Notify;
use witlet_core::ids::PodUid;
use witlet_core::observed;
use witlet_core::plan::Note;
use witlet_core::runtime::{ContainerConfig, Image, LinuxResources, RegistryAuth, SandboxConfig};
use witlet_core::stats::assemble::Counted;
use witlet_plugin_host::config::{Kind, PluginConfig, Source};
use witlet_plugin_host::grants::Grants;
use witlet_plugin_host::{Deps, PluginHost, PluginsConfig};
use witlet_ports::api::{Events, Objects, Token, TokenRequest};
use witlet_ports::probe::Check;
use witlet_ports::runtime::{CgroupDriver, Condition, ExecOutput, Hint, ImageFilesystems, Runtime, Status, Version};
use witlet_ports::{Class, Error, Result};

pub mod guests;

/// `probe`, `volume`, … to the world of its track 0.1.
fn world(kind: &str) -> String {
    let name = match kind {
        "sink-log" => "log-sink".to_owned(),
        "sink-metric" => "metric-sink".to_owned(),
        kind => format!("{kind}-plugin"),
    };
    format!("witlet:{kind}/{name}@0.1.0")
}

pub fn manifest(kind: &str, track: &str, capabilities: &[&str]) -> String {
    serde_json::json!({
        "name": "test", "version": "1.0.0", "kind": kind, "track": track, "sdk": "none",
        "capabilities": capabilities, "state_version": 0,
    })
    .to_string()
}

/// Makes a component of a core module in text form.
pub fn component(kind: &str, module: &str, capabilities: &[&str]) -> Vec<u8> {
    component_with(kind, module, Some(&manifest(kind, "0.1", capabilities)), false)
}

/// The same with another manifest, or with the export `self-check`.
pub fn component_with(kind: &str, module: &str, manifest: Option<&str>, self_check: bool) -> Vec<u8> {
    let check: &[&str] = if self_check {
        &["witlet:lifecycle/self-check@0.1.0"]
    } else {
        &[]
    };
    component_exporting(kind, module, manifest, check)
}

/// The same with these optional exports.
pub fn component_exporting(kind: &str, module: &str, manifest: Option<&str>, exports: &[&str]) -> Vec<u8> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut resolve = wit_parser::Resolve::new();
    let hooks: &[&str] = if kind == "volume" {
        &["volume-steps"]
    } else {
        &["policy-hooks"]
    };
    for package in ["base", "lifecycle", kind].iter().chain(hooks) {
        resolve.push_path(wit.join(package).join("0.1")).unwrap();
    }
    let exports: String = exports.iter().map(|e| format!("export {e};")).collect();
    let text = format!("package test:test; world test {{ include {}; {exports} }}", world(kind));
    let package = resolve.push_str("test.wit", &text).unwrap();
    let world = resolve.select_world(&[package], Some("test")).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    if let Some(manifest) = manifest {
        custom_section(&mut module, "witlet:manifest", manifest.as_bytes());
    }
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .unwrap()
        .encode()
        .unwrap()
}

fn custom_section(module: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut body = leb128(name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(data);
    module.push(0);
    module.extend(leb128(body.len()));
    module.extend(body);
}

fn leb128(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = u8::try_from(n & 0x7f).unwrap();
        n >>= 7;
        if n == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// A node with nothing on it but a directory.
pub struct Node {
    pub dir: tempfile::TempDir,
    pub runtime: Arc<FakeRuntime>,
    pub events: Arc<FakeEvents>,
}

impl Node {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            runtime: Arc::default(),
            events: Arc::default(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a component into a file, as one does on a running node: at once.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Source {
        let path = self.path(name);
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, bytes).unwrap();
        std::fs::rename(&temporary, &path).unwrap();
        Source::File(path)
    }

    pub fn deps(&self) -> Deps {
        Deps {
            runtime: Arc::clone(&self.runtime) as Arc<dyn Runtime>,
            objects: Arc::new(FakeObjects),
            builtins: &[],
            events: Arc::clone(&self.events) as Arc<dyn Events>,
            cache_dir: self.path("cache"),
            blobs_dir: self.path("blobs"),
            kv_dir: self.path("kv"),
            root_dir: self.path("kubelet"),
            allocatable: Arc::new(BTreeMap::new),
            compile_command: None,
            mount_program: "/bin/false".into(),
            watch_interval: Duration::from_millis(20),
        }
    }

    pub async fn start(&self, stanzas: impl IntoIterator<Item = (&str, PluginConfig)>) -> Arc<PluginHost> {
        PluginHost::start(plugins(stanzas), self.deps())
            .await
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// One plugin of a kind, under the name `test`.
    pub fn stanza(&self, kind: Kind, component: &[u8], toml: &str) -> PluginConfig {
        let source = self.file(&format!("{kind}.wasm"), component);
        let text = format!("kind = {:?}\nsource = {:?}\n{toml}", kind.as_str(), source.to_string());
        toml::from_str(&text).unwrap()
    }
}

pub fn plugins<'a>(stanzas: impl IntoIterator<Item = (&'a str, PluginConfig)>) -> PluginsConfig {
    PluginsConfig {
        plugins: stanzas.into_iter().map(|(n, s)| (n.to_owned(), s)).collect(),
    }
}

pub fn all_grants() -> Grants {
    toml::from_str(
        r#"
        pod-net = { any-port = true }
        container-exec = { argv = ["*"] }
        egress-http = { hosts = [] }
        files = {}
        mount = {}
        host-path = { paths = ["/"] }
        pod-objects = {}
        downward = {}
        exec = { programs = ["/bin/*"] }
        "#,
    )
    .unwrap()
}

pub fn pod() -> Arc<Pod> {
    let pod = serde_json::json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "11111111-2222-3333-4444-555555555555"},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
        "status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// A check of the plugin `test`; what it does is up to the first letter of `params`.
pub fn check(params: &str) -> Check {
    Check {
        plugin: "test".into(),
        pod: pod(),
        container: Arc::new(Container {
            name: "c".into(),
            ..Container::default()
        }),
        container_id: "id".into(),
        params: params.into(),
        timeout: Duration::from_secs(30),
    }
}

/// Waits until something is so; fails if it never is.
pub async fn eventually<F, Fut>(what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(),
        "never: {what}"
    );
}

/// Sum of the samples of one metric that have these labels.
pub fn metric(host: &PluginHost, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |have: &[(String, String)]| labels.iter().all(|(k, v)| have.iter().any(|(a, b)| a == k && b == v));
    let families = host.families();
    families
        .iter()
        .flat_map(|f| &f.samples)
        .filter(|s| s.name == name && has(&s.labels))
        .map(|s| s.value)
        .sum()
}

/// Executes nothing; a command waits until it is released.
#[derive(Default)]
pub struct FakeRuntime {
    pub started: Notify,
    pub release: Notify,
}

fn unimplemented<T>() -> Result<T> {
    Err(Error::new(Class::Unimplemented, "not in this test"))
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn exec_sync(&self, id: &str, argv: &[String], _timeout: Option<Duration>) -> Result<ExecOutput> {
        if argv == ["wait"] {
            self.started.notify_one();
            self.release.notified().await;
        }
        Ok(ExecOutput {
            stdout: format!("{id}: {}", argv.join(" ")).into_bytes(),
            stderr: Vec::new(),
            exit_code: 0,
        })
    }

    async fn version(&self) -> Result<Version> {
        unimplemented()
    }
    async fn status(&self) -> Result<Status> {
        Ok(Status {
            conditions: Vec::<Condition>::new(),
            ..Status::default()
        })
    }
    async fn cgroup_driver(&self) -> Result<Option<CgroupDriver>> {
        unimplemented()
    }
    async fn update_pod_cidr(&self, _: &str) -> Result<()> {
        unimplemented()
    }
    async fn run_sandbox(&self, _: &SandboxConfig, _: &str) -> Result<String> {
        unimplemented()
    }
    async fn stop_sandbox(&self, _: &str) -> Result<()> {
        unimplemented()
    }
    async fn remove_sandbox(&self, _: &str) -> Result<()> {
        unimplemented()
    }
    async fn sandbox(&self, _: &str) -> Result<observed::Sandbox> {
        unimplemented()
    }
    async fn update_sandbox(&self, _: &str, _: &LinuxResources, _: &LinuxResources) -> Result<()> {
        unimplemented()
    }
    async fn sandboxes(&self, _: Option<&PodUid>) -> Result<Vec<observed::Sandbox>> {
        unimplemented()
    }
    async fn create_container(&self, _: &str, _: &ContainerConfig, _: &SandboxConfig) -> Result<String> {
        unimplemented()
    }
    async fn start_container(&self, _: &str) -> Result<()> {
        unimplemented()
    }
    async fn stop_container(&self, _: &str, _: Duration) -> Result<()> {
        unimplemented()
    }
    async fn remove_container(&self, _: &str) -> Result<()> {
        unimplemented()
    }
    async fn container(&self, _: &str) -> Result<observed::Container> {
        unimplemented()
    }
    async fn containers(&self, _: Option<&PodUid>) -> Result<Vec<observed::Container>> {
        unimplemented()
    }
    async fn update_container(&self, _: &str, _: &LinuxResources) -> Result<()> {
        unimplemented()
    }
    async fn reopen_log(&self, _: &str) -> Result<()> {
        unimplemented()
    }
    async fn images(&self) -> Result<Vec<Image>> {
        unimplemented()
    }
    async fn image(&self, _: &str) -> Result<Option<Image>> {
        unimplemented()
    }
    async fn pull_image(&self, _: &str, _: Option<&RegistryAuth>, _: Option<&SandboxConfig>) -> Result<String> {
        unimplemented()
    }
    async fn remove_image(&self, _: &str) -> Result<()> {
        unimplemented()
    }
    async fn image_filesystems(&self) -> Result<ImageFilesystems> {
        unimplemented()
    }
    async fn container_stats(&self) -> Result<Vec<Counted>> {
        unimplemented()
    }
    async fn hints(&self) -> Result<BoxStream<'static, Hint>> {
        unimplemented()
    }
}

/// Keeps what was told of the node.
#[derive(Default)]
pub struct FakeEvents(std::sync::Mutex<Vec<(String, String)>>);

impl FakeEvents {
    /// The messages with this reason.
    pub fn of(&self, reason: &str) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|(r, _)| r == reason)
            .map(|(_, m)| m.clone())
            .collect()
    }
}

impl Events for FakeEvents {
    fn pod(&self, _: &Pod, _: Note) {}
    fn node(&self, _: bool, reason: &str, message: &str) {
        self.0.lock().unwrap().push((reason.to_owned(), message.to_owned()));
    }
}

pub struct FakeObjects;

#[async_trait]
impl Objects for FakeObjects {
    async fn config_map(&self, _: &str, name: &str) -> Result<Arc<ConfigMap>> {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        Ok(Arc::new(map))
    }
    async fn secret(&self, _: &str, _: &str) -> Result<Arc<Secret>> {
        Err(Error::not_found("no such secret"))
    }
    async fn token(&self, _: &TokenRequest) -> Result<Token> {
        unimplemented()
    }
    async fn services(&self) -> Result<Vec<Arc<Service>>> {
        unimplemented()
    }
    async fn runtime_handler(&self, _: &str) -> Result<String> {
        unimplemented()
    }
    fn register(&self, _: &Arc<Pod>) {}
    fn unregister(&self, _: &PodUid) {}
}
