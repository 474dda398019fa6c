//! Which endpoint a path means. Pure.

use witlet_core::ids::PodKey;
use witlet_ports::serve::{ContainerRef, MetricsOf};

use crate::query::decode;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// Of all checks, or of one.
    Healthz(Option<String>),
    Pods,
    RunningPods,
    ContainerLogs(ContainerRef),
    Run(ContainerRef),
    Exec(ContainerRef),
    Attach(ContainerRef),
    /// With the pod's UID where the path says it.
    PortForward(PodKey, Option<String>),
    Checkpoint(ContainerRef),
    Metrics(MetricsOf),
    Slis,
    Summary,
    /// A file or directory of the system's logs.
    SystemLogs(String),
    Configz,
    Flagz,
    Statusz,
    /// What the process uses, by the name of the profile.
    Pprof(String),
    LogLevel,
    None,
}

impl Route {
    pub(crate) fn of(path: &str) -> Self {
        let parts: Vec<String> = path.split('/').skip(1).map(|s| decode(s, false)).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["healthz"] | ["healthz", ""] => Self::Healthz(None),
            ["healthz", check] => Self::Healthz(Some((*check).to_owned())),
            ["pods"] | ["pods", ""] => Self::Pods,
            ["runningpods"] | ["runningpods", ""] => Self::RunningPods,
            ["containerLogs", rest @ ..] if rest.len() == 3 => Self::container(rest, Self::ContainerLogs),
            ["run", rest @ ..] => Self::container(rest, Self::Run),
            ["exec", rest @ ..] => Self::container(rest, Self::Exec),
            ["attach", rest @ ..] => Self::container(rest, Self::Attach),
            ["checkpoint", rest @ ..] if rest.len() == 3 => Self::container(rest, Self::Checkpoint),
            ["portForward", namespace, pod] => Self::PortForward(key(namespace, pod), None),
            ["portForward", namespace, pod, uid] => Self::PortForward(key(namespace, pod), Some((*uid).to_owned())),
            ["metrics"] => Self::Metrics(MetricsOf::Agent),
            ["metrics", "cadvisor"] => Self::Metrics(MetricsOf::Containers),
            ["metrics", "resource"] => Self::Metrics(MetricsOf::Resource),
            ["metrics", "probes"] => Self::Metrics(MetricsOf::Probes),
            ["metrics", "slis"] => Self::Slis,
            ["stats", "summary"] | ["stats", "summary", ""] => Self::Summary,
            ["logs"] => Self::SystemLogs(String::new()),
            ["logs", rest @ ..] => Self::SystemLogs(rest.join("/")),
            ["configz"] => Self::Configz,
            ["flagz"] => Self::Flagz,
            ["statusz"] => Self::Statusz,
            ["debug", "pprof", rest @ ..] => Self::Pprof(rest.join("/")),
            ["debug", "flags", "v"] => Self::LogLevel,
            _ => Self::None,
        }
    }

    /// The endpoint, whatever it is asked about; the parts that differ have the kubelet's names.
    pub(crate) fn template(&self) -> &'static str {
        match self {
            Self::Healthz(_) => "/healthz",
            Self::Pods => "/pods",
            Self::RunningPods => "/runningpods",
            Self::ContainerLogs(_) => "/containerLogs/{podNamespace}/{podID}/{containerName}",
            Self::Run(_) => "/run/{podNamespace}/{podID}/{containerName}",
            Self::Exec(_) => "/exec/{podNamespace}/{podID}/{containerName}",
            Self::Attach(_) => "/attach/{podNamespace}/{podID}/{containerName}",
            Self::PortForward(..) => "/portForward/{podNamespace}/{podID}",
            Self::Checkpoint(_) => "/checkpoint/{podNamespace}/{podID}/{containerName}",
            Self::Metrics(MetricsOf::Agent) => "/metrics",
            Self::Metrics(MetricsOf::Containers) => "/metrics/cadvisor",
            Self::Metrics(MetricsOf::Resource) => "/metrics/resource",
            Self::Metrics(MetricsOf::Probes) => "/metrics/probes",
            Self::Slis => "/metrics/slis",
            Self::Summary => "/stats/summary",
            Self::SystemLogs(_) => "/logs/{logpath:*}",
            Self::Configz => "/configz",
            Self::Flagz => "/flagz",
            Self::Statusz => "/statusz",
            Self::Pprof(_) => "/debug/pprof/{subpath:*}",
            Self::LogLevel => "/debug/flags/v",
            Self::None => "other",
        }
    }

    fn container(parts: &[&str], route: impl Fn(ContainerRef) -> Self) -> Self {
        let (namespace, pod, uid, container) = match parts {
            [namespace, pod, container] => (namespace, pod, None, container),
            [namespace, pod, uid, container] => (namespace, pod, Some((*uid).into()), container),
            _ => return Self::None,
        };
        if [namespace, pod, container].iter().any(|s| s.is_empty()) {
            return Self::None;
        }
        route(ContainerRef {
            pod: key(namespace, pod),
            uid,
            container: (*container).to_owned(),
        })
    }

    /// Whether it is one of those that `enableDebuggingHandlers` switches.
    pub(crate) fn is_debugging(&self) -> bool {
        matches!(
            self,
            Self::RunningPods
                | Self::ContainerLogs(_)
                | Self::Run(_)
                | Self::Exec(_)
                | Self::Attach(_)
                | Self::PortForward(..)
                | Self::SystemLogs(_)
                | Self::Pprof(_)
        )
    }

    /// Whether the read-only port has it.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(
            self,
            Self::Healthz(_) | Self::Pods | Self::Summary | Self::Metrics(_) | Self::Slis
        )
    }

    /// Those that are not there at all without debugging.
    pub(crate) fn is_hidden_without_debugging(&self) -> bool {
        matches!(
            self,
            Self::Checkpoint(_) | Self::Configz | Self::Flagz | Self::Statusz | Self::LogLevel
        )
    }
}

fn key(namespace: &str, name: &str) -> PodKey {
    PodKey {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(uid: Option<&str>) -> ContainerRef {
        ContainerRef {
            pod: key("ns", "pod"),
            uid: uid.map(Into::into),
            container: "app".into(),
        }
    }

    #[test]
    fn paths_mean_endpoints() {
        let table = [
            ("/healthz", Route::Healthz(None)),
            ("/healthz/syncloop", Route::Healthz(Some("syncloop".into()))),
            ("/pods", Route::Pods),
            ("/podsx", Route::None),
            ("/runningpods/", Route::RunningPods),
            ("/containerLogs/ns/pod/app", Route::ContainerLogs(container(None))),
            ("/containerLogs/ns/pod/uid/app", Route::None),
            ("/run/ns/pod/app", Route::Run(container(None))),
            ("/run/ns/pod/u/app", Route::Run(container(Some("u")))),
            ("/exec/ns/pod/app", Route::Exec(container(None))),
            ("/exec/ns/pod/u/app", Route::Exec(container(Some("u")))),
            ("/exec/ns/pod", Route::None),
            ("/exec/ns/pod/", Route::None),
            ("/exec/ns/po%64/app", Route::Exec(container(None))),
            ("/attach/ns/pod/u/app", Route::Attach(container(Some("u")))),
            ("/portForward/ns/pod", Route::PortForward(key("ns", "pod"), None)),
            (
                "/portForward/ns/pod/u",
                Route::PortForward(key("ns", "pod"), Some("u".into())),
            ),
            ("/portforward/ns/pod", Route::None),
            ("/checkpoint/ns/pod/app", Route::Checkpoint(container(None))),
            ("/metrics", Route::Metrics(MetricsOf::Agent)),
            ("/metrics/cadvisor", Route::Metrics(MetricsOf::Containers)),
            ("/metrics/slis", Route::Slis),
            ("/stats/summary", Route::Summary),
            ("/stats", Route::None),
            ("/logs/", Route::SystemLogs(String::new())),
            ("/logs/a/../b", Route::SystemLogs("a/../b".into())),
            ("/debug/pprof/", Route::Pprof(String::new())),
            ("/debug/pprof/heap", Route::Pprof("heap".into())),
            ("/debug/flags/v", Route::LogLevel),
            ("/", Route::None),
            ("", Route::None),
        ];
        for (path, route) in table {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
