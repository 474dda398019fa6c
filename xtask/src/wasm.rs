//! Builds the default plugins and the examples: Rust → core module → component.
//!
//! `target/plugins/<name>.wasm` for every crate under `plugins/`, `target/examples/<name>.wasm` for those under `examples/`. Cargo compiles all of them in one go, with a profile made
//! for size and in a target directory of its own, so that host builds do not wait for it. A component is encoded again only
//! if its module is newer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use wit_component::ComponentEncoder;

mod check;

const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "wasm-ld-19";

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
    compile(
        root,
        &target_dir,
        packages.iter().map(|(_, package, _)| package.as_str()),
    )?;

    let modules = target_dir.join(TARGET).join("plugin");
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

/// What compiles for the target on this machine.
#[derive(Debug, PartialEq, Eq)]
enum Toolchain {
    /// The active toolchain has the target installed.
    Installed,
    /// Debian's compiler builds the standard library from Debian's sources.
    Debian,
}

fn toolchain(root: &Path) -> Result<Toolchain> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = Command::new(&rustc)
        .args(["--print", "sysroot"])
        .current_dir(root)
        .output();
    let sysroot = sysroot.with_context(|| format!("run {}", rustc.display()))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
        return Ok(Toolchain::Installed);
    }
    let debian_source = Path::new("/usr/lib/rustlib/src/rust/library/Cargo.lock");
    let linker = Path::new("/usr/bin").join(DEBIAN_LINKER);
    if Path::new(DEBIAN_RUSTC).exists() && debian_source.exists() && linker.exists() {
        return Ok(Toolchain::Debian);
    }
    bail!(
        "nothing here compiles for {TARGET}. Either `rustup target add {TARGET}`, or, where rustup cannot, on Debian: \
         `apt-get install rustc-web rust-web-src lld-19`"
    )
}

/// All plugins in one run of Cargo, so that they share every dependency.
fn compile<'a>(root: &Path, target_dir: &Path, packages: impl Iterator<Item = &'a str>) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(root)
        .args(["build", "--lib", "--profile", "plugin", "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir);
    for setting in [
        "profile.plugin.inherits='release'",
        "profile.plugin.opt-level='s'",
        "profile.plugin.lto='fat'",
        "profile.plugin.codegen-units=1",
        "profile.plugin.panic='abort'",
        // Keeps custom sections: the manifest and the component's type are some.
        "profile.plugin.strip='symbols'",
    ] {
        command.arg("--config").arg(setting);
    }
    for package in packages {
        command.arg("--package").arg(package);
    }
    // Flags for the host's code are not for this target.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    if toolchain(root)? == Toolchain::Debian {
        command
            .arg("-Zbuild-std=std,panic_abort")
            .env("RUSTC", DEBIAN_RUSTC)
            // Lets the stable compiler and Cargo build the standard library.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER)
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .env_remove("RUSTUP_TOOLCHAIN");
    }
    let status = command.status().context("run cargo")?;
    ensure!(status.success(), "cargo could not build the plugins ({status})");
    Ok(())
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
    let bytes = fs::read(module)?;
    let encoded = ComponentEncoder::default().validate(true).module(&bytes)?.encode()?;
    check::component(name, &encoded)?;
    // Whole or not at all: others may read the directory at any time.
    let part = component.with_extension("part");
    fs::write(&part, &encoded)?;
    fs::rename(&part, component)?;
    Ok(())
}
