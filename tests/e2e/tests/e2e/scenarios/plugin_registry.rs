//! From an author's machine through a registry to the running node: a password, and a certificate of a CA of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::plugins::{Stanza, described, plugin, write};
use crate::guest;
use crate::world::{Ctx, SOON, eventually, same};

/// `alice` with the password `right`.
const USERS: &str = "alice:$2b$05$mFycJOecPJwVf.1gyXWOheUO0xOhw5DwAGZnped6MYFBnjVLRV7LG\n";

struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Registry {
    async fn start(dir: &Path, authority: &str) -> Result<Self> {
        ensure!(
            witlet_lab::has_program("docker-registry"),
            "docker-registry is not installed; run `cargo xtask setup`"
        );
        let (ca_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = ca.self_signed(&ca_key)?;
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        let server = server.signed_by(&key, &Issuer::new(ca, ca_key))?;
        let login = json!({ "auths": { authority: { "username": "alice", "password": "right" } } });
        let show = |name: &str| dir.join(name).display().to_string();
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {authority}\n  tls:\n    certificate: {}\n    key: {}\nauth:\n  htpasswd:\n    realm: lab\n    path: {}\n",
            show("registry"),
            show("cert.pem"),
            show("key.pem"),
            show("htpasswd"),
        );
        for (name, text) in [
            ("ca.pem", own.pem()),
            ("cert.pem", server.pem()),
            ("key.pem", key.serialize_pem()),
            ("htpasswd", USERS.to_owned()),
            ("login.json", login.to_string()),
            ("registry.yml", config),
        ] {
            fs::write(dir.join(name), text)?;
        }
        let log = fs::File::create(dir.join("registry.log"))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("registry.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start docker-registry")?;
        let this = Self(child);
        eventually("the registry", SOON, || async {
            Ok(TcpStream::connect(authority).ok().map(drop))
        })
        .await?;
        Ok(this)
    }
}

pub(super) async fn what_is_pushed_is_pulled_by_the_node(ctx: Ctx) -> Result<()> {
    let dir = ctx.scratch();
    let path = |name: &str| dir.join(name).display().to_string();
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let authority = format!("127.0.0.1:{port}");
    let registry = Registry::start(&dir, &authority).await?;
    let tool = ctx.world.witlet.with_file_name("witlet-plugin");
    ensure!(tool.exists(), "{} is not built", tool.display());
    let run = |args: &[&str]| -> Result<String> {
        let output = Command::new(&tool).args(args).output()?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "witlet-plugin {args:?}: {text}");
        Ok(text)
    };
    fs::write(dir.join("pulse.wasm"), guest::probe(Some("pulled"))?)?;
    run(&["keygen", &path("acme")])?;
    let source = run(&[
        "push",
        &format!("oci://{authority}/acme/pulse:1"),
        &path("pulse.wasm"),
        "--ca",
        &path("ca.pem"),
        "--credentials",
        &path("login.json"),
        "--key",
        &path("acme.key"),
    ])?;

    // Without the password the node waits for it, and says what is missing.
    let stanza = Stanza(ctx.world.lab.dir().join("plugins.d/pushed.toml"));
    let configure = |pull: String| -> Result<()> {
        let key = path("acme.pub");
        let text =
            format!("[plugin.pushed]\nkind = \"probe\"\n{source}\nverify = {{ key = {key:?} }}\npull = {{ {pull} }}\n");
        write(&stanza.0, text.as_bytes())
    };
    let ca = format!("ca = {:?}", path("ca.pem"));
    let becomes = async |state: &'static str, words: &'static str| {
        eventually(&format!("the plugin is {state}"), SOON, || async {
            let found = described(&ctx, "pushed").ok();
            let found = found.filter(|f| f["state"] == state);
            Ok(found.filter(|f| f["problem"].as_str().is_some_and(|p| p.contains(words))))
        })
        .await
    };
    configure(ca.clone())?;
    becomes("pending", "set pull.credentials").await?;
    configure(format!("{ca}, credentials = {:?}", path("login.json")))?;
    let active = becomes("active", "").await?;
    same("signer", active["active"]["signer"].as_str(), Some("acme"))?;
    let shown = active["source"].as_str().unwrap_or_default();
    ensure!(source.contains(shown), "{shown:?} is not {source:?}");

    // What was pulled is kept: it is loaded again without the registry.
    drop(registry);
    let (done, text) = plugin(&ctx, &["swap", "pushed"])?;
    ensure!(done, "{text}");
    drop(stanza);
    eventually("the plugin is gone", SOON, || async {
        Ok(described(&ctx, "pushed").is_err().then_some(()))
    })
    .await
}
