//! What plugins keep for themselves.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, check, component, guests, metric, plugins};
use witlet_plugin_host::PluginHost;
use witlet_plugin_host::config::{Kind, PluginConfig};
use witlet_ports::Class;
use witlet_ports::probe::Probes;

const GRANT: &str = "grants = { kv = { keys = 2, bytes = \"64B\" } }";

fn stanza(node: &Node, module: &str) -> PluginConfig {
    node.stanza(Kind::Probe, &component("probe", module, &["kv"]), GRANT)
}

async fn says(host: &PluginHost, params: &str) -> String {
    host.check(check(params)).await.unwrap().message
}

#[tokio::test]
async fn it_outlives_calls_versions_and_the_agent() {
    let node = Node::new();
    let module = guests::keeping_probe();
    let host = node.start([("test", stanza(&node, &module))]).await;
    assert_eq!(says(&host, "Gfirst").await, "", "nothing yet");
    assert_eq!(says(&host, "Sfirst").await, "");
    // Another instance, as for each call.
    assert_eq!(says(&host, "Gfirst").await, "first");
    let swaps = || metric(&host, "witlet_plugin_swaps_total", &[("outcome", "switched")]);
    let (before, digest) = (swaps(), host.list()[0].digest.clone());
    // The file is noticed by itself; the reload makes sure of it.
    let other = stanza(&node, &module.replace("(func $recurse", "(func $more) (func $recurse"));
    host.reload(plugins([(
        "test",
        PluginConfig {
            config: [("n".to_owned(), 1.into())].into_iter().collect(),
            ..other
        },
    )]))
    .await;
    assert!(swaps() > before && host.list()[0].digest != digest, "another version");
    assert_eq!(says(&host, "Gfirst").await, "first");
    host.roll_back("test").await;
    assert_eq!(says(&host, "Gfirst").await, "first");
    drop(host);

    let host = node
        .start([("test", stanza(&node, &module)), ("other", stanza(&node, &module))])
        .await;
    assert_eq!(says(&host, "Gfirst").await, "first");
    let mut others = check("Gfirst");
    others.plugin = "other".into();
    assert_eq!(
        host.check(others).await.unwrap().message,
        "",
        "another plugin has its own"
    );
}

#[tokio::test]
async fn it_ends_where_the_grant_ends() {
    let node = Node::new();
    let host = node.start([("test", stanza(&node, &guests::keeping_probe()))]).await;
    says(&host, "Sone").await;
    let long = "S".repeat(40);
    for (params, words) in [
        (long.as_str(), "bytes, the grant allows 64B (grants.kv.bytes)"),
        ("S", "a key has between 1 and 256 bytes"),
    ] {
        let error = host.check(check(params)).await.unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
    says(&host, "Stwo").await;
    let error = host.check(check("Sthree")).await.unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (Class::Denied, "kv: 3 keys, the grant allows 2 (grants.kv.keys)")
    );
    assert!(
        metric(
            &host,
            "witlet_plugin_capability_calls_total",
            &[("capability", "kv"), ("outcome", "denied")]
        ) > 1.0
    );
    assert!(host.denials(Some("test")).iter().any(|d| d.what == "kv"));
}

#[tokio::test]
async fn it_is_granted_and_not_shared_with_a_shadow() {
    let node = Node::new();
    let mut stanza = stanza(&node, &guests::keeping_probe());
    stanza.grants.kv = None;
    let start = |stanza: PluginConfig| PluginHost::start(plugins([("test", stanza)]), node.deps());
    let Err(errors) = start(stanza).await else {
        panic!("it started")
    };
    assert!(
        errors.to_string().ends_with("[plugin.test.grants]\nkv = {}"),
        "{errors}"
    );
    let shadow = node.stanza(
        Kind::Probe,
        &component("probe", &guests::keeping_probe(), &["kv"]),
        "grants = { kv = {} }\nshadow = { calls = 5 }",
    );
    let Err(errors) = start(shadow).await else {
        panic!("it started")
    };
    assert!(errors.to_string().contains("take one of the two away"), "{errors}");
}
