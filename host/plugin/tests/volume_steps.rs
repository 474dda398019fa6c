//! The steps of CSI volumes: once for the node, once for each pod, and what is left when something is cut off.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use common::{Node, component_exporting, guests, manifest, plugins};
use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Volume};
use serde_json::json;
use witlet_core::desired::uid;
use witlet_plugin_host::PluginHost;
use witlet_plugin_host::config::{Kind, PluginConfig};
use witlet_ports::Class;
use witlet_ports::volume::{Amount, Found, Stuck, Usage, Volumes};

const STANZA: &str = "grants = { files = {} }\ndrivers = [\"acme.example\"]";

fn stepping(node: &Node, version: &str) -> PluginConfig {
    let exports = ["staging", "expansion", "statistics"].map(|e| format!("witlet:volume-steps/{e}@0.1.0"));
    let exports = exports.each_ref().map(String::as_str);
    let manifest = manifest("volume", "0.1", &["files"]).replace("1.0.0", version);
    let bytes = component_exporting("volume", &guests::stepping_volume(), Some(&manifest), &exports);
    node.stanza(Kind::Volume, &bytes, STANZA)
}

fn pod(uid: &str) -> Arc<Pod> {
    Arc::new(serde_json::from_value(json!({"metadata": {"name": uid, "namespace": "n", "uid": uid}})).unwrap())
}

fn volume() -> Volume {
    serde_json::from_value(json!({"name": "pv", "csi": {"driver": "acme.example"}})).unwrap()
}

fn found(mode: &str) -> PersistentVolume {
    serde_json::from_value(json!({
        "metadata": {"name": "pv"},
        "spec": {"volumeMode": mode, "csi": {"driver": "acme.example", "volumeHandle": "h"}},
    }))
    .unwrap()
}

async fn mount(host: &PluginHost, pod: &Arc<Pod>) {
    host.stage(pod, &volume(), &found("Filesystem")).await.unwrap();
    host.publish_persistent(pod, &volume(), &found("Filesystem"))
        .await
        .unwrap();
}

/// What is staged, if anything is.
fn staged(node: &Node) -> Option<PathBuf> {
    let driver = std::fs::read_dir(node.path("kubelet/plugins/witlet.dev/csi/acme.example")).ok()?;
    Some(driver.flatten().next()?.path())
}

fn stagings(node: &Node) -> usize {
    let file = staged(node).unwrap().join("globalmount/stages");
    std::fs::read(file).unwrap().len()
}

async fn unmount(host: &PluginHost, pod: &Arc<Pod>) {
    for one in host.found(Some(&uid(pod))).await.unwrap() {
        host.unpublish(&one).await.unwrap();
    }
}

#[tokio::test]
async fn staged_once_and_unstaged_after_the_last_pod() {
    let node = Node::new();
    let host = node.start([("test", stepping(&node, "1.0.0"))]).await;
    let (a, b) = (pod("a"), pod("b"));
    mount(&host, &a).await;
    mount(&host, &b).await;
    mount(&host, &a).await;
    assert_eq!(stagings(&node), 1, "once for both");
    let told = std::fs::read_to_string(staged(&node).unwrap().join("globalmount/volume")).unwrap();
    assert!(told.contains("\"volumeHandle\":\"h\""), "{told}");
    unmount(&host, &a).await;
    assert!(staged(&node).unwrap().join("globalmount").exists(), "it is in use");
    assert!(host.found(Some(&uid(&a))).await.unwrap().is_empty());
    unmount(&host, &b).await;
    assert_eq!(staged(&node), None);
    assert!(host.found(None).await.unwrap().is_empty());
}

/// Another start of the agent with another version of the plugin.
#[tokio::test]
async fn the_next_one_goes_on_from_what_is_on_disk() {
    let node = Node::new();
    let host = node.start([("test", stepping(&node, "1.0.0"))]).await;
    let (a, b) = (pod("a"), pod("b"));
    mount(&host, &a).await;
    mount(&host, &b).await;
    drop(host);
    let host = node.start([("test", stepping(&node, "2.0.0"))]).await;
    // Only one of them is still wanted: what the machine had may be gone, so it is staged again.
    mount(&host, &b).await;
    assert_eq!(stagings(&node), 2);
    let mine = host.found(Some(&uid(&a))).await.unwrap();
    let expected = Found {
        uid: uid(&a),
        driver: "witlet.dev/acme.example".into(),
        name: "pv".into(),
    };
    assert_eq!(mine, [expected]);
    unmount(&host, &a).await;
    assert!(staged(&node).is_some());
    // Another version takes down what the one before set up.
    host.reload(plugins([("test", stepping(&node, "3.0.0"))])).await;
    unmount(&host, &b).await;
    assert_eq!(staged(&node), None);
}

/// The agent was killed between two steps.
#[tokio::test]
async fn what_was_cut_off_is_found() {
    let node = Node::new();
    let host = node.start([("test", stepping(&node, "1.0.0"))]).await;
    let a = pod("a");
    host.stage(&a, &volume(), &found("Filesystem")).await.unwrap();
    // Nothing of the pod is on disk, but it is to be unpublished.
    assert_eq!(host.found(Some(&uid(&a))).await.unwrap().len(), 1);
    unmount(&host, &a).await;
    assert_eq!(staged(&node), None);
    // Unpublished, but not yet unstaged.
    mount(&host, &a).await;
    drop(host);
    std::fs::remove_dir_all(node.path("kubelet/pods/a")).unwrap();
    std::fs::remove_dir_all(staged(&node).unwrap().join("pods/a")).unwrap();
    let host = node.start([("test", stepping(&node, "1.0.0"))]).await;
    host.sweep().await;
    assert_eq!(staged(&node), None);
}

/// A pod that goes does not wait for a driver that cannot unstage.
#[tokio::test]
async fn unstaging_is_tried_again() {
    let node = Node::new();
    let host = node.start([("test", stepping(&node, "1.0.0"))]).await;
    let a = pod("a");
    mount(&host, &a).await;
    // What nobody else may remove keeps the place from going.
    let place = staged(&node).unwrap();
    std::fs::write(place.join("foreign"), "").unwrap();
    unmount(&host, &a).await;
    assert!(place.exists());
    std::fs::remove_file(place.join("foreign")).unwrap();
    common::eventually("it is unstaged", || async {
        host.sweep().await;
        staged(&node).is_none()
    })
    .await;
}

#[tokio::test]
async fn volumes_grow_and_are_measured() {
    let node = Node::new();
    let host = node.start([("test", stepping(&node, "1.0.0"))]).await;
    let a = pod("a");
    assert!(host.expands(&volume()));
    mount(&host, &a).await;
    let grow = |bytes| {
        let (host, a) = (&host, &a);
        async move { host.expand(&uid(a), &volume(), &found("Filesystem"), bytes).await }
    };
    grow(1 << 30).await.unwrap();
    assert_eq!(grow(3 << 30).await, Err(Stuck::Never("too large".into())));
    let one = host.found(Some(&uid(&a))).await.unwrap().remove(0);
    let bytes = Amount {
        total: 100,
        available: 60,
        used: 40,
    };
    assert_eq!(host.usage(&one).await, Some(Usage { bytes, inodes: None }));
}

#[tokio::test]
async fn block_devices_must_be_some() {
    let node = Node::new();
    let host = node.start([("test", stepping(&node, "1.0.0"))]).await;
    let a = pod("a");
    let error = host
        .publish_persistent(&a, &volume(), &found("Block"))
        .await
        .unwrap_err();
    assert!(error.message.contains("no path of a block device"), "{error}");
    // A plugin without the steps.
    let plain = common::component("volume", &guests::volume(""), &["files"]);
    let host = node.start([("test", node.stanza(Kind::Volume, &plain, STANZA))]).await;
    let error = host
        .publish_persistent(&a, &volume(), &found("Block"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (Class::Terminal, "its driver has no block devices (volumeMode: Block)")
    );
}
