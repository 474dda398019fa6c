//! The default plugins, as they are built, in the host that they run in.
//!
//! `cargo xtask plugins` builds them; without it there is nothing to test, and the tests say so. What each plugin decides is
//! tested natively beside it: here it is about fitting together.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{FakeObjects, Node, plugins, pod};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service, Volume};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use witlet_core::ids::PodUid;
use witlet_plugin_host::config::{Kind, PluginConfig};
use witlet_plugin_host::{Deps, PluginHost};
use witlet_ports::api::{Objects, Token, TokenRequest};
use witlet_ports::network::{Network, Sandbox};
use witlet_ports::policy::Policies;
use witlet_ports::probe::{Check, Probes, Verdict};
use witlet_ports::sink::{Family, LogEntry, MetricKind, OutputStream, Sample};
use witlet_ports::volume::{Published, Volumes};
use witlet_ports::{Class, Error, Result};

/// The stanza of a default plugin; none if it was not built.
fn stanza(node: &Node, name: &str, kind: Kind, toml: &str) -> Option<PluginConfig> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/plugins")
        .join(format!("{name}.wasm"));
    let Ok(component) = std::fs::read(&file) else {
        eprintln!(
            "SKIPPED: {} is not there; `cargo xtask plugins` builds it",
            file.display()
        );
        return None;
    };
    Some(node.stanza(kind, &component, toml))
}

async fn start(node: &Node, name: &str, kind: Kind, toml: &str) -> Option<Arc<PluginHost>> {
    Some(node.start([("test", stanza(node, name, kind, toml)?)]).await)
}

/// A server that gives one answer to each connection, and what the clients sent up to the end of a header.
async fn server(answer: &'static str) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !complete(&request) {
                match stream.read(&mut buffer).await {
                    Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
                    _ => break,
                }
            }
            let _ = send.send(String::from_utf8_lossy(&request).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, receive)
}

/// Header and body are there.
fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or_default()
}

fn probe(params: &Value) -> Check {
    let container = json!({"name": "c", "env": [{"name": "A", "value": "b"}]});
    Check {
        plugin: "test".into(),
        pod: pod(),
        container: Arc::new(serde_json::from_value::<Container>(container).unwrap()),
        container_id: "id".into(),
        params: params.to_string().into(),
        timeout: Duration::from_secs(5),
    }
}

#[tokio::test]
async fn probes() {
    let node = Node::new();
    let grants = "grants = { pod-net = { any-port = true }, container-exec = { argv = [\"*\"] } }";
    let Some(host) = start(&node, "probe-standard", Kind::Probe, grants).await else {
        return;
    };
    let check = async |params: Value| {
        let outcome = Probes::check(&*host, probe(&params)).await.unwrap();
        (outcome.verdict, outcome.message)
    };

    let (port, mut requests) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let outcome = check(json!({"httpGet": {"path": "/healthz", "port": port}})).await;
    assert_eq!(outcome, (Verdict::Pass, "ok".to_owned()));
    let request = requests.recv().await.unwrap().to_lowercase();
    assert!(request.starts_with("get /healthz http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nuser-agent: kube-probe/1.36\r\n"), "{request}");
    assert!(
        request.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")),
        "{request}"
    );
    let outcome = check(json!({"tcpSocket": {"port": port}})).await;
    assert_eq!(outcome.0, Verdict::Pass);

    let (busy, _requests) = server("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
    let outcome = check(json!({"httpGet": {"path": "/", "port": busy}})).await;
    assert_eq!(
        outcome,
        (Verdict::Fail, "HTTP probe failed with statuscode: 503".to_owned())
    );

    // Nobody listens on a port that was just given back.
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let dial = format!("dial tcp 127.0.0.1:{gone}: connect: connection refused");
    let outcome = check(json!({"tcpSocket": {"port": gone}})).await;
    assert_eq!(outcome, (Verdict::Fail, dial.clone()));
    let outcome = check(json!({"httpGet": {"path": "/", "port": gone}})).await;
    assert_eq!(
        outcome,
        (Verdict::Fail, format!("Get \"http://127.0.0.1:{gone}/\": {dial}"))
    );
    let outcome = check(json!({"grpc": {"port": gone}})).await;
    let start = format!("timeout: failed to connect service \"127.0.0.1:{gone}\" within 5s: ");
    assert!(
        outcome.0 == Verdict::Fail && outcome.1.starts_with(&start),
        "{outcome:?}"
    );

    let outcome = check(json!({"exec": {"command": ["echo", "$(A)"]}})).await;
    assert_eq!(outcome, (Verdict::Pass, "id: echo b".to_owned()));
    assert!(
        Probes::check(&*host, probe(&json!({})))
            .await
            .unwrap_err()
            .message
            .contains("missing probe handler")
    );
}

/// One config map and one secret, with a key each.
struct Api;

#[async_trait]
impl Objects for Api {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>> {
        assert_eq!((namespace, name), ("n", "cm"));
        Ok(Arc::new(
            serde_json::from_value(json!({"data": {"key": "text"}})).unwrap(),
        ))
    }
    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>> {
        assert_eq!(namespace, "n");
        if name == "s" {
            return Ok(Arc::new(
                serde_json::from_value(json!({"data": {"key": "aGlkZGVu"}})).unwrap(),
            ));
        }
        Err(Error::not_found(format!("secret {name:?} not found")))
    }
    async fn token(&self, request: &TokenRequest) -> Result<Token> {
        FakeObjects.token(request).await
    }
    async fn services(&self) -> Result<Vec<Arc<Service>>> {
        FakeObjects.services().await
    }
    async fn runtime_handler(&self, class: &str) -> Result<String> {
        FakeObjects.runtime_handler(class).await
    }
    fn register(&self, _: &Arc<Pod>) {}
    fn unregister(&self, _: &PodUid) {}
}

/// Publishes the one volume of a pod.
async fn publish(host: &PluginHost, source: Value) -> Result<Published> {
    let mut volume = source;
    volume["name"] = json!("v");
    let volume: Volume = serde_json::from_value(volume).unwrap();
    let mut pod = Pod::clone(&pod());
    pod.spec.as_mut().unwrap().volumes = Some(vec![volume.clone()]);
    host.publish(&Arc::new(pod), &volume).await
}

/// Takes mounts away even if the test fails.
struct Mounts(PathBuf);

impl Drop for Mounts {
    fn drop(&mut self) {
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let inside = table
            .lines()
            .filter_map(|l| l.split(' ').nth(1))
            .filter(|at| Path::new(at).starts_with(&self.0));
        for at in inside {
            let _ = std::process::Command::new("umount").arg(at).status();
        }
    }
}

const VOLUME_GRANTS: &str =
    r#"grants = { files = {}, mount = {}, host-path = { paths = ["/"] }, pod-objects = {}, downward = {} }"#;

#[tokio::test]
async fn volumes() {
    let node = Node::new();
    let _mounts = Mounts(node.dir.path().to_owned());
    let Some(stanza) = stanza(&node, "volume-standard", Kind::Volume, VOLUME_GRANTS) else {
        return;
    };
    let deps = Deps {
        objects: Arc::new(Api),
        ..node.deps()
    };
    let host = PluginHost::start(plugins([("test", stanza)]), deps)
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let volumes = node.path("kubelet/pods/11111111-2222-3333-4444-555555555555/volumes");
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let refused = async |source: Value| publish(&host, source).await.unwrap_err().message;

    let empty = publish(&host, json!({"emptyDir": {}})).await.unwrap().host_path;
    assert_eq!(empty, volumes.join("kubernetes.io~empty-dir/v"));
    assert_eq!(mode(empty), 0o777);
    let etc = publish(&host, json!({"hostPath": {"path": "/etc", "type": "Directory"}}))
        .await
        .unwrap()
        .host_path;
    assert_eq!(etc, PathBuf::from("/etc"));
    let message = refused(json!({"hostPath": {"path": "/etc", "type": "File"}})).await;
    assert_eq!(message, "hostPath type check failed: /etc is not a file");

    let source = json!({"configMap": {"name": "cm", "defaultMode": 0o640}});
    let published = publish(&host, source.clone()).await.unwrap();
    assert!(published.read_only && published.follows_source);
    let dir = volumes.join("kubernetes.io~configmap/v");
    assert_eq!(std::fs::read_to_string(dir.join("key")).unwrap(), "text");
    assert_eq!(mode(dir.join("key")), 0o640);
    let version = std::fs::read_link(dir.join("..data")).unwrap();
    publish(&host, source).await.unwrap();
    assert_eq!(
        std::fs::read_link(dir.join("..data")).unwrap(),
        version,
        "nothing changed"
    );
    let items = json!([{"key": "no", "path": "k"}]);
    let message = refused(json!({"configMap": {"name": "cm", "defaultMode": 420, "items": items}})).await;
    assert_eq!(message, "configmap references non-existent config key: no");
    let message = refused(json!({"secret": {"secretName": "no", "defaultMode": 420}})).await;
    assert_eq!(message, "secret \"no\" not found");

    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        let sources = json!([
            {"secret": {"name": "s"}},
            {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ]);
        let dir = publish(&host, json!({"projected": {"defaultMode": 0o400, "sources": sources}}))
            .await
            .unwrap()
            .host_path;
        assert_eq!(std::fs::read_to_string(dir.join("key")).unwrap(), "hidden");
        assert_eq!(std::fs::read_to_string(dir.join("name")).unwrap(), "p");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(
            mounts.contains(&format!("tmpfs {} tmpfs ", dir.display())),
            "a secret is in memory only"
        );
    } else {
        eprintln!("SKIPPED: only root can mount memory for a secret");
    }

    for found in host.found(None).await.unwrap() {
        host.unpublish(&found).await.unwrap();
    }
    assert_eq!(host.found(None).await.unwrap(), []);
    assert!(!dir.exists());
}

/// A CNI plugin that writes down what it is asked, and answers.
fn cni_program(dir: &Path, name: &str) {
    let script = format!(
        "#!/bin/sh\nexec 2>&1\necho \"{name} $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $(/bin/cat)\" >> {log}\n\
         case $CNI_COMMAND in\n  ADD) echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[],\"by\":\"{name}\"}}' ;;\n  \
         VERSION) echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}}' ;;\nesac\n",
        log = dir.join("log").display()
    );
    let path = dir.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn networks() {
    let node = Node::new();
    let dir = node.path("bin");
    std::fs::create_dir(&dir).unwrap();
    cni_program(&dir, "first");
    cni_program(&dir, "second");
    let toml = format!(
        "config = {{ bin_dirs = [\"/does/not/exist\", {dir:?}], plugins = [{{ type = \"first\" }}, {{ type = \"second\" }}] }}\n\
         grants = {{ exec = {{ programs = [\"{}/*\"] }} }}",
        dir.display()
    );
    let Some(host) = start(&node, "network-cni", Kind::Network, &toml).await else {
        return;
    };
    host.status().await.unwrap();
    let sandbox = Sandbox {
        id: "box".into(),
        netns: "/run/netns/x".into(),
        ifname: "eth0".into(),
        args: vec![],
        config: "{\"cniVersion\":\"1.0.0\"}".into(),
    };
    let log = || {
        let text = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        std::fs::write(dir.join("log"), "").unwrap();
        text.lines()
            .map(|l| l.split(' ').take(4).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    log();
    let attachment = host.setup(Some(&pod()), &sandbox).await.unwrap();
    let result: Value = serde_json::from_str(&attachment.cni_result).unwrap();
    assert_eq!(result["by"], "second");
    assert_eq!(log(), ["first ADD box eth0", "second ADD box eth0"]);
    Network::check(&*host, &sandbox, Some(&attachment.state)).await.unwrap();
    assert_eq!(log(), ["first CHECK box eth0", "second CHECK box eth0"]);
    host.teardown(&sandbox, Some(&attachment.state)).await.unwrap();
    assert_eq!(log(), ["second DEL box eth0", "first DEL box eth0"]);
    let programs: Vec<_> = attachment
        .offline_teardown
        .iter()
        .map(|c| PathBuf::from(&c.program))
        .collect();
    assert_eq!(programs, [dir.join("second"), dir.join("first")]);
}

#[tokio::test]
async fn policies() {
    let node = Node::new();
    let Some(host) = start(
        &node,
        "policy-pod-security",
        Kind::Policy,
        "config = { level = \"baseline\" }",
    )
    .await
    else {
        return;
    };
    assert_eq!(host.admit(&pod()).await.unwrap().denied, None);
    let mut greedy = Pod::clone(&pod());
    greedy.spec.as_mut().unwrap().host_network = Some(true);
    let denied = host.admit(&Arc::new(greedy)).await.unwrap().denied.unwrap();
    assert_eq!(denied.reason, "PodSecurity");
    assert_eq!(
        denied.message,
        "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
}

fn entry() -> LogEntry {
    LogEntry {
        time: 1,
        namespace: "n".into(),
        pod: "p".into(),
        pod_uid: "u".into(),
        container: "c".into(),
        restart_count: 0,
        stream: OutputStream::Stderr,
        line: "a line".into(),
    }
}

async fn sent(
    answer: &'static str,
    name: &str,
    kind: Kind,
    push: impl AsyncFnOnce(&Arc<PluginHost>) -> Result<()>,
) -> Option<(Value, Result<()>)> {
    let node = Node::new();
    let (port, mut requests) = server(answer).await;
    let toml = format!(
        "config = {{ endpoint = \"http://127.0.0.1:{port}\" }}\ngrants = {{ egress-http = {{ hosts = [\"127.0.0.1:{port}\"] }} }}"
    );
    let host = start(&node, name, kind, &toml).await?;
    let result = push(&host).await;
    let request = requests.recv().await.unwrap();
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    Some((serde_json::from_str(body).unwrap(), result))
}

const TAKEN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn log_sinks() {
    for (answer, class) in [(TAKEN, None), (BUSY, Some(Class::Retry))] {
        let push = async |host: &Arc<PluginHost>| host.log_sinks()[0].push(&[entry()]).await;
        let Some((body, result)) = sent(answer, "sink-log", Kind::SinkLog, push).await else {
            return;
        };
        let record = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["body"]["stringValue"], "a line");
        assert_eq!(result.err().map(|e| e.class), class);
    }
}

#[tokio::test]
async fn metric_sinks() {
    let family = Family {
        name: "up".into(),
        help: "Is it?".into(),
        kind: MetricKind::Gauge,
        samples: vec![Sample {
            name: "up".into(),
            labels: vec![],
            value: 1.5,
        }],
    };
    let push = async |host: &Arc<PluginHost>| host.metric_sinks()[0].push(7, &[family]).await;
    let Some((body, result)) = sent(TAKEN, "sink-metric", Kind::SinkMetric, push).await else {
        return;
    };
    result.unwrap();
    let metric = &body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0];
    assert_eq!(
        metric["gauge"]["dataPoints"][0],
        json!({"attributes": [], "timeUnixNano": "7", "asDouble": 1.5})
    );
}
