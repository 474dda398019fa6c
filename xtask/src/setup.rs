//! What the machine must have, and how it gets it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use witlet_sdk_build::{c, javascript, python};

const WASM: &str = "wasm32-unknown-unknown";

/// How much is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// To build and run a node.
    Running,
    /// And to test it.
    Everything,
}

/// A Debian or Ubuntu package, and how to see that it, or another way to the same thing, is there.
struct Need {
    package: &'static str,
    there: fn() -> bool,
}

fn program(name: &str) -> bool {
    witlet_lab::has_program(name)
}

const RUNNING: &[Need] = &[
    Need {
        package: "containerd",
        there: || program("containerd") && program("ctr"),
    },
    Need {
        package: "runc",
        there: || program("runc"),
    },
    Need {
        package: "containernetworking-plugins",
        there: || Path::new("/usr/lib/cni/bridge").exists(),
    },
    Need {
        package: "iptables",
        there: || program("iptables"),
    },
    Need {
        package: "iproute2",
        there: || program("ip"),
    },
    Need {
        package: "busybox-static",
        there: || Path::new("/bin/busybox").exists(),
    },
    // Rust's linker.
    Need {
        package: "gcc",
        there: || program("cc"),
    },
    Need {
        package: "libc6-dev",
        there: || program("cc"),
    },
];

const TESTING: &[Need] = &[Need {
    package: "docker-registry",
    there: || program("docker-registry"),
}];

/// Debian's compiler with its library's source: where rustup cannot have the target.
const WASM_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "lld-19"];

/// Installs what is missing, or says how.
pub(crate) fn run(root: &Path, purpose: For) -> Result<()> {
    if purpose == For::Everything {
        fetch_languages();
    }
    let mut missing: Vec<&str> = Vec::new();
    let needs = RUNNING
        .iter()
        .chain(if purpose == For::Everything { TESTING } else { &[] });
    missing.extend(needs.filter(|need| !(need.there)()).map(|need| need.package));
    if !has_wasm(root) && !add_wasm_target(root) {
        missing.extend(WASM_PACKAGES);
    }
    // Nice to have: the demo does without; the tests do not, or skip what needs it.
    let kubectl = purpose == For::Everything && !program("kubectl") && is_packaged("kubernetes-client");
    if kubectl {
        missing.push("kubernetes-client");
    }
    if purpose == For::Everything && c::clang().is_err() && c::PACKAGES.into_iter().all(is_packaged) {
        missing.extend(c::PACKAGES);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !is_root() {
        bail!("this machine lacks {}. Run:\n\n  sudo {line}\n", missing.join(", "));
    }
    if !program("apt-get") {
        bail!(
            "this machine lacks {}, and has no apt-get to install them with",
            missing.join(", ")
        );
    }
    println!("installing {}", missing.join(", "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null());
        command
    };
    let install: Vec<&str> = line.split(' ').skip(1).collect();
    // The lists may be old, or never fetched as in a fresh container: try, and fetch only then.
    if witlet_lab::output(&mut apt(&install)).is_err() {
        witlet_lab::run(&mut apt(&["-qq", "update"]))?;
        witlet_lab::run(&mut apt(&install)).with_context(|| format!("could not install; try `{line}`"))?;
    }
    Ok(())
}

/// What makes components of JavaScript and Python. Nothing else needs it: without it those tests are skipped.
fn fetch_languages() {
    let fetched = [("JavaScript", javascript::install()), ("Python", python::install())];
    for (language, result) in fetched {
        if let Err(error) = result {
            println!("plugins in {language} will not be tested: {error:#}");
        }
    }
}

/// What every lab needs beside programs.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0"))
}

/// Either compiler has what the plugins are built for.
fn has_wasm(root: &Path) -> bool {
    let sysroot = witlet_lab::output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root));
    let rustup = sysroot.is_ok_and(|dir| {
        Path::new(dir.trim())
            .join("lib/rustlib")
            .join(WASM)
            .join("lib")
            .is_dir()
    });
    let debian = Path::new("/usr/lib/rustlib/src/rust/library/Cargo.lock").exists() && program("wasm-ld-19");
    rustup || debian && Path::new("/usr/bin/rustc").exists()
}

/// rustup's own; not waited for if its server cannot be reached.
fn add_wasm_target(root: &Path) -> bool {
    const PATIENCE: Duration = Duration::from_secs(60);
    if !program("rustup") {
        return false;
    }
    let mut rustup = Command::new("rustup");
    rustup
        .args(["target", "add", WASM])
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(mut child) = rustup.spawn() else { return false };
    println!("adding the target {WASM} to rustup's toolchain");
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success() && has_wasm(root),
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(100)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

fn is_packaged(package: &str) -> bool {
    witlet_lab::output(Command::new("apt-cache").args(["show", package])).is_ok()
}
