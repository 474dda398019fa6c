//! Every template becomes a plugin that its own cases find right. Where a language's tools are not to be had, the test says why.
//!
//! Projects are made in `target/languages`, and stay there: the end-to-end tests put the probes to work on a node.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn tool(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_witlet-plugin"))
        .args(args)
        .current_dir(dir)
        // All Rust projects share what they have in common.
        .env("CARGO_TARGET_DIR", root().join("target/languages/rust-target"))
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// A fresh project; what an earlier run built is gone.
fn new(lang: &str, kind: &str, more: &[&str]) -> PathBuf {
    let all = root().join("target/languages");
    fs::create_dir_all(&all).unwrap();
    let dir = all.join(format!("{lang}-{kind}"));
    let _ = fs::remove_dir_all(&dir);
    let name = if kind == "probe" {
        format!("lang-{lang}")
    } else {
        format!("{lang}-{kind}")
    };
    let dir_name = dir.to_str().unwrap();
    let made = tool(
        &all,
        &[&["new", &name, "--kind", kind, "--lang", lang, "--dir", dir_name], more].concat(),
    );
    assert!(made.status.success(), "{}", text(&made));
    dir
}

/// Words with which the tool says that the machine, and not the project, lacks something.
const LACKS: [&str; 7] = [
    "nothing here compiles for",
    "is not installed",
    "there is no clang",
    "has no C library",
    "there is no n",
    "there is no python3",
    "could not fetch",
];

/// Builds, checks and tests it; false if that cannot be done here.
fn works(dir: &Path) -> bool {
    let built = tool(dir, &["build"]);
    if !built.status.success() {
        let said = text(&built);
        assert!(
            LACKS.iter().any(|words| said.contains(words)),
            "{}: {said}",
            dir.display()
        );
        eprintln!("skipped: {}: {said}", dir.display());
        return false;
    }
    let checked = tool(dir, &["check", "--json"]);
    let said: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert!(checked.status.success(), "{said:#}");
    assert_eq!(said["problems"], Value::Array(Vec::new()));
    let tested = tool(dir, &["test", "--json"]);
    let said: Value = serde_json::from_slice(&tested.stdout).unwrap_or_else(|_| panic!("{}", text(&tested)));
    assert!(tested.status.success(), "{}: {said:#}", dir.display());
    assert!(said["passed"].as_u64().unwrap() > 1, "{said:#}");
    true
}

/// As a user has it, with the SDK in the project.
#[test]
fn rust() {
    let dir = new("rust", "probe", &[]);
    if !works(&dir) {
        return;
    }
    // A case that expects something else fails, and says what was answered.
    let cases = dir.join("other.toml");
    fs::write(
        &cases,
        "[[case]]\nname = \"x\"\nparams = { port = 1 }\nexpect = { verdict = \"pass\" }\n",
    )
    .unwrap();
    let tested = tool(&dir, &["test", "--cases", "other.toml"]);
    assert_eq!(tested.status.code(), Some(1));
    assert!(
        text(&tested).contains("verdict: \"fail\", not \"pass\""),
        "{}",
        text(&tested)
    );
    // One that makes no sense is no failed case.
    fs::write(&cases, "[[case]]\nname = \"x\"\nexpcet = {}\n").unwrap();
    let tested = tool(&dir, &["test", "--cases", "other.toml"]);
    assert_eq!(tested.status.code(), Some(64), "{}", text(&tested));

    let inspected: Value = serde_json::from_slice(&tool(&dir, &["inspect", "--json"]).stdout).unwrap();
    let stanza = inspected["stanza"].as_str().unwrap();
    assert!(stanza.contains("[plugin.lang-rust.grants]\npod-net = {}"), "{stanza}");
    let measured: Value = serde_json::from_slice(&tool(&dir, &["bench", "--calls", "20", "--json"]).stdout).unwrap();
    assert!(measured["cold"]["p50_us"].as_f64() > Some(0.0), "{measured:#}");
    let compat = tool(&dir, &["compat"]);
    assert!(
        compat.status.success() && text(&compat).contains("0.1: loads"),
        "{}",
        text(&compat)
    );
}

#[test]
fn rust_of_every_kind() {
    let sdk = root().join("sdk");
    for kind in ["policy", "policy-hooks", "volume", "network", "sink-log", "sink-metric"] {
        let dir = new("rust", kind, &["--sdk", sdk.to_str().unwrap()]);
        if !works(&dir) {
            return;
        }
    }
}

#[test]
fn javascript() {
    for kind in ["probe", "policy"] {
        if !works(&new("js", kind, &[])) {
            return;
        }
    }
}

#[test]
fn python() {
    for kind in ["probe", "policy"] {
        if !works(&new("python", kind, &[])) {
            return;
        }
    }
}

#[test]
fn c() {
    for kind in ["probe", "policy"] {
        if !works(&new("c", kind, &[])) {
            return;
        }
    }
}
