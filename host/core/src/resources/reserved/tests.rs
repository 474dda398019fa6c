#![allow(clippy::unwrap_used)]

use super::*;

const KEYS: Keys = Keys {
    levels: "levels",
    system_cgroup: "system",
    kube_cgroup: "kube",
};

fn enforcement(words: &[&str]) -> Result<Enforcement, Vec<String>> {
    Enforcement::new(words, Some("/system"), Some("/kube.slice"), &KEYS)
}

fn list(amounts_of: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    let written = amounts_of.iter().map(|(n, a)| ((*n).to_owned(), (*a).to_owned()));
    amounts(&written.collect()).unwrap()
}

fn node() -> (MachineFacts, NodeConfig) {
    let facts = MachineFacts {
        cpus: 4,
        memory_bytes: 16 << 30,
        hugepages: [(2 << 20, 2 << 30)].into(),
        ..MachineFacts::default()
    };
    let config = NodeConfig {
        system_reserved: list(&[("cpu", "500m"), ("memory", "500Mi"), ("pid", "1000")]),
        kube_reserved: list(&[("cpu", "1"), ("ephemeral-storage", "1Gi")]),
        ..NodeConfig::default()
    };
    (facts, config)
}

#[test]
fn reserved_cgroups_get_what_is_reserved() {
    let (facts, config) = node();
    let words = ["kube-reserved", "pods", "system-reserved"];
    let cgroups = enforcement(&words).unwrap().cgroups(&facts, &config);
    let pages = vec![("2MB".to_owned(), 0)];
    let expected = [
        Reserved {
            whose: Whose::System,
            compressible: false,
            cgroup: "/system".into(),
            limits: ReservedLimits {
                cpu_shares: Some(512),
                memory_limit: Some(500 << 20),
                pids_limit: Some(1000),
                hugepages: pages.clone(),
            },
        },
        Reserved {
            whose: Whose::Kube,
            compressible: false,
            cgroup: "/kube.slice".into(),
            limits: ReservedLimits {
                cpu_shares: Some(1024),
                hugepages: pages,
                ..ReservedLimits::default()
            },
        },
    ];
    assert_eq!(cgroups, expected);
}

#[test]
fn what_is_compressible_is_cpu_alone() {
    let (facts, config) = node();
    let words = ["system-reserved-compressible", "kube-reserved-compressible"];
    let enforcement = enforcement(&words).unwrap();
    assert!(!enforcement.of_pods());
    let limits: Vec<_> = enforcement
        .cgroups(&facts, &config)
        .into_iter()
        .map(|r| r.limits)
        .collect();
    let cpu = |shares| ReservedLimits {
        cpu_shares: Some(shares),
        ..ReservedLimits::default()
    };
    assert_eq!(limits, [cpu(512), cpu(1024)]);
    let nothing = enforcement.cgroups(&facts, &NodeConfig::default());
    assert!(nothing.iter().all(|r| r.limits == ReservedLimits::default()));
}

#[test]
fn what_is_told_of_reserved_cgroups() {
    let (facts, config) = node();
    let told = |word: &str| {
        let reserved = enforcement(&[word]).unwrap().cgroups(&facts, &config).remove(0);
        (reserved.updated(), reserved.failed("why"))
    };
    assert_eq!(
        told("system-reserved"),
        (
            "Updated limits on system reserved cgroup /system".into(),
            "Failed to enforce System Reserved Cgroup Limits on \"/system\": why".into()
        )
    );
    assert_eq!(
        told("kube-reserved-compressible"),
        (
            "Updated limits on kube reserved cgroup /kube.slice".into(),
            "Failed to enforce Kube Reserved Compressible Cgroup Limits on \"/kube.slice\": why".into()
        )
    );
}

#[test]
fn levels_that_cannot_be() {
    for good in [
        &["pods"][..],
        &["none"],
        &[],
        &["pods", "system-reserved", "kube-reserved-compressible"],
    ] {
        assert!(enforcement(good).is_ok(), "{good:?}");
    }
    assert!(!enforcement(&["none"]).unwrap().of_pods());
    for (bad, why) in [
        (
            &["none", "pods"][..],
            "levels may not contain additional enforcements when \"none\" is specified",
        ),
        (&["pods", "pods"], "levels contains \"pods\" more than once"),
        (
            &["all"],
            "option \"all\" specified for levels. Valid options are \"pods\", \"system-reserved\", \"kube-reserved\", \
             \"system-reserved-compressible\", \"kube-reserved-compressible\", or \"none\"",
        ),
        (
            &["kube-reserved", "kube-reserved-compressible"],
            "levels may contain only one of \"kube-reserved\" and \"kube-reserved-compressible\"",
        ),
    ] {
        assert_eq!(enforcement(bad).unwrap_err(), [why]);
    }
    let without = Enforcement::new(
        &["system-reserved", "kube-reserved-compressible"],
        Some(""),
        None,
        &KEYS,
    );
    assert_eq!(
        without.unwrap_err(),
        [
            "system must be specified when \"system-reserved\" contained in levels",
            "kube must be specified when \"kube-reserved-compressible\" contained in levels"
        ]
    );
}

#[test]
fn amounts_that_cannot_be_reserved() {
    for (name, text, why) in [
        ("pods", "3", "cannot reserve \"pods\" resource"),
        (
            "memory",
            "-1",
            "resource quantity for \"memory\" cannot be negative: -1",
        ),
        (
            "cpu",
            "much",
            "failed to parse quantity \"much\" for \"cpu\" resource: ",
        ),
    ] {
        let problem = amounts(&[(name.to_owned(), text.to_owned())].into()).unwrap_err();
        assert!(problem.starts_with(why), "{problem}");
    }
}

#[test]
fn named_cpus_are_reserved_instead_of_amounts() {
    let list =
        |pairs: &[(&str, &str)]| amounts(&pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()).unwrap();
    let (mut system, mut kube) = (
        list(&[("cpu", "500m"), ("memory", "1Gi")]),
        list(&[("cpu", "250m"), ("memory", "2Gi")]),
    );
    name_cpus(&mut system, &mut kube, &CpuSet::default());
    assert_eq!(kube.len(), 2);
    name_cpus(&mut system, &mut kube, &"0,4-5".parse().unwrap());
    assert_eq!(system, list(&[("cpu", "3"), ("memory", "1Gi")]));
    assert_eq!(kube, list(&[("memory", "2Gi")]));
}
