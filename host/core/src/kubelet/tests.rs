#![allow(clippy::unwrap_used)]

use super::*;

/// Every field of KubeletConfiguration v1beta1, as the release has them.
const ALL: &[&str] = &[
    "enableServer",
    "staticPodPath",
    "podLogsDir",
    "syncFrequency",
    "fileCheckFrequency",
    "httpCheckFrequency",
    "staticPodURL",
    "staticPodURLHeader",
    "address",
    "port",
    "readOnlyPort",
    "tlsCertFile",
    "tlsPrivateKeyFile",
    "tlsCipherSuites",
    "tlsCurvePreferences",
    "tlsMinVersion",
    "rotateCertificates",
    "serverTLSBootstrap",
    "authentication.x509.clientCAFile",
    "authentication.webhook.enabled",
    "authentication.webhook.cacheTTL",
    "authentication.anonymous.enabled",
    "authorization.mode",
    "authorization.webhook.cacheAuthorizedTTL",
    "authorization.webhook.cacheUnauthorizedTTL",
    "registryPullQPS",
    "registryBurst",
    "imagePullCredentialsVerificationPolicy",
    "preloadedImagesVerificationAllowlist",
    "eventRecordQPS",
    "eventBurst",
    "enableDebuggingHandlers",
    "enableContentionProfiling",
    "healthzPort",
    "healthzBindAddress",
    "oomScoreAdj",
    "clusterDomain",
    "clusterDNS",
    "streamingConnectionIdleTimeout",
    "nodeStatusUpdateFrequency",
    "nodeStatusReportFrequency",
    "nodeLeaseDurationSeconds",
    "imageMinimumGCAge",
    "imageMaximumGCAge",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "volumeStatsAggPeriod",
    "kubeletCgroups",
    "systemCgroups",
    "cgroupRoot",
    "cgroupsPerQOS",
    "cgroupDriver",
    "cpuManagerPolicy",
    "singleProcessOOMKill",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "memoryManagerPolicy",
    "topologyManagerPolicy",
    "topologyManagerScope",
    "topologyManagerPolicyOptions",
    "qosReserved",
    "runtimeRequestTimeout",
    "hairpinMode",
    "maxPods",
    "podCIDR",
    "podPidsLimit",
    "resolvConf",
    "runOnce",
    "cpuCFSQuota",
    "cpuCFSQuotaPeriod",
    "nodeStatusMaxImages",
    "maxOpenFiles",
    "contentType",
    "kubeAPIQPS",
    "kubeAPIBurst",
    "serializeImagePulls",
    "maxParallelImagePulls",
    "evictionHard",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "evictionPressureTransitionPeriod",
    "evictionMaxPodGracePeriod",
    "evictionMinimumReclaim",
    "mergeDefaultEvictionSettings",
    "podsPerCore",
    "enableControllerAttachDetach",
    "protectKernelDefaults",
    "makeIPTablesUtilChains",
    "iptablesMasqueradeBit",
    "iptablesDropBit",
    "featureGates",
    "failSwapOn",
    "memorySwap.swapBehavior",
    "containerLogMaxSize",
    "containerLogMaxFiles",
    "containerLogMaxWorkers",
    "containerLogMonitorInterval",
    "configMapAndSecretChangeDetectionStrategy",
    "systemReserved",
    "kubeReserved",
    "reservedSystemCPUs",
    "showHiddenMetricsForVersion",
    "systemReservedCgroup",
    "kubeReservedCgroup",
    "enforceNodeAllocatable",
    "allowedUnsafeSysctls",
    "volumePluginDir",
    "providerID",
    "kernelMemcgNotification",
    "logging",
    "enableSystemLogHandler",
    "enableSystemLogQuery",
    "shutdownGracePeriod",
    "shutdownGracePeriodCriticalPods",
    "shutdownGracePeriodByPodPriority",
    "crashLoopBackOff.maxContainerRestartPeriod",
    "reservedMemory",
    "enableProfilingHandler",
    "enableDebugFlagsHandler",
    "seccompDefault",
    "memoryThrottlingFactor",
    "memoryReservationPolicy",
    "registerWithTaints",
    "registerNode",
    "tracing",
    "tracing.endpoint",
    "tracing.samplingRatePerMillion",
    "localStorageCapacityIsolation",
    "containerRuntimeEndpoint",
    "imageServiceEndpoint",
    "failCgroupV1",
    "userNamespaces.idsPerPod",
];

fn flags(arguments: &[&str]) -> Flags {
    Flags::parse(&arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn refused(arguments: &[&str]) -> String {
    Flags::parse(&arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()).unwrap_err()
}

fn config(text: &str) -> Value {
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    parse(&format!("{head}{text}"), "/var/lib/kubelet").unwrap()
}

const JOIN: &str = "--kubeconfig=/etc/kubernetes/kubelet.conf";

fn translated(text: &str, arguments: &[&str]) -> Translation {
    translate(config(text), &flags(&[&[JOIN], arguments].concat())).unwrap()
}

fn notes(text: &str, differs: bool) -> Vec<String> {
    let notes = translated(text, &[]).notes;
    notes
        .into_iter()
        .filter(|n| n.differs == differs)
        .map(|n| n.of)
        .collect()
}

#[test]
fn every_field_is_provided_for() {
    let mut known: Vec<_> = FIELDS.iter().map(|(field, _)| *field).collect();
    let mut all = ALL.to_vec();
    known.sort_unstable();
    all.sort_unstable();
    assert_eq!(known, all);
}

#[test]
fn every_flag_with_a_field_names_one() {
    for (flag, _, field) in flags::FIELDS {
        let known = ALL.contains(field) || field.starts_with("logging.");
        assert!(known, "--{flag}: {field}");
    }
    for (flag, _, _) in FLAGS {
        assert!(flags::OWN.iter().any(|(own, _)| own == flag), "{flag}");
    }
}

/// The files that kubeadm writes, and the flags of its service file.
#[test]
fn a_node_of_kubeadm() {
    let text = "
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
logging: {flushFrequency: 0, options: {json: {infoBufferSize: \"0\"}, text: {infoBufferSize: \"0\"}}, verbosity: 0}
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
resolvConf: /run/systemd/resolve/resolv.conf
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
";
    let arguments = [
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
        "--config=/var/lib/kubelet/config.yaml",
        "--pod-infra-container-image=registry.k8s.io/pause:3.10",
        "--node-ip",
        "192.0.2.10",
        "--hostname-override=Node-1",
    ];
    let translation = translated(text, &arguments);
    for line in [
        "[api]",
        "kubeconfig = \"/etc/kubernetes/kubelet.conf\"",
        "bootstrap_kubeconfig = \"/etc/kubernetes/bootstrap-kubelet.conf\"",
        "rotate_certificates = true",
        "cluster_dns = [\"10.96.0.10\"]",
        "cluster_domain = \"cluster.local\"",
        "resolv_conf = \"/run/systemd/resolve/resolv.conf\"",
        "healthz = \"127.0.0.1:10248\"",
        "client_ca = \"/etc/kubernetes/pki/ca.crt\"",
        "mode = \"webhook\"",
        "cgroup_driver = \"systemd\"",
        "endpoint = \"unix:///run/containerd/containerd.sock\"",
        "path = \"/etc/kubernetes/manifests\"",
        "name = \"Node-1\"",
        "address = [\"192.0.2.10\"]",
    ] {
        assert!(
            translation.toml.lines().any(|l| l == line),
            "{line}: {}",
            translation.toml
        );
    }
    // Zero stands for the default, and all that kubeadm writes is followed.
    let differs: Vec<_> = translation.notes.iter().filter(|n| n.differs).collect();
    assert!(differs.is_empty(), "{differs:?}");
    assert!(!translation.toml.contains("_interval"), "{}", translation.toml);
}

#[test]
fn values_that_say_what_is_done_anyway_need_no_note() {
    assert_eq!(
        notes(
            "cgroupsPerQOS: true\nsyncFrequency: 60s\nevictionSoft: {}\nenforceNodeAllocatable: [pods]",
            true
        ),
        [""; 0]
    );
    assert_eq!(
        notes(
            "cgroupsPerQOS: false\nsyncFrequency: 10s\nqosReserved: {memory: 50%}",
            true
        ),
        ["syncFrequency", "cgroupsPerQOS", "qosReserved"]
    );
    assert_eq!(
        notes("hairpinMode: none\nnosuchField: 1\nauthorization: {typo: x}", false),
        ["hairpinMode", "authorization.typo", "nosuchField"]
    );
}

#[test]
fn values_are_written_as_witlet_reads_them() {
    let toml = |text: &str| translated(text, &[]).toml;
    for (text, line) in [
        ("nodeStatusUpdateFrequency: 1m30s", "status_interval = \"90s\""),
        // The report follows, unless it is said.
        ("nodeStatusUpdateFrequency: 1m30s", "report_interval = \"90s\""),
        ("nodeStatusReportFrequency: 1.5s", "report_interval = \"1500ms\""),
        ("nodeLeaseDurationSeconds: 20", "lease = \"20s\""),
        ("healthzPort: 0", "healthz = \"off\""),
        ("healthzBindAddress: '::'", "healthz = \"[::]:10248\""),
        ("serializeImagePulls: false", "parallel_pulls = 1000"),
        ("maxParallelImagePulls: 3", "parallel_pulls = 3"),
        ("{}", "parallel_pulls = 1"),
        ("logging: {verbosity: 4, format: json}", "level = \"debug\""),
        ("logging: {verbosity: 4, format: json}", "format = \"json\""),
        (
            "containerRuntimeEndpoint: /run/crio/crio.sock",
            "endpoint = \"unix:///run/crio/crio.sock\"",
        ),
        (
            "registerWithTaints: [{key: a, value: b, effect: NoSchedule}, {key: c, effect: NoExecute}]",
            "taints = [\"a=b:NoSchedule\", \"c:NoExecute\"]",
        ),
        ("registerNode: false", "register = false"),
        ("containerLogMaxSize: 50Mi", "max_size = \"52428800B\""),
        ("containerLogMaxSize: '-1'", "max_size = \"0B\""),
        ("containerLogMaxFiles: 3", "max_files = 3"),
        ("containerLogMonitorInterval: 1m", "interval = \"60s\""),
        ("volumeStatsAggPeriod: 2m", "volumes = \"120s\""),
        ("evictionPressureTransitionPeriod: 1m", "pressure_transition = \"60s\""),
        ("evictionHard: {memory.available: 5%}", "\"memory.available\" = \"5%\""),
        ("port: 10255", "listen = \"0.0.0.0:10255\""),
        ("address: 10.0.0.1", "listen = \"10.0.0.1:10250\""),
        ("address: 10.0.0.1", "read_only = \"off\""),
        ("enableServer: false", "listen = \"off\""),
        ("readOnlyPort: 10255", "read_only = \"0.0.0.0:10255\""),
        ("tlsMinVersion: VersionTLS13", "tls_min_version = \"1.3\""),
        ("authorization: {mode: AlwaysAllow}", "mode = \"always-allow\""),
        ("seccompDefault: true", "seccomp_default = true"),
        ("systemReserved: {cpu: 500m}", "cpu = \"500m\""),
        ("systemReserved: {cpu: 500m}", "[node.system_reserved]"),
        ("kubeReserved: {memory: 1Gi}", "[node.kube_reserved]"),
        (
            "enforceNodeAllocatable: [pods, kube-reserved]\nkubeReservedCgroup: /kube.slice",
            "enforce_allocatable = [\"pods\", \"kube-reserved\"]",
        ),
        (
            "systemReservedCgroup: /system.slice",
            "system_reserved_cgroup = \"/system.slice\"",
        ),
        ("cpuManagerPolicy: static", "policy = \"static\""),
        ("cpuManagerReconcilePeriod: 5s", "reconcile = \"5s\""),
        ("memoryManagerPolicy: Static", "policy = \"static\""),
        ("reservedSystemCPUs: 0,4-5", "reserved_cpus = \"0,4-5\""),
        (
            "topologyManagerPolicy: single-numa-node",
            "policy = \"single-numa-node\"",
        ),
        ("topologyManagerScope: pod", "scope = \"pod\""),
        ("staticPodPath: manifests", "path = \"/var/lib/kubelet/manifests\""),
    ] {
        let text = if text == "{}" { "" } else { text };
        assert!(toml(text).lines().any(|l| l == line), "{text}: {line}: {}", toml(text));
    }
}

#[test]
fn flags_win_over_files_and_gates_are_merged() {
    let translation = translated(
        "maxPods: 50\nclusterDNS: [10.0.0.1]",
        &["--max-pods=99", "--cluster-dns", "10.0.0.2,10.0.0.3"],
    );
    assert!(translation.toml.contains("max_pods = 99"), "{}", translation.toml);
    assert!(
        translation.toml.contains("cluster_dns = [\"10.0.0.2\", \"10.0.0.3\"]"),
        "{}",
        translation.toml
    );
    let gates = "featureGates: {ImageVolumeWithDigest: true, CRIListStreaming: true}";
    let of: Vec<_> = translated(gates, &["--feature-gates=CRIListStreaming=false"]).notes;
    let of: Vec<_> = of.iter().map(|n| n.of.as_str()).collect();
    assert_eq!(of, ["featureGates.ImageVolumeWithDigest"]);
}

#[test]
fn drop_ins_are_merge_patches() {
    let mut base =
        config("clusterDNS: [a]\nmaxPods: 5\nauthorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 1m}}");
    merge(
        &mut base,
        config("clusterDNS: [b]\nmaxPods: null\nauthorization: {webhook: {cacheUnauthorizedTTL: 2m}}"),
    );
    assert_eq!(base["clusterDNS"], json!(["b"]));
    assert_eq!(base.get("maxPods"), None);
    assert_eq!(
        base["authorization"],
        json!({"mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "1m", "cacheUnauthorizedTTL": "2m"}})
    );
}

#[test]
fn files_of_other_kinds_are_refused() {
    for (text, why) in [
        ("", "was empty"),
        ("kind: Pod\napiVersion: v1", "kind must be KubeletConfiguration"),
        (
            "kind: KubeletConfiguration",
            "apiVersion must be kubelet.config.k8s.io/v1beta1",
        ),
        ("a: [", ""),
    ] {
        let error = parse(text, "/").unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    // The last of two wins, as with the kubelet's lenient reading.
    assert_eq!(config("maxPods: 1\nmaxPods: 2")["maxPods"], 2);
}

#[test]
fn flags_are_written_in_all_their_ways() {
    let flags = flags(&[
        "--node-labels=a=b,c=d",
        "--node_labels",
        "e=f",
        "--rotate-certificates",
        "--register-node=false",
        "-v2",
        "--eviction-hard=memory.available<100Mi,nodefs.available<10%",
        "--reserved-memory=0:memory=1Gi",
        "--reserved-memory=1:memory=2Gi",
        "--system-reserved",
        "cpu=100m",
    ]);
    assert_eq!(flags.own["node-labels"], json!({"a": "b", "c": "d", "e": "f"}));
    assert_eq!(
        flags.config,
        json!({
            "rotateCertificates": true, "registerNode": false, "logging": {"verbosity": 2},
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "10%"},
            "reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi"}}, {"numaNode": 1, "limits": {"memory": "2Gi"}}],
            "systemReserved": {"cpu": "100m"},
        })
    );
}

#[test]
fn wrong_flags_are_refused_as_by_the_kubelet() {
    for (arguments, error) in [
        (
            &["--improve-speed"][..],
            "failed to parse kubelet flag: unknown flag: --improve-speed",
        ),
        (
            &["--improve-speed=1"],
            "failed to parse kubelet flag: unknown flag: --improve-speed",
        ),
        (
            &["-x"],
            "failed to parse kubelet flag: unknown shorthand flag: 'x' in -x",
        ),
        (
            &["--max-pods"],
            "failed to parse kubelet flag: flag needs an argument: --max-pods",
        ),
        (
            &["--max-pods=many"],
            "failed to parse kubelet flag: invalid argument \"many\" for \"--max-pods\" flag: strconv.ParseInt: parsing \"many\": invalid syntax",
        ),
        (&["run"], "unknown command run"),
        (&["--", "run"], "unknown command run"),
    ] {
        assert_eq!(refused(arguments), error);
    }
}

#[test]
fn what_keeps_a_kubelet_from_starting_keeps_witlet() {
    let errors = |text: &str, arguments: &[&str]| {
        translate(config(text), &flags(&[&[JOIN], arguments].concat()))
            .err()
            .unwrap_or_default()
    };
    for text in [
        "runOnce: true",
        "port: 0",
        "maxPods: -1",
        "imageGCHighThresholdPercent: 80",
        "imageMaximumGCAge: 1m",
        "cpuCFSQuotaPeriod: 2s",
        "maxParallelImagePulls: 2\nserializeImagePulls: true",
        "shutdownGracePeriodCriticalPods: 10s",
        "shutdownGracePeriod: 500ms",
        "containerLogMaxFiles: 1",
        "crashLoopBackOff: {maxContainerRestartPeriod: 10m}",
        "memorySwap: {swapBehavior: Unlimited}",
        "userNamespaces: {idsPerPod: 1000}",
        "enforceNodeAllocatable: [none, pods]",
        "enforceNodeAllocatable: [kube-reserved]",
        "enforceNodeAllocatable: [system-reserved-compressible]",
        "enforceNodeAllocatable: [pods, pods]",
        "enforceNodeAllocatable: [kube-reserved, kube-reserved-compressible]\nkubeReservedCgroup: /kube",
        "cgroupDriver: other",
        "featureGates: {NoSuchGate: true}",
        "featureGates: {NodeSwap: false}",
        "nodeStatusUpdateFrequency: often",
        "registerWithTaints: [{key: a, effect: Never}]",
    ] {
        assert!(!errors(text, &[]).is_empty(), "{text}");
    }
    assert_eq!(errors("runOnce: true\nport: 0", &[]).len(), 2, "all at once");
    assert!(errors("", &["--cloud-provider=aws"])[0].contains("--cloud-provider"));
    assert_eq!(errors("", &["--cloud-provider=external"]), [""; 0]);
}

#[test]
fn without_a_kubeconfig_the_node_is_its_own() {
    let translation = translate(config("rotateCertificates: true\nkubeAPIQPS: 7"), &flags(&[])).unwrap();
    assert!(translation.toml.contains("[standalone]"), "{}", translation.toml);
    assert!(!translation.toml.contains("[api]"), "{}", translation.toml);
}

#[test]
fn a_kubelet_without_a_file_is_as_open_as_it_was() {
    let open = without_file();
    assert_eq!(open["authentication"]["anonymous"]["enabled"], true);
    assert_eq!(open["authentication"]["webhook"]["enabled"], false);
    assert_eq!(open["authorization"]["mode"], "AlwaysAllow");
    assert_eq!(open["readOnlyPort"], 10255);
    let toml = translate(open.clone(), &flags(&[JOIN])).unwrap().toml;
    for line in [
        "anonymous = true",
        "mode = \"always-allow\"",
        "read_only = \"0.0.0.0:10255\"",
    ] {
        assert!(toml.lines().any(|l| l == line), "{line}: {toml}");
    }
    let closed = flags(&[JOIN, "--read-only-port=0", "--anonymous-auth=false"]);
    let toml = translate(open, &closed).unwrap().toml;
    assert!(
        toml.contains("read_only = \"off\"") && toml.contains("anonymous = false"),
        "flags close it: {toml}"
    );
}

#[test]
fn go_durations_are_read() {
    for (text, nanos) in [
        ("0", Some(0)),
        ("0s", Some(0)),
        ("1h2m3s", Some(3_723_000_000_000)),
        ("1.5s", Some(1_500_000_000)),
        ("100ms", Some(100_000_000)),
        ("1us", Some(1_000)),
        ("", None),
        ("5", None),
        ("-1s", None),
        ("1 s", None),
        ("1d", None),
        ("9999999999h", None),
    ] {
        assert_eq!(file::nanoseconds(text), nanos, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_file_and_no_flag_panics(text in "\\PC{0,60}", argument in "-{0,2}[a-z-]{0,20}=?\\PC{0,20}") {
        let _ = parse(&text, "/");
        let _ = Flags::parse(&[argument, text]);
    }
}

#[test]
fn managers_are_configured_and_checked_as_a_kubelets() {
    let toml = translated(
        "cpuManagerPolicy: static\ncpuManagerPolicyOptions: {full-pcpus-only: 'true', align-by-socket: 'true'}\n\
         featureGates: {CPUManagerPolicyAlphaOptions: true}\nmemoryManagerPolicy: Static\n\
         reservedMemory: [{numaNode: 0, limits: {memory: 1Gi}}, {numaNode: 1, limits: {memory: 2Gi, hugepages-2Mi: 4Mi}}]\n\
         topologyManagerPolicy: restricted\ntopologyManagerPolicyOptions: {prefer-closest-numa-nodes: 'true'}",
        &[],
    );
    assert_eq!(toml.notes, []);
    for part in [
        "[cpu_manager]\npolicy = \"static\"",
        "[cpu_manager.options]\nalign-by-socket = \"true\"\nfull-pcpus-only = \"true\"",
        "[memory_manager]\npolicy = \"static\"",
        "[memory_manager.reserved.0]\nmemory = \"1Gi\"",
        "[memory_manager.reserved.1]\nhugepages-2Mi = \"4Mi\"\nmemory = \"2Gi\"",
        "[topology_manager]\npolicy = \"restricted\"",
        "[topology_manager.options]\nprefer-closest-numa-nodes = \"true\"",
    ] {
        assert!(toml.toml.contains(part), "{part}: {}", toml.toml);
    }
    let errors = |text: &str| translate(config(text), &flags(&[JOIN])).err().unwrap_or_default();
    for (text, expected) in [
        (
            "reservedSystemCPUs: 0-3\nsystemReservedCgroup: /system.slice",
            "invalid configuration: can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)",
        ),
        (
            "reservedSystemCPUs: 3-0",
            "invalid configuration: unable to parse reservedSystemCPUs (--reserved-cpus) 3-0, error: \"3-0\" is no list of cpus such as \"0-2,7\"",
        ),
        (
            "reservedMemory: [{numaNode: 0, limits: {memory: 1Gi}}, {numaNode: 0, limits: {memory: 1Gi}}]",
            "invalid configuration: the reserved memory has a duplicate value for NUMA node 0 and resource \"memory\"",
        ),
        (
            "reservedMemory: [{numaNode: 1, limits: {cpu: 1}}]",
            "invalid configuration: the limit type \"cpu\" for NUMA node 1 is not supported, only [memory hugepages-<HugePageSize>] is accepted",
        ),
        (
            "reservedMemory: [{numaNode: 1, limits: {memory: 0}}]",
            "invalid configuration: reserved memory may not be zero for NUMA node 1 and resource \"memory\"",
        ),
        (
            "topologyManagerPolicy: best",
            "invalid configuration: topologyManagerPolicy (--topology-manager-policy) \"best\" must be one of: [\"none\" \"best-effort\" \"restricted\" \"single-numa-node\"]",
        ),
        (
            "topologyManagerScope: node",
            "invalid configuration: topologyManagerScope (--topology-manager-scope) \"node\" must be one of: \"container\", or \"pod\"",
        ),
        ("cpuManagerPolicy: dynamic", "unknown policy: \"dynamic\""),
        ("memoryManagerPolicy: static", "unknown policy: \"static\""),
        (
            "cpuManagerPolicy: static\ncpuManagerPolicyOptions: {align-by-socket: 'true'}",
            "CPU Manager Policy Alpha-level Options not enabled, but option \"align-by-socket\" provided",
        ),
        (
            "cpuManagerPolicy: static\nfeatureGates: {CPUManagerPolicyBetaOptions: false}\n\
             cpuManagerPolicyOptions: {distribute-cpus-across-numa: 'true'}",
            "CPU Manager Policy Beta-level Options not enabled, but option \"distribute-cpus-across-numa\" provided",
        ),
        (
            "cpuManagerPolicy: static\ncpuManagerPolicyOptions: {fast: 'true'}",
            "unknown CPU Manager Policy option: \"fast\"",
        ),
        (
            "cpuManagerPolicyOptions: {full-pcpus-only: 'true'}",
            "None policy: received unsupported options=map[full-pcpus-only:true]",
        ),
        (
            "topologyManagerPolicy: restricted\ntopologyManagerPolicyOptions: {max-allowable-numa-nodes: '4'}",
            "the minimum value of \"max-allowable-numa-nodes\" should not be less than 8",
        ),
    ] {
        let found = errors(text);
        assert!(found.iter().any(|e| e == expected), "{text}: {found:?}");
    }
}
