//! Rust: Cargo and one of two compilers that have a WebAssembly target.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Needs nothing of WASI, and neither does the SDK.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// `[build] target` of a project; the others need rustup's standard library for them.
pub const TARGETS: [&str; 3] = [TARGET, "wasm32-wasip1", "wasm32-wasip2"];

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "wasm-ld-19";

/// What compiles for a target on this machine.
#[derive(Debug, PartialEq, Eq)]
enum Toolchain {
    /// The active toolchain has the target installed.
    Installed,
    /// Debian's compiler builds the standard library from Debian's sources.
    Debian,
}

fn toolchain(root: &Path, target: &str) -> Result<Toolchain> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = Command::new(&rustc)
        .args(["--print", "sysroot"])
        .current_dir(root)
        .output();
    let sysroot = sysroot.with_context(|| {
        let rustc = rustc.display();
        format!("run {rustc}: Rust is not installed; https://rustup.rs installs it")
    })?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if sysroot.join("lib/rustlib").join(target).join("lib").is_dir() {
        return Ok(Toolchain::Installed);
    }
    if target != TARGET {
        bail!("nothing here compiles for {target}: `rustup target add {target}`, or build for {TARGET}");
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

/// Is there something that compiles plugins?
pub(crate) fn check() -> Result<()> {
    toolchain(Path::new("."), TARGET).map(drop)
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Compiles these packages of the workspace `root` in one run of Cargo, so that they share every dependency; none: the package of
/// `root` alone. The directory with the modules, `<package_name>.wasm`.
pub fn compile<'a>(
    root: &Path,
    target_dir: &Path,
    target: &str,
    packages: impl Iterator<Item = &'a str>,
) -> Result<PathBuf> {
    let mut command = cargo(root);
    command
        .args(["build", "--lib", "--profile", "plugin", "--target", target])
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
    if toolchain(root, target)? == Toolchain::Debian {
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
    ensure!(
        status.success(),
        "cargo could not build it ({status}); what it said stands above"
    );
    Ok(target_dir.join(target).join("plugin"))
}

/// Builds the package in `root`; its module, or its component where the target makes one.
pub fn build(root: &Path, target: &str) -> Result<PathBuf> {
    ensure!(
        TARGETS.contains(&target),
        "build.target = {target:?}: write one of {}",
        TARGETS.join(", ")
    );
    let target_dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let name = library(root)?;
    let modules = compile(root, &target_dir.join("wasm"), target, std::iter::empty())?;
    Ok(modules.join(format!("{name}.wasm")))
}

/// The name of the package's `cdylib`.
fn library(root: &Path) -> Result<String> {
    let output = cargo(root)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .context("run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {}", said.trim());
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let manifest = root.canonicalize()?.join("Cargo.toml");
    let package = metadata["packages"].as_array().into_iter().flatten().find(|package| {
        package["manifest_path"]
            .as_str()
            .is_some_and(|path| Path::new(path) == manifest)
    });
    let package = package.with_context(|| format!("{} has no package", manifest.display()))?;
    let targets = package["targets"].as_array().into_iter().flatten();
    let is_cdylib = |t: &&Value| {
        t["crate_types"]
            .as_array()
            .is_some_and(|types| types.iter().any(|t| t == "cdylib"))
    };
    let library = { targets }.find(is_cdylib).and_then(|t| t["name"].as_str());
    let library = library.with_context(|| {
        let manifest = manifest.display();
        format!("{manifest} makes no component: add `[lib] crate-type = [\"cdylib\", \"rlib\"]`")
    })?;
    Ok(library.replace('-', "_"))
}
