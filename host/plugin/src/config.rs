//! The stanza `[plugin.NAME]` of the node's configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use witlet_core::extension::{breaker, probation};

use crate::grants::Grants;
use crate::manifest::{MAX_COMPONENT, MOST_COMPONENT};
use crate::source::oci::Reference;
use crate::units::{Size, Span};

/// A registry may be a pod of this very node, or the network not up yet.
const START_GRACE: Duration = Duration::from_secs(30);

/// Of the compiler's processor time, unless `limits.compile` says otherwise.
const COMPILE: Duration = Duration::from_secs(30);

/// What a plugin does for the node. The names are those of the WIT packages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Network,
    Volume,
    Probe,
    Policy,
    SinkLog,
    SinkMetric,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Probe => "probe",
            Self::Policy => "policy",
            Self::SinkLog => "sink-log",
            Self::SinkMetric => "sink-metric",
        }
    }

    /// What happens to the caller when a plugin of this kind cannot answer, where the stanza does not say.
    pub fn default_fail(self) -> Fail {
        match self {
            Self::Network | Self::Volume | Self::Probe | Self::Policy => Fail::Closed,
            Self::SinkLog | Self::SinkMetric => Fail::Open,
        }
    }

    /// A pod without its network or its volumes cannot run: there is nothing to fall open to.
    fn may_fail_open(self) -> bool {
        !matches!(self, Self::Network | Self::Volume)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the caller is told when a plugin traps, runs out of time or is overloaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fail {
    /// An error: whatever depends on the plugin waits.
    Closed,
    /// The node goes on without the plugin: a policy allows, a sink drops the batch, a probe keeps its last result.
    Open,
    /// The call is made again on the version that was active before; then as with `closed`.
    LastGood,
}

/// Where the component comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Built into the agent.
    Builtin(String),
    /// An absolute path on the node; the file is watched.
    File(PathBuf),
    /// An OCI artifact, by its digest.
    Oci(Reference),
    /// A shared library on the node: no component, and no sandbox around it.
    Native(PathBuf),
}

impl Source {
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("builtin:") {
            return Ok(Self::Builtin(name.to_owned()));
        }
        if let Some(reference) = text.strip_prefix("oci://") {
            let parsed = Reference::parse(reference).map_err(|why| format!("source {text:?}: {why}"))?;
            return Ok(Self::Oci(parsed));
        }
        if let Some(path) = text.strip_prefix("native:") {
            let path = PathBuf::from(path);
            return match path.is_absolute() {
                true => Ok(Self::Native(path)),
                false => Err(format!(
                    "source {text:?}: write native: and the absolute path of the library"
                )),
            };
        }
        let path = PathBuf::from(text.strip_prefix("file:").unwrap_or(text));
        if !path.is_absolute() {
            return Err(format!(
                "source {text:?}: write \"builtin:NAME\", \"oci://HOST/REPOSITORY@sha256:…\" or an absolute path such as \"file:/etc/witlet/plugins/a.wasm\""
            ));
        }
        Ok(Self::File(path))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => write!(f, "builtin:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Oci(reference) => write!(f, "oci://{reference}"),
            Self::Native(path) => write!(f, "native:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// `instances`: a new instance for each call, or some that are kept between calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instances {
    PerCall,
    Warm {
        warm: NonZeroUsize,
        /// An instance is thrown away after so many calls.
        max_calls: NonZeroU32,
    },
}

impl<'de> Deserialize<'de> for Instances {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Warm {
            warm: NonZeroUsize,
            #[serde(default = "max_calls")]
            max_calls: NonZeroU32,
        }
        fn max_calls() -> NonZeroU32 {
            NonZeroU32::new(10_000).unwrap_or(NonZeroU32::MIN)
        }
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) if text == "per-call" => Ok(Self::PerCall),
            toml::Value::Table(table) => {
                let Warm { warm, max_calls } = table.try_into().map_err(D::Error::custom)?;
                Ok(Self::Warm { warm, max_calls })
            }
            _ => Err(D::Error::custom(
                "instances: write \"per-call\" or { warm = 4, max_calls = 10000 }",
            )),
        }
    }
}

/// `[plugin.NAME.limits]` as written: what is absent depends on the kind.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    pub memory: Option<Size>,
    pub component: Option<Size>,
    pub compile: Option<Span>,
    pub cpu_per_call: Option<Span>,
    pub wall_per_call: Option<Span>,
    pub concurrency: Option<NonZeroUsize>,
    pub queue: Option<usize>,
    pub instances: Option<Instances>,
}

impl LimitsConfig {
    /// In bytes.
    pub fn component(&self) -> usize {
        let bytes = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        self.component.map_or(MAX_COMPONENT, bytes).min(MOST_COMPONENT)
    }

    pub fn compile(&self) -> Duration {
        self.compile.map_or(COMPILE, |span| span.0)
    }
}

/// What one plugin may use.
#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// Linear memory of one instance.
    pub memory: Size,
    /// The component itself: languages that bring an interpreter with them have large ones.
    pub component: usize,
    /// Processor time of its compiler.
    pub compile: Duration,
    /// Processor time of one call.
    pub cpu_per_call: Duration,
    /// Time of one call, host functions included. A probe has its own timeout, and this is the most that it may be.
    pub wall_per_call: Duration,
    /// Calls at the same time.
    pub concurrency: NonZeroUsize,
    /// Calls that may wait for a place.
    pub queue: usize,
    pub instances: Instances,
    /// Bytes that one call between guest and host may carry towards the host.
    pub host_copy: usize,
}

impl Limits {
    pub fn resolve(kind: Kind, config: &LimitsConfig) -> Self {
        let mib = |n: u64| Size(n << 20);
        let ms = Duration::from_millis;
        // Probes wait for the network most of their time, so many of them at once cost little.
        let (cpu, wall, concurrency, queue, copy) = match kind {
            Kind::Probe => (ms(20), Duration::from_secs(3600), 32, 512, mib(1)),
            Kind::Policy => (ms(20), ms(250), 8, 256, mib(1)),
            Kind::Network => (ms(200), Duration::from_secs(30), 8, 256, mib(1)),
            // A Secret or ConfigMap may have 1 MiB of data, which is more as JSON and base64.
            Kind::Volume => (ms(200), Duration::from_secs(120), 8, 512, mib(4)),
            Kind::SinkLog | Kind::SinkMetric => (ms(200), Duration::from_secs(30), 2, 64, mib(8)),
        };
        Self {
            memory: config.memory.unwrap_or(mib(16)),
            component: config.component(),
            compile: config.compile(),
            cpu_per_call: config.cpu_per_call.map_or(cpu, |s| s.0),
            wall_per_call: config.wall_per_call.map_or(wall, |s| s.0),
            concurrency: config
                .concurrency
                .or(NonZeroUsize::new(concurrency))
                .unwrap_or(NonZeroUsize::MIN),
            queue: config.queue.unwrap_or(queue),
            instances: config.instances.unwrap_or(Instances::PerCall),
            host_copy: usize::try_from(copy.0).unwrap_or(usize::MAX),
        }
    }
}

/// `[plugin.NAME]`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    pub kind: Kind,
    pub source: Source,
    /// Refuse the file unless it has this digest (64 hexadecimal digits).
    #[serde(default)]
    pub sha256: Option<String>,
    /// A native plugin: it is trusted as the agent itself is.
    #[serde(default)]
    pub trusted: bool,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub fail: Option<Fail>,
    /// Volume plugins: the drivers it serves, such as `kubernetes.io/empty-dir` or the name in a volume's `csi.driver`.
    #[serde(default)]
    pub drivers: Option<Vec<String>>,
    /// What the plugin reads as its configuration.
    #[serde(default)]
    pub config: toml::Table,
    #[serde(default)]
    pub grants: Grants,
    #[serde(default)]
    pub limits: LimitsConfig,
    /// When it is not asked for a while.
    #[serde(default)]
    pub breaker: BreakerConfig,
    /// How long a new version can be taken back by itself.
    #[serde(default)]
    pub probation: ProbationConfig,
    /// Probes and policies: a new version first answers in the shadow of the active one.
    #[serde(default)]
    pub shadow: Option<ShadowConfig>,
    /// After the agent's start, everybody waits so long for a plugin that is not there yet, also if it may fail open.
    #[serde(default)]
    pub start_grace: Option<Span>,
    /// Policies: what becomes of a denial.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Who must have signed it.
    #[serde(default)]
    pub verify: Option<Verify>,
    /// How a registry is talked to.
    #[serde(default)]
    pub pull: Pull,
}

/// What becomes of a policy's denial.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Enforce,
    /// The pod runs; the denial becomes a warning event.
    Warn,
    /// The pod runs; the denial is counted and can be asked for (`witlet plugin why-denied`), and nothing else.
    Audit,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Warn => "warn",
            Self::Audit => "audit",
        }
    }
}

/// Who must have signed it, and in which form. The signature is the file's with `.sig` after its name, or what the registry has for
/// the manifest.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// `key = "/path"`: an ed25519 public key, PEM as `openssl pkey -pubout` writes it.
    Key(PathBuf),
    /// `cosign = "/path"`: an ECDSA P-256 public key, PEM as `cosign generate-key-pair` writes it.
    Cosign(PathBuf),
}

/// `[plugin.NAME.pull]`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pull {
    /// PEM certificates that the registry's is checked against, besides the machine's.
    pub ca: Option<PathBuf>,
    /// A file as `docker login` writes it (`{"auths": {"host": {"auth": "…"}}}`).
    pub credentials: Option<PathBuf>,
    /// Without TLS. For a registry on this machine.
    pub plain_http: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    pub failures: Option<NonZeroU32>,
    pub window: Option<Span>,
    pub open: Option<Span>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbationConfig {
    pub time: Option<Span>,
    pub calls: Option<u64>,
    pub faults: Option<u64>,
    pub percent: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowConfig {
    /// So many calls are compared.
    pub calls: u64,
    /// It is put to work if not more than this many were answered differently.
    #[serde(default)]
    pub disagreements: u64,
}

fn yes() -> bool {
    true
}

impl PluginConfig {
    pub fn new(kind: Kind, source: Source) -> Self {
        Self {
            kind,
            source,
            sha256: None,
            trusted: false,
            enabled: true,
            fail: None,
            drivers: None,
            config: toml::Table::new(),
            grants: Grants::default(),
            limits: LimitsConfig::default(),
            breaker: BreakerConfig::default(),
            probation: ProbationConfig::default(),
            shadow: None,
            start_grace: None,
            mode: None,
            verify: None,
            pull: Pull::default(),
        }
    }

    pub fn breaker(&self) -> breaker::Rules {
        let default = breaker::Rules::default();
        breaker::Rules {
            failures: self.breaker.failures.map_or(default.failures, NonZeroU32::get),
            window: self.breaker.window.map_or(default.window, |s| s.0),
            open: self.breaker.open.map_or(default.open, |s| s.0),
        }
    }

    pub fn probation(&self) -> probation::Rules {
        let default = probation::Rules::default();
        probation::Rules {
            time: self.probation.time.map_or(default.time, |s| s.0),
            calls: self.probation.calls.unwrap_or(default.calls),
            faults: self.probation.faults.unwrap_or(default.faults).max(1),
            percent: self.probation.percent.unwrap_or(default.percent),
        }
    }

    pub fn start_grace(&self) -> Duration {
        self.start_grace.map_or(START_GRACE, |s| s.0)
    }

    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or_default()
    }

    pub fn fail(&self) -> Fail {
        self.fail.unwrap_or_else(|| self.kind.default_fail())
    }

    /// Everything that the types alone do not exclude.
    pub fn problems(&self, name: &str) -> Vec<String> {
        let mut problems = Vec::new();
        if !is_name(name) {
            problems.push(format!(
                "{name:?} is no name for a plugin: a-z, 0-9 and '-', at most 63 characters, no '-' at the ends"
            ));
        }
        if self.fail == Some(Fail::Open) && !self.kind.may_fail_open() {
            problems.push(format!(
                "fail = \"open\": a pod cannot run without its {}; write \"closed\" or \"last-good\"",
                self.kind
            ));
        }
        // A CNI ADD that failed half-way must be undone before the next one, not repeated on another version.
        if self.fail == Some(Fail::LastGood) && self.kind == Kind::Network {
            problems.push(
                "fail = \"last-good\": setting up a network cannot be repeated on another version; write \"closed\""
                    .to_owned(),
            );
        }
        if let Some(pin) = &self.sha256
            && (pin.len() != 64 || !pin.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
        {
            problems.push(format!(
                "sha256 = {pin:?}: write the 64 lower-case hexadecimal digits that sha256sum prints"
            ));
        }
        problems.extend(native::problems(self));
        if self.drivers.is_some() && self.kind != Kind::Volume {
            problems.push(format!(
                "drivers: only volume plugins have drivers, this one is kind = \"{}\"",
                self.kind
            ));
        }
        if self.mode.is_some() && self.kind != Kind::Policy {
            problems.push(format!(
                "mode: only policy plugins have one, this one is kind = \"{}\"",
                self.kind
            ));
        }
        if let Some(size) = self.limits.component
            && size.0 > MOST_COMPONENT as u64
        {
            let most = Size(MOST_COMPONENT as u64);
            problems.push(format!("limits.component = \"{size}\": at most {most}"));
        }
        if self.shadow.is_some() && !matches!(self.kind, Kind::Policy | Kind::Probe) {
            problems.push(format!(
                "shadow: asking a {} plugin twice would do everything twice; only probe and policy plugins have shadows",
                self.kind
            ));
        }
        if self.shadow.is_some() && self.grants.kv.is_some() {
            problems.push(
                "shadow: a version in the shadow would change what the active one keeps (grants.kv); take one of the two away"
                    .to_owned(),
            );
        }
        if self.shadow.is_some_and(|s| s.calls == 0) {
            problems.push("shadow.calls: more than 0".to_owned());
        }
        if self.probation.percent.is_some_and(|p| p > 100) {
            problems.push("probation.percent: between 0 and 100".to_owned());
        }
        if self.verify.is_some() && matches!(self.source, Source::Builtin(_)) {
            problems.push("verify: what is built in has no signature of its own".to_owned());
        }
        if matches!(self.verify, Some(Verify::Cosign(_))) && !cfg!(feature = "cosign") {
            problems.push(
                "verify.cosign: this witlet was built without it; build it with the feature cosign, or sign with ed25519"
                    .to_owned(),
            );
        }
        if self.pull != Pull::default() && !matches!(self.source, Source::Oci(_)) {
            problems.push("pull: only a source \"oci://…\" is pulled".to_owned());
        }
        let paths = [
            (
                "verify",
                self.verify.as_ref().map(|v| match v {
                    Verify::Key(path) | Verify::Cosign(path) => path,
                }),
            ),
            ("pull.ca", self.pull.ca.as_ref()),
            ("pull.credentials", self.pull.credentials.as_ref()),
        ];
        for (key, path) in paths {
            if let Some(path) = path.filter(|p| !p.is_absolute()) {
                problems.push(format!("{key} = {path:?}: must be an absolute path"));
            }
        }
        if self.limits.memory.is_some_and(|m| m.0 < 1 << 16 || m.0 > 1 << 32) {
            problems.push("limits.memory: between 64KiB and 4GiB".to_owned());
        }
        if self.limits.cpu_per_call.is_some_and(|s| s.0.is_zero()) {
            problems.push("limits.cpu_per_call: more than 0".to_owned());
        }
        if self.limits.wall_per_call.is_some_and(|s| s.0.is_zero()) {
            problems.push("limits.wall_per_call: more than 0".to_owned());
        }
        problems
    }
}

mod native;

/// A DNS label, so that it can stand in annotations, metrics and file names.
fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// All stanzas, by the plugin's name. That order is also the one in which policies are asked.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct PluginsConfig {
    pub plugins: BTreeMap<String, PluginConfig>,
}

impl PluginsConfig {
    /// Reads the table `plugin` of a configuration. Each error names its key.
    pub fn from_table(table: &toml::Table) -> Result<Self, Vec<String>> {
        let mut plugins = BTreeMap::new();
        let mut errors = Vec::new();
        for (name, stanza) in table {
            match stanza.clone().try_into::<PluginConfig>() {
                Ok(config) => {
                    errors.extend(config.problems(name).into_iter().map(|p| format!("plugin.{name}: {p}")));
                    plugins.insert(name.clone(), config);
                }
                Err(error) => errors.push(format!("plugin.{name}: {}", error.to_string().trim_end())),
            }
        }
        if errors.is_empty() {
            Ok(Self { plugins })
        } else {
            Err(errors)
        }
    }
}

#[cfg(test)]
mod tests;
