//! Every template becomes a plugin that its own cases find right. Where a language's tools are not to be had, the test is listed and
//! counted as ignored, and says why: it passes only where the language works. `WITLET_WITHOUT_LANGUAGES=python,js` leaves some out.
//!
//! Projects are made in `target/languages`, and stay there: the end-to-end tests put the probes to work on a node.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::{Arguments, Trial};
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

/// Builds, checks and tests it.
fn works(dir: &Path) {
    let built = tool(dir, &["build"]);
    assert!(built.status.success(), "{}: {}", dir.display(), text(&built));
    let checked = tool(dir, &["check", "--json"]);
    let said: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert!(checked.status.success(), "{said:#}");
    assert_eq!(said["problems"], Value::Array(Vec::new()));
    let tested = tool(dir, &["test", "--json"]);
    let said: Value = serde_json::from_slice(&tested.stdout).unwrap_or_else(|_| panic!("{}", text(&tested)));
    assert!(tested.status.success(), "{}: {said:#}", dir.display());
    assert!(said["passed"].as_u64().unwrap() > 1, "{said:#}");
}

/// Why this machine cannot build plugins of the language, as far as that shows without trying.
fn lacks(language: &str) -> Option<String> {
    let left_out = std::env::var("WITLET_WITHOUT_LANGUAGES").unwrap_or_default();
    if left_out.split(',').any(|l| l.trim() == language) {
        return Some("WITLET_WITHOUT_LANGUAGES names it".to_owned());
    }
    witlet_sdk_build::lacks(language)
}

fn main() -> std::process::ExitCode {
    let tests: [(&str, &str, fn()); 5] = [
        ("rust", "rust", rust),
        ("rust_of_every_kind", "rust", rust_of_every_kind),
        ("javascript", "js", javascript),
        ("python", "python", python),
        ("c", "c", c),
    ];
    let trials = tests.map(|(name, language, run)| {
        let why = lacks(language);
        if let Some(why) = &why {
            eprintln!("{name} is ignored: {why}");
        }
        let run = move || {
            run();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(why.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

/// As a user has it, with the SDK in the project.
fn rust() {
    let dir = new("rust", "probe", &[]);
    works(&dir);
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

fn rust_of_every_kind() {
    let sdk = root().join("sdk");
    for kind in ["policy", "policy-hooks", "volume", "network", "sink-log", "sink-metric"] {
        let dir = new("rust", kind, &["--sdk", sdk.to_str().unwrap()]);
        works(&dir);
    }
}

fn javascript() {
    for kind in ["probe", "policy"] {
        works(&new("js", kind, &[]));
    }
}

fn python() {
    for kind in ["probe", "policy"] {
        works(&new("python", kind, &[]));
    }
}

fn c() {
    for kind in ["probe", "policy"] {
        works(&new("c", kind, &[]));
    }
}
