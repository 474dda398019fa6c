//! The node's plugin host without a node: what stands behind a plugin is what a case says.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use witlet_core::ids::PodUid;
use witlet_core::observed;
use witlet_core::plan::Note;
use witlet_core::runtime::{ContainerConfig, Image, LinuxResources, RegistryAuth, SandboxConfig};
use witlet_core::stats::assemble::Counted;
use witlet_plugin_host::config::{Fail, LimitsConfig, PluginConfig, Source};
use witlet_plugin_host::grants::{Grants, toml_lines};
use witlet_plugin_host::manifest::{MOST_COMPONENT, Manifest};
use witlet_plugin_host::{Deps, PluginHost, PluginsConfig};
use witlet_ports::api::{Events, Objects, Token, TokenRequest};
use witlet_ports::runtime::{CgroupDriver, ExecOutput, Hint, ImageFilesystems, Runtime, Status, Version};
use witlet_ports::{Class, Error};
use witlet_sdk_build::tools;

use crate::cases::{Around, ExecAnswer};
use crate::subject::Subject;
use crate::{check, inspect};

/// What the plugin is called there.
pub(crate) const NAME: &str = "plugin";

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the threads for tasks")
}

/// A plugin that was loaded. Its directory goes with it.
pub(crate) struct Node {
    pub(crate) host: Arc<PluginHost>,
    _dir: tempfile::TempDir,
}

/// The plugin's stanza as far as a case says it.
#[derive(Clone, Default)]
pub(crate) struct Stanza {
    pub(crate) config: toml::Table,
    /// Everything that it asks for, if none.
    pub(crate) grants: Option<Grants>,
    pub(crate) limits: Option<LimitsConfig>,
}

impl Node {
    /// Only to see whether it loads.
    pub(crate) fn load(subject: &Subject) -> Result<()> {
        let node = runtime()?;
        node.block_on(Self::start(subject, Stanza::default(), Around::default()))
            .map(drop)
    }

    pub(crate) async fn start(subject: &Subject, stanza: Stanza, around: Around) -> Result<Self> {
        let manifest = Manifest::read(&subject.bytes, MOST_COMPONENT).map_err(|e| anyhow!("{e}"))?;
        let kind =
            check::kind(&manifest.kind).with_context(|| format!("no node knows the kind {:?}", manifest.kind))?;
        let dir = tempfile::tempdir().context("cannot make a directory for the node")?;
        let mut config = PluginConfig::new(kind, Source::File(subject.file.clone()));
        config.config = stanza.config;
        // What goes wrong is told, also by kinds that otherwise fail open.
        config.fail = Some(Fail::Closed);
        config.grants = match stanza.grants {
            Some(grants) => grants,
            None => everything(&manifest)?,
        };
        config.limits = match stanza.limits {
            Some(limits) => limits,
            // As `inspect` suggests them.
            None => toml::from_str(&inspect::limits(kind, subject.bytes.len(), subject.seen()?.memory))?,
        };
        let deps = Deps {
            runtime: Arc::new(Answers(around.exec)),
            objects: Arc::new(Few {
                config_maps: around.config_maps,
                secrets: around.secrets,
            }),
            events: Arc::new(Nobody),
            builtins: &[],
            // Compiled once, as on a node.
            cache_dir: tools::dir()?.join("compiled"),
            blobs_dir: dir.path().join("blobs"),
            kv_dir: dir.path().join("kv"),
            root_dir: dir.path().join("kubelet"),
            allocatable: Arc::new(BTreeMap::new),
            compile_command: None,
            mount_program: "/bin/false".into(),
            watch_interval: Duration::from_secs(3600),
        };
        let plugins = PluginsConfig {
            plugins: [(NAME.to_owned(), config)].into(),
        };
        let host = PluginHost::start(plugins, deps).await.map_err(|errors| {
            // There is one plugin, and it is known where it comes from.
            let causes: Vec<String> = errors.0.iter().map(|error| error.cause.to_string()).collect();
            anyhow!("{}", causes.join("\n"))
        })?;
        Ok(Self { host, _dir: dir })
    }
}

/// All that it asks for, as wide as it gets.
fn everything(manifest: &Manifest) -> Result<Grants> {
    let asked = manifest.capabilities().map_err(|e| anyhow!("{e}"))?;
    let table: toml::Table = toml_lines(NAME, &asked).parse()?;
    let mut grants: Grants = table["plugin"][NAME]["grants"].clone().try_into()?;
    if let Some(net) = &mut grants.pod_net {
        net.any_port = true;
    }
    if let Some(egress) = &mut grants.egress_http {
        egress.hosts = vec!["127.0.0.1".to_owned()];
    }
    if let Some(exec) = &mut grants.exec {
        exec.programs.clear();
    }
    Ok(grants)
}

/// A program of the node that says what a case wants it to say.
pub(crate) fn program(dir: &Path, name: &str, stdout: &str, exit_code: i32) -> Result<()> {
    let file = dir.join(name);
    let answer = dir.join(format!("{name}.stdout"));
    std::fs::write(&answer, stdout)?;
    let script = format!(
        "#!/bin/sh\ncat >/dev/null\ncat '{}'\nexit {exit_code}\n",
        answer.display()
    );
    std::fs::write(&file, script)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A container runtime that knows a few commands.
struct Answers(Vec<ExecAnswer>);

fn none<T>() -> witlet_ports::Result<T> {
    Err(Error::new(
        Class::Unimplemented,
        "there is no container runtime in a test of a plugin",
    ))
}

#[async_trait]
impl Runtime for Answers {
    async fn exec_sync(
        &self,
        _id: &str,
        argv: &[String],
        _timeout: Option<Duration>,
    ) -> witlet_ports::Result<ExecOutput> {
        let answer = self.0.iter().find(|answer| answer.argv == argv).ok_or_else(|| {
            let text = format!("the case has no [[case.exec]] with argv = {argv:?}");
            Error::new(Class::Terminal, text)
        })?;
        Ok(ExecOutput {
            stdout: answer.stdout.clone().into_bytes(),
            stderr: answer.stderr.clone().into_bytes(),
            exit_code: answer.exit_code,
        })
    }
    async fn version(&self) -> witlet_ports::Result<Version> {
        none()
    }
    async fn status(&self) -> witlet_ports::Result<Status> {
        none()
    }
    async fn cgroup_driver(&self) -> witlet_ports::Result<Option<CgroupDriver>> {
        none()
    }
    async fn update_pod_cidr(&self, _: &str) -> witlet_ports::Result<()> {
        none()
    }
    async fn run_sandbox(&self, _: &SandboxConfig, _: &str) -> witlet_ports::Result<String> {
        none()
    }
    async fn stop_sandbox(&self, _: &str) -> witlet_ports::Result<()> {
        none()
    }
    async fn remove_sandbox(&self, _: &str) -> witlet_ports::Result<()> {
        none()
    }
    async fn sandbox(&self, _: &str) -> witlet_ports::Result<observed::Sandbox> {
        none()
    }
    async fn update_sandbox(&self, _: &str, _: &LinuxResources, _: &LinuxResources) -> witlet_ports::Result<()> {
        none()
    }
    async fn sandboxes(&self, _: Option<&PodUid>) -> witlet_ports::Result<Vec<observed::Sandbox>> {
        none()
    }
    async fn create_container(&self, _: &str, _: &ContainerConfig, _: &SandboxConfig) -> witlet_ports::Result<String> {
        none()
    }
    async fn start_container(&self, _: &str) -> witlet_ports::Result<()> {
        none()
    }
    async fn stop_container(&self, _: &str, _: Duration) -> witlet_ports::Result<()> {
        none()
    }
    async fn remove_container(&self, _: &str) -> witlet_ports::Result<()> {
        none()
    }
    async fn container(&self, _: &str) -> witlet_ports::Result<observed::Container> {
        none()
    }
    async fn containers(&self, _: Option<&PodUid>) -> witlet_ports::Result<Vec<observed::Container>> {
        none()
    }
    async fn update_container(&self, _: &str, _: &LinuxResources) -> witlet_ports::Result<()> {
        none()
    }
    async fn reopen_log(&self, _: &str) -> witlet_ports::Result<()> {
        none()
    }
    async fn images(&self) -> witlet_ports::Result<Vec<Image>> {
        none()
    }
    async fn image(&self, _: &str) -> witlet_ports::Result<Option<Image>> {
        none()
    }
    async fn pull_image(
        &self,
        _: &str,
        _: Option<&RegistryAuth>,
        _: Option<&SandboxConfig>,
    ) -> witlet_ports::Result<String> {
        none()
    }
    async fn remove_image(&self, _: &str) -> witlet_ports::Result<()> {
        none()
    }
    async fn image_filesystems(&self) -> witlet_ports::Result<ImageFilesystems> {
        none()
    }
    async fn container_stats(&self) -> witlet_ports::Result<Vec<Counted>> {
        none()
    }
    async fn hints(&self) -> witlet_ports::Result<BoxStream<'static, Hint>> {
        none()
    }
}

/// The objects of a case.
struct Few {
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
    secrets: BTreeMap<String, BTreeMap<String, String>>,
}

#[async_trait]
impl Objects for Few {
    async fn config_map(&self, namespace: &str, name: &str) -> witlet_ports::Result<Arc<ConfigMap>> {
        let data = self.config_maps.get(name);
        let data = data.ok_or_else(|| Error::not_found(format!("configmap {name:?} not found")))?;
        let mut map = ConfigMap {
            data: Some(data.clone()),
            ..ConfigMap::default()
        };
        (map.metadata.namespace, map.metadata.name) = (Some(namespace.to_owned()), Some(name.to_owned()));
        Ok(Arc::new(map))
    }
    async fn secret(&self, namespace: &str, name: &str) -> witlet_ports::Result<Arc<Secret>> {
        let data = self.secrets.get(name);
        let data = data.ok_or_else(|| Error::not_found(format!("secret {name:?} not found")))?;
        let bytes = |(key, value): (&String, &String)| (key.clone(), ByteString(value.clone().into_bytes()));
        let mut secret = Secret {
            data: Some(data.iter().map(bytes).collect()),
            ..Secret::default()
        };
        (secret.metadata.namespace, secret.metadata.name) = (Some(namespace.to_owned()), Some(name.to_owned()));
        Ok(Arc::new(secret))
    }
    async fn token(&self, _: &TokenRequest) -> witlet_ports::Result<Token> {
        none()
    }
    async fn services(&self) -> witlet_ports::Result<Vec<Arc<Service>>> {
        Ok(Vec::new())
    }
    async fn runtime_handler(&self, _: &str) -> witlet_ports::Result<String> {
        none()
    }
    fn register(&self, _: &Arc<Pod>) {}
    fn unregister(&self, _: &PodUid) {}
}

struct Nobody;

impl Events for Nobody {
    fn pod(&self, _: &Pod, _: Note) {}
    fn node(&self, _: bool, _: &str, _: &str) {}
}
