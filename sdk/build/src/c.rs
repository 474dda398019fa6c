//! C: bindings made here, and clang with wasi-libc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use wit_bindgen_c::{Enabled, Opts};
use wit_bindgen_core::{Files, wit_parser::Resolve};

use crate::tools;

const CLANG: [&str; 3] = ["clang", "clang-19", "clang-18"];

/// Debian's packages with what is needed.
pub const PACKAGES: [&str; 4] = ["clang-19", "lld-19", "wasi-libc", "libclang-rt-19-dev-wasm32"];

/// The compiler, or what to install.
pub fn clang() -> Result<PathBuf> {
    let how = format!(
        "`apt-get install {}`, or the WASI SDK, with its clang in WITLET_PLUGIN_CC",
        PACKAGES.join(" ")
    );
    let clang = match std::env::var_os("WITLET_PLUGIN_CC") {
        Some(cc) => PathBuf::from(cc),
        None => tools::find(&CLANG).with_context(|| format!("there is no clang: {how}"))?,
    };
    // Without libraries for the target it would only find out at the end, in words that help nobody.
    let answer = Command::new(&clang)
        .args(["--target=wasm32-wasi", "-print-file-name=libc.a"])
        .output()
        .with_context(|| format!("run {}", clang.display()))?;
    let libc = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    let debian = Path::new("/usr/lib/wasm32-wasi/libc.a");
    if !Path::new(&libc).is_file() && !debian.is_file() {
        bail!("{} has no C library for wasm32-wasi: {how}", clang.display());
    }
    Ok(clang)
}

/// Writes `plugin.h`, `plugin.c` and an object file with the component's type into `dir`, for the world `plugin` in `wit`.
pub fn bindings(wit: &Path, dir: &Path) -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(wit)
        .map_err(|e| anyhow!("{}: {e:#}", wit.display()))?;
    let world = resolve
        .select_world(&[package], Some("plugin"))
        .map_err(|e| anyhow!("{}: {e:#}", wit.display()))?;
    let options = Opts {
        // What is lent for a call is given back when it ends; nobody has to think of it.
        autodrop_borrows: Enabled::Yes,
        ..Opts::default()
    };
    let mut files = Files::default();
    options
        .build()
        .generate(&mut resolve, world, &mut files)
        .map_err(|e| anyhow!("bindings: {e:#}"))?;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    for (name, content) in files.iter() {
        fs::write(dir.join(name), content)?;
    }
    Ok(())
}

/// Compiles the project's source; its module.
pub fn build(root: &Path, source: &str, out: &Path) -> Result<PathBuf> {
    let clang = clang()?;
    let generated = out.join("bindings");
    bindings(&root.join("wit"), &generated)?;
    let module = out.join("module.wasm");
    let mut command = Command::new(clang);
    command
        .current_dir(root)
        .args([
            "--target=wasm32-wasi",
            "-mexec-model=reactor",
            "-Os",
            "-flto",
            "-Wall",
            "-Wextra",
        ])
        .arg("-I")
        .arg(&generated)
        .arg(source)
        // What was generated is not the author's to tidy up.
        .arg("-Wno-unused-parameter")
        .arg(generated.join("plugin.c"))
        .arg(generated.join("plugin_component_type.o"))
        .arg("-Wl,--strip-debug")
        .arg("-o")
        .arg(&module);
    tools::run(&mut command)?;
    Ok(module)
}
