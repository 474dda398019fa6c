//! A node to try things on: a real containerd with its own root, state, socket, cgroup and bridge, in one directory, the
//! images that the demo and the tests use, and the agent on top of it.
//!
//! Everything a lab makes on the machine carries the lab's name, so that [`sweep`] can find and remove all of it knowing nothing
//! but the directory. That is what happens when a [`Lab`] is dropped, and what a small guardian process does if its maker dies
//! without getting there (`kill -9`, a panic while panicking).

mod agent;
mod containerd;
mod exec;
mod guardian;
mod images;
mod iptables;
mod kernel;
mod names;
mod signals;
mod sweep;
mod wait;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use agent::{Agent, Endpoints, SECOND_SUBNET, http_get, usage};
pub use containerd::Containerd;
pub use exec::{has_program, output, run};
pub use guardian::run_if_asked as run_guardian_if_asked;
pub use images::{BUSYBOX, DEMO_WEB, PAUSE, SPARE, build_archive, build_spare_archive};
pub use names::Names;
pub use signals::{install as catch_signals, interrupted};
pub use sweep::sweep;
pub use wait::{wait_for, wait_until};

/// One lab. Dropping it removes it.
#[derive(Debug)]
pub struct Lab {
    names: Names,
    snapshotter: &'static str,
    guardian: Option<guardian::Guardian>,
}

impl Lab {
    /// Makes the directory and prepares the kernel. Nothing runs yet.
    pub fn new() -> Result<Self> {
        ensure!(
            kernel::is_root(),
            "a lab needs root: it makes mounts, network namespaces and cgroups"
        );
        kernel::prepare()?;
        let names = Names::pick()?;
        // From here on the guard cleans up.
        let mut lab = Self {
            names,
            snapshotter: "overlayfs",
            guardian: None,
        };
        lab.guardian = Some(guardian::Guardian::spawn(lab.dir())?);
        for sub in [
            "cni/bin",
            "cni/net.d",
            "root",
            "logs",
            "state",
            "manifests",
            "plugins.d",
        ] {
            fs::create_dir_all(lab.dir().join(sub)).with_context(|| format!("cannot create {sub}"))?;
        }
        lab.snapshotter = kernel::snapshotter(lab.dir())?;
        for name in fs::read_dir("/usr/lib/cni").context("no CNI plugins in /usr/lib/cni")? {
            let from = name?.path();
            if let Some(file) = from.file_name() {
                std::os::unix::fs::symlink(&from, lab.dir().join("cni/bin").join(file))?;
            }
        }
        Ok(lab)
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn dir(&self) -> &Path {
        &self.names.dir
    }

    /// `/name`, below which the agent makes every cgroup of this lab.
    pub fn cgroup_root(&self) -> String {
        format!("/{}", self.names.name)
    }

    /// Where the runtime looks for CNI configurations.
    pub fn cni_conf_dir(&self) -> PathBuf {
        self.dir().join("cni/net.d")
    }

    /// Where the runtime looks for CNI programs: links to the machine's, and what [`Lab::link_cni`] added.
    pub fn cni_bin_dir(&self) -> PathBuf {
        self.dir().join("cni/bin")
    }

    pub fn link_cni(&self, name: &str, program: &Path) -> Result<()> {
        let link = self.cni_bin_dir().join(name);
        if link.exists() {
            fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink(program, &link).with_context(|| format!("cannot link {}", program.display()))
    }

    /// Starts the lab's containerd and waits until it answers.
    pub fn containerd(&self) -> Result<Containerd> {
        Containerd::start(&self.names, self.snapshotter)
    }

    /// A CNI configuration of the classic kind, without witlet: what direct calls to the runtime are measured with.
    pub fn write_classic_cni(&self) -> Result<()> {
        let conf = serde_json::json!({
            "cniVersion": "0.4.0",
            "name": self.names.bridge,
            "plugins": [
                {
                    "type": "bridge", "bridge": self.names.bridge, "isGateway": true, "ipMasq": true, "hairpinMode": true,
                    "ipam": {
                        "type": "host-local", "dataDir": self.dir().join("ipam"),
                        "ranges": [[{ "subnet": self.names.subnet() }]], "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        });
        fs::write(self.cni_conf_dir().join("10-classic.conflist"), conf.to_string())
            .context("cannot write the CNI configuration")
    }

    /// Removes everything now and reports what could not be removed.
    pub fn close(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        let Some(guardian) = self.guardian.take() else {
            return Ok(());
        };
        let swept = sweep(&self.names.dir);
        // After the sweep: until then the guardian is still needed.
        guardian.dismiss();
        swept
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("the lab could not be removed completely: {error:#}");
        }
    }
}
