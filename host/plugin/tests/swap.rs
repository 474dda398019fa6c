//! Plugins are replaced while they are used.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use common::{Node, check, component, eventually, guests, metric, plugins};
use witlet_plugin_host::config::{Kind, PluginConfig};
use witlet_plugin_host::{PluginHost, PluginsConfig, SwapOutcome};
use witlet_ports::probe::Probes;

fn version(text: &str) -> Vec<u8> {
    component("probe", &guests::moody_probe(text), &[])
}

async fn message(host: &PluginHost) -> String {
    host.check(check("P")).await.unwrap().message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_versions_come_and_go() {
    let node = Node::new();
    let host = node
        .start([("test", node.stanza(Kind::Probe, &version("v0"), ""))])
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (host, stop, done) = (Arc::clone(&host), Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let mut seen: BTreeMap<String, u32> = BTreeMap::new();
                while !stop.load(Ordering::Relaxed) {
                    // An error ends the task, and so the test.
                    *seen.entry(message(&host).await).or_default() += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                seen
            })
        })
        .collect();
    for n in 1..=10 {
        let before = done.load(Ordering::Relaxed);
        // Another file each time: the same one would be noticed by itself.
        let text = format!("v{n}");
        let stanza = PluginConfig::new(Kind::Probe, node.file(&format!("{text}.wasm"), &version(&text)));
        let report = host.reload(plugins([("test", stanza)])).await;
        assert!(
            matches!(&report.plugins[..], [(_, SwapOutcome::Swapped { from, to })] if from != to),
            "{report}"
        );
        assert_eq!(message(&host).await, format!("v{n}"), "new calls go to the new one");
        eventually("calls go on", || async { done.load(Ordering::Relaxed) > before + 8 }).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut versions = BTreeMap::new();
    for caller in callers {
        for (version, n) in caller.await.unwrap() {
            *versions.entry(version).or_insert(0) += n;
        }
    }
    assert!(versions.len() >= 10, "{versions:?}");
    assert!((metric(&host, "witlet_plugin_swaps_total", &[("outcome", "switched")]) - 11.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_call_in_flight_ends_on_the_version_it_began_on() {
    let node = Node::new();
    let slow = component("probe", &guests::exec_probe(), &["container-exec"]);
    let grants = "grants = { container-exec = { argv = [\"*\"] } }";
    let host = node.start([("test", node.stanza(Kind::Probe, &slow, grants))]).await;
    let in_flight = {
        let host = Arc::clone(&host);
        tokio::spawn(async move { host.check(check("wait")).await })
    };
    node.runtime.started.notified().await;
    host.reload(plugins([("test", node.stanza(Kind::Probe, &version("new"), ""))]))
        .await;
    // The new one knows no "wait": it would trap.
    assert_eq!(message(&host).await, "new");
    node.runtime.release.notify_one();
    assert_eq!(in_flight.await.unwrap().unwrap().message, "id: wait");
}

#[tokio::test]
async fn a_bad_version_is_refused_and_the_old_one_stays() {
    let node = Node::new();
    let host = node
        .start([("test", node.stanza(Kind::Probe, &version("good"), ""))])
        .await;
    let needy = component("probe", &guests::exec_probe(), &["container-exec"]);
    let stanzas = [
        PluginConfig::new(Kind::Probe, node.file("broken.wasm", b"no component")),
        PluginConfig::new(Kind::Probe, node.file("needy.wasm", &needy)),
    ];
    for stanza in stanzas {
        let report = host.reload(plugins([("test", stanza)])).await;
        assert_eq!(report.refused().count(), 1, "{report}");
        assert_eq!(message(&host).await, "good");
    }
    assert!((metric(&host, "witlet_plugin_swaps_total", &[("outcome", "refused")]) - 2.0).abs() < f64::EPSILON);
    assert_eq!(host.list()[0].generation, 1);
}

#[tokio::test]
async fn only_what_changed_is_touched() {
    let node = Node::new();
    let stanza = |name: &str, text: &str| PluginConfig::new(Kind::Probe, node.file(name, &version(text)));
    let (a, b) = (stanza("a.wasm", "a"), stanza("b.wasm", "b"));
    let host = node.start([("a", a.clone()), ("b", b.clone())]).await;
    let generations = |host: &PluginHost| {
        host.list()
            .into_iter()
            .map(|p| (p.name, p.generation))
            .collect::<Vec<_>>()
    };
    let report = host.reload(plugins([("a", a.clone()), ("b", b.clone())])).await;
    assert!(report.plugins.is_empty(), "{report}");
    assert_eq!(generations(&host), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    // One goes, one comes, one is switched off.
    let report = host
        .reload(plugins([("b", PluginConfig { enabled: false, ..b }), ("c", a.clone())]))
        .await;
    let text = report.to_string();
    assert_eq!(text, "a: removed\nb: removed\nc: added");
    assert_eq!(host.list().len(), 1);
    assert!(
        host.check(check("P"))
            .await
            .unwrap_err()
            .message
            .contains("there is no probe plugin \"test\"")
    );
    let report = host.reload(PluginsConfig::default()).await;
    assert_eq!(report.to_string(), "c: removed");
}

#[tokio::test]
async fn a_changed_file_is_noticed() {
    let node = Node::new();
    let host = node
        .start([("test", node.stanza(Kind::Probe, &version("one"), ""))])
        .await;
    assert_eq!(message(&host).await, "one");
    node.file("probe.wasm", &version("two"));
    eventually("the new version is active", || async { message(&host).await == "two" }).await;
    // Rubbish is refused, once, and what comes after it is taken.
    node.file("probe.wasm", b"rubbish");
    let refused = || metric(&host, "witlet_plugin_swaps_total", &[("outcome", "refused")]);
    eventually("it is refused", || async { refused() > 0.0 }).await;
    assert_eq!(message(&host).await, "two");
    std::fs::remove_file(node.path("probe.wasm")).unwrap();
    node.file("probe.wasm", &version("three"));
    eventually("the last version is active", || async {
        message(&host).await == "three"
    })
    .await;
    assert!((refused() - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn the_last_good_version_helps_out() {
    let node = Node::new();
    let fail = "fail = \"last-good\"";
    let host = node
        .start([("test", node.stanza(Kind::Probe, &version("good"), fail))])
        .await;
    let broken = component(
        "probe",
        &guests::moody_probe("x").replace("(i32.const 80)", "(i32.const 1)"),
        &[],
    );
    host.reload(plugins([(
        "test",
        node.stanza(Kind::Probe, &broken, &format!("{fail}\nconfig = {{ n = 1 }}")),
    )]))
    .await;
    assert_eq!(message(&host).await, "good", "the active version traps on P");
}
