//! The tool on components that are there already: the frozen samples of each kind.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn tool(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_witlet-plugin"))
        .args(args)
        .output()
        .unwrap();
    let all = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&all).into_owned())
}

fn sample(kind: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/compat/samples/0.1/{kind}.wat"));
    wat::parse_file(file).unwrap()
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let file = dir.join(name);
    std::fs::write(&file, bytes).unwrap();
    file.to_str().unwrap().to_owned()
}

/// `WITLET_WRITE_GOLDEN=1` writes them anew.
#[test]
fn what_inspect_shows() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["probe", "policy", "volume", "network", "sink-log", "sink-metric"] {
        let (code, shown) = tool(&["inspect", &write(dir.path(), "a.wasm", &sample(kind))]);
        assert_eq!(code, Some(0), "{shown}");
        let golden: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/inspect-{kind}.txt"));
        if std::env::var_os("WITLET_WRITE_GOLDEN").is_some() {
            std::fs::write(&golden, &shown).unwrap();
        }
        assert_eq!(
            shown,
            std::fs::read_to_string(&golden).unwrap_or_default(),
            "{}",
            golden.display()
        );
    }
}

#[test]
fn good_components_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["probe", "policy", "volume", "network", "sink-log", "sink-metric"] {
        let file = write(dir.path(), "a.wasm", &sample(kind));
        let (code, said) = tool(&["check", &file]);
        assert_eq!(code, Some(0), "{kind}: {said}");
    }
}

/// The sample of a probe with something changed in its text.
fn changed(from: &str, to: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/compat/samples/0.1/probe.wat");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from}");
    wat::parse_str(text.replace(from, to)).unwrap()
}

#[test]
fn problems_come_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let http = "(component (import \"wasi:http/outgoing-handler@0.2.6\" (instance))";
    for (bytes, words) in [
        (b"hello".to_vec(), "it is not a WebAssembly component"),
        (wat::parse_str("(module)").unwrap(), "it is a core module"),
        (
            wat::parse_str("(component)").unwrap(),
            "it has no section witlet:manifest",
        ),
        (
            changed("\\22track\\22:\\220.1\\22", "\\22track\\22:\\220.9\\22"),
            "nodes serve track 0.1, not \"0.9\"",
        ),
        (
            changed("\\22kind\\22:\\22probe\\22", "\\22kind\\22:\\22poems\\22"),
            "no node knows the kind \"poems\"",
        ),
        (
            changed("\\22kind\\22:\\22probe\\22", "\\22kind\\22:\\22policy\\22"),
            "which policy plugins cannot have",
        ),
        (
            changed("container-exec\\22]", "pod-net\\22]"),
            "without asking for container-exec",
        ),
        (
            changed("(component\n", &format!("{http}\n")),
            "pod-net and egress-http are a plugin's ways to the network",
        ),
    ] {
        let file = write(dir.path(), "a.wasm", &bytes);
        let (code, said) = tool(&["check", &file]);
        assert_eq!(code, Some(1), "{words}: {said}");
        assert!(said.contains(words) && said.contains("do: "), "{words}: {said}");
    }
}

#[test]
fn what_cannot_be_understood_ends_with_64() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().to_str().unwrap();
    for args in [
        vec!["poem"],
        vec!["check", here],
        vec!["new", "A", "--kind", "probe"],
        vec!["new", "a", "--kind", "poem"],
        vec!["new", "a", "--kind", "volume", "--lang", "c"],
        vec!["new", "a", "--kind", "probe", "--lang", "go"],
        vec!["push", "no-tag", here],
    ] {
        let (code, said) = tool(&args);
        assert_eq!(code, Some(64), "{args:?}: {said}");
    }
    assert_eq!(tool(&["--help"]).0, Some(0));
}

#[test]
fn keys_are_made_once_and_sign() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "a.wasm", &sample("probe"));
    let name = dir.path().join("acme").to_str().unwrap().to_owned();
    assert_eq!(tool(&["keygen", &name]).0, Some(0));
    assert_eq!(tool(&["keygen", &name]).0, Some(1), "it was overwritten");
    let (code, said) = tool(&["sign", &file, "--key", &format!("{name}.key")]);
    assert_eq!(code, Some(0), "{said}");
    let signature = std::fs::read_to_string(format!("{file}.sig")).unwrap();
    assert_eq!(signature.trim().len(), 88, "64 bytes in base64");
    assert_eq!(tool(&["sign", &file, "--key", &format!("{name}.pub")]).0, Some(1));
}
