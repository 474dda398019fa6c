//! Embeds the default plugins that `cargo xtask plugins` built into `target/plugins`. Without them the binary still builds, and
//! says at start what is missing.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=WITLET_PLUGINS_DIR");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let dir = env::var_os("WITLET_PLUGINS_DIR").map_or_else(|| manifest.join("../../target/plugins"), PathBuf::from);
    println!("cargo:rerun-if-changed={}", dir.display());

    let mut table = String::from("pub(crate) static BUILTIN: &[(&str, &[u8])] = &[\n");
    for path in components(&dir) {
        println!("cargo:rerun-if-changed={}", path.display());
        let name = path
            .file_stem()
            .and_then(|n| n.to_str())
            .expect("plugins have ASCII names")
            .to_owned();
        let path = path.canonicalize().expect("it was just listed");
        writeln!(
            table,
            "    ({name:?}, include_bytes!({:?})),",
            path.display().to_string()
        )
        .expect("a String takes it");
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("builtin.rs"), table).expect("cargo made the directory");
}

fn components(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        println!(
            "cargo:warning=no default plugins in {}: run `cargo xtask plugins` first",
            dir.display()
        );
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "wasm"));
    found.sort();
    found
}
