//! What is loaded and what is refused, and in which words.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::MetadataExt;

use common::{Node, check, component, component_with, guests, manifest, metric, plugins};
use witlet_plugin_host::PluginHost;
use witlet_plugin_host::config::{Kind, PluginConfig, Source};
use witlet_ports::probe::Probes;

async fn refused(node: &Node, stanzas: Vec<(&str, PluginConfig)>) -> String {
    match PluginHost::start(plugins(stanzas), node.deps()).await {
        Ok(_) => panic!("it started"),
        Err(errors) => errors.to_string(),
    }
}

#[tokio::test]
async fn a_missing_grant_is_answered_with_the_lines_to_add() {
    let node = Node::new();
    let exec = component("probe", &guests::exec_probe(), &["container-exec"]);
    let error = refused(&node, vec![("pg-probe", node.stanza(Kind::Probe, &exec, ""))]).await;
    let lines = "[plugin.pg-probe.grants]\ncontainer-exec = { argv = [\"*\"] }";
    assert!(
        error.contains(&format!(
            "it needs container-exec, which is not granted; to grant it, add:\n{lines}"
        )),
        "{error}"
    );
    // The lines do what they say.
    let table: toml::Table = lines.parse().unwrap();
    let mut stanza = node.stanza(Kind::Probe, &exec, "");
    stanza.grants = table["plugin"]["pg-probe"]["grants"].clone().try_into().unwrap();
    node.start([("pg-probe", stanza)]).await;
}

#[tokio::test]
async fn a_grant_alone_is_not_enough() {
    let node = Node::new();
    let silent = component("probe", &guests::exec_probe(), &[]);
    let mut stanza = node.stanza(Kind::Probe, &silent, "");
    stanza.grants = common::all_grants();
    let error = refused(&node, vec![("test", stanza)]).await;
    assert!(
        error.contains("it imports container-exec without asking for it"),
        "{error}"
    );
}

#[tokio::test]
async fn wrong_plugins_are_refused_before_they_are_compiled() {
    let node = Node::new();
    let module = guests::moody_probe("x");
    let newer = component_with("probe", &module, Some(&manifest("probe", "0.3", &[])), false);
    let bare = component_with("probe", &module, None, false);
    let stanza = |name: &str, kind: Kind, bytes: &[u8]| PluginConfig::new(kind, node.file(name, bytes));
    let error = refused(
        &node,
        vec![
            ("a", stanza("a.wasm", Kind::Probe, &newer)),
            ("b", stanza("b.wasm", Kind::Volume, &component("probe", &module, &[]))),
            ("c", stanza("c.wasm", Kind::Probe, &bare)),
            ("d", stanza("d.wasm", Kind::Probe, b"\0asm nonsense")),
            ("e", stanza("e.wasm", Kind::Probe, b"")),
            (
                "f",
                PluginConfig::new(Kind::Probe, Source::File("/does/not/exist.wasm".into())),
            ),
            ("g", PluginConfig::new(Kind::Probe, Source::Builtin("nothing".into()))),
            (
                "h",
                PluginConfig {
                    sha256: Some("0".repeat(64)),
                    ..stanza("h.wasm", Kind::Probe, &component("probe", &module, &[]))
                },
            ),
        ],
    )
    .await;
    // All of them, in one go.
    for part in [
        "plugin a (file:",
        "built for witlet:probe 0.3, this node supports 0.1; rebuild it or pin an older one",
        "it is a probe plugin, but the configuration says kind = \"volume\"",
        "it has no section witlet:manifest",
        "plugin d (file:",
        "plugin e (file:",
        "it is not a WebAssembly component",
        "cannot read it: no such file or directory",
        "there is no such built-in plugin; there is none",
        "the configuration wants 0000",
    ] {
        assert!(error.contains(part), "{part:?} not in:\n{error}");
    }
    assert_eq!(error.lines().count(), 8, "{error}");
    assert!(
        std::fs::read_dir(node.path("cache")).unwrap().next().is_none(),
        "something was compiled"
    );
}

#[tokio::test]
async fn an_import_that_nobody_offers() {
    let node = Node::new();
    let text = format!(
        r#"(component (import "acme:thing/api@1.0.0" (instance (export "f" (func))))
            (core module (@custom "witlet:manifest" {:?})))"#,
        manifest("probe", "0.1", &[])
    );
    let error = refused(
        &node,
        vec![("test", node.stanza(Kind::Probe, &wat::parse_str(text).unwrap(), ""))],
    )
    .await;
    assert!(
        error.contains("it imports acme:thing/api@1.0.0, which this node does not offer"),
        "{error}"
    );
}

#[tokio::test]
async fn a_component_without_the_export() {
    let node = Node::new();
    let text = format!(
        r#"(component (core module (@custom "witlet:manifest" {:?})))"#,
        manifest("probe", "0.1", &[])
    );
    let error = refused(
        &node,
        vec![("test", node.stanza(Kind::Probe, &wat::parse_str(text).unwrap(), ""))],
    )
    .await;
    assert!(error.contains("witlet:probe/probe"), "{error}");
}

#[tokio::test]
async fn a_self_check_keeps_a_plugin_out() {
    let node = Node::new();
    let failing = component_with(
        "probe",
        &guests::checking_probe("no database driver"),
        Some(&manifest("probe", "0.1", &[])),
        true,
    );
    let error = refused(&node, vec![("test", node.stanza(Kind::Probe, &failing, ""))]).await;
    assert!(error.ends_with("its self-check failed: no database driver"), "{error}");
    let passing = component_with(
        "probe",
        &guests::checking_probe(""),
        Some(&manifest("probe", "0.1", &[])),
        true,
    );
    let host = node.start([("test", node.stanza(Kind::Probe, &passing, ""))]).await;
    assert_eq!(host.check(check("P")).await.unwrap().message, "checked");
}

#[tokio::test]
async fn compiled_code_is_kept_and_verified() {
    let node = Node::new();
    let component = component("probe", &guests::moody_probe("hello"), &[]);
    // One at a time: a host that runs also looks at changed files.
    let start = async |node: &Node| node.start([("test", node.stanza(Kind::Probe, &component, ""))]).await;
    let cache = |host: &PluginHost, result| metric(host, "witlet_plugin_cache_total", &[("result", result)]);
    let counts = |host: &PluginHost| [cache(host, "hit"), cache(host, "miss"), cache(host, "corrupt")];

    let host = start(&node).await;
    assert_eq!(counts(&host), [0.0, 1.0, 0.0]);
    drop(host);
    let host = start(&node).await;
    assert_eq!(counts(&host), [1.0, 0.0, 0.0]);
    assert_eq!(host.check(check("P")).await.unwrap().message, "hello");

    let dir = node.path("cache");
    assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
    let files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, &bytes).unwrap();
    drop(host);
    let host = start(&node).await;
    assert_eq!(counts(&host), [0.0, 0.0, 1.0], "one bit was enough");
    assert_eq!(host.check(check("P")).await.unwrap().message, "hello");
    drop(host);
    let host = start(&node).await;
    assert_eq!(counts(&host), [1.0, 0.0, 0.0], "it was written anew");
}

#[tokio::test]
async fn a_compiler_in_another_process() {
    let node = Node::new();
    let component = component("probe", &guests::moody_probe("hello"), &[]);
    // This test's own executable, told to be the compiler.
    let this = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let compile = ["--exact", "compiler_process", "--ignored", "--nocapture", "--quiet"];
    let mut deps = node.deps();
    let sh = format!(
        "exec env WITLET_TEST_COMPILER=1 {this} {} 3>&1 >/dev/null",
        compile.join(" ")
    );
    deps.compile_command = Some(vec!["/bin/sh".into(), "-c".into(), sh]);
    let config = plugins([("test", node.stanza(Kind::Probe, &component, ""))]);
    let host = PluginHost::start(config, deps).await.unwrap();
    assert_eq!(host.check(check("P")).await.unwrap().message, "hello");

    // A compiler that fails is no reason to compile here after all.
    let other = Node::new();
    let mut deps = other.deps();
    deps.compile_command = Some(vec![
        "/bin/sh".into(),
        "-c".into(),
        "echo out of patience >&2; exit 1".into(),
    ]);
    let config = plugins([("test", other.stanza(Kind::Probe, &component, ""))]);
    let Err(errors) = PluginHost::start(config, deps).await else {
        panic!("it started")
    };
    assert!(errors.to_string().ends_with("out of patience"), "{errors}");
}

/// The other process of the test above: the harness keeps standard output to itself, so the code goes to descriptor 3.
#[test]
#[ignore = "run by another test"]
fn compiler_process() {
    if std::env::var_os("WITLET_TEST_COMPILER").is_none() {
        return;
    }
    let three = std::fs::OpenOptions::new().write(true).open("/proc/self/fd/3").unwrap();
    rustix::stdio::dup2_stdout(&three).unwrap();
    witlet_plugin_host::compile_stdin_to_stdout().unwrap();
    std::process::exit(0);
}
