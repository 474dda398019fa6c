//! Standing in for a kubelet: its command line and its configuration files, said as witlet's configuration.
//!
//! Pure: the files are read by the caller. Nothing is passed over in silence: a field that says something that witlet does
//! not do, or does otherwise, becomes a note.

use serde_json::{Map, Value, json};

mod fields;
mod file;
mod flags;
mod gates;
mod managers;
mod toml;
mod validate;

#[cfg(test)]
mod tests;

use crate::resources::Quantity;

use self::fields::{FIELDS, Fate, How};

pub use self::file::{merge, parse, without_file};
pub use self::flags::{Flags, usage};
pub use self::toml::write as write_toml;

/// What a translation says besides the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// A field or a flag.
    pub of: String,
    pub value: String,
    pub why: String,
    /// The node behaves otherwise than the value says.
    pub differs: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Translation {
    /// `witlet.toml`.
    pub toml: String,
    pub notes: Vec<Note>,
}

/// `config`: the files' content merged, or [`without_file`]. Errors are those that keep a kubelet from starting.
pub fn translate(config: Value, flags: &Flags) -> Result<Translation, Vec<String>> {
    let mut config = config;
    let clean = flags.config.clone();
    merge(&mut config, clean);
    let mut work = Work {
        config,
        tree: Map::new(),
        notes: Vec::new(),
        errors: Vec::new(),
    };
    work.errors.extend(validate::problems(&work.config));
    work.api(flags);
    for (field, fate) in FIELDS {
        work.field(field, *fate);
    }
    work.joined();
    work.gates();
    work.unknown();
    work.flags(flags);
    if work.errors.is_empty() {
        Ok(Translation {
            toml: write_toml(&work.tree),
            notes: work.notes,
        })
    } else {
        Err(work.errors)
    }
}

/// What a kubelet's `-v` is here.
pub fn log_level(verbosity: i64) -> &'static str {
    match verbosity {
        ..4 => "info",
        4..6 => "debug",
        _ => "trace",
    }
}

struct Work {
    config: Value,
    tree: Map<String, Value>,
    notes: Vec<Note>,
    errors: Vec<String>,
}

impl Work {
    /// None also for null.
    fn get(&self, field: &str) -> Option<&Value> {
        let found = self.config.pointer(&format!("/{}", field.replace('.', "/")));
        found.filter(|value| !value.is_null())
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn set(&mut self, key: &str, value: Value) {
        let mut tree = &mut self.tree;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                tree.insert(part.to_owned(), value);
                return;
            }
            let below = tree.entry(part).or_insert_with(|| json!({}));
            let Value::Object(below) = below else { return };
            tree = below;
        }
    }

    fn note(&mut self, of: &str, value: &Value, why: &str, differs: bool) {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.notes.push(Note {
            of: of.to_owned(),
            value,
            why: why.to_owned(),
            differs,
        });
    }

    /// Where the API is. A kubelet without a kubeconfig runs its static pods; witlet has an API for them.
    fn api(&mut self, flags: &Flags) {
        match flags.text("kubeconfig") {
            Some(path) => {
                self.set("api.kubeconfig", json!(path));
                if let Some(path) = flags.text("bootstrap-kubeconfig") {
                    self.set("api.bootstrap_kubeconfig", json!(path));
                }
                if let Some(dir) = flags.text("cert-dir") {
                    self.set("api.cert_dir", json!(dir));
                }
            }
            None => {
                self.set("standalone", json!({}));
                // The network is the runtime's, as with a kubelet.
                self.set("network.mode", json!("runtime"));
                for field in [
                    "rotateCertificates",
                    "serverTLSBootstrap",
                    "eventRecordQPS",
                    "eventBurst",
                    "kubeAPIQPS",
                    "kubeAPIBurst",
                ] {
                    if let Some(config) = self.config.as_object_mut() {
                        config.remove(field);
                    }
                }
            }
        }
    }

    fn field(&mut self, field: &str, fate: Fate) {
        let Some(value) = self.get(field).cloned() else {
            return;
        };
        match fate {
            Fate::Joined => {}
            Fate::Ignored(_) if empty(&value) => {}
            Fate::Ignored(why) => self.note(field, &value, why, false),
            Fate::Always(does, why) => {
                let does: Value = serde_json::from_str(does).unwrap_or_default();
                if !same(&value, &does) {
                    self.note(field, &value, why, true);
                }
            }
            Fate::Key(key, how) => match write(&value, how) {
                Ok(Some(written)) => self.set(key, written),
                Ok(None) => {}
                Err(why) => self.errors.push(format!("invalid configuration: {field}: {why}")),
            },
        }
    }

    /// What two fields say together.
    fn joined(&mut self) {
        let listeners = [
            (
                "healthzPort",
                "healthzBindAddress",
                "127.0.0.1",
                10248,
                "server.healthz",
            ),
            ("port", "address", "0.0.0.0", 10250, "server.listen"),
            ("readOnlyPort", "address", "0.0.0.0", 0, "server.read_only"),
        ];
        for (port, address, everywhere, number, key) in listeners {
            let (port, address) = (self.get(port).and_then(Value::as_i64), self.text(address));
            if port.is_some() || address.is_some() {
                let listen = listen(address.unwrap_or(everywhere), port.unwrap_or(number));
                self.set(key, json!(listen));
            }
        }
        if self.get("enableServer") == Some(&Value::Bool(false)) {
            self.set("server.listen", json!("off"));
            self.set("server.read_only", json!("off"));
        }
        let report = self
            .get("nodeStatusReportFrequency")
            .or(self.get("nodeStatusUpdateFrequency"));
        match report.map(|value| write(value, How::Span)) {
            Some(Ok(Some(value))) => self.set("node.report_interval", value),
            Some(Err(why)) => self
                .errors
                .push(format!("invalid configuration: nodeStatusReportFrequency: {why}")),
            _ => {}
        }
        let parallel = self.get("maxParallelImagePulls").and_then(Value::as_u64);
        let serial = self.get("serializeImagePulls").and_then(Value::as_bool);
        match (serial.unwrap_or(parallel.is_none_or(|n| n < 2)), parallel) {
            (true, _) => self.set("images.parallel_pulls", json!(1)),
            (false, Some(n)) => self.set("images.parallel_pulls", json!(n)),
            // No limit; so many are none.
            (false, None) => self.set("images.parallel_pulls", json!(UNLIMITED)),
        }
        if let Some(verbosity) = self.get("logging.verbosity").and_then(Value::as_i64) {
            self.set("log.level", json!(log_level(verbosity)));
        }
        if self.get("logging.format").is_some_and(|format| format == "json") {
            self.set("log.format", json!("json"));
        }
        for part in ["flushFrequency", "options", "vmodule"] {
            let value = self.get(&format!("logging.{part}")).cloned();
            if let Some(value) = value.filter(|v| !empty(v)) {
                self.note(
                    &format!("logging.{part}"),
                    &value,
                    "each line is written at once",
                    false,
                );
            }
        }
    }

    fn gates(&mut self) {
        let Some(Value::Object(set)) = self.get("featureGates").cloned() else {
            return;
        };
        for (name, value) in set {
            let on = value.as_bool().unwrap_or(false);
            // They stand for many.
            if name == "AllAlpha" || name == "AllBeta" {
                if on != (name == "AllBeta") {
                    self.note(&format!("featureGates.{name}"), &value, GATE, true);
                }
                continue;
            }
            match gates::GATES.iter().find(|(gate, _, _)| *gate == name) {
                None => self
                    .errors
                    .push(format!("failed to set feature gates: unrecognized feature gate: {name}")),
                Some((_, default, true)) if *default != on => self.errors.push(format!(
                    "failed to set feature gates: cannot set feature gate {name} to {on}, feature is locked to {default}"
                )),
                // What they allow is said where it is used.
                Some((gate, _, _)) if OPTION_GATES.contains(gate) => {}
                Some((_, default, _)) if *default != on => {
                    self.note(&format!("featureGates.{name}"), &value, GATE, true);
                }
                Some(_) => {}
            }
        }
    }

    /// The kubelet logs these and goes on; so do we.
    fn unknown(&mut self) {
        let mut found = Vec::new();
        walk("", &self.config, &mut found);
        for (path, value) in found {
            self.note(&path, &value, "the kubelet does not know this field", false);
        }
    }

    fn flags(&mut self, flags: &Flags) {
        let texts = [("hostname-override", "node.name"), ("root-dir", "node.root_dir")];
        for (flag, key) in texts {
            if let Some(text) = flags.text(flag) {
                self.set(key, json!(text));
            }
        }
        if let Some(text) = flags.text("node-ip") {
            let list: Vec<_> = text.split(',').map(str::trim).collect();
            self.set("node.address", json!(list));
        }
        if let Some(labels) = flags.own.get("node-labels") {
            self.set("node.labels", labels.clone());
        }
        match flags.text("cloud-provider") {
            None => {}
            Some("external") => self.set("node.external_cloud_provider", json!(true)),
            Some(other) => self.errors.push(format!(
                "unsupported value {other:?} for --cloud-provider: only \"external\" is left"
            )),
        }
        for (flag, key) in [
            ("image-credential-provider-config", "images.credential_providers"),
            ("image-credential-provider-bin-dir", "images.credential_provider_dir"),
        ] {
            if let Some(path) = flags.text(flag).filter(|path| !path.is_empty()) {
                self.set(key, json!(path));
            }
        }
        self.dead(flags);
        let seccomp = self.get("seccompDefault").and_then(Value::as_bool).unwrap_or(false);
        if seccomp || flags.is("seccomp-default") {
            self.set("node.seccomp_default", json!(true));
        }
        for (flag, why, differs) in FLAGS {
            if let Some(value) = flags
                .own
                .get(flag)
                .filter(|v| !matches!(v, Value::Bool(false)) && *v != "")
            {
                self.note(&format!("--{flag}"), value, why, *differs);
            }
        }
    }
}

impl Work {
    /// Dead containers. A kubelet may keep none; a pod's status is made of one here.
    fn dead(&mut self, flags: &Flags) {
        let number = |flag: &str| flags.own.get(flag).and_then(Value::as_i64);
        if let Some(total) = number("maximum-dead-containers") {
            self.set("gc.dead_containers_total", json!(total.max(-1)));
        }
        if let Some(each) = number("maximum-dead-containers-per-container") {
            if each == 0 {
                let why = "the newest instance is kept, because the status is made of it";
                self.note("--maximum-dead-containers-per-container", &json!(each), why, true);
            }
            let each = if each < 0 { -1 } else { each.max(1) };
            self.set("gc.dead_containers", json!(each));
        }
        let Some(age) = flags.text("minimum-container-ttl-duration") else {
            return;
        };
        match write(&json!(age), How::Span) {
            Ok(Some(age)) => self.set("gc.dead_containers_min_age", age),
            Ok(None) => {}
            Err(why) => self
                .errors
                .push(format!("invalid argument for --minimum-container-ttl-duration: {why}")),
        }
    }
}

/// As an address with a port, or `off`.
fn listen(address: &str, port: i64) -> String {
    let address = address.trim_matches(['[', ']']);
    match (port, address.contains(':')) {
        (0, _) => "off".to_owned(),
        (_, true) => format!("[{address}]:{port}"),
        (_, false) => format!("{address}:{port}"),
    }
}

const UNLIMITED: u32 = 1000;
const OPTION_GATES: [&str; 4] = [
    "CPUManagerPolicyAlphaOptions",
    "CPUManagerPolicyBetaOptions",
    "TopologyManagerPolicyAlphaOptions",
    "TopologyManagerPolicyBetaOptions",
];
const GATE: &str = "witlet has no gates: it behaves as the kubelet does by default";

/// Those without a key.
const FLAGS: &[(&str, &str, bool)] = &[
    ("exit-on-lock-contention", "see --lock-file", true),
    (
        "experimental-allocatable-ignore-eviction",
        "hard eviction thresholds are always held back",
        true,
    ),
    (
        "experimental-mounter-path",
        "mounts are made by the kernel's own calls",
        true,
    ),
    (
        "lock-file",
        "two agents of one node are kept apart by their sockets",
        false,
    ),
    ("log-json-info-buffer-size", "each line is written at once", false),
    ("log-json-split-stream", "logs go to standard error", false),
    ("log-text-info-buffer-size", "each line is written at once", false),
    ("log-text-split-stream", "logs go to standard error", false),
    (
        "pod-infra-container-image",
        "the runtime says what sandboxes are made of",
        false,
    ),
    ("runtime-cgroups", "the runtime's cgroup is not measured", false),
    (
        "vmodule",
        "write directives such as \"info,witlet_agent=debug\" in log.level",
        false,
    ),
];

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() || file::nanoseconds(text) == Some(0),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Values that differ in writing only, such as `60s` and `1m0s`, are the same. Nothing, in whatever form, stands for the
/// default, and so does a duration of 0.
fn same(said: &Value, does: &Value) -> bool {
    let span = |v: &Value| v.as_str().and_then(file::nanoseconds);
    said == does || empty(said) || matches!((span(said), span(does)), (Some(a), Some(b)) if a == b)
}

/// As `witlet.toml` has it; none where the key is to be left out.
fn write(value: &Value, how: How) -> Result<Option<Value>, String> {
    let text = || value.as_str().ok_or_else(|| format!("{value} is no text"));
    Ok(match how {
        How::Same if value == "" => None,
        How::Same => Some(value.clone()),
        How::Span => {
            let nanos = file::nanoseconds(text()?).ok_or_else(|| format!("{value} is no duration"))?;
            // The kubelet takes its default for 0.
            (nanos > 0).then(|| json!(span(nanos)))
        }
        How::Seconds => {
            let seconds = value
                .as_u64()
                .ok_or_else(|| format!("{value} is no number of seconds"))?;
            Some(json!(format!("{seconds}s")))
        }
        How::Bytes => {
            let quantity: Quantity = text()?.parse().map_err(|_| format!("{value} is no quantity"))?;
            Some(json!(format!("{}B", quantity.value().max(0))))
        }
        How::Taints => {
            let taints = value.as_array().ok_or("it is no list")?;
            Some(taints.iter().map(taint).collect::<Result<Vec<_>, _>>()?.into())
        }
        // Older ones than 1.2 are not spoken.
        How::TlsVersion => match text()? {
            "" => None,
            "VersionTLS13" => Some(json!("1.3")),
            "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Some(json!("1.2")),
            _ => return Err(format!("{value} is none of VersionTLS10 to VersionTLS13")),
        },
        How::Mode => match text()? {
            "" => None,
            "Webhook" => Some(json!("webhook")),
            "AlwaysAllow" => Some(json!("always-allow")),
            _ => return Err(format!("{value} is not a valid authorization mode")),
        },
        // Nothing is read from there.
        How::PathOrNone if value == "" => None,
        How::PathOrNone => Some(value.clone()),
        How::Lower if value == "" => None,
        How::Lower => Some(json!(text()?.to_lowercase())),
        How::ByNode => by_node(value)?,
        How::Socket if value == "" => None,
        How::Socket => {
            let text = text()?;
            let scheme = if text.contains("://") { "" } else { "unix://" };
            Some(json!(format!("{scheme}{text}")))
        }
    })
}

/// What is reserved of each node, by its number.
fn by_node(value: &Value) -> Result<Option<Value>, String> {
    let mut nodes = Map::new();
    for reservation in value.as_array().ok_or("it is no list")? {
        let node = reservation["numaNode"].as_u64().unwrap_or(0).to_string();
        let limits = reservation["limits"].as_object().ok_or("limits are missing")?;
        let known = nodes.entry(node).or_insert_with(|| json!({}));
        if let Value::Object(known) = known {
            let amount = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            known.extend(limits.iter().map(|(name, v)| (name.clone(), json!(amount(v)))));
        }
    }
    Ok((!nodes.is_empty()).then_some(nodes.into()))
}

fn span(nanos: u64) -> String {
    match nanos {
        n if n % 1_000_000_000 == 0 => format!("{}s", n / 1_000_000_000),
        n if n % 1_000_000 == 0 => format!("{}ms", n / 1_000_000),
        n => format!("{n}ns"),
    }
}

fn taint(taint: &Value) -> Result<Value, String> {
    let part = |key: &str| taint[key].as_str().unwrap_or_default();
    if !taint["timeAdded"].is_null() {
        return Err("timeAdded must not be set".into());
    }
    let value = match part("value") {
        "" => String::new(),
        value => format!("={value}"),
    };
    let text = format!("{}{value}:{}", part("key"), part("effect"));
    crate::node::parse_taint(&text).map(|_| json!(text))
}

/// Leaves that no field covers.
fn walk(path: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    let known = |path: &str| FIELDS.iter().any(|(field, _)| *field == path) || matches!(path, "kind" | "apiVersion");
    if known(path) {
        return;
    }
    let on_the_way = path.is_empty() || FIELDS.iter().any(|(field, _)| field.starts_with(&format!("{path}.")));
    match value {
        Value::Object(map) if on_the_way => {
            for (key, value) in map {
                let below = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(&below, value, found);
            }
        }
        Value::Null => {}
        other => found.push((path.to_owned(), other.clone())),
    }
}
