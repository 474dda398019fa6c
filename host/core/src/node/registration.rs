//! What an operator may say of a node at its registration (the kubelet contract, node rules 9 and 38), and when its status is
//! written (node rule 58).

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

/// Labels below `kubernetes.io` that a node may give itself.
const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

fn below(namespace: &str, domain: &str) -> bool {
    namespace
        .strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a node of a cluster may have the label: those that say what may run where are for the cluster to give.
pub fn may_label(key: &str) -> bool {
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    let reserved = below(namespace, "kubernetes.io") || below(namespace, "k8s.io");
    !reserved || OWN_LABELS.contains(&key) || OWN_NAMESPACES.iter().any(|own| below(namespace, own))
}

/// In the kubelet's words, for labels that may not be.
pub fn label_problem<'a>(keys: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut unknown: Vec<_> = keys.into_iter().filter(|key| !may_label(key)).collect();
    unknown.sort_unstable();
    (!unknown.is_empty()).then(|| {
        format!(
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{}]; --node-labels in the 'kubernetes.io' namespace must begin with an allowed prefix ({}) or be in the specifically allowed set ({})",
            unknown.join(" "),
            OWN_NAMESPACES.join(", "),
            OWN_LABELS.join(", ")
        )
    })
}

/// `key=value:effect` or `key:effect`.
pub fn parse_taint(text: &str) -> Result<Taint, String> {
    let invalid = || format!("invalid taint spec: {text}: write it as key=value:NoSchedule");
    let (pair, effect) = text.rsplit_once(':').ok_or_else(invalid)?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    let (key, value) = match pair.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (pair, None),
    };
    let legal = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let name = key.rsplit('/').next().unwrap_or_default();
    if name.is_empty() || !legal(&key.replace('/', "")) || value.is_some_and(|v| v.len() > 63 || !legal(v)) {
        return Err(invalid());
    }
    Ok(Taint {
        key: key.to_owned(),
        value: value.filter(|v| !v.is_empty()).map(str::to_owned),
        effect: effect.to_owned(),
        time_added: None,
    })
}

/// All of them, each key and effect once.
pub fn parse_taints<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Taint>, String> {
    let mut taints: Vec<Taint> = Vec::new();
    for text in texts {
        let taint = parse_taint(text)?;
        if taints.iter().any(|t| t.key == taint.key && t.effect == taint.effect) {
            return Err(format!("duplicated taints with the same key and effect: {text}"));
        }
        taints.push(taint);
    }
    Ok(taints)
}

/// Why these cannot be the node's addresses: one, or one of each family.
pub fn node_ips_problem(ips: &[IpAddr]) -> Option<&'static str> {
    match ips {
        [] | [_] => None,
        [a, b] if a.is_unspecified() || b.is_unspecified() => {
            Some("dual-stack node IPs cannot include '0.0.0.0' or '::'")
        }
        [a, b] if a.is_ipv4() != b.is_ipv4() => None,
        _ => Some("must contain either a single IP or a dual-stack pair of IPs"),
    }
}

/// How long after a write the status is written even if nothing changed. After a change, half as long again or less, drawn
/// by `share` from 0 to 1, so that nodes that changed together do not report together for ever.
pub fn report_after(frequency: Duration, changed: bool, share: f64) -> Duration {
    if changed {
        frequency.mul_f64(0.5 + share.clamp(0.0, 1.0))
    } else {
        frequency
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn labels_that_decide_over_workloads_are_the_clusters() {
        for (key, may) in [
            ("role", true),
            ("example.com/role", true),
            ("mykubernetes.io/role", true),
            ("kubernetes.io/hostname", true),
            ("topology.kubernetes.io/zone", true),
            ("node.kubernetes.io/anything", true),
            ("sub.node.kubernetes.io/anything", true),
            ("kubelet.kubernetes.io/x", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("kubernetes.io/role", false),
            ("x.k8s.io/y", false),
            ("k8s.io/y", false),
            ("topology.kubernetes.io/rack", false),
        ] {
            assert_eq!(may_label(key), may, "{key}");
        }
        assert_eq!(label_problem(["a", "node.kubernetes.io/b"]), None);
        let problem = label_problem(["kubernetes.io/b", "k8s.io/a", "c"]).unwrap();
        assert!(
            problem.starts_with(
                "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [k8s.io/a kubernetes.io/b]"
            ),
            "{problem}"
        );
    }

    #[test]
    fn taints_are_written_as_with_kubectl() {
        let taint = |text| parse_taint(text).map(|t| (t.key, t.value.unwrap_or_default(), t.effect));
        let of = |k: &str, v: &str, e: &str| Ok((k.to_owned(), v.to_owned(), e.to_owned()));
        assert_eq!(taint("a/b=c:NoSchedule"), of("a/b", "c", "NoSchedule"));
        assert_eq!(taint("a:NoExecute"), of("a", "", "NoExecute"));
        assert_eq!(taint("a=:PreferNoSchedule"), of("a", "", "PreferNoSchedule"));
        for broken in [
            "",
            "a",
            "a=b",
            ":NoSchedule",
            "=b:NoSchedule",
            "a=b=c:NoSchedule",
            "a b:NoSchedule",
            "a:Never",
        ] {
            assert!(parse_taint(broken).is_err(), "{broken}");
        }
        assert!(parse_taints(["a:NoSchedule", "a:NoExecute"]).is_ok());
        assert!(parse_taints(["a=1:NoSchedule", "a=2:NoSchedule"]).is_err());
    }

    #[test]
    fn addresses_are_one_or_one_of_each_family() {
        let problem = |texts: &[&str]| {
            let ips: Vec<IpAddr> = texts.iter().map(|t| t.parse().unwrap()).collect();
            node_ips_problem(&ips).is_some()
        };
        for good in [
            &[][..],
            &["10.0.0.1"],
            &["::"],
            &["10.0.0.1", "fd00::1"],
            &["fd00::1", "10.0.0.1"],
        ] {
            assert!(!problem(good), "{good:?}");
        }
        for bad in [
            &["10.0.0.1", "10.0.0.2"][..],
            &["10.0.0.1", "::"],
            &["0.0.0.0", "fd00::1"],
            &["10.0.0.1", "fd00::1", "fd00::2"],
        ] {
            assert!(problem(bad), "{bad:?}");
        }
    }

    /// Node rule 188: between 2.5 and 7.5 minutes after the last change.
    #[test]
    fn an_unchanged_status_is_reported_now_and_then() {
        let frequency = Duration::from_secs(300);
        let seconds = |changed, share| report_after(frequency, changed, share).as_secs();
        assert_eq!(
            (seconds(true, 0.0), seconds(true, 1.0), seconds(false, 0.3)),
            (150, 450, 300)
        );
    }
}
