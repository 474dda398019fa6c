//! A node: the built agent under the kubelet's name, a fake runtime, and an API server that it belongs to.
//!
//! The agent has a `/var/lib` of its own in a mount namespace of its own, so that nothing of it stays on the machine.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use witlet_test_api::{ApiServer, BOOTSTRAP_TOKEN, Mode};
use witlet_test_support::fake_cri::FakeCri;

pub(crate) const NAME: &str = "n1";
const IMAGE: &str = "registry.test/app:v1";
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Node {
    agent: Option<Child>,
    pub(crate) api: ApiServer,
    pub(crate) runtime: FakeCri,
    pub(crate) port: u16,
    cgroup: String,
    dir: tempfile::TempDir,
}

/// What `--config` names. Times are short, so that tests are.
fn configuration(dir: &Path, cgroup: &str, port: u16) -> String {
    let dir = dir.display();
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
port: {port}
healthzPort: 0
cgroupRoot: /{cgroup}
cgroupDriver: cgroupfs
failSwapOn: false
failCgroupV1: false
podLogsDir: {dir}/logs/pods
containerRuntimeEndpoint: unix://{dir}/cri.sock
nodeStatusUpdateFrequency: 1s
nodeLeaseDurationSeconds: 4
rotateCertificates: true
serverTLSBootstrap: true
maxPods: 30
authentication:
  x509:
    clientCAFile: ca.crt
"
    )
}

impl Node {
    /// Everything is there, and nothing has started.
    pub(crate) async fn new(mode: Mode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let cgroup = format!("wl-cluster-{}-{port}", std::process::id());
        let api = ApiServer::with_objects(NAME, mode).await;
        let runtime = FakeCri::at(&dir.path().join("cri.sock")).unwrap();
        runtime.add_image(IMAGE);
        for part in ["etc/drop-ins", "bin"] {
            fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        let etc = |name: &str, text: &str| fs::write(dir.path().join("etc").join(name), text).unwrap();
        etc("config.yaml", &configuration(dir.path(), &cgroup, port));
        etc("ca.crt", api.ca());
        etc("bootstrap", &api.kubeconfig(&format!("token: {BOOTSTRAP_TOKEN}")));
        symlink(program(), dir.path().join("bin/kubelet")).unwrap();
        Self {
            agent: None,
            api,
            runtime,
            port,
            cgroup,
            dir,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the agent as an installer's service does, with these flags beside the usual ones.
    pub(crate) fn start(&mut self, flags: &[&str]) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log"));
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
            .args(["sh", "-c", "mount -t tmpfs none /var/lib && exec \"$0\" \"$@\""])
            .arg(self.path("bin/kubelet"));
        for (flag, place) in [
            ("config", "etc/config.yaml"),
            ("config-dir", "etc/drop-ins"),
            ("bootstrap-kubeconfig", "etc/bootstrap"),
            ("kubeconfig", "etc/kubeconfig"),
            ("cert-dir", "pki"),
            ("root-dir", "root"),
        ] {
            command.arg(format!("--{flag}={}", self.path(place).display()));
        }
        command
            .arg(format!("--hostname-override={NAME}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        self.agent = Some(command.spawn().unwrap());
    }

    /// As `systemctl stop` does it.
    pub(crate) async fn stop(&mut self) {
        let mut agent = self.agent.take().unwrap();
        let pid = agent.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.until("the agent's end", async || agent_ended(&mut agent)).await;
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The lines of the log that have all of these words.
    pub(crate) fn told(&self, words: &[&str]) -> usize {
        let log = self.log();
        log.lines()
            .filter(|line| words.iter().all(|w| line.contains(w)))
            .count()
    }

    pub(crate) async fn until(&self, what: &str, mut check: impl AsyncFnMut() -> bool) {
        let start = Instant::now();
        while !check().await {
            assert!(
                start.elapsed() < PATIENCE,
                "not in time: {what}; the log:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn until_told(&self, words: &[&str]) {
        self.until(&format!("{words:?} in the log"), async || self.told(words) > 0)
            .await;
    }

    pub(crate) async fn object(&self) -> Option<NodeObject> {
        Api::<NodeObject>::all(self.api.admin()).get_opt(NAME).await.unwrap()
    }

    pub(crate) async fn until_ready(&self) -> NodeObject {
        self.until("the node is ready", async || {
            self.object().await.is_some_and(|node| ready(&node))
        })
        .await;
        self.object().await.unwrap()
    }

    /// A pod with one container that runs for ever.
    pub(crate) async fn run_pod(&self, name: &str) {
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}],
                "automountServiceAccountToken": false,
                "tolerations": [{"operator": "Exists"}]},
        });
        let pods = Api::<Pod>::namespaced(self.api.admin(), "default");
        let pod = serde_json::from_value(pod).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        self.until(&format!("pod {name} runs"), async || {
            let status = pods.get(name).await.unwrap().status.unwrap_or_default();
            status.phase.as_deref() == Some("Running")
        })
        .await;
    }

    /// The node's own server, for who has this token. Its certificate must be of the cluster's authority.
    pub(crate) async fn server(&self, token: Option<&str>) -> Client {
        let addresses = self.object().await.unwrap().status.unwrap().addresses.unwrap();
        let ip = addresses.iter().find(|a| a.type_ == "InternalIP").unwrap();
        let url = format!("https://{}:{}", ip.address, self.port);
        let token = token.map(|t| format!("token: {t}")).unwrap_or_default();
        // The cluster's kubeconfig with another server.
        let text = self.api.kubeconfig(&token);
        let (before, after) = text.split_once("server: '").unwrap();
        let after = after.split_once('\'').unwrap().1;
        let text = format!("{before}server: '{url}'{after}");
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .unwrap();
        config.default_retry = false;
        config.try_into().unwrap()
    }

    /// Adds to the configuration, before the start.
    pub(crate) fn configure(&self, text: &str) {
        let path = self.path("etc/config.yaml");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, before + text).unwrap();
    }

    /// The status code of a request to the node's own server.
    pub(crate) async fn ask(&self, token: Option<&str>, path: &str) -> u16 {
        self.send(token, http::Request::get(path), "").await.0
    }

    /// The status code and the text of an answer of the node's own server.
    pub(crate) async fn send(&self, token: Option<&str>, request: http::request::Builder, body: &str) -> (u16, String) {
        let request = request
            .body(kube::client::Body::from(body.as_bytes().to_vec()))
            .unwrap();
        let answer = self.server(token).await.send(request).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(answer.into_body())
            .await
            .unwrap()
            .to_bytes();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        // In each hierarchy, or in the one there is; the deepest first.
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let roots = hierarchies.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]);
        for root in roots {
            remove_tree(&root.join(&self.cgroup));
        }
    }
}

fn remove_tree(cgroup: &Path) {
    let inner = fs::read_dir(cgroup).into_iter().flatten().flatten();
    for entry in inner.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_tree(&entry.path());
    }
    let _ = fs::remove_dir(cgroup);
}

fn agent_ended(agent: &mut Child) -> bool {
    agent.try_wait().unwrap().is_some()
}

pub(crate) fn ready(node: &NodeObject) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("WITLET_BIN") {
        return path.into();
    }
    // target/debug/deps/cluster-0123456789abcdef
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join("witlet")
}
