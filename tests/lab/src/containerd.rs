//! The lab's own containerd.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Names, wait};

/// A running containerd. Dropping it leaves it running; the lab's end ends it.
#[derive(Debug)]
pub struct Containerd {
    names: Names,
    snapshotter: &'static str,
    child: Child,
}

impl Containerd {
    pub(crate) fn start(names: &Names, snapshotter: &'static str) -> Result<Self> {
        let config = names.dir.join("containerd.toml");
        fs::write(&config, configuration(names, snapshotter)).context("cannot write containerd's configuration")?;
        let child = spawn(names, &config)?;
        let mut this = Self {
            names: names.clone(),
            snapshotter,
            child,
        };
        this.wait_ready()?;
        Ok(this)
    }

    /// Imports images for Kubernetes' namespace, as if they had been pulled.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let mut ctr = self.ctr();
        ctr.args(["images", "import", "--snapshotter", self.snapshotter])
            .arg(archive);
        crate::output(&mut ctr).map(drop)
    }

    /// `ctr` for this containerd, in Kubernetes' namespace.
    pub fn ctr(&self) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address")
            .arg(self.names.containerd_socket())
            .args(["--namespace", "k8s.io"]);
        ctr
    }

    /// SIGKILL: containers keep running under their shims.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// After [`Containerd::kill`].
    pub fn start_again(&mut self) -> Result<()> {
        self.child = spawn(&self.names, &self.names.dir.join("containerd.toml"))?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let log = self.log();
        wait::wait_until("containerd to answer", Duration::from_secs(20), || {
            if let Some(status) = self.child.try_wait()? {
                bail!("containerd ended with {status}:\n{}", tail(&log, 15));
            }
            let mut ctr = self.ctr();
            ctr.args(["--timeout", "2s", "version"]);
            Ok(self.names.containerd_socket().exists() && crate::output(&mut ctr).is_ok())
        })
    }

    pub fn log(&self) -> PathBuf {
        self.names.dir.join("containerd.log")
    }
}

fn spawn(names: &Names, config: &Path) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(names.dir.join("containerd.log"))?;
    Command::new("containerd")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C is for us alone.
        .process_group(0)
        .spawn()
        .context("cannot start containerd; is it installed? (`cargo xtask setup`)")
}

/// The last lines of a file, for error messages.
pub(crate) fn tail(file: &Path, lines: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn configuration(names: &Names, snapshotter: &str) -> String {
    let dir = names.dir.display();
    let pause = crate::PAUSE;
    format!(
        r#"version = 2
root = "{dir}/containerd/root"
state = "{dir}/containerd/state"
disabled_plugins = [
  "io.containerd.internal.v1.restart", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]

[grpc]
address = "{dir}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Where this process may not lower its own OOM score, containers may not ask for a lower one.
restrict_oom_score_adj = true
# So that the lab's end finds every network namespace below its own directory.
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{dir}/cni/bin"
conf_dir = "{dir}/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{dir}/runc"
SystemdCgroup = false
"#
    )
}
