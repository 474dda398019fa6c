//! What a plugin may do: what its manifest asks for *and* the operator grants.
//!
//! Linkers are built from the result: what is not granted is not there at all, and a plugin that needs it does not load.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Kind;
use crate::units::Size;

/// Everything that needs a grant. The names stand in manifests, in the configuration and in WIT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    PodNet,
    ContainerExec,
    EgressHttp,
    Files,
    Mount,
    HostPath,
    PodObjects,
    Downward,
    Exec,
    OutputFile,
    Kv,
    VolumeSecrets,
}

impl Capability {
    pub const ALL: [Self; 12] = [
        Self::PodNet,
        Self::ContainerExec,
        Self::EgressHttp,
        Self::Files,
        Self::Mount,
        Self::HostPath,
        Self::PodObjects,
        Self::Downward,
        Self::Exec,
        Self::OutputFile,
        Self::Kv,
        Self::VolumeSecrets,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::PodNet => "pod-net",
            Self::ContainerExec => "container-exec",
            Self::EgressHttp => "egress-http",
            Self::Files => "files",
            Self::Mount => "mount",
            Self::HostPath => "host-path",
            Self::PodObjects => "pod-objects",
            Self::Downward => "downward",
            Self::Exec => "exec",
            Self::OutputFile => "output-file",
            Self::Kv => "kv",
            Self::VolumeSecrets => "volume-secrets",
        }
    }

    /// The capability behind an imported interface, such as `witlet:probe/pod-net@0.1.0`.
    pub fn of_interface(import: &str) -> Option<Self> {
        let name = import.split('@').next().unwrap_or(import);
        if name == "witlet:volume-steps/bind" {
            return Some(Self::Mount);
        }
        Self::ALL
            .into_iter()
            .find(|c| name == format!("witlet:{}/{}", c.package(), c.as_str()))
    }

    fn package(self) -> &'static str {
        match self {
            Self::PodNet | Self::ContainerExec => "probe",
            Self::EgressHttp | Self::Kv => "base",
            Self::Files | Self::Mount | Self::HostPath | Self::PodObjects | Self::Downward => "volume",
            Self::Exec => "network",
            Self::OutputFile => "sink-log",
            Self::VolumeSecrets => "volume-steps",
        }
    }

    /// Which kinds of plugin can have it.
    pub fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Kv => true,
            Self::EgressHttp => matches!(kind, Kind::SinkLog | Kind::SinkMetric | Kind::Volume),
            Self::VolumeSecrets => kind == Kind::Volume,
            other => other.package() == kind.as_str(),
        }
    }

    /// A line for `[plugin.NAME.grants]` that a person can take over, and narrow or fill in.
    fn example(self) -> &'static str {
        match self {
            Self::PodNet => "pod-net = {}",
            Self::ContainerExec => "container-exec = { argv = [\"*\"] }",
            Self::EgressHttp => "egress-http = { hosts = [\"collector.example.com:4318\"] }",
            Self::Files => "files = {}",
            Self::Mount => "mount = {}",
            Self::HostPath => "host-path = { paths = [\"/\"] }",
            Self::PodObjects => "pod-objects = {}",
            Self::Downward => "downward = {}",
            Self::Exec => "exec = { programs = [\"/usr/lib/cni/bridge\"] }",
            Self::Kv => "kv = {}",
            Self::VolumeSecrets => "volume-secrets = {}",
            Self::OutputFile => "output-file = { path = \"/var/log/witlet/pods.jsonl\" }",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Network access to the pod under test. Without more: the pod's own addresses, and the ports it declares or probes.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PodNet {
    /// These ports besides.
    pub ports: Vec<u16>,
    pub any_port: bool,
    /// Other hosts than the pod, if the plugin names one.
    pub any_host: bool,
    /// Only these; all if empty.
    pub protocols: Vec<Protocol>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    Http,
    Tcp,
    Grpc,
}

impl PodNet {
    pub(crate) fn allows(&self, protocol: Protocol) -> bool {
        self.protocols.is_empty() || self.protocols.contains(&protocol)
    }
}

/// Commands in the container under test.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerExec {
    /// Allowed values of the first argument; `*` allows all.
    pub argv: Vec<String>,
}

/// Requests to other machines.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressHttp {
    /// `host`, `host:port`, `*.domain` or `*.domain:port`. An address of this machine must be listed literally.
    pub hosts: Vec<String>,
}

/// The directories of the volumes that the plugin is asked to make.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {}

/// Mounts over a volume's directory.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mount {
    /// `tmpfs`, `hugetlbfs`, `bind` (what was staged, for a pod), `nfs`; all but the last if empty.
    pub types: Vec<String>,
    /// NFS: only from these servers; from all if empty.
    pub servers: Vec<String>,
    /// NFS: programs of the server may change their user.
    pub suid: bool,
    /// NFS: devices of the server are devices.
    pub dev: bool,
}

/// Paths of the node.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPath {
    /// Only at or below these.
    pub paths: Vec<String>,
}

/// API objects that the pod's spec names.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodObjects {}

/// The secrets that volumes name for their driver, in whatever namespace.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSecrets {}

/// Fields and resources of the pod as text.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Downward {}

/// Programs of the node.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    pub programs: Vec<Program>,
}

/// A program that may be run.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(untagged)]
pub enum Program {
    /// Its absolute path, or a directory with `/*` at the end: everything directly in it.
    Path(String),
    Pinned(PinnedProgram),
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedProgram {
    pub path: String,
    /// Run it only if the file has this digest.
    pub sha256: String,
}

/// One file that log lines are added to.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputFile {
    /// Absolute; its directory must exist.
    pub path: String,
    /// A file that would grow beyond this is rotated.
    #[serde(default = "file_size")]
    pub max: Size,
    /// So many older files stay, as `path.1` and so on.
    #[serde(default = "file_count")]
    pub keep: u32,
}

fn file_size() -> Size {
    Size(64 << 20)
}

fn file_count() -> u32 {
    3
}

/// Keys and values of the plugin's own.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kv {
    pub keys: u32,
    /// Of keys and values together.
    pub bytes: Size,
}

impl Default for Kv {
    fn default() -> Self {
        Self {
            keys: 1000,
            bytes: Size(1 << 20),
        }
    }
}

/// `[plugin.NAME.grants]`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Grants {
    pub pod_net: Option<PodNet>,
    pub container_exec: Option<ContainerExec>,
    pub egress_http: Option<EgressHttp>,
    pub files: Option<Files>,
    pub mount: Option<Mount>,
    pub host_path: Option<HostPath>,
    pub pod_objects: Option<PodObjects>,
    pub downward: Option<Downward>,
    pub exec: Option<Exec>,
    pub output_file: Option<OutputFile>,
    pub kv: Option<Kv>,
    pub volume_secrets: Option<VolumeSecrets>,
}

impl Grants {
    pub fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::PodNet => self.pod_net.is_some(),
            Capability::ContainerExec => self.container_exec.is_some(),
            Capability::EgressHttp => self.egress_http.is_some(),
            Capability::Files => self.files.is_some(),
            Capability::Mount => self.mount.is_some(),
            Capability::HostPath => self.host_path.is_some(),
            Capability::PodObjects => self.pod_objects.is_some(),
            Capability::Downward => self.downward.is_some(),
            Capability::Exec => self.exec.is_some(),
            Capability::OutputFile => self.output_file.is_some(),
            Capability::Kv => self.kv.is_some(),
            Capability::VolumeSecrets => self.volume_secrets.is_some(),
        }
    }

    /// What of it the manifest asks for: an operator's grant alone gives nothing.
    pub fn within(&self, asked: &[Capability]) -> Self {
        fn keep<T: Clone>(value: &Option<T>, asked: bool) -> Option<T> {
            value.as_ref().filter(|_| asked).cloned()
        }
        let asked = |c| asked.contains(&c);
        Self {
            pod_net: keep(&self.pod_net, asked(Capability::PodNet)),
            container_exec: keep(&self.container_exec, asked(Capability::ContainerExec)),
            egress_http: keep(&self.egress_http, asked(Capability::EgressHttp)),
            files: keep(&self.files, asked(Capability::Files)),
            mount: keep(&self.mount, asked(Capability::Mount)),
            host_path: keep(&self.host_path, asked(Capability::HostPath)),
            pod_objects: keep(&self.pod_objects, asked(Capability::PodObjects)),
            downward: keep(&self.downward, asked(Capability::Downward)),
            exec: keep(&self.exec, asked(Capability::Exec)),
            output_file: keep(&self.output_file, asked(Capability::OutputFile)),
            kv: keep(&self.kv, asked(Capability::Kv)),
            volume_secrets: keep(&self.volume_secrets, asked(Capability::VolumeSecrets)),
        }
    }
}

/// The lines that grant these capabilities, ready to be copied into the configuration.
pub fn toml_lines(plugin: &str, missing: &[Capability]) -> String {
    let mut text = format!("[plugin.{plugin}.grants]");
    for capability in missing {
        text.push('\n');
        text.push_str(capability.example());
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn printed_lines_are_a_valid_configuration() {
        let text = toml_lines("a", &Capability::ALL);
        let table: toml::Table = text.parse().unwrap();
        let grants: Grants = table["plugin"]["a"]["grants"].clone().try_into().unwrap();
        for capability in Capability::ALL {
            assert!(grants.has(capability), "{capability}");
        }
    }

    #[test]
    fn a_grant_needs_both_sides() {
        let grants = Grants {
            files: Some(Files {}),
            exec: Some(Exec::default()),
            ..Grants::default()
        };
        let effective = grants.within(&[Capability::Files, Capability::Mount]);
        assert!(effective.has(Capability::Files));
        assert!(!effective.has(Capability::Exec), "granted, but not asked for");
        assert!(!effective.has(Capability::Mount), "asked for, but not granted");
    }

    #[test]
    fn interfaces_and_kinds() {
        assert_eq!(
            Capability::of_interface("witlet:probe/pod-net@0.1.0"),
            Some(Capability::PodNet)
        );
        assert_eq!(
            Capability::of_interface("witlet:base/egress-http@0.1.7"),
            Some(Capability::EgressHttp)
        );
        assert_eq!(
            Capability::of_interface("witlet:volume-steps/bind@0.1.0"),
            Some(Capability::Mount)
        );
        assert_eq!(Capability::of_interface("witlet:base/log@0.1.0"), None);
        assert_eq!(Capability::of_interface("evil:probe/pod-net@0.1.0"), None);
        assert!(Capability::Exec.fits(Kind::Network));
        assert!(!Capability::Exec.fits(Kind::Probe));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = toml::from_str::<Grants>("pod-net = { anyport = true }")
            .unwrap_err()
            .to_string();
        assert!(error.contains("anyport"), "{error}");
    }
}
