//! Every field of the kubelet's configuration, and what becomes of it.

/// How a value is written in `witlet.toml`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    /// As it is.
    Same,
    /// A Go duration.
    Span,
    /// Whole seconds.
    Seconds,
    /// A quantity; one below zero is none.
    Bytes,
    /// Taints as objects.
    Taints,
    /// A path, or nothing at all.
    PathOrNone,
    /// `VersionTLS12`.
    TlsVersion,
    /// Of authorization.
    Mode,
    /// A socket, with or without its scheme.
    Socket,
    /// A word that is written with capitals.
    Lower,
    /// Amounts by NUMA node.
    ByNode,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Fate {
    /// The key that says the same.
    Key(&'static str, How),
    /// Said by a key together with other fields.
    Joined,
    /// There is no key, because witlet always does what the kubelet does by this value (JSON).
    Always(&'static str, &'static str),
    /// It changes nothing in witlet.
    Ignored(&'static str),
}
use Fate::{Always, Ignored, Joined, Key};
use How::{ByNode, Bytes, Lower, Mode, PathOrNone, Same, Seconds, Socket, Span, Taints, TlsVersion};

const FIXED: &str = "the pace is fixed, and events make it finer";
const DEFAULT_ONLY: &str = "witlet does it as by default and has no key for it";

pub(super) const FIELDS: &[(&str, Fate)] = &[
    ("enableServer", Joined),
    ("staticPodPath", Key("static_pods.path", Same)),
    ("podLogsDir", Key("node.pod_logs_dir", Same)),
    ("syncFrequency", Always("\"1m\"", FIXED)),
    ("fileCheckFrequency", Key("static_pods.poll", Span)),
    ("httpCheckFrequency", Key("static_pods.url_poll", Span)),
    ("staticPodURL", Key("static_pods.url", Same)),
    ("staticPodURLHeader", Key("static_pods.url_headers", Same)),
    ("address", Joined),
    ("port", Joined),
    ("readOnlyPort", Joined),
    ("tlsCertFile", Key("server.tls_cert", Same)),
    ("tlsPrivateKeyFile", Key("server.tls_key", Same)),
    ("tlsCipherSuites", Key("server.tls_ciphers", Same)),
    ("tlsCurvePreferences", Always("null", "the library's order is used")),
    ("tlsMinVersion", Key("server.tls_min_version", TlsVersion)),
    ("rotateCertificates", Key("api.rotate_certificates", Same)),
    ("serverTLSBootstrap", Key("server.tls_bootstrap", Same)),
    ("authentication.x509.clientCAFile", Key("server.client_ca", Same)),
    (
        "authentication.webhook.enabled",
        Key("server.authentication.tokens", Same),
    ),
    (
        "authentication.webhook.cacheTTL",
        Key("server.authentication.token_ttl", Span),
    ),
    (
        "authentication.anonymous.enabled",
        Key("server.authentication.anonymous", Same),
    ),
    ("authorization.mode", Key("server.authorization.mode", Mode)),
    (
        "authorization.webhook.cacheAuthorizedTTL",
        Key("server.authorization.allowed_ttl", Span),
    ),
    (
        "authorization.webhook.cacheUnauthorizedTTL",
        Key("server.authorization.denied_ttl", Span),
    ),
    ("registryPullQPS", Key("images.pulls_per_second", Same)),
    ("registryBurst", Key("images.pull_burst", Same)),
    (
        "imagePullCredentialsVerificationPolicy",
        Key("images.credential_verification", Same),
    ),
    (
        "preloadedImagesVerificationAllowlist",
        Key("images.verification_allowlist", Same),
    ),
    ("eventRecordQPS", Key("api.event_qps", Same)),
    ("eventBurst", Key("api.event_burst", Same)),
    ("enableDebuggingHandlers", Key("server.debugging", Same)),
    ("enableContentionProfiling", Ignored("it is about the Go runtime")),
    ("healthzPort", Joined),
    ("healthzBindAddress", Joined),
    ("oomScoreAdj", Always("-999", DEFAULT_ONLY)),
    ("clusterDomain", Key("dns.cluster_domain", Same)),
    ("clusterDNS", Key("dns.cluster_dns", Same)),
    (
        "streamingConnectionIdleTimeout",
        Ignored("the kubelet does not apply it either: the runtime serves the streams"),
    ),
    ("nodeStatusUpdateFrequency", Key("node.status_interval", Span)),
    ("nodeStatusReportFrequency", Joined),
    ("nodeLeaseDurationSeconds", Key("node.lease", Seconds)),
    ("imageMinimumGCAge", Key("images.gc_min_age", Span)),
    ("imageMaximumGCAge", Key("images.gc_max_age", Span)),
    ("imageGCHighThresholdPercent", Key("images.gc_high", Same)),
    ("imageGCLowThresholdPercent", Key("images.gc_low", Same)),
    ("volumeStatsAggPeriod", Key("stats.volumes", Span)),
    (
        "kubeletCgroups",
        Always(
            "\"\"",
            "the service manager puts the agent into a cgroup (Slice= of its unit)",
        ),
    ),
    (
        "systemCgroups",
        Always("\"\"", "the service manager puts processes into cgroups"),
    ),
    ("cgroupRoot", Key("runtime.cgroup_root", PathOrNone)),
    (
        "cgroupsPerQOS",
        Always("true", "pods always have cgroups by their class"),
    ),
    ("cgroupDriver", Key("runtime.cgroup_driver", Same)),
    ("cpuManagerPolicy", Key("cpu_manager.policy", Same)),
    ("singleProcessOOMKill", Always("null", DEFAULT_ONLY)),
    ("cpuManagerPolicyOptions", Key("cpu_manager.options", Same)),
    ("cpuManagerReconcilePeriod", Key("cpu_manager.reconcile", Span)),
    ("memoryManagerPolicy", Key("memory_manager.policy", Lower)),
    ("topologyManagerPolicy", Key("topology_manager.policy", Same)),
    ("topologyManagerScope", Key("topology_manager.scope", Same)),
    ("topologyManagerPolicyOptions", Key("topology_manager.options", Same)),
    (
        "qosReserved",
        Always("null", "the kubelet has it behind an alpha gate only"),
    ),
    ("runtimeRequestTimeout", Key("runtime.timeout", Span)),
    (
        "hairpinMode",
        Ignored("the kubelet does not apply it either: the network is the runtime's"),
    ),
    ("maxPods", Key("node.max_pods", Same)),
    (
        "podCIDR",
        Always(
            "\"\"",
            "the network plugin of a standalone node has a subnet of its own",
        ),
    ),
    ("podPidsLimit", Always("-1", DEFAULT_ONLY)),
    ("resolvConf", Key("dns.resolv_conf", PathOrNone)),
    ("runOnce", Always("false", "the kubelet refuses it too")),
    ("cpuCFSQuota", Always("true", DEFAULT_ONLY)),
    ("cpuCFSQuotaPeriod", Always("\"100ms\"", DEFAULT_ONLY)),
    ("nodeStatusMaxImages", Always("50", DEFAULT_ONLY)),
    ("maxOpenFiles", Always("1000000", DEFAULT_ONLY)),
    ("contentType", Ignored("requests are JSON; the API server speaks both")),
    ("kubeAPIQPS", Key("api.qps", Same)),
    ("kubeAPIBurst", Key("api.burst", Same)),
    ("serializeImagePulls", Joined),
    ("maxParallelImagePulls", Joined),
    ("evictionHard", Key("eviction.hard", Same)),
    ("evictionSoft", Always("null", DEFAULT_ONLY)),
    ("evictionSoftGracePeriod", Always("null", DEFAULT_ONLY)),
    (
        "evictionPressureTransitionPeriod",
        Key("eviction.pressure_transition", Span),
    ),
    ("evictionMaxPodGracePeriod", Always("0", DEFAULT_ONLY)),
    ("evictionMinimumReclaim", Always("null", DEFAULT_ONLY)),
    ("mergeDefaultEvictionSettings", Always("false", DEFAULT_ONLY)),
    ("podsPerCore", Key("node.pods_per_core", Same)),
    (
        "enableControllerAttachDetach",
        Always("true", "volumes are attached by the controller, never by the node"),
    ),
    (
        "protectKernelDefaults",
        Always("false", "kernel tunables are left alone"),
    ),
    (
        "makeIPTablesUtilChains",
        Ignored("packet filters are the network's; kube-proxy makes the chains that it needs"),
    ),
    ("iptablesMasqueradeBit", Ignored("the kubelet does not apply it either")),
    ("iptablesDropBit", Ignored("the kubelet does not apply it either")),
    ("featureGates", Joined),
    (
        "failSwapOn",
        Always("false", "witlet runs with swap, which pods get none of"),
    ),
    ("memorySwap.swapBehavior", Always("\"\"", "pods get no swap")),
    ("containerLogMaxSize", Key("logs.max_size", Bytes)),
    ("containerLogMaxFiles", Key("logs.max_files", Same)),
    ("containerLogMaxWorkers", Key("logs.workers", Same)),
    ("containerLogMonitorInterval", Key("logs.interval", Span)),
    (
        "configMapAndSecretChangeDetectionStrategy",
        Always("\"Watch\"", "what pods refer to is watched"),
    ),
    ("systemReserved", Key("node.system_reserved", Same)),
    ("kubeReserved", Key("node.kube_reserved", Same)),
    ("reservedSystemCPUs", Key("node.reserved_cpus", Same)),
    ("showHiddenMetricsForVersion", Ignored("no metric is hidden")),
    ("systemReservedCgroup", Key("node.system_reserved_cgroup", Same)),
    ("kubeReservedCgroup", Key("node.kube_reserved_cgroup", Same)),
    ("enforceNodeAllocatable", Key("node.enforce_allocatable", Same)),
    ("allowedUnsafeSysctls", Always("null", DEFAULT_ONLY)),
    (
        "volumePluginDir",
        Ignored("FlexVolume drivers are not run; volumes come from plugins and CSI"),
    ),
    ("providerID", Key("node.provider_id", Same)),
    ("kernelMemcgNotification", Ignored("pressure is looked at often enough")),
    ("logging", Joined),
    ("enableSystemLogHandler", Key("server.system_logs", Same)),
    ("enableSystemLogQuery", Key("server.system_log_query", Same)),
    ("shutdownGracePeriod", Always("\"0s\"", DEFAULT_ONLY)),
    ("shutdownGracePeriodCriticalPods", Always("\"0s\"", DEFAULT_ONLY)),
    ("shutdownGracePeriodByPodPriority", Always("null", DEFAULT_ONLY)),
    (
        "crashLoopBackOff.maxContainerRestartPeriod",
        Always("\"5m\"", DEFAULT_ONLY),
    ),
    ("reservedMemory", Key("memory_manager.reserved", ByNode)),
    ("enableProfilingHandler", Key("server.profiling", Same)),
    ("enableDebugFlagsHandler", Key("server.debug_flags", Same)),
    ("seccompDefault", Joined),
    ("memoryThrottlingFactor", Ignored("it matters with an alpha gate only")),
    (
        "memoryReservationPolicy",
        Always("\"None\"", "the kubelet has it behind an alpha gate only"),
    ),
    ("registerWithTaints", Key("node.taints", Taints)),
    ("registerNode", Key("node.register", Same)),
    ("tracing", Joined),
    ("tracing.endpoint", Key("tracing.endpoint", Same)),
    (
        "tracing.samplingRatePerMillion",
        Key("tracing.sampling_per_million", Same),
    ),
    ("localStorageCapacityIsolation", Always("true", DEFAULT_ONLY)),
    ("containerRuntimeEndpoint", Key("runtime.endpoint", Socket)),
    ("imageServiceEndpoint", Key("runtime.image_endpoint", Socket)),
    ("failCgroupV1", Always("false", "witlet runs on both versions")),
    ("userNamespaces.idsPerPod", Key("node.user_namespace_ids", Same)),
];
