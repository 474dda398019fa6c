//! Plugins that mean harm, beside those in `limits.rs` and `loading.rs`. `docs/threat-model.md` has the table of all.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Node, check, component, guests, metric, plugins};
use witlet_plugin_host::config::{Kind, PluginConfig};
use witlet_plugin_host::{PluginHost, SwapOutcome};
use witlet_ports::Class;
use witlet_ports::probe::Probes;

/// The same node goes on answering.
async fn is_well(host: &PluginHost) {
    let mut check = check("P");
    check.plugin = "good".into();
    assert_eq!(host.check(check).await.unwrap().message, "fine");
}

fn good(node: &Node) -> PluginConfig {
    PluginConfig::new(
        Kind::Probe,
        node.file("good.wasm", &component("probe", &guests::moody_probe("fine"), &[])),
    )
}

#[tokio::test]
async fn floods_of_host_calls_end_with_the_budget() {
    let node = Node::new();
    let flood = component("probe", &guests::flooding_probe(), &[]);
    let limits = "limits = { cpu_per_call = \"50ms\" }";
    let host = node
        .start([
            ("test", node.stanza(Kind::Probe, &flood, limits)),
            ("good", good(&node)),
        ])
        .await;
    for flood in ["L", "R"] {
        let error = host.check(check(flood)).await.unwrap_err();
        assert!(error.message.contains("processor time"), "{flood}: {error}");
    }
    is_well(&host).await;
    let calls = [("plugin", "test"), ("outcome", "cpu_timeout")];
    assert!((metric(&host, "witlet_plugin_calls_total", &calls) - 2.0).abs() < f64::EPSILON);
    let dropped = metric(&host, "witlet_plugin_log_lines_dropped_total", &[("plugin", "test")]);
    assert!(dropped > 100.0, "{dropped}");
}

#[tokio::test]
async fn handles_run_out_for_the_guest_alone() {
    let node = Node::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let open = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&open);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            held.push(stream);
        }
    });
    let hoard = component("probe", &guests::hoarding_probe(port), &["pod-net"]);
    let toml = format!("grants = {{ pod-net = {{ ports = [{port}] }} }}\nlimits = {{ cpu_per_call = \"10s\" }}");
    let host = node
        .start([("test", node.stanza(Kind::Probe, &hoard, &toml)), ("good", good(&node))])
        .await;
    let error = host.check(check("")).await.unwrap_err();
    assert_eq!(
        (error.class, error.reason),
        (Class::Retry, Some("PluginFailed")),
        "{error}"
    );
    assert!(open.load(Ordering::Relaxed) <= 256, "{open:?}");
    assert!((metric(&host, "witlet_plugin_calls_total", &[("outcome", "trap")]) - 1.0).abs() < f64::EPSILON);
    is_well(&host).await;
}

#[tokio::test]
async fn a_start_function_has_the_same_budget() {
    let node = Node::new();
    let stuck = component("probe", &guests::never_starting_probe(), &[]);
    let host = node
        .start([("test", node.stanza(Kind::Probe, &stuck, "")), ("good", good(&node))])
        .await;
    let error = host.check(check("P")).await.unwrap_err();
    assert!(error.message.contains("processor time"), "{error}");
    is_well(&host).await;
}

#[tokio::test]
async fn what_is_too_large_is_not_even_read() {
    let node = Node::new();
    let host = node.start([("good", good(&node))]).await;
    // Sparse: it takes no space, and would take all memory.
    let path = node.path("huge.wasm");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let huge = PluginConfig::new(Kind::Probe, witlet_plugin_host::config::Source::File(path));
    let report = host.reload(plugins([("good", good(&node)), ("test", huge)])).await;
    assert!(
        report.to_string().contains("are more than a plugin may have"),
        "{report}"
    );
    assert_eq!(host.list()[1].state, "refused");
    is_well(&host).await;
}

#[tokio::test]
async fn a_component_that_breaks_the_compiler_breaks_nothing_else() {
    let node = Node::new();
    let mut deps = node.deps();
    // What a component that takes for ever to compile comes to: the kernel ends the compiler at its limit.
    let endless = "cat >/dev/null; ulimit -t 1; while :; do :; done";
    deps.compile_command = Some(vec!["/bin/sh".into(), "-c".into(), endless.into()]);
    let host = PluginHost::start(plugins([]), deps).await.unwrap();
    let begun = std::time::Instant::now();
    let report = host.reload(plugins([("test", good(&node))])).await;
    assert!(matches!(report.plugins[0].1, SwapOutcome::Refused(_)), "{report}");
    assert!(
        report.to_string().contains("the compiler ended with signal"),
        "{report}"
    );
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(host.problems().len(), 1);
}
