//! The plugins under `examples/`, built by `cargo xtask plugins`, in the real host and against small servers.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Node, pod};
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use witlet_plugin_host::PluginHost;
use witlet_plugin_host::config::Kind;
use witlet_ports::policy::{Access, Policies, Review, Verb};
use witlet_ports::probe::{Check, Outcome, Probes, Verdict};
use witlet_ports::sink::{Family, LogEntry, MetricKind, OutputStream, Sample};
use witlet_ports::volume::{Published, Volumes};

fn built(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/examples/{name}.wasm"));
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        let path = path.display();
        eprintln!("{path} is not built: nothing is tested; run `cargo xtask plugins`");
    }
    bytes
}

async fn start(node: &Node, name: &str, kind: Kind, toml: &str) -> Option<Arc<PluginHost>> {
    Some(node.start([("test", node.stanza(kind, &built(name)?, toml))]).await)
}

/// A server that reads once and gives the next of its answers, for as long as there are some; then it closes.
async fn server(answers: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move |mut stream: TcpStream| {
        let mut buffer = [0; 4096];
        for answer in &answers {
            if !matches!(stream.read(&mut buffer).await, Ok(n) if n > 0) {
                return;
            }
            let _ = stream.write_all(answer).await;
        }
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    port
}

async fn ask(host: &PluginHost, params: Value) -> Outcome {
    let check = Check {
        plugin: "test".into(),
        pod: pod(),
        container: Arc::new(Container {
            name: "c".into(),
            ..Container::default()
        }),
        container_id: "id".into(),
        params: params.to_string().into(),
        timeout: Duration::from_secs(5),
    };
    host.check(check).await.unwrap()
}

const NET: &str = "grants = { pod-net = { any-port = true } }";

#[tokio::test]
async fn http_json() {
    let node = Node::new();
    let Some(host) = start(&node, "probe-http-json", Kind::Probe, NET).await else {
        return;
    };
    let body = r#"{"db": {"status": "up"}}"#;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let port = server(vec![answer.into_bytes()]).await;
    let params = |equals: &str| json!({"port": port, "pointer": "/db/status", "equals": equals});
    assert_eq!(ask(&host, params("up")).await.verdict, Verdict::Pass);
    let outcome = ask(&host, params("down")).await;
    assert_eq!(
        (outcome.verdict, outcome.message.as_str()),
        (Verdict::Fail, "/db/status is \"up\", not \"down\"")
    );
    assert_eq!(ask(&host, json!({"port": 9, "equals": 1})).await.verdict, Verdict::Fail);
}

#[tokio::test]
async fn redis() {
    let node = Node::new();
    let Some(host) = start(&node, "probe-redis", Kind::Probe, NET).await else {
        return;
    };
    let port = server(vec![b"+OK\r\n".to_vec(), b"+PONG\r\n".to_vec()]).await;
    let outcome = ask(&host, json!({"port": port, "password": "x"})).await;
    assert_eq!(outcome.verdict, Verdict::Pass, "{}", outcome.message);
    let port = server(vec![b"-NOAUTH Authentication required.\r\n".to_vec()]).await;
    let outcome = ask(&host, json!({"port": port})).await;
    assert_eq!(outcome.message, "PING: -NOAUTH Authentication required.");
}

#[tokio::test]
async fn postgres() {
    let node = Node::new();
    let Some(host) = start(&node, "probe-postgres", Kind::Probe, NET).await else {
        return;
    };
    let let_in = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".to_vec();
    let row = |value: u8| [&b"D\0\0\0\x0b\0\x01\0\0\0\x01"[..], &[value], b"Z\0\0\0\x05I"].concat();
    let port = server(vec![let_in.clone()]).await;
    assert_eq!(ask(&host, json!({"port": port})).await.verdict, Verdict::Pass);
    for (value, verdict) in [(b't', Verdict::Pass), (b'f', Verdict::Fail)] {
        let port = server(vec![let_in.clone(), row(value)]).await;
        let outcome = ask(&host, json!({"port": port, "query": "select not pg_is_in_recovery()"})).await;
        assert_eq!(outcome.verdict, verdict, "{}", outcome.message);
    }
}

async fn admit(host: &PluginHost, change: Value) -> Review {
    let mut object = serde_json::to_value(&*pod()).unwrap();
    for (key, value) in change.as_object().unwrap() {
        *object.pointer_mut(key).unwrap() = value.clone();
    }
    host.admit(&Arc::new(serde_json::from_value(object).unwrap()))
        .await
        .unwrap()
}

#[tokio::test]
async fn registries() {
    let node = Node::new();
    let config = "config = { registries = [\"registry.example\"] }";
    let Some(host) = start(&node, "policy-registries", Kind::Policy, config).await else {
        return;
    };
    for (image, allowed) in [("registry.example/a:1", true), ("busybox", false)] {
        let review = admit(&host, json!({"/spec/containers/0": {"name": "c", "image": image}})).await;
        assert_eq!(review.denied.is_none(), allowed, "{image}");
        if let Some(denied) = review.denied {
            assert_eq!(denied.reason, "RegistryNotAllowed");
        }
    }
}

/// The SDK's store and its optional exports: what one start of the node learned, the next knows.
#[tokio::test]
async fn image_pins() {
    let node = Node::new();
    let grant = "grants = { kv = { keys = 1 } }";
    let container = |image: &str| Container {
        name: "c".into(),
        image: Some(image.into()),
        ..Container::default()
    };
    for start_of in ["first", "second"] {
        let Some(host) = start(&node, "policy-image-pins", Kind::Policy, grant).await else {
            return;
        };
        let review = host.container(&pod(), &container("app:1"), "sha256:a").await.unwrap();
        assert_eq!(review.denied, None, "{start_of}");
        let denied = host
            .container(&pod(), &container("app:1"), "sha256:b")
            .await
            .unwrap()
            .denied;
        assert!(denied.unwrap().message.contains("is sha256:b now"), "{start_of}");
        // The grant is full: whoever cannot be remembered does not run.
        let error = host
            .container(&pod(), &container("app:2"), "sha256:c")
            .await
            .unwrap_err();
        assert!(error.message.contains("the grant allows 1 (grants.kv.keys)"), "{error}");
    }
    let Some(host) = start(&node, "policy-image-pins", Kind::Policy, grant).await else {
        return;
    };
    let mut accepting = Pod::clone(&pod());
    accepting.metadata.annotations = Some([("pins.witlet.dev/accept".to_owned(), "sha256:b".to_owned())].into());
    let review = host
        .container(&Arc::new(accepting), &container("app:1"), "sha256:b")
        .await
        .unwrap();
    assert_eq!(review.denied, None);
}

#[tokio::test]
async fn labels() {
    let node = Node::new();
    let config = "config = { required = [\"team\"], wanted = [\"tier\"] }";
    let Some(host) = start(&node, "policy-labels", Kind::Policy, config).await else {
        return;
    };
    let bare = admit(&host, json!({})).await;
    assert_eq!(bare.denied.unwrap().reason, "LabelRequired");
    let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "labels": {"team": "a"}});
    let labelled = admit(&host, json!({"/metadata": metadata})).await;
    assert_eq!(
        (labelled.denied, labelled.warnings),
        (None, vec!["the label tier is missing".to_owned()])
    );
}

#[tokio::test]
async fn no_exec() {
    let node = Node::new();
    let Some(host) = start(&node, "policy-no-exec", Kind::Policy, "").await else {
        return;
    };
    assert_eq!(host.admit(&pod()).await.unwrap(), Review::default());
    let access = Access {
        verb: Verb::Exec,
        container: "c".into(),
        command: vec!["sh".into()],
        stdin: true,
        tty: true,
        ports: Vec::new(),
    };
    assert_eq!(host.access(&pod(), &access).await.unwrap(), Review::default());
    let mut production = Pod::clone(&pod());
    production.metadata.labels = Some([("environment".to_owned(), "production".to_owned())].into());
    let denied = host
        .access(&Arc::new(production), &access)
        .await
        .unwrap()
        .denied
        .unwrap();
    assert_eq!(
        (denied.reason.as_str(), denied.message.as_str()),
        (
            "PolicyDenied",
            "exec is not allowed in pods with environment=production"
        )
    );
    assert_eq!(host.denials(Some("p"))[0].what, "review-access");
    // It has no other hook, and is not asked about containers.
    let review = host.container(&pod(), &Container::default(), "image").await.unwrap();
    assert_eq!(review, Review::default());
    assert_eq!(
        host.calls(Some("test"))
            .iter()
            .filter(|c| c.func == "review-container")
            .count(),
        0
    );
}

/// Publishes a CSI volume of a pod, and what is then where.
async fn volume(host: &PluginHost, driver: &str, attributes: Value) -> witlet_ports::Result<Published> {
    let csi = json!({"driver": driver, "volumeAttributes": attributes});
    let volume: Volume = serde_json::from_value(json!({"name": "v", "csi": csi})).unwrap();
    let mut pod = Pod::clone(&pod());
    pod.spec.as_mut().unwrap().volumes = Some(vec![volume.clone()]);
    host.publish(&Arc::new(pod), &volume).await
}

/// `tar` and `sha256sum` of this machine.
fn archive(dir: &Path, links: bool) -> (Vec<u8>, String) {
    std::fs::create_dir_all(dir.join("in/sub")).unwrap();
    std::fs::write(dir.join("in/sub/file"), vec![b'x'; 300_000]).unwrap();
    if links {
        std::os::unix::fs::symlink("/etc", dir.join("in/out")).unwrap();
    }
    let file = dir.join("a.tar.gz");
    let done = std::process::Command::new("tar")
        .arg("-czf")
        .arg(&file)
        .arg("-C")
        .arg(dir.join("in"))
        .arg(".")
        .status();
    assert!(done.unwrap().success());
    let sum = std::process::Command::new("sha256sum")
        .arg(&file)
        .output()
        .unwrap()
        .stdout;
    let sum = String::from_utf8(sum).unwrap()[..64].to_owned();
    (std::fs::read(file).unwrap(), sum)
}

#[tokio::test]
async fn http_archive() {
    let node = Node::new();
    let grants = "grants = { files = {}, mount = {}, volume-secrets = {}, egress-http = { hosts = [\"127.0.0.1\"] } }\nlimits = { cpu_per_call = \"20s\" }";
    let Some(host) = start(&node, "volume-http-archive", Kind::Volume, grants).await else {
        return;
    };
    let driver = "archive.http.example";
    let head = |body: &[u8]| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    let (body, sha256) = archive(&node.path("good"), false);
    let port = server(vec![[head(&body), body].concat()]).await;
    let url = format!("http://127.0.0.1:{port}/a.tar.gz");

    // What is not what was promised is not kept.
    let error = volume(&host, driver, json!({"url": url, "sha256": "0".repeat(64)}))
        .await
        .unwrap_err();
    assert!(error.message.contains(&sha256), "{error}");
    let dir = node.path("kubelet/pods/11111111-2222-3333-4444-555555555555/volumes/witlet.dev~archive.http.example/v");
    assert!(!dir.exists());

    let published = volume(&host, driver, json!({"url": url, "sha256": sha256}))
        .await
        .unwrap();
    assert_eq!(published.host_path, dir);
    assert_eq!(std::fs::read(dir.join("sub/file")).unwrap().len(), 300_000);
    let found = host.found(None).await.unwrap();
    host.unpublish(&found[0]).await.unwrap();
    assert!(!dir.exists());

    let (body, sha256) = archive(&node.path("bad"), true);
    let port = server(vec![[head(&body), body].concat()]).await;
    let url = format!("http://127.0.0.1:{port}/a.tar.gz");
    let error = volume(&host, driver, json!({"url": url, "sha256": sha256}))
        .await
        .unwrap_err();
    assert!(
        error.message.contains("leads out of the volume, to \"/etc\""),
        "{error}"
    );
    assert!(!dir.exists());

    let error = volume(&host, "nobody.example", json!({})).await.unwrap_err();
    assert_eq!(
        error.message,
        "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name nobody.example not found in the list of registered CSI drivers"
    );
}

#[tokio::test]
async fn nfs() {
    let node = Node::new();
    let said = node.path("said");
    let program = node.path("mount");
    std::fs::write(&program, format!("#!/bin/sh\necho \"$@\" > {}\n", said.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let Some(bytes) = built("volume-nfs") else { return };
    let grants = "grants = { files = {}, mount = { types = [\"nfs\"], servers = [\"files.example\"] } }";
    let deps = witlet_plugin_host::Deps {
        mount_program: program,
        ..node.deps()
    };
    let stanza = node.stanza(Kind::Volume, &bytes, grants);
    let host = PluginHost::start(common::plugins([("test", stanza)]), deps)
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let share = |server: &str| json!({"server": server, "share": "/srv", "options": "hard"});
    volume(&host, "nfs.example", share("files.example")).await.unwrap();
    let text = std::fs::read_to_string(&said).unwrap();
    assert!(
        text.starts_with("-t nfs -o hard,nosuid,nodev -- files.example:/srv /"),
        "{text}"
    );
    let error = volume(&host, "nfs.example", share("other.example")).await.unwrap_err();
    assert!(error.message.contains("does not list \"other.example\""), "{error}");

    // The type of the API, and a persistent volume with options.
    let source: Volume =
        serde_json::from_value(json!({"name": "pv", "nfs": {"server": "files.example", "path": "/p"}})).unwrap();
    let found =
        serde_json::from_value(json!({"metadata": {"name": "pv"}, "spec": {"mountOptions": ["vers=4.2"]}})).unwrap();
    let published = host.publish_persistent(&pod(), &source, &found).await.unwrap();
    assert!(
        published.host_path.ends_with("volumes/kubernetes.io~nfs/pv"),
        "{published:?}"
    );
    assert!(
        std::fs::read_to_string(&said)
            .unwrap()
            .contains("-o vers=4.2,nosuid,nodev -- files.example:/p /")
    );
}

fn line(text: &str) -> LogEntry {
    LogEntry {
        time: 5,
        namespace: "ns".into(),
        pod: "p".into(),
        pod_uid: "u".into(),
        container: "c".into(),
        restart_count: 0,
        stream: OutputStream::Stdout,
        line: text.into(),
    }
}

#[tokio::test]
async fn log_file() {
    let node = Node::new();
    let path = node.path("pods.jsonl");
    let toml = format!(
        "config = {{ redact = [{{ pattern = \"pass=\\\\S+\", replace = \"pass=***\" }}] }}\n\
         grants = {{ output-file = {{ path = {path:?}, max = \"1KiB\", keep = 1 }} }}"
    );
    let Some(host) = start(&node, "sink-log-file", Kind::SinkLog, &toml).await else {
        return;
    };
    let sink = host.log_sinks().remove(0);
    sink.push(&[line("pass=geheim"), line("two")]).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(
        text.contains("\"line\":\"pass=***\"") && !text.contains("geheim"),
        "{text}"
    );
    for _ in 0..20 {
        sink.push(&[line("more")]).await.unwrap();
    }
    assert!(node.path("pods.jsonl.1").exists() && !node.path("pods.jsonl.2").exists());
    assert!(std::fs::metadata(&path).unwrap().len() <= 1024);
}

#[tokio::test]
async fn loki() {
    let node = Node::new();
    let ok = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    let port = server(vec![ok]).await;
    let toml = format!(
        "config = {{ endpoint = \"http://127.0.0.1:{port}\" }}\ngrants = {{ egress-http = {{ hosts = [\"127.0.0.1:{port}\"] }} }}"
    );
    let Some(host) = start(&node, "sink-log-loki", Kind::SinkLog, &toml).await else {
        return;
    };
    host.log_sinks().remove(0).push(&[line("x")]).await.unwrap();
}

#[tokio::test]
async fn remote_write() {
    let node = Node::new();
    let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nfull".to_vec();
    let port = server(vec![busy]).await;
    let toml = format!(
        "config = {{ endpoint = \"http://127.0.0.1:{port}/api/v1/write\" }}\n\
         grants = {{ egress-http = {{ hosts = [\"127.0.0.1:{port}\"] }} }}"
    );
    let Some(host) = start(&node, "sink-metric-remote-write", Kind::SinkMetric, &toml).await else {
        return;
    };
    let family = Family {
        name: "up".into(),
        help: String::new(),
        kind: MetricKind::Gauge,
        samples: vec![Sample {
            name: "up".into(),
            labels: Vec::new(),
            value: 1.0,
        }],
    };
    let error = host.metric_sinks().remove(0).push(7, &[family]).await.unwrap_err();
    assert!(error.message.contains("status 503: full"), "{error}");
}
