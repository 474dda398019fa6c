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

pub(crate) fn node(root: &Path) -> Result<Programs> {
    let mut build = cargo(root);
    build.args(["build", "--quiet", "--package", "witlet", "--package", "witlet-cni"]);
    witlet_lab::run(&mut build)?;
    Ok(programs(root, "debug"))
}

/// The node optimized, and the program that measures it.
pub(crate) fn benchmark(root: &Path) -> Result<(Programs, PathBuf)> {
    let mut build = cargo(root);
    build.args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "witlet",
        "--package",
        "witlet-cni",
    ]);
    build.args(["--package", "witlet-bench"]);
    witlet_lab::run(&mut build)?;
    Ok((programs(root, "release"), target(root).join("release/witlet-bench")))
}

/// The node and all tests, in one go: Cargo would compile shared dependencies twice if it were asked for one after the other,
/// because tests switch more of their features on.
pub(crate) fn everything(root: &Path) -> Result<Programs> {
    let mut build = cargo(root);
    build.args(["build", "--quiet", "--workspace", "--all-targets"]);
    witlet_lab::run(&mut build)?;
    Ok(programs(root, "debug"))
}

fn programs(root: &Path, profile: &str) -> Programs {
    let dir = target(root).join(profile);
    Programs {
        witlet: dir.join("witlet"),
        cni: dir.join("witlet-cni"),
    }
}
