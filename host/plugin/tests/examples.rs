//! The plugins under `examples/`, built by `cargo xtask plugins`, in the real host and against small servers.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Node, pod};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use witlet_plugin_host::PluginHost;
use witlet_plugin_host::config::Kind;
use witlet_ports::policy::{Access, Policies, Review, Verb};
use witlet_ports::probe::{Check, Outcome, Probes, Verdict};

async fn start(node: &Node, name: &str, kind: Kind, toml: &str) -> Option<Arc<PluginHost>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/examples/{name}.wasm"));
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!(
            "{} is not built: nothing is tested; run `cargo xtask plugins`",
            path.display()
        );
        return None;
    };
    Some(node.start([("test", node.stanza(kind, &bytes, toml))]).await)
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
