//! Cargo, called from here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

/// What a node consists of.
pub(crate) struct Programs {
    pub(crate) witlet: PathBuf,
    /// What the container runtime calls for networks.
    pub(crate) cni: PathBuf,
}

pub(crate) fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.current_dir(root);
    cargo
}

/// `target`, or where Cargo was told to build.
pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

pub(crate) fn node(root: &Path, release: bool) -> Result<Programs> {
    let mut build = cargo(root);
    build.args(["build", "--quiet", "--package", "witlet", "--package", "witlet-cni"]);
    if release {
        build.arg("--release");
    }
    witlet_lab::run(&mut build)?;
    Ok(programs(root, release))
}

/// The node and all tests, in one go: Cargo would compile shared dependencies twice if it were asked for one after the other,
/// because tests switch more of their features on.
pub(crate) fn everything(root: &Path) -> Result<Programs> {
    let mut build = cargo(root);
    build.args(["build", "--quiet", "--workspace", "--all-targets"]);
    witlet_lab::run(&mut build)?;
    Ok(programs(root, false))
}

fn programs(root: &Path, release: bool) -> Programs {
    let dir = target(root).join(if release { "release" } else { "debug" });
    Programs { witlet: dir.join("witlet"), cni: dir.join("witlet-cni") }
}
