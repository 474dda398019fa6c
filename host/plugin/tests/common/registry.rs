//! Debian's docker-registry on loopback: open, or with TLS of a CA of its own and a password.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sha2::{Digest, Sha256};

/// `user` with the password `secret`.
const HTPASSWD: &str = "user:$2b$12$2mdLCUnydRFK6nLp7Rwwg.aYz.JaQVOP1XAcsMwfINnygdfF8xU6e\n";

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Where the registry has its files: `cert.pem` and `key.pem` for 127.0.0.1, `ca.pem` of who signed it, and `credentials.json` as
/// `docker login` writes it, for the host `HOST`.
pub fn files(dir: &Path) {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    let auth = STANDARD.encode("user:secret");
    for (name, text) in [
        ("ca.pem", own.pem()),
        ("cert.pem", server.pem()),
        ("key.pem", key.serialize_pem()),
        (
            "credentials.json",
            format!("{{\"auths\": {{\"HOST\": {{\"auth\": \"{auth}\"}}}}}}"),
        ),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

/// A registry with its data in a directory; ended with this.
pub struct Registry {
    child: Child,
    pub port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Registry {
    /// None where there is no such program.
    pub fn start(dir: &Path, port: u16, protected: bool) -> Option<Self> {
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
    pub fn push(&self, tag: &str, layer_type: &str, layer: &[u8]) -> String {
        self.push_annotated(tag, layer_type, layer, serde_json::Value::Null)
    }

    /// The same, with annotations of the layer.
    pub fn push_annotated(&self, tag: &str, layer_type: &str, layer: &[u8], annotations: serde_json::Value) -> String {
        let mut config = self.blob(b"{}");
        config["mediaType"] = "application/vnd.wasm.config.v0+json".into();
        let mut layer = self.blob(layer);
        layer["mediaType"] = layer_type.into();
        if !annotations.is_null() {
            layer["annotations"] = annotations;
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}).to_string();
        let path = format!("/v2/acme/probe/manifests/{tag}");
        assert_eq!(self.request("PUT", &path, kind, manifest.as_bytes()).0, 201);
        sha256(manifest.as_bytes())
    }

    pub fn push_plugin(&self, tag: &str, bytes: &[u8]) -> String {
        self.push(tag, "application/wasm", bytes)
    }
}
