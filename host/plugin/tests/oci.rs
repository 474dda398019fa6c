//! Plugins from registries: Debian's docker-registry with TLS and a password, and one of our own that wants tokens.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Node, check, component, eventually, guests, plugins};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};
use witlet_plugin_host::config::{Kind, PluginConfig};
use witlet_plugin_host::{PluginHost, SwapOutcome};
use witlet_ports::probe::Probes;

/// `user` with the password `secret`.
const HTPASSWD: &str = "user:$2b$12$2mdLCUnydRFK6nLp7Rwwg.aYz.JaQVOP1XAcsMwfINnygdfF8xU6e\n";

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn probe(text: &str) -> Vec<u8> {
    component("probe", &guests::moody_probe(text), &[])
}

/// A registry with its data in a directory; ended with this.
struct Registry {
    child: Child,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Registry {
    /// None where there is no such program.
    fn start(dir: &Path, port: u16, protected: bool) -> Option<Self> {
        let more = if protected {
            let show = |name: &str| dir.join(name).display().to_string();
            std::fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
            format!(
                "  tls:\n    certificate: {}\n    key: {}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                show("cert.pem"),
                show("key.pem"),
                show("htpasswd")
            )
        } else {
            String::new()
        };
        let data = dir.join("data").display().to_string();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {data}\nhttp:\n  addr: 127.0.0.1:{port}\n{more}"
        );
        let file = dir.join("registry.yml");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("docker-registry is not installed: nothing is tested; run `cargo xtask setup`");
            return None;
        };
        let registry = Self { child, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// One request on a connection of its own; the status and the header `location`.
    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
        let location = reply.lines().find_map(|l| {
            l.to_lowercase()
                .starts_with("location:")
                .then(|| l[9..].trim().to_owned())
        });
        (status, location.unwrap_or_default())
    }

    fn blob(&self, bytes: &[u8]) -> serde_json::Value {
        let (status, location) = self.request("POST", "/v2/acme/probe/blobs/uploads/", "text/plain", &[]);
        assert_eq!(status, 202);
        let path = location.split_once("://").map_or(location.as_str(), |(_, rest)| rest);
        let path = &path[path.find('/').unwrap()..];
        let digest = sha256(bytes);
        let path = format!("{path}&digest=sha256:{digest}");
        assert_eq!(self.request("PUT", &path, "application/octet-stream", bytes).0, 201);
        serde_json::json!({"digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// An artifact with one layer; its digest.
    fn push(&self, tag: &str, layer_type: &str, layer: &[u8]) -> String {
        let mut config = self.blob(b"{}");
        config["mediaType"] = "application/vnd.wasm.config.v0+json".into();
        let mut layer = self.blob(layer);
        layer["mediaType"] = layer_type.into();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}).to_string();
        let path = format!("/v2/acme/probe/manifests/{tag}");
        assert_eq!(self.request("PUT", &path, kind, manifest.as_bytes()).0, 201);
        sha256(manifest.as_bytes())
    }

    fn push_plugin(&self, tag: &str, bytes: &[u8]) -> String {
        self.push(tag, "application/wasm", bytes)
    }
}

/// A certificate for 127.0.0.1 in the directory, and an operator's files beside it.
fn files(dir: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let credentials = dir.join("credentials.json");
    let auth = STANDARD.encode("user:secret");
    // As `docker login` writes it, for any of the ports of this test.
    std::fs::write(
        &credentials,
        format!("{{\"auths\": {{\"HOST\": {{\"auth\": \"{auth}\"}}}}}}"),
    )
    .unwrap();
    (dir.join("cert.pem"), credentials)
}

/// The stanza for an artifact of a registry that wants TLS and a password.
fn stanza(dir: &Path, port: u16, digest: &str, more: &str) -> PluginConfig {
    let (ca, credentials) = (dir.join("cert.pem"), dir.join("credentials.json"));
    let text = std::fs::read_to_string(&credentials).unwrap();
    std::fs::write(&credentials, text.replace("HOST", &format!("127.0.0.1:{port}"))).unwrap();
    let toml = format!(
        "kind = \"probe\"\nsource = \"oci://127.0.0.1:{port}/acme/probe:1@sha256:{digest}\"\npull = {{ ca = {ca:?}, credentials = {credentials:?} }}\n{more}"
    );
    toml::from_str(&toml).unwrap()
}

async fn says(host: &PluginHost) -> String {
    host.check(check("P")).await.map_or_else(|e| e.message, |o| o.message)
}

#[tokio::test]
async fn a_plugin_is_pulled_once_and_then_started_without_the_registry() {
    let (node, dir) = (Node::new(), tempfile::tempdir().unwrap());
    files(dir.path());
    let port = free_port();
    let Some(open) = Registry::start(dir.path(), port, false) else {
        return;
    };
    let digest = open.push_plugin("1", &probe("pulled"));
    let tar = open.push("tar", "application/vnd.oci.image.layer.v1.tar+gzip", b"tar");
    drop(open);

    let registry = Registry::start(dir.path(), port, true).unwrap();
    let host = node.start([("test", stanza(dir.path(), port, &digest, ""))]).await;
    assert_eq!(says(&host).await, "pulled");
    let shown = host.list()[0].source.clone();
    assert!(shown.ends_with(&format!("acme/probe:1@sha256:{digest}")), "{shown}");
    // What is no plugin is refused, and the old one stays.
    let report = host
        .reload(plugins([("test", stanza(dir.path(), port, &tar, ""))]))
        .await;
    assert!(
        report.to_string().contains("a plugin has \"application/wasm\""),
        "{report}"
    );
    assert_eq!(says(&host).await, "pulled");
    drop((host, registry));

    // The registry is gone; the node was restarted.
    let host = node.start([("test", stanza(dir.path(), port, &digest, ""))]).await;
    assert_eq!(says(&host).await, "pulled");
    // What was kept is not trusted blindly.
    for layer in std::fs::read_dir(node.path("blobs/layers")).unwrap() {
        std::fs::write(layer.unwrap().path(), b"altered").unwrap();
    }
    drop(host);
    let host = node.start([("test", stanza(dir.path(), port, &digest, ""))]).await;
    assert_eq!(host.list()[0].state, "pending");
}

#[tokio::test]
async fn without_its_registry_a_plugin_is_awaited() {
    let (node, dir) = (Node::new(), tempfile::tempdir().unwrap());
    files(dir.path());
    let port = free_port();
    let Some(open) = Registry::start(dir.path(), port, false) else {
        return;
    };
    let digest = open.push_plugin("1", &probe("at last"));
    drop(open);
    // It may fail open, but not before the grace is over.
    let open = "fail = \"open\"\nstart_grace = \"1s\"";
    let host = node.start([("test", stanza(dir.path(), port, &digest, open))]).await;
    let listed = host.list().remove(0);
    assert_eq!((listed.state, listed.generation), ("pending", 0));
    assert!(
        listed.problem.contains("cannot pull it from 127.0.0.1"),
        "{}",
        listed.problem
    );
    assert_eq!(node.events.of("PluginPending").len(), 1);
    let error = host.check(check("P")).await.unwrap_err();
    assert!(error.message.contains("cannot pull it"), "{error}");
    eventually("the grace is over", || async { host.check(check("P")).await.is_ok() }).await;

    let _registry = Registry::start(dir.path(), port, true).unwrap();
    eventually("it is there", || async { says(&host).await == "at last" }).await;
    assert_eq!(host.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_certificate_are_told() {
    let (node, dir) = (Node::new(), tempfile::tempdir().unwrap());
    files(dir.path());
    let port = free_port();
    let Some(_registry) = Registry::start(dir.path(), port, true) else {
        return;
    };
    let digest = "0".repeat(64);
    let mut anonymous = stanza(dir.path(), port, &digest, "");
    anonymous.pull.credentials = None;
    let mut unknown = stanza(dir.path(), port, &digest, "");
    unknown.pull.ca = None;
    let missing = stanza(dir.path(), port, &digest, "");
    let host = node
        .start([("anonymous", anonymous), ("missing", missing), ("unknown", unknown)])
        .await;
    let problems: Vec<String> = host.list().into_iter().map(|p| p.problem).collect();
    for (problem, words) in problems.iter().zip([
        "set pull.credentials",
        "it has no manifests/sha256:0000",
        "pull.ca names",
    ]) {
        assert!(problem.contains(words), "{problem}");
    }
}

#[tokio::test]
async fn only_what_the_right_key_signed_is_run() {
    let (node, dir) = (Node::new(), tempfile::tempdir().unwrap());
    files(dir.path());
    let pair = |name: &str| {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let spki = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let der = [&spki[..], pair.public_key().as_ref()].concat();
        let path = dir.path().join(name);
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        std::fs::write(&path, pem).unwrap();
        (pair, format!("verify = {{ key = {path:?} }}"))
    };
    let ((acme, by_acme), (_, by_other)) = (pair("acme.pub"), pair("other.pub"));

    // A file, its signature beside it.
    let bytes = probe("signed");
    let file = node.file("a.wasm", &bytes);
    let of_file = |verify: &str| -> PluginConfig {
        toml::from_str(&format!("kind = \"probe\"\nsource = {:?}\n{verify}", file.to_string())).unwrap()
    };
    let host = node.start([]).await;
    let report = host.reload(plugins([("test", of_file(&by_acme))])).await;
    assert!(report.to_string().contains("a.wasm.sig cannot be read"), "{report}");
    let signature = acme.sign(format!("sha256:{}", sha256(&bytes)).as_bytes());
    std::fs::write(node.path("a.wasm.sig"), STANDARD.encode(signature.as_ref())).unwrap();
    let report = host.reload(plugins([("test", of_file(&by_other))])).await;
    assert!(
        report.to_string().contains("its signature is not one of other"),
        "{report}"
    );
    host.reload(plugins([("test", of_file(&by_acme))])).await;
    assert_eq!(says(&host).await, "signed");
    assert_eq!(host.describe("test").unwrap().active.unwrap().signer, "acme");

    // An artifact, its signature under a tag.
    let port = free_port();
    let Some(open) = Registry::start(dir.path(), port, false) else {
        return;
    };
    let digest = open.push_plugin("1", &probe("from afar"));
    let unsigned = open.push_plugin("2", &probe("unsigned"));
    let signature = acme.sign(format!("sha256:{digest}").as_bytes());
    let kind = "application/vnd.witlet.signature.v1+ed25519";
    open.push(&format!("sha256-{digest}.sig"), kind, signature.as_ref());
    drop(open);
    let _registry = Registry::start(dir.path(), port, true).unwrap();
    let stanza = |digest: &str, verify: &str| plugins([("test", stanza(dir.path(), port, digest, verify))]);
    for (digest, verify) in [(&digest, &by_other), (&unsigned, &by_acme)] {
        let report = host.reload(stanza(digest, verify)).await;
        assert!(matches!(report.plugins[0].1, SwapOutcome::Refused(_)), "{report}");
        assert_eq!(says(&host).await, "signed");
    }
    host.reload(stanza(&digest, &by_acme)).await;
    assert_eq!(says(&host).await, "from afar");
}

#[tokio::test]
async fn what_was_pulled_and_nobody_needs_goes() {
    let (node, dir) = (Node::new(), tempfile::tempdir().unwrap());
    files(dir.path());
    let port = free_port();
    let Some(open) = Registry::start(dir.path(), port, false) else {
        return;
    };
    let digests: Vec<String> = (0..6)
        .map(|n| open.push_plugin(&format!("v{n}"), &probe(&format!("v{n}"))))
        .collect();
    drop(open);
    let _registry = Registry::start(dir.path(), port, true).unwrap();
    let host = node.start([]).await;
    for digest in &digests {
        let report = host
            .reload(plugins([("test", stanza(dir.path(), port, digest, ""))]))
            .await;
        assert_eq!(report.refused().count(), 0, "{report}");
    }
    assert_eq!(says(&host).await, "v5");
    let count = |what: &str| std::fs::read_dir(node.path("blobs").join(what)).unwrap().count();
    // Active, standby, and two more.
    assert_eq!((count("manifests"), count("layers")), (4, 4));
    assert!(
        node.path("blobs/manifests").join(&digests[5]).exists()
            && node.path("blobs/manifests").join(&digests[4]).exists()
    );
}

/// A registry that gives blobs to who has a token, and tokens to who has a password; blobs are elsewhere.
#[tokio::test]
async fn tokens_and_redirects() {
    let node = Node::new();
    let bytes = probe("with a token");
    let layer = sha256(&bytes);
    let manifest = serde_json::json!({"layers": [{"mediaType": "application/wasm", "digest": format!("sha256:{layer}"), "size": bytes.len()}]})
        .to_string();
    let digest = sha256(manifest.as_bytes());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let password = STANDARD.encode("user:secret");
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut buffer = [0; 1024];
                match stream.read(&mut buffer).await {
                    Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
                    _ => break,
                }
            }
            let request = String::from_utf8(request).unwrap();
            let has = |text: &str| request.contains(text);
            let (status, head, body) = if has("GET /token?scope=repository:a/b:pull&service=here ") {
                assert!(has(&format!("authorization: Basic {password}")), "{request}");
                (200, String::new(), b"{\"token\": \"abc\"}".to_vec())
            } else if has("GET /elsewhere ") {
                (200, String::new(), bytes.clone())
            } else if !has("authorization: Bearer abc") {
                let challenge = format!(
                    "www-authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"here\",scope=\"repository:a/b:pull\"\r\n"
                );
                (401, challenge, Vec::new())
            } else if has("/v2/a/b/manifests/sha256:") {
                (200, String::new(), manifest.clone().into_bytes())
            } else {
                (307, "location: /elsewhere\r\n".to_owned(), Vec::new())
            };
            let head = format!("HTTP/1.1 {status} X\r\n{head}content-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        }
    });
    let credentials = node.path("credentials.json");
    let text = format!(
        "{{\"auths\": {{\"http://127.0.0.1:{port}/v1/\": {{\"username\": \"user\", \"password\": \"secret\"}}}}}}"
    );
    std::fs::write(&credentials, text).unwrap();
    let toml = format!(
        "kind = \"probe\"\nsource = \"oci://127.0.0.1:{port}/a/b@sha256:{digest}\"\npull = {{ plain_http = true, credentials = {credentials:?} }}"
    );
    let host = node
        .start([("test", toml::from_str::<PluginConfig>(&toml).unwrap())])
        .await;
    assert_eq!(says(&host).await, "with a token", "{:?}", host.problems());
    assert_eq!(host.list()[0].kind, Kind::Probe);
}
