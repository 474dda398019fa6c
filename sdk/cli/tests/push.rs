//! From an author's machine through a registry to a node: Debian's docker-registry with a password and a certificate of a CA of its
//! own.
#![allow(clippy::unwrap_used)]

#[path = "../../../host/plugin/tests/common/mod.rs"]
mod common;
#[path = "../../../host/plugin/tests/common/registry.rs"]
mod registry;

use std::process::Command;

use common::{Node, check, component, guests, plugins};
use registry::{Registry, files, free_port};
use witlet_plugin_host::PluginHost;
use witlet_plugin_host::config::PluginConfig;
use witlet_ports::probe::Probes;

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_was_pushed_is_pulled_by_a_node() {
    let (node, dir) = (Node::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    files(dir.path());
    let port = free_port();
    let Some(registry) = Registry::start(dir.path(), port, true) else {
        return;
    };
    let text = std::fs::read_to_string(path("credentials.json")).unwrap();
    std::fs::write(
        path("credentials.json"),
        text.replace("HOST", &format!("127.0.0.1:{port}")),
    )
    .unwrap();
    std::fs::write(path("a.wasm"), component("probe", &guests::moody_probe("pushed"), &[])).unwrap();
    let tool = |args: &[&str]| {
        let run = Command::new(env!("CARGO_BIN_EXE_witlet-plugin"))
            .args(args)
            .output()
            .unwrap();
        let said = [run.stdout, run.stderr].concat();
        (run.status.code(), String::from_utf8(said).unwrap())
    };
    let target = format!("oci://127.0.0.1:{port}/acme/probe:1.0");
    let (ca, credentials) = (path("ca.pem"), path("credentials.json"));
    let (ca, credentials) = (["--ca", &ca], ["--credentials", &credentials]);
    let push = |flags: &[&str]| tool(&[&["push", &target, &path("a.wasm")], flags].concat());

    // What is missing is said in the words of the command line.
    let (code, said) = push(&credentials);
    assert!(
        code == Some(1) && said.contains("--ca names certificates to trust"),
        "{said}"
    );
    let (code, said) = push(&ca);
    assert!(
        code == Some(1) && said.contains("it wants a password; give --credentials"),
        "{said}"
    );

    assert_eq!(tool(&["keygen", &path("acme")]).0, Some(0));
    let key = path("acme.key");
    let all = [&ca[..], &credentials, &["--key", &key]].concat();
    let (code, said) = push(&all);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with(&format!("source = \"{target}@sha256:")), "{said}");
    assert_eq!(push(&all), (code, said.clone()), "the same has the same digest");

    let stanza = |more: &str| -> PluginConfig { toml::from_str(&format!("kind = \"probe\"\n{said}\n{more}")).unwrap() };
    let pull = format!("pull = {{ ca = {:?}, credentials = {:?} }}", ca[1], credentials[1]);
    let verify = format!("verify = {{ key = {:?} }}", path("acme.pub"));
    // As the author does, the node needs all of it; until then it waits.
    let host = node
        .start([
            (
                "no-ca",
                stanza(&format!("pull = {{ credentials = {:?} }}", credentials[1])),
            ),
            ("no-password", stanza(&format!("pull = {{ ca = {:?} }}", ca[1]))),
        ])
        .await;
    let states: Vec<_> = host.list().into_iter().map(|p| (p.state, p.problem)).collect();
    assert!(
        states[0].0 == "pending" && states[0].1.contains("pull.ca"),
        "{states:?}"
    );
    assert!(
        states[1].0 == "pending" && states[1].1.contains("set pull.credentials"),
        "{states:?}"
    );

    let whole = || stanza(&format!("{pull}\n{verify}"));
    host.reload(plugins([("test", whole())])).await;
    assert_eq!(host.check(check("P")).await.unwrap().message, "pushed");
    assert_eq!(host.describe("test").unwrap().active.unwrap().signer, "acme");
    // A key that did not sign it.
    assert_eq!(tool(&["keygen", &path("other")]).0, Some(0));
    let other = format!("verify = {{ key = {:?} }}", path("other.pub"));
    let report = host
        .reload(plugins([("test", stanza(&format!("{pull}\n{other}")))]))
        .await;
    assert!(
        report.to_string().contains("its signature is not one of other"),
        "{report}"
    );
    assert_eq!(host.check(check("P")).await.unwrap().message, "pushed");

    // The registry is gone, and the node starts again.
    drop((host, registry));
    let host = PluginHost::start(plugins([("test", whole())]), node.deps())
        .await
        .unwrap();
    assert_eq!(host.check(check("P")).await.unwrap().message, "pushed");
}
