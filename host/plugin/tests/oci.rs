//! Plugins from registries: Debian's docker-registry with TLS and a password, and one of our own that wants tokens.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/registry.rs"]
mod registry;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Node, check, component, eventually, guests, plugins};
use registry::{Registry, files, free_port, sha256};
use ring::signature::{Ed25519KeyPair, KeyPair};
use witlet_plugin_host::config::{Kind, PluginConfig};
use witlet_plugin_host::{PluginHost, SwapOutcome};
use witlet_ports::probe::Probes;

fn probe(text: &str) -> Vec<u8> {
    component("probe", &guests::moody_probe(text), &[])
}

/// The stanza for an artifact of a registry that wants TLS and a password.
fn stanza(dir: &Path, port: u16, digest: &str, more: &str) -> PluginConfig {
    let (ca, credentials) = (dir.join("ca.pem"), dir.join("credentials.json"));
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

/// What `cosign sign --key` leaves in a registry, made with openssl's words for the keys.
#[tokio::test]
async fn signatures_of_cosign() {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let (node, dir) = (Node::new(), tempfile::tempdir().unwrap());
    files(dir.path());
    let random = ring::rand::SystemRandom::new();
    let pair = |name: &str| {
        let private = dir.path().join(format!("{name}.key"));
        let public = dir.path().join(format!("{name}.pub"));
        let openssl = |args: &[&str], to: &Path| {
            let run = std::process::Command::new("openssl")
                .args(args)
                .arg("-out")
                .arg(to)
                .output();
            assert!(run.is_ok_and(|o| o.status.success()), "{args:?}");
        };
        let der = dir.path().join(format!("{name}.der"));
        openssl(
            &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            &private,
        );
        openssl(&["pkey", "-in", private.to_str().unwrap(), "-pubout"], &public);
        openssl(
            &[
                "pkcs8",
                "-topk8",
                "-nocrypt",
                "-in",
                private.to_str().unwrap(),
                "-outform",
                "DER",
            ],
            &der,
        );
        let pkcs8 = std::fs::read(der).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &random).unwrap();
        (pair, format!("verify = {{ cosign = {public:?} }}"))
    };
    let ((acme, by_acme), (_, by_other)) = (pair("acme"), pair("other"));
    let port = free_port();
    let Some(open) = Registry::start(dir.path(), port, false) else {
        return;
    };
    let digest = open.push_plugin("1", &probe("cosigned"));
    let unsigned = open.push_plugin("2", &probe("unsigned"));
    let document = serde_json::json!({
        "critical": {
            "identity": {"docker-reference": format!("127.0.0.1:{port}/acme/probe")},
            "image": {"docker-manifest-digest": format!("sha256:{digest}")},
            "type": "cosign container image signature",
        },
        "optional": {"creator": "a test"},
    })
    .to_string();
    let signature = STANDARD.encode(acme.sign(&random, document.as_bytes()).unwrap());
    let layer = "application/vnd.dev.cosign.simplesigning.v1+json";
    let annotations = serde_json::json!({"dev.cosignproject.cosign/signature": signature});
    for digest in [&digest, &unsigned] {
        // The second is another manifest's.
        open.push_annotated(
            &format!("sha256-{digest}.sig"),
            layer,
            document.as_bytes(),
            annotations.clone(),
        );
    }
    drop(open);
    let registry = Registry::start(dir.path(), port, true).unwrap();
    let stanza = |digest: &str, verify: &str| plugins([("test", stanza(dir.path(), port, digest, verify))]);
    for (digest, verify, words) in [
        (&digest, &by_other, "no signature of it is one of other"),
        (&unsigned, &by_acme, "acme signed \"sha256:"),
    ] {
        let Err(errors) = PluginHost::start(stanza(digest, verify), node.deps()).await else {
            panic!("it started")
        };
        assert!(errors.to_string().contains(words), "{errors}");
    }
    let start = async || PluginHost::start(stanza(&digest, &by_acme), node.deps()).await.unwrap();
    let host = start().await;
    assert_eq!(says(&host).await, "cosigned");
    assert_eq!(host.describe("test").unwrap().active.unwrap().signer, "acme");
    // Kept: the node starts without the registry, and still with that key alone.
    drop((host, registry));
    let host = start().await;
    assert_eq!(says(&host).await, "cosigned");
    drop(host);
    let host = PluginHost::start(stanza(&digest, &by_other), node.deps())
        .await
        .unwrap();
    assert_eq!(host.list()[0].state, "pending");
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
