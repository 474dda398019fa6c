//! Builds the default plugins and the examples, as `witlet-plugin build` builds those of others.
//!
//! `target/plugins/<name>.wasm` for every crate under `plugins/`, `target/examples/<name>.wasm` for those under `examples/`.
//! Cargo compiles all of them in one go, in a target directory of its own, so that host builds do not wait for it. A component is
//! encoded again only if its module is newer.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use witlet_sdk_build::{encode, rust, shape};

/// Where plugins are, and what their crates are called before the plugin's name.
const FAMILIES: [(&str, &str); 2] = [("plugins", "witlet-plugin-"), ("examples", "witlet-example-")];

/// Builds every plugin; the directory with the default ones.
pub(crate) fn build_plugins(root: &Path) -> Result<PathBuf> {
    let target_dir = root.join("target/wasm");
    let mut packages = Vec::new();
    for (family, prefix) in FAMILIES {
        let names = plugin_names(root, family)?;
        packages.extend(names.into_iter().map(|name| (family, format!("{prefix}{name}"), name)));
    }
    let names = packages.iter().map(|(_, package, _)| package.as_str());
    let modules = rust::compile(root, &target_dir, rust::TARGET, names)?;

    for (family, package, name) in &packages {
        let out = root.join("target").join(family);
        fs::create_dir_all(&out).with_context(|| format!("create {}", out.display()))?;
        let module = modules.join(format!("{package}.wasm").replace('-', "_"));
        let component = out.join(format!("{name}.wasm"));
        if !is_up_to_date(&component, &module)? {
            encode(name, &module, &component).with_context(|| format!("plugin {name}"))?;
        }
    }
    Ok(root.join("target/plugins"))
}

/// The directories under `plugins/` or `examples/`.
fn plugin_names(root: &Path, family: &str) -> Result<Vec<String>> {
    let dir = root.join(family);
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    ensure!(!names.is_empty(), "no plugins under {}", dir.display());
    names.sort();
    Ok(names)
}

/// Both files stem from the same clock: the file system's.
fn is_up_to_date(component: &Path, module: &Path) -> Result<bool> {
    let source = fs::metadata(module)
        .with_context(|| format!("{} was not built", module.display()))?
        .modified()?;
    match fs::metadata(component) {
        Ok(made) => Ok(made.modified()? >= source),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| component.display().to_string()),
    }
}

fn encode(name: &str, module: &Path, component: &Path) -> Result<()> {
    let encoded = encode::component(&fs::read(module)?)?;
    shape::component(name, &encoded)?;
    // Whole or not at all: others may read the directory at any time.
    let part = component.with_extension("part");
    fs::write(&part, &encoded)?;
    fs::rename(&part, component)?;
    Ok(())
}
