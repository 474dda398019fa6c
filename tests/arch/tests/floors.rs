//! Dependencies between our own crates point downward only (ARCHITECTURE.md).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Host crates by floor. A crate may use crates of lower floors; `ONLY` says less where less is meant.
const FLOORS: &[&[&str]] = &[
    &["witlet-core"],
    &["witlet-ports", "witlet-net"],
    &[
        "witlet-cri",
        "witlet-devices",
        "witlet-kube",
        "witlet-plugin-host",
        "witlet-node",
        "witlet-standalone",
        "witlet-server",
    ],
    &["witlet-agent"],
    &["witlet", "witlet-cni", "witlet-plugin"],
];

/// All that these may use of ours.
const ONLY: &[(&str, &[&str])] = &[
    // Connections, whatever is said on them.
    ("witlet-net", &[]),
    // No port stands behind the embedded API: clients come to it by HTTPS.
    ("witlet-standalone", &["witlet-core", "witlet-net"]),
    // Called by the container runtime for every pod, also when the agent is down.
    ("witlet-cni", &[]),
    ("witlet-sdk", &["witlet-sdk-macros"]),
    ("witlet-sdk-macros", &[]),
    // Also used where there is no host, such as by xtask.
    ("witlet-sdk-build", &[]),
];

/// No part of the host, and used by one.
const BESIDE: &[(&str, &str)] = &[("witlet-plugin", "witlet-sdk-build")];

/// What the lowest floor, which decides and does nothing, may use of others.
const CORE: &[&str] = &[
    "jiff",
    "k8s-openapi",
    "memchr",
    "serde",
    "serde-saphyr",
    "serde_json",
    "base64",
    "sha2",
    "thiserror",
];

struct Package {
    name: String,
    /// Of normal and build dependencies: tests may use whatever helps them.
    uses: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut packages = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap();
        let uses = dependencies
            .iter()
            .filter(|d| d["kind"] != "dev")
            .map(|d| text(&d["name"]))
            .collect();
        packages.push(Package {
            name: text(&package["name"]),
            uses,
        });
    }
    packages
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|names| names.contains(&name))
}

/// What is wrong with the crates, in words.
fn violations(packages: &[Package]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(|p| p.name.as_str()).collect();
    let mut found = Vec::new();
    for package in packages {
        let used: Vec<&str> = package
            .uses
            .iter()
            .map(String::as_str)
            .filter(|name| ours.contains(name))
            .collect();
        if let Some((_, allowed)) = ONLY.iter().find(|(name, _)| *name == package.name) {
            let more = used.iter().filter(|name| !allowed.contains(name));
            found.extend(more.map(|name| format!("{} may not use {name}", package.name)));
        }
        if package.name.starts_with("witlet-plugin-") && package.name != "witlet-plugin-host" {
            let more = used.iter().filter(|name| **name != "witlet-sdk");
            found.extend(more.map(|name| format!("{} is a plugin and may use the SDK only, not {name}", package.name)));
        }
        let Some(at) = floor(&package.name) else { continue };
        for name in used {
            match floor(name) {
                Some(below) if below < at => {}
                Some(below) if below == at => found.push(format!("{} and {name} are on the same floor", package.name)),
                Some(_) => found.push(format!("{} is below {name} and uses it", package.name)),
                None if BESIDE.contains(&(package.name.as_str(), name)) => {}
                None => found.push(format!("{} uses {name}, which is no part of the host", package.name)),
            }
        }
    }
    found
}

#[test]
fn dependencies_point_downward() {
    let packages = packages();
    for name in FLOORS.concat() {
        assert!(
            packages.iter().any(|p| p.name == name),
            "{name} is gone; correct the list of floors"
        );
    }
    assert_eq!(violations(&packages), Vec::<String>::new());
}

#[test]
fn the_core_does_nothing() {
    let packages = packages();
    let core = packages.iter().find(|p| p.name == "witlet-core").unwrap();
    let more: Vec<&String> = core.uses.iter().filter(|name| !CORE.contains(&name.as_str())).collect();
    assert!(
        more.is_empty(),
        "witlet-core decides and does nothing: no clock, no tokio, no IO; it uses {more:?}"
    );
}

#[test]
fn upward_and_sideways_edges_are_found() {
    let package = |name: &str, uses: &[&str]| Package {
        name: name.into(),
        uses: uses.iter().map(|u| (*u).into()).collect(),
    };
    let packages = [
        package("witlet-core", &["witlet-agent", "serde"]),
        package("witlet-cri", &["witlet-kube"]),
        package("witlet-kube", &[]),
        package("witlet-agent", &["witlet-core", "xtask"]),
        package("witlet-standalone", &["witlet-ports"]),
        package("witlet-ports", &[]),
        package("witlet-plugin-mine", &["witlet-core"]),
        package("xtask", &["witlet-agent"]),
    ];
    assert_eq!(
        violations(&packages),
        [
            "witlet-core is below witlet-agent and uses it",
            "witlet-cri and witlet-kube are on the same floor",
            "witlet-agent uses xtask, which is no part of the host",
            "witlet-standalone may not use witlet-ports",
            "witlet-plugin-mine is a plugin and may use the SDK only, not witlet-core",
        ]
    );
}
