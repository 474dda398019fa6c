//! The built agent, as a child of the test.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{Lab, containerd, wait};

/// Of the network that pods of a lab get by the name `second`.
pub const SECOND_SUBNET: &str = "198.51.100.";

const START: Duration = Duration::from_secs(30);

/// Where a running agent is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoints {
    /// `https://127.0.0.1:port`
    pub api: String,
    /// `http://127.0.0.1:port`; `/healthz` and `/metrics`
    pub healthz: String,
    /// `https://127.0.0.1:port`; the node's HTTPS API
    pub server: String,
    pub kubeconfig: PathBuf,
}

/// A running agent. Dropping it leaves it running; the lab's end ends it.
#[derive(Debug)]
pub struct Agent {
    program: PathBuf,
    dir: PathBuf,
    child: Child,
    /// Where this run's part of the log begins.
    log_start: usize,
    pub endpoints: Endpoints,
}

impl Lab {
    /// A configuration for a standalone node in this lab, and `extra` behind it: more tables, such as plugins.
    pub fn write_agent_config(&self, extra: &str) -> Result<PathBuf> {
        let dir = self.dir().display();
        let names = self.names();
        let text = format!(
            r#"[node]
name = "lab"
root_dir = "{dir}/root"
pod_logs_dir = "{dir}/logs"
state_dir = "{dir}/state"
device_plugins_dir = "{dir}/device-plugins"

[runtime]
endpoint = "{endpoint}"
cgroup_driver = "cgroupfs"
cgroup_root = "{cgroup}"

[standalone]
listen = "127.0.0.1:0"
kubeconfig = "{dir}/kubeconfig"

[static_pods]
path = "{dir}/manifests"
poll = "1s"

[network]
mode = "plugin"
socket = "{dir}/cni.sock"
conf_dir = "{dir}/cni/net.d"

# A disk that is nearly full is not the tests' business. A registry of a test may have an image of the lab's under another name: the one that is here stays for everybody.
[images]
credential_verification = "NeverVerifyAllowlistedImages"
verification_allowlist = ["witlet.dev/*"]
gc_high = 100

[server]
healthz = "127.0.0.1:0"
listen = "127.0.0.1:0"

[plugin.network-cni.config]
bridge = "{bridge}"
subnet = "{subnet}"
bin_dirs = ["/usr/lib/cni"]
data_dir = "{dir}/ipam"

[[plugin.network-cni.config.networks.second]]
type = "ptp"
ipam = {{ type = "host-local", ranges = [[{{ subnet = "{SECOND_SUBNET}0/24" }}]], dataDir = "{dir}/ipam" }}

{extra}"#,
            endpoint = names.runtime_endpoint(),
            cgroup = self.cgroup_root(),
            bridge = names.bridge,
            subnet = names.subnet(),
        );
        let path = self.dir().join("witlet.toml");
        fs::write(&path, text).context("cannot write the agent's configuration")?;
        Ok(path)
    }

    /// Starts the agent with the lab's `witlet.toml` and waits until the node is ready.
    pub fn agent(&self, program: &Path) -> Result<Agent> {
        Agent::start(program, self.dir())
    }
}

impl Agent {
    fn start(program: &Path, dir: &Path) -> Result<Self> {
        let mut agent = Self::spawn(program, dir)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    fn spawn(program: &Path, dir: &Path) -> Result<Self> {
        // So that the ones found are this process's own.
        let _ = fs::remove_file(dir.join("state/run/endpoints.json"));
        let log = File::options().create(true).append(true).open(dir.join("witlet.log"))?;
        let log_start = usize::try_from(log.metadata()?.len())?;
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(dir.join("witlet.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let endpoints = Endpoints {
            api: String::new(),
            healthz: String::new(),
            server: String::new(),
            kubeconfig: PathBuf::new(),
        };
        Ok(Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            child,
            log_start,
            endpoints,
        })
    }

    fn wait_ready(&mut self) -> Result<()> {
        let (log, file) = (self.log(), self.dir.join("state/run/endpoints.json"));
        let endpoints = wait::wait_for("the agent to serve its API", START, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended with {status}:\n{}", containerd::tail(&log, 20));
            }
            // Absent or half written: not yet.
            let parsed = fs::read(&file)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            Ok(parsed.and_then(|value| {
                let text = |key: &str| value[key].as_str().map(str::to_owned);
                Some(Endpoints {
                    api: text("api")?,
                    healthz: text("healthz")?,
                    server: text("server")?,
                    kubeconfig: text("kubeconfig")?.into(),
                })
            }))
        })?;
        self.endpoints = endpoints;
        wait::wait_until("the node to be ready", START, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended with {status}:\n{}", containerd::tail(&log, 20));
            }
            let written = fs::read(&log).unwrap_or_default();
            let own = written.get(self.log_start..).unwrap_or_default();
            Ok(String::from_utf8_lossy(own).contains("node is ready"))
        })
        .with_context(|| format!("the agent's last lines:\n{}", containerd::tail(&log, 20)))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("witlet.log")
    }

    /// From the agent's plain HTTP server.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let authority = self
            .endpoints
            .healthz
            .trim_start_matches("http://")
            .trim_end_matches('/');
        http_get(authority, path)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and the way it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        // SAFETY: a plain system call on a child that was not waited for yet.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        wait::wait_for("the agent to end", START, || Ok(self.child.try_wait()?))
    }

    /// After [`Agent::kill`] or [`Agent::stop`].
    pub fn start_again(&mut self) -> Result<()> {
        self.start_unready()?;
        self.wait_ready()
    }

    /// The same without waiting for anything.
    pub fn start_unready(&mut self) -> Result<()> {
        *self = Self::spawn(&self.program, &self.dir)?;
        Ok(())
    }

    /// See [`usage`].
    pub fn usage(&self) -> Result<(Duration, u64)> {
        usage(self.pid())
    }
}

/// CPU time of a process so far, and its resident memory in bytes.
pub fn usage(pid: u32) -> Result<(Duration, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // Behind the name, which may contain anything: field 14 and 15 of all, in clock ticks.
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 = [11, 12]
        .iter()
        .filter_map(|i| fields.get(*i)?.parse::<u64>().ok())
        .sum();
    // SAFETY: has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .context("VmRSS is no number")?;
    Ok((Duration::from_millis(ticks * 1000 / per_second), kib * 1024))
}

/// A plain HTTP/1.0 request.
pub fn http_get(authority: &str, path: &str) -> Result<(u16, String)> {
    let address = authority
        .parse()
        .with_context(|| format!("{authority} is no address"))?;
    let mut stream =
        TcpStream::connect_timeout(&address, Duration::from_secs(5)).with_context(|| format!("connect {authority}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .or_else(|| answer.split_once("\n\n"))
        .context("no HTTP answer")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .context("no HTTP status")?;
    Ok((status, body.to_owned()))
}
