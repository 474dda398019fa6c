//! The default plugins, built by `cargo xtask plugins`, with the stanzas that the agent has for them.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::Node;
use witlet_plugin_host::{Deps, PluginHost, PluginsConfig};

async fn start(node: &Node, change: impl FnOnce(&mut toml::Table)) -> Arc<PluginHost> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("host/witlet/default-plugins.toml")).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    change(&mut table);
    let config = PluginsConfig::from_table(&table).unwrap();
    let component = |name: &str| {
        let path = root.join(format!("target/plugins/{name}.wasm"));
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: run `cargo xtask plugins` first", path.display()))
    };
    let builtins = config.plugins.keys().map(|name| {
        let (name, bytes): (&'static str, &'static [u8]) = (name.clone().leak(), component(name).leak());
        (name, bytes)
    });
    let builtins: &'static [_] = builtins.collect::<Vec<_>>().leak();
    let deps = Deps {
        builtins,
        ..node.deps()
    };
    PluginHost::start(config, deps).await.unwrap_or_else(|e| panic!("{e}"))
}

#[tokio::test]
async fn all_of_them_load_with_what_they_are_granted() {
    let node = Node::new();
    let host = start(&node, |table| {
        for (_, stanza) in table.iter_mut() {
            stanza.as_table_mut().unwrap().insert("enabled".into(), true.into());
        }
    })
    .await;
    assert_eq!(host.list().len(), 6);
    let drivers: Vec<_> = host.list().into_iter().flat_map(|p| p.drivers).collect();
    assert!(drivers.contains(&"kubernetes.io/projected".to_owned()), "{drivers:?}");
}
