//! Embeds the templates, the SDK and the WIT packages: what `witlet-plugin new` writes needs no checkout.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Below the repository.
const TREES: [&str; 8] = [
    "sdk/templates",
    "sdk/rust/src",
    "sdk/rust/Cargo.toml",
    "sdk/macros/src",
    "sdk/macros/Cargo.toml",
    "sdk/testing/src",
    "sdk/testing/Cargo.toml",
    "wit",
];

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = manifest
        .join("../..")
        .canonicalize()
        .expect("the crate is in the repository");
    let mut files = Vec::new();
    for tree in TREES {
        println!("cargo:rerun-if-changed={}", root.join(tree).display());
        collect(&root.join(tree), &mut files);
    }
    files.sort();
    let mut table = String::from("pub(crate) static FILES: &[(&str, &str)] = &[\n");
    for file in files {
        let name = file
            .strip_prefix(&root)
            .expect("it was found there")
            .display()
            .to_string();
        writeln!(table, "    ({name:?}, include_str!({:?})),", file.display().to_string()).expect("a String takes it");
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("files.rs"), table).expect("cargo made the directory");
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory of the repository").flatten() {
            collect(&entry.path(), files);
        }
    } else {
        files.push(path.to_owned());
    }
}
