//! The configuration as `/configz` shows it: a `KubeletConfiguration`, as far as there is something like it here.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{AuthorizationMode, CgroupDriver, Sections, TlsVersion};

pub(crate) fn of(sections: &Sections) -> Value {
    let server = &sections.server;
    let listen = sections.server_listen();
    let port = |listen: Option<std::net::SocketAddr>| listen.map_or(0, |a| a.port());
    let mut config = json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "enableServer": listen.is_some(),
        "podLogsDir": sections.node.pod_logs_dir,
        "syncFrequency": "1m0s",
        "fileCheckFrequency": go(sections.static_pods.poll.0),
        "httpCheckFrequency": go(sections.static_pods.url_poll.0),
        "address": listen.map_or_else(String::new, |a| a.ip().to_string()),
        "port": port(listen),
        "readOnlyPort": port(server.read_only.0),
        "tlsMinVersion": match server.tls_min_version {
            TlsVersion::Tls12 => "VersionTLS12",
            TlsVersion::Tls13 => "VersionTLS13",
        },
        "serverTLSBootstrap": server.tls_bootstrap,
        "rotateCertificates": sections.api.as_ref().is_some_and(|a| a.rotate_certificates),
        "authentication": {
            "x509": {},
            "webhook": { "enabled": server.authentication.tokens, "cacheTTL": go(server.authentication.token_ttl.0) },
            "anonymous": { "enabled": server.authentication.anonymous },
        },
        "authorization": {
            "mode": match server.authorization.mode {
                AuthorizationMode::Webhook => "Webhook",
                AuthorizationMode::AlwaysAllow => "AlwaysAllow",
            },
            "webhook": {
                "cacheAuthorizedTTL": go(server.authorization.allowed_ttl.0),
                "cacheUnauthorizedTTL": go(server.authorization.denied_ttl.0),
            },
        },
    });
    let more = json!({
        "eventRecordQPS": 50,
        "eventBurst": 100,
        "enableDebuggingHandlers": server.debugging,
        "healthzPort": port(server.healthz.0),
        "healthzBindAddress": server.healthz.0.map_or_else(String::new, |a| a.ip().to_string()),
        "oomScoreAdj": -999,
        "clusterDomain": sections.dns.cluster_domain,
        "clusterDNS": sections.dns.cluster_dns,
        "resolvConf": sections.dns.resolv_conf,
        "streamingConnectionIdleTimeout": go(server.stream_idle.0),
        "nodeStatusUpdateFrequency": go(sections.node.status_interval.0),
        "nodeStatusReportFrequency": go(sections.node.report_interval.0),
        "nodeLeaseDurationSeconds": sections.node.lease.0.as_secs(),
        "cgroupRoot": sections.runtime.cgroup_root,
        "cgroupsPerQOS": true,
        "cgroupDriver": match sections.runtime.cgroup_driver {
            CgroupDriver::Cgroupfs => "cgroupfs",
            CgroupDriver::Systemd => "systemd",
        },
        "runtimeRequestTimeout": go(sections.runtime.timeout.0),
        "maxPods": sections.node.max_pods,
        "nodeStatusMaxImages": 50,
        "maxOpenFiles": 1_000_000,
        "kubeAPIQPS": 50,
        "kubeAPIBurst": 100,
        "serializeImagePulls": sections.images.parallel_pulls == 1,
        "maxParallelImagePulls": sections.images.parallel_pulls,
        "imageMinimumGCAge": go(sections.images.gc_min_age.0),
        "imageMaximumGCAge": go(sections.images.gc_max_age.0),
        "imageGCHighThresholdPercent": sections.images.gc_high,
        "imageGCLowThresholdPercent": sections.images.gc_low,
        "enableSystemLogHandler": server.system_logs,
        "enableSystemLogQuery": server.system_log_query,
        "enableProfilingHandler": server.profiling,
        "enableDebugFlagsHandler": server.debug_flags,
        "registerNode": true,
        "containerRuntimeEndpoint": sections.runtime.endpoint,
        "imageServiceEndpoint": sections.runtime.image_endpoint.clone().unwrap_or_default(),
        "logging": { "format": format!("{:?}", sections.log.format).to_lowercase() },
    });
    let managers = json!({
        "cpuManagerPolicy": if sections.cpu_manager.is_static() { "static" } else { "none" },
        "cpuManagerReconcilePeriod": go(sections.cpu_manager.reconcile.0),
        "memoryManagerPolicy": if sections.memory_manager.is_static() { "Static" } else { "None" },
        "topologyManagerPolicy": sections.topology_manager.policy,
        "topologyManagerScope": sections.topology_manager.scope,
    });
    for more in [more, managers] {
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
    }
    let optional = [
        ("/staticPodPath", &sections.static_pods.path),
        ("/tlsCertFile", &server.tls_cert),
        ("/tlsPrivateKeyFile", &server.tls_key),
    ];
    for (key, path) in optional {
        if let Some(path) = path {
            config[&key[1..]] = json!(path);
        }
    }
    if let Some(url) = &sections.static_pods.url {
        config["staticPodURL"] = json!(url);
        let headers = sections.static_pods.url_headers.keys();
        let masked: serde_json::Map<_, _> = headers.map(|name| (name.clone(), json!(["<masked>"]))).collect();
        config["staticPodURLHeader"] = json!(masked);
    }
    if let Some(path) = &server.client_ca {
        config["authentication"]["x509"]["clientCAFile"] = json!(path);
    }
    if sections.tracing.sampling_per_million > 0 {
        config["tracing"] = json!({
            "endpoint": sections.tracing.endpoint,
            "samplingRatePerMillion": sections.tracing.sampling_per_million,
        });
    }
    for (key, options) in [
        ("cpuManagerPolicyOptions", &sections.cpu_manager.options),
        ("topologyManagerPolicyOptions", &sections.topology_manager.options),
    ] {
        if !options.is_empty() {
            let texts: serde_json::Map<_, _> = options.iter().map(|(k, v)| (k.clone(), json!(v.to_string()))).collect();
            config[key] = json!(texts);
        }
    }
    if !sections.node.reserved_cpus.is_empty() {
        config["reservedSystemCPUs"] = json!(sections.node.reserved_cpus);
    }
    if !sections.memory_manager.reserved.is_empty() {
        let list = sections.memory_manager.reserved.iter();
        let list: Vec<_> = list
            .map(|(node, limits)| json!({"numaNode": node.parse::<u32>().unwrap_or(0), "limits": limits}))
            .collect();
        config["reservedMemory"] = json!(list);
    }
    if !server.tls_ciphers.is_empty() {
        config["tlsCipherSuites"] = json!(server.tls_ciphers);
    }
    config
}

/// A duration as Go writes it: `1h30m0s`, `2m0s`, `10s`, `500ms`.
fn go(duration: Duration) -> String {
    let (total, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if total == 0 && nanos > 0 {
        return format!("{}ms", f64::from(nanos) / 1e6);
    }
    let (hours, minutes) = (total / 3600, total / 60 % 60);
    let seconds = (total % 60) as f64 + f64::from(nanos) / 1e9;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (millis, text) in [
            (0, "0s"),
            (500, "500ms"),
            (1_500, "1.5s"),
            (10_000, "10s"),
            (120_000, "2m0s"),
            (90_000, "1m30s"),
            (4 * 3_600_000, "4h0m0s"),
        ] {
            assert_eq!(go(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn the_defaults_are_the_kubelets() {
        let config = of(&Sections::default());
        for (pointer, value) in [
            ("/port", json!(10250)),
            ("/address", json!("0.0.0.0")),
            ("/authentication/webhook/cacheTTL", json!("2m0s")),
            ("/authentication/anonymous/enabled", json!(false)),
            ("/authorization/mode", json!("Webhook")),
            ("/authorization/webhook/cacheUnauthorizedTTL", json!("30s")),
            ("/streamingConnectionIdleTimeout", json!("4h0m0s")),
            ("/healthzPort", json!(10248)),
            ("/readOnlyPort", json!(0)),
            ("/cpuManagerPolicy", json!("none")),
            ("/cpuManagerReconcilePeriod", json!("10s")),
            ("/memoryManagerPolicy", json!("None")),
            ("/topologyManagerScope", json!("container")),
        ] {
            assert_eq!(config.pointer(pointer), Some(&value), "{pointer}");
        }
    }
}
