//! The kubelet's command line (the kubelet contract, node A1).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// How a flag's value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Bool,
    Int,
    Text,
    /// Comma-separated.
    List,
    /// `a=b,c=d`.
    Map,
    /// `a<b,c<d`.
    Thresholds,
    /// `a=true,b=false`.
    Gates,
    Taints,
    /// `0:memory=1Gi,hugepages-1Gi=2Gi`, once per NUMA node.
    ReservedMemory,
    /// `a:b,c:d`.
    Headers,
}
use Kind::{Bool, Gates, Headers, Int, List, Map as Pairs, ReservedMemory, Taints, Text, Thresholds};

/// Flags that set a field of the configuration file.
pub(super) const FIELDS: &[(&str, Kind, &str)] = &[
    ("address", Text, "address"),
    ("allowed-unsafe-sysctls", List, "allowedUnsafeSysctls"),
    ("anonymous-auth", Bool, "authentication.anonymous.enabled"),
    ("authentication-token-webhook", Bool, "authentication.webhook.enabled"),
    (
        "authentication-token-webhook-cache-ttl",
        Text,
        "authentication.webhook.cacheTTL",
    ),
    ("authorization-mode", Text, "authorization.mode"),
    (
        "authorization-webhook-cache-authorized-ttl",
        Text,
        "authorization.webhook.cacheAuthorizedTTL",
    ),
    (
        "authorization-webhook-cache-unauthorized-ttl",
        Text,
        "authorization.webhook.cacheUnauthorizedTTL",
    ),
    ("cgroup-driver", Text, "cgroupDriver"),
    ("cgroup-root", Text, "cgroupRoot"),
    ("cgroups-per-qos", Bool, "cgroupsPerQOS"),
    ("client-ca-file", Text, "authentication.x509.clientCAFile"),
    ("cluster-dns", List, "clusterDNS"),
    ("cluster-domain", Text, "clusterDomain"),
    ("container-log-max-files", Int, "containerLogMaxFiles"),
    ("container-log-max-size", Text, "containerLogMaxSize"),
    ("container-runtime-endpoint", Text, "containerRuntimeEndpoint"),
    ("contention-profiling", Bool, "enableContentionProfiling"),
    ("cpu-cfs-quota", Bool, "cpuCFSQuota"),
    ("cpu-cfs-quota-period", Text, "cpuCFSQuotaPeriod"),
    ("cpu-manager-policy", Text, "cpuManagerPolicy"),
    ("cpu-manager-policy-options", Pairs, "cpuManagerPolicyOptions"),
    ("cpu-manager-reconcile-period", Text, "cpuManagerReconcilePeriod"),
    ("enable-controller-attach-detach", Bool, "enableControllerAttachDetach"),
    ("enable-debugging-handlers", Bool, "enableDebuggingHandlers"),
    ("enable-server", Bool, "enableServer"),
    ("enforce-node-allocatable", List, "enforceNodeAllocatable"),
    ("event-burst", Int, "eventBurst"),
    ("event-qps", Int, "eventRecordQPS"),
    ("eviction-hard", Thresholds, "evictionHard"),
    ("eviction-max-pod-grace-period", Int, "evictionMaxPodGracePeriod"),
    ("eviction-minimum-reclaim", Pairs, "evictionMinimumReclaim"),
    (
        "eviction-pressure-transition-period",
        Text,
        "evictionPressureTransitionPeriod",
    ),
    ("eviction-soft", Thresholds, "evictionSoft"),
    ("eviction-soft-grace-period", Pairs, "evictionSoftGracePeriod"),
    ("fail-cgroupv1", Bool, "failCgroupV1"),
    ("fail-swap-on", Bool, "failSwapOn"),
    ("feature-gates", Gates, "featureGates"),
    ("file-check-frequency", Text, "fileCheckFrequency"),
    ("hairpin-mode", Text, "hairpinMode"),
    ("healthz-bind-address", Text, "healthzBindAddress"),
    ("healthz-port", Int, "healthzPort"),
    ("http-check-frequency", Text, "httpCheckFrequency"),
    ("image-gc-high-threshold", Int, "imageGCHighThresholdPercent"),
    ("image-gc-low-threshold", Int, "imageGCLowThresholdPercent"),
    ("image-service-endpoint", Text, "imageServiceEndpoint"),
    ("iptables-drop-bit", Int, "iptablesDropBit"),
    ("iptables-masquerade-bit", Int, "iptablesMasqueradeBit"),
    ("kernel-memcg-notification", Bool, "kernelMemcgNotification"),
    ("kube-api-burst", Int, "kubeAPIBurst"),
    ("kube-api-content-type", Text, "contentType"),
    ("kube-api-qps", Int, "kubeAPIQPS"),
    ("kube-reserved", Pairs, "kubeReserved"),
    ("kube-reserved-cgroup", Text, "kubeReservedCgroup"),
    ("kubelet-cgroups", Text, "kubeletCgroups"),
    (
        "local-storage-capacity-isolation",
        Bool,
        "localStorageCapacityIsolation",
    ),
    ("log-flush-frequency", Text, "logging.flushFrequency"),
    ("logging-format", Text, "logging.format"),
    ("make-iptables-util-chains", Bool, "makeIPTablesUtilChains"),
    ("manifest-url", Text, "staticPodURL"),
    ("manifest-url-header", Headers, "staticPodURLHeader"),
    ("max-open-files", Int, "maxOpenFiles"),
    ("max-pods", Int, "maxPods"),
    ("memory-manager-policy", Text, "memoryManagerPolicy"),
    ("minimum-image-ttl-duration", Text, "imageMinimumGCAge"),
    ("node-status-max-images", Int, "nodeStatusMaxImages"),
    ("node-status-update-frequency", Text, "nodeStatusUpdateFrequency"),
    ("oom-score-adj", Int, "oomScoreAdj"),
    ("pod-cidr", Text, "podCIDR"),
    ("pod-manifest-path", Text, "staticPodPath"),
    ("pod-max-pids", Int, "podPidsLimit"),
    ("pods-per-core", Int, "podsPerCore"),
    ("port", Int, "port"),
    ("protect-kernel-defaults", Bool, "protectKernelDefaults"),
    ("provider-id", Text, "providerID"),
    ("qos-reserved", Pairs, "qosReserved"),
    ("read-only-port", Int, "readOnlyPort"),
    ("register-node", Bool, "registerNode"),
    ("register-with-taints", Taints, "registerWithTaints"),
    ("registry-burst", Int, "registryBurst"),
    ("registry-qps", Int, "registryPullQPS"),
    ("reserved-cpus", Text, "reservedSystemCPUs"),
    ("reserved-memory", ReservedMemory, "reservedMemory"),
    ("resolv-conf", Text, "resolvConf"),
    ("rotate-certificates", Bool, "rotateCertificates"),
    ("rotate-server-certificates", Bool, "serverTLSBootstrap"),
    ("runonce", Bool, "runOnce"),
    ("runtime-request-timeout", Text, "runtimeRequestTimeout"),
    ("serialize-image-pulls", Bool, "serializeImagePulls"),
    (
        "streaming-connection-idle-timeout",
        Text,
        "streamingConnectionIdleTimeout",
    ),
    ("sync-frequency", Text, "syncFrequency"),
    ("system-cgroups", Text, "systemCgroups"),
    ("system-reserved", Pairs, "systemReserved"),
    ("system-reserved-cgroup", Text, "systemReservedCgroup"),
    ("tls-cert-file", Text, "tlsCertFile"),
    ("tls-cipher-suites", List, "tlsCipherSuites"),
    ("tls-curve-preferences", List, "tlsCurvePreferences"),
    ("tls-min-version", Text, "tlsMinVersion"),
    ("tls-private-key-file", Text, "tlsPrivateKeyFile"),
    ("topology-manager-policy", Text, "topologyManagerPolicy"),
    ("topology-manager-policy-options", Pairs, "topologyManagerPolicyOptions"),
    ("topology-manager-scope", Text, "topologyManagerScope"),
    ("v", Int, "logging.verbosity"),
    ("volume-plugin-dir", Text, "volumePluginDir"),
    ("volume-stats-agg-period", Text, "volumeStatsAggPeriod"),
];

/// Flags that stand for themselves.
pub(super) const OWN: &[(&str, Kind)] = &[
    ("bootstrap-kubeconfig", Text),
    ("cert-dir", Text),
    ("cloud-provider", Text),
    ("config", Text),
    ("config-dir", Text),
    ("exit-on-lock-contention", Bool),
    ("experimental-allocatable-ignore-eviction", Bool),
    ("experimental-mounter-path", Text),
    ("help", Bool),
    ("hostname-override", Text),
    ("image-credential-provider-bin-dir", Text),
    ("image-credential-provider-config", Text),
    ("kubeconfig", Text),
    ("lock-file", Text),
    ("log-json-info-buffer-size", Text),
    ("log-json-split-stream", Bool),
    ("log-text-info-buffer-size", Text),
    ("log-text-split-stream", Bool),
    ("maximum-dead-containers", Int),
    ("maximum-dead-containers-per-container", Int),
    ("minimum-container-ttl-duration", Text),
    ("node-ip", Text),
    ("node-labels", Pairs),
    // Gone since 1.35; the files of older nodes still have it.
    ("pod-infra-container-image", Text),
    ("root-dir", Text),
    ("runtime-cgroups", Text),
    ("seccomp-default", Bool),
    ("version", Bool),
    ("vmodule", Text),
];

/// A command line that was understood.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Flags {
    /// By name, of those without a field.
    pub(super) own: BTreeMap<&'static str, Value>,
    /// The others, as a configuration that lies over the files'.
    pub(super) config: Value,
}

impl Flags {
    /// In the kubelet's words if it does not know them either.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut flags = Self {
            own: BTreeMap::new(),
            config: json!({}),
        };
        let mut rest = arguments.iter();
        let mut positional = None;
        while let Some(argument) = rest.next() {
            if argument == "--" {
                positional = positional.or(rest.next());
                break;
            }
            let (name, mut value) = match split(argument) {
                Some(parts) => parts,
                None => {
                    positional.get_or_insert(argument);
                    continue;
                }
            };
            let known = lookup(&name).ok_or_else(|| unknown(argument, &name))?;
            if value.is_none() && known.kind != Bool {
                let next = rest
                    .next()
                    .ok_or_else(|| prefixed(&format!("flag needs an argument: {}", shown(&name))));
                value = Some(next?.clone());
            }
            let text = value.unwrap_or_else(|| "true".into());
            flags
                .set(known, &text)
                .map_err(|why| prefixed(&format!("invalid argument {text:?} for {:?} flag: {why}", shown(&name))))?;
        }
        match positional {
            Some(word) if !flags.is("help") => Err(format!("unknown command {word}")),
            _ => Ok(flags),
        }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.own
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }

    pub fn is(&self, name: &str) -> bool {
        self.own.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn set(&mut self, known: Known, text: &str) -> Result<(), String> {
        let value = value(known.kind, text)?;
        let slot = match known.field {
            None => self.own.entry(known.name).or_insert(Value::Null),
            Some(path) => path.split('.').fold(&mut self.config, |tree, part| {
                if !tree.is_object() {
                    *tree = json!({});
                }
                &mut tree[part]
            }),
        };
        // Lists and maps that are given again add to what was given.
        match (slot, value) {
            (Value::Object(old), Value::Object(new)) => old.extend(new),
            (Value::Array(old), Value::Array(new)) => old.extend(new),
            (slot, value) => *slot = value,
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Known {
    name: &'static str,
    kind: Kind,
    field: Option<&'static str>,
}

fn lookup(name: &str) -> Option<Known> {
    let name = if name == "h" { "help" } else { name };
    let own = OWN.iter().find(|(n, _)| *n == name).map(|(name, kind)| Known {
        name,
        kind: *kind,
        field: None,
    });
    own.or_else(|| {
        let (name, kind, field) = FIELDS.iter().find(|(n, _, _)| *n == name)?;
        Some(Known {
            name,
            kind: *kind,
            field: Some(field),
        })
    })
}

/// Name and value of `--name`, `--name=value`, `-v=value`, `-v2`; underscores count as dashes.
fn split(argument: &str) -> Option<(String, Option<String>)> {
    if let Some(long) = argument.strip_prefix("--") {
        return Some(match long.split_once('=') {
            Some((name, value)) => (name.replace('_', "-"), Some(value.to_owned())),
            None => (long.replace('_', "-"), None),
        });
    }
    let short = argument.strip_prefix('-').filter(|s| !s.is_empty())?;
    let (name, rest) = short.split_at(short.chars().next().map_or(0, char::len_utf8));
    let value = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest).to_owned());
    Some((name.to_owned(), value))
}

fn shown(name: &str) -> String {
    match name {
        "v" | "h" => format!("-{name}"),
        _ => format!("--{name}"),
    }
}

fn unknown(argument: &str, name: &str) -> String {
    prefixed(&if argument.starts_with("--") {
        format!("unknown flag: --{name}")
    } else {
        format!("unknown shorthand flag: '{name}' in {argument}")
    })
}

fn prefixed(error: &str) -> String {
    format!("failed to parse kubelet flag: {error}")
}

fn value(kind: Kind, text: &str) -> Result<Value, String> {
    let parts = || text.split(',').filter(|p| !p.is_empty());
    let pair = |part: &str, sign: char| {
        part.split_once(sign)
            .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
            .ok_or_else(|| format!("malformed pair, expect string{sign}string"))
    };
    Ok(match kind {
        Bool => Value::Bool(boolean(text)?),
        Int => {
            let number: i64 = text
                .parse()
                .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))?;
            json!(number)
        }
        Text => Value::String(text.to_owned()),
        List => parts().collect(),
        Kind::Map => object(parts().map(|p| pair(p, '=').map(|(k, v)| (k, json!(v)))))?,
        Thresholds => object(parts().map(|p| pair(p, '<').map(|(k, v)| (k, json!(v)))))?,
        Gates => object(parts().map(|p| {
            let (key, value) = pair(p, '=')?;
            Ok((key, Value::Bool(boolean(&value)?)))
        }))?,
        Headers => object(parts().map(|p| pair(p, ':').map(|(k, v)| (k, json!([v])))))?,
        Taints => {
            let taints = crate::node::parse_taints(parts())?;
            let taints = taints
                .into_iter()
                .map(|t| json!({"key": t.key, "value": t.value.unwrap_or_default(), "effect": t.effect}));
            taints.collect()
        }
        ReservedMemory => {
            let (node, limits) = text.split_once(':').ok_or("it must be numa-node:type=value,…")?;
            let node: i64 = node.parse().map_err(|_| "its NUMA node is no number")?;
            let limits = limits.split(',').map(|p| pair(p, '=').map(|(k, v)| (k, json!(v))));
            json!([{"numaNode": node, "limits": object(limits)?}])
        }
    })
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

fn object(pairs: impl Iterator<Item = Result<(String, Value), String>>) -> Result<Value, String> {
    pairs.collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

/// What `--help` shows.
pub fn usage() -> String {
    let mut names: Vec<_> = OWN
        .iter()
        .map(|(name, kind)| (*name, *kind))
        .chain(FIELDS.iter().map(|(name, kind, _)| (*name, *kind)))
        .collect();
    names.sort_unstable_by_key(|(name, _)| *name);
    let mut out = String::from("Usage:\n  kubelet [flags]\n\nFlags:\n");
    for (name, kind) in names {
        let of = match kind {
            Bool => "",
            Int => " int",
            Text => " string",
            List => " strings",
            Kind::Map | Thresholds | Gates | Headers => " mapStringString",
            Taints | ReservedMemory => " list",
        };
        out.push_str(&format!("      {}{of}\n", shown(name)));
    }
    out
}
