//! What a version has in its memory goes to the next.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Node, check, component_exporting, guests, manifest, plugins};
use k8s_openapi::api::core::v1::Container;
use witlet_plugin_host::config::PluginConfig;
use witlet_plugin_host::{PluginHost, SwapOutcome};
use witlet_ports::policy::{Access, Policies, Verb};
use witlet_ports::probe::Probes;

const ONE: &str = "limits = { concurrency = 1, queue = 64, instances = { warm = 1 } }";

fn version(form: u32, text: &str) -> Vec<u8> {
    let module = guests::handing_probe(form).replace("another form", text);
    let manifest = manifest("probe", "0.1", &[]);
    component_exporting("probe", &module, Some(&manifest), &["witlet:lifecycle/state@0.1.0"])
}

fn stanza(node: &Node, name: &str, form: u32, text: &str, limits: &str) -> PluginConfig {
    let source = node.file(name, &version(form, text));
    let text = format!("kind = \"probe\"\nsource = {:?}\n{limits}", source.to_string());
    toml::from_str(&text).unwrap()
}

/// The number of this call, as the instance counts.
async fn count(host: &PluginHost) -> String {
    host.check(check("C")).await.unwrap().message
}

async fn reload(host: &PluginHost, stanza: PluginConfig) -> SwapOutcome {
    let mut report = host.reload(plugins([("test", stanza)])).await;
    assert_eq!(report.plugins.len(), 1, "{report}");
    report.plugins.remove(0).1
}

#[tokio::test]
async fn the_next_version_goes_on_where_the_last_one_was() {
    let node = Node::new();
    let host = node
        .start([("test", stanza(&node, "a.wasm", 1, "another form", ONE))])
        .await;
    assert_eq!([count(&host).await, count(&host).await], ["1", "2"]);
    let outcome = reload(&host, stanza(&node, "b.wasm", 1, "another text", ONE)).await;
    assert!(
        matches!(&outcome, SwapOutcome::Swapped { from, to } if from != to),
        "{outcome:?}"
    );
    assert_eq!(count(&host).await, "3");
    // Also the same component with another stanza.
    let more = format!("config = {{ n = 1 }}\n{ONE}");
    reload(&host, stanza(&node, "c.wasm", 1, "another text", &more)).await;
    assert_eq!(count(&host).await, "4");
    // What comes back has what it had.
    host.roll_back("test").await;
    assert_eq!(count(&host).await, "4");
}

#[tokio::test]
async fn a_version_that_cannot_take_it_is_refused_and_nothing_is_lost() {
    let node = Node::new();
    let host = node
        .start([("test", stanza(&node, "a.wasm", 1, "another form", ONE))])
        .await;
    assert_eq!(count(&host).await, "1");
    let outcome = reload(&host, stanza(&node, "b.wasm", 2, "another form", ONE)).await;
    let SwapOutcome::Refused(error) = outcome else {
        panic!("{outcome:?}")
    };
    let words = "handing over its state: the new version, of 1 bytes in version 1: another form";
    assert!(error.to_string().ends_with(words), "{error}");
    assert_eq!(count(&host).await, "2");
    assert!(host.list()[0].problem.contains(words));
}

#[tokio::test]
async fn without_one_instance_there_is_nothing_to_hand_over() {
    let node = Node::new();
    let host = node
        .start([("test", stanza(&node, "a.wasm", 1, "another form", ""))])
        .await;
    assert_eq!([count(&host).await, count(&host).await], ["1", "1"]);
    let outcome = reload(&host, stanza(&node, "b.wasm", 2, "another form", ONE)).await;
    assert!(matches!(outcome, SwapOutcome::Swapped { .. }), "{outcome:?}");
    assert_eq!([count(&host).await, count(&host).await], ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_for_the_switch_and_none_is_lost() {
    let node = Node::new();
    let host = node
        .start([("test", stanza(&node, "a.wasm", 1, "another form", ONE))])
        .await;
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let host = Arc::clone(&host);
            tokio::spawn(async move {
                for _ in 0..2 {
                    count(&host).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    for n in 0..3 {
        let text = format!("another {n}");
        reload(
            &host,
            stanza(&node, &format!("{n}.wasm"), 1, &format!("{text:12}"), ONE),
        )
        .await;
    }
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(
        count(&host).await,
        "7",
        "each call counted once, whichever version had it"
    );
}

/// A call that does not end: the old version goes on, and so does whoever waits for it.
#[tokio::test]
async fn a_switch_does_not_wait_for_ever() {
    let node = Node::new();
    let module = guests::exec_probe();
    let module = format!(
        r#"{}
    (func (export "witlet:lifecycle/state@0.1.0#export-state") (result i32)
        (i64.store (i32.const 1024) (i64.const 0))
        (i64.store (i32.const 1032) (i64.const 0))
        (i32.const 1024))
    (func (export "witlet:lifecycle/state@0.1.0#import-state") (param i32 i32 i32) (result i32)
        (i32.store (i32.const 1024) (i32.const 0))
        (i32.const 1024)))"#,
        module.strip_suffix(')').unwrap()
    );
    let stanza = |name: &str, module: &str| -> PluginConfig {
        let manifest = manifest("probe", "0.1", &["container-exec"]);
        let component = component_exporting("probe", module, Some(&manifest), &["witlet:lifecycle/state@0.1.0"]);
        let source = node.file(name, &component).to_string();
        let grants = "grants = { container-exec = { argv = [\"*\"] } }";
        toml::from_str(&format!("kind = \"probe\"\nsource = {source:?}\n{grants}\n{ONE}")).unwrap()
    };
    let next = || {
        stanza(
            "b.wasm",
            &module.replace("(func $recurse", "(func $more) (func $recurse"),
        )
    };
    let host = node.start([("test", stanza("a.wasm", &module))]).await;
    host.check(check("echo")).await.unwrap();
    let waiting = tokio::spawn({
        let host = Arc::clone(&host);
        async move { host.check(check("wait")).await }
    });
    node.runtime.started.notified().await;
    let outcome = reload(&host, next()).await;
    let SwapOutcome::Refused(error) = outcome else {
        panic!("{outcome:?}")
    };
    let words = "calls did not end within 2s; it is tried again, and `witlet plugin swap test` does so at once";
    assert!(error.to_string().ends_with(words), "{error}");
    node.runtime.release.notify_one();
    assert_eq!(waiting.await.unwrap().unwrap().message, "id: wait");
    // Once the call is over, it goes by itself.
    common::eventually("it is tried again", || async { host.list()[0].problem.is_empty() }).await;
    assert!(
        host.reload(plugins([("test", next())])).await.plugins.is_empty(),
        "it is in force"
    );
    assert_eq!(host.check(check("echo")).await.unwrap().message, "id: echo");
}

/// What the hooks of a policy remember is in the instance that is asked about pods, too.
#[tokio::test]
async fn hooks_are_a_part_of_it() {
    let node = Node::new();
    let module = guests::hooked_policy().replace(
        "(call $drop-pod (local.get $pod))",
        "(call $drop-pod (local.get $pod)) (global.set $seen (i32.add (global.get $seen) (i32.const 1)))",
    );
    let module = format!(
        r#"{}
    (global $seen (mut i32) (i32.const 0))
    (data (i32.const 2200) "not all of it")
    (func (export "witlet:lifecycle/state@0.1.0#export-state") (result i32)
        (i32.store8 (i32.const 700) (global.get $seen))
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.store (i32.const 1028) (i32.const 1))
        (i32.store (i32.const 1032) (i32.const 700))
        (i32.store (i32.const 1036) (i32.const 1))
        (i32.const 1024))
    (func (export "witlet:lifecycle/state@0.1.0#import-state") (param i32) (param $at i32) (param i32) (result i32)
        (i32.store (i32.const 1024) (i32.const 0))
        (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 3)) (then
            (i32.store8 (i32.const 1024) (i32.const 1))
            (i32.store (i32.const 1028) (i32.const 2200))
            (i32.store (i32.const 1032) (i32.const 13))))
        (i32.const 1024)))"#,
        module.strip_suffix(')').unwrap()
    );
    let exports = [
        "witlet:policy-hooks/container-create@0.1.0",
        "witlet:policy-hooks/access@0.1.0",
        "witlet:lifecycle/state@0.1.0",
    ];
    let stanza = |version: &str| -> PluginConfig {
        let manifest = manifest("policy", "0.1", &[]).replace("1.0.0", version);
        let component = component_exporting("policy", &module, Some(&manifest), &exports);
        let source = node.file(&format!("{version}.wasm"), &component).to_string();
        toml::from_str(&format!("kind = \"policy\"\nsource = {source:?}\n{ONE}")).unwrap()
    };
    let host = node.start([("test", stanza("1.0.0"))]).await;
    host.admit(&common::pod()).await.unwrap();
    let container = Container::default();
    host.container(&common::pod(), &container, "good").await.unwrap();
    let access = Access {
        verb: Verb::Attach,
        container: "c".into(),
        command: Vec::new(),
        stdin: false,
        tty: false,
        ports: Vec::new(),
    };
    host.access(&common::pod(), &access).await.unwrap();
    let outcome = reload(&host, stanza("2.0.0")).await;
    assert!(matches!(outcome, SwapOutcome::Swapped { .. }), "{outcome:?}");
}
